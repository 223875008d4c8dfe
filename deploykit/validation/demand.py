"""What the user asks of a verdict: bounds, tolerances, labels; and the rules that follow from it for one artifact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, TypedDict

from deploykit.errors import UsageError
from deploykit.golden import Golden
from deploykit.tensors import Array
from deploykit.validation.budgets import Budget
from deploykit.validation.compare import Rules
from deploykit.validation.fixed import Tolerances
from deploykit.validation.loss import Loss

LOSSY = ("int8", "int4", "pruned")
"""Precisions of what is another model on purpose."""
_HALVES = ("float16", "bfloat16")


class Bounds(TypedDict, total=False):
    """What a verdict by the golden alone may be asked, as keyword arguments of the API."""

    min_agreement: float | None
    """Share of the decisions that a lossy artifact (int8, int4, pruned) must keep."""
    min_sqnr: float | None
    """Signal to quantization noise in dB that its outputs must keep."""
    allow_undecided: bool
    """Whether it passes where there are too few samples to tell."""
    atol: Sequence[str | float]
    """A fixed tolerance in the place of the noise ratio: ``1e-3`` for all outputs, ``"logits=1e-3"`` for one."""
    rtol: Sequence[str | float]
    """The same in relation to the source's values; both add up."""


@dataclass(frozen=True)
class Demand:
    """What the user asks of a verdict, in the place of the usual rules or beside them."""

    tolerances: Tolerances = field(default_factory=Tolerances)
    bounds: Mapping[str, float] = field(default_factory=dict)
    """Fields of ``Budget`` by name."""
    labels: str | Path | None = None
    allow_undecided: bool = False
    judged: tuple[int, ...] = ()
    """Numbers of the samples that the labels are read for, where these are not the first ones."""

    @classmethod
    def of(cls, given: Bounds, max_drop: float | None = None, labels: str | Path | None = None) -> Self:
        """Take what the user gives.

        Raises:
            UsageError: a bound or a tolerance is none.
        """
        atol, rtol = ([str(one) for one in each] for each in (given.get("atol", ()), given.get("rtol", ())))
        named = {"min_agreement": given.get("min_agreement"), "min_sqnr": given.get("min_sqnr"), "max_drop": max_drop}
        bounds = {name: bound for name, bound in named.items() if bound is not None}
        Budget(**bounds)  # raises where one is no bound
        return cls(Tolerances.parse(atol, rtol), bounds, labels, given.get("allow_undecided", False))

    def without_labels(self) -> Self:
        """Give what can be asked where nothing says what is right."""
        bounds = {name: bound for name, bound in self.bounds.items() if name != "max_drop"}
        return replace(self, bounds=bounds, labels=None)

    def check(self, precision: str) -> None:
        """Make sure that it makes sense for an artifact of this precision, before anything runs.

        Raises:
            UsageError: it does not.
        """
        if "max_drop" in self.bounds and self.labels is None:
            raise UsageError(
                "--max-drop bounds the loss of accuracy, and nothing says what is right",
                fix="--data val.npz --labels val.npz:y",
            )
        if self.allow_undecided and not (self._asks or precision in LOSSY):
            raise UsageError("--allow-undecided is for int8 and other lossy artifacts", fix="leave it out")

    def rules(self, precision: str, golden: Golden) -> Rules:
        """Say by what an artifact is judged: it may lose nothing, unless it computes in integers, or the user says so.

        Args:
            precision: what it computes in.
            golden: the evidence. A source that is coarse itself has a rule of its own, and its artifact lost no more.

        Raises:
            UsageError: the labels can't be read, or are not as many as the samples.
        """
        noise = precision if precision in _HALVES else "float32"
        coarse = bool(golden.quanta) or golden.limit is not None
        if not (self._asks or (precision in LOSSY and not coarse)):
            return Rules(noise, self.tolerances)
        budget = replace(Budget.of(precision if precision in LOSSY else "pruned"), **self.bounds)
        named = frozenset(self.bounds) | ({"max_drop"} if self.labels is not None else set())
        replaces = bool(self.bounds) or precision in LOSSY
        loss = Loss(budget, named, replaces, self._read_labels(golden.samples), self.allow_undecided)
        return Rules(noise, self.tolerances, loss)

    @property
    def _asks(self) -> bool:
        return bool(self.bounds) or self.labels is not None

    def _read_labels(self, samples: int) -> Array | None:
        from deploykit.samples import labels

        if self.labels is None:
            return None
        if not self.judged:
            return labels(self.labels, limit=samples)
        found = labels(self.labels, limit=self.judged[-1] + 1)
        return found[list(self.judged)] if len(found) > self.judged[-1] else found
