"""Cut a model to its goal: so many multiplications, a latency, or as little as the budget lets stay."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit import machine
from deploykit.errors import ModelError, UsageError
from deploykit.passes import Applied, Layer, Work
from deploykit.pruning.allocation import Curve, allocated, curves_of, evenly, uniform
from deploykit.pruning.fates import fates_of, why_nothing
from deploykit.pruning.fitting import fit_in_order, fit_locally
from deploykit.pruning.importance import order_of
from deploykit.pruning.masks import masks_of
from deploykit.pruning.moments import Seen, see
from deploykit.pruning.subject import Subject
from deploykit.quantization.calibrating import parts_of
from deploykit.quantization.reading import read
from deploykit.tensors import Array

if TYPE_CHECKING:
    from deploykit.passes.prune import Prune

_TRIES = 5
"""Steps of a bisection."""
_NARROW = 0.03
"""Share of the multiplications that a bisection ends at."""
_SECONDS = 2.0
"""For the latency of a try."""


@dataclass
class Shrinking:
    """A model that is cut, as often as its goal takes."""

    asked: "Prune"
    source: Path
    work: Work
    subject: Subject
    orders: Sequence[Array]
    seen: Seen | None
    curves: Sequence[Curve]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, asked: "Prune", source: Path, work: Work) -> "Shrinking":
        """Look at a model, and at what it does with the samples.

        Raises:
            UsageError: nothing of it can go.
        """
        subject = Subject.of(read(source), next(iter(work.calls())), machine.block())
        groups = subject.grouping.groups
        if not any(map(subject.most, range(len(groups)))):
            raise UsageError(
                "there are no channels that can go",
                fix="leave it as it is",
                details=list(why_nothing(subject))[:5],
            )
        looks = asked.refit or asked.importance != "magnitude"
        seen = see(subject.model.clone(), subject.layers, work.calls, work.step) if looks else None
        grams = {} if seen is None else seen.grams
        orders = []
        for number, group in enumerate(groups):
            work.step(f"ordering the channels of group {number + 1} of {len(groups)}")
            orders.append(order_of(group, subject.layers, grams, asked.importance))
        fitted = seen if asked.refit else None
        curves = [] if asked.uniform else curves_of(subject, orders, fitted, work.calls, work.step)
        return cls(asked, source, work, subject, orders, fitted, curves)

    def applied(self) -> Applied:
        """Reach the goal, and say what became of every layer."""
        if self.asked.largest:
            path, gone = self._largest()
        else:
            gone = self._goal()
            path = self._written(gone)
        if not any(gone):
            raise UsageError(
                "so little is asked for that no channel goes", fix="ask for more, or leave the model as it is"
            )
        if self.asked.mask:
            masks = masks_of(self.subject.model, self.subject.removal(self.orders, gone))
            np.savez(self.asked.mask, **dict[str, Any](masks))
        before, after = (self.subject.macs(one) for one in (self.subject.none_gone, gone))
        held = [self.subject.parameters(one) for one in (self.subject.none_gone, gone)]
        done = (
            f"{1 - after / before:.1%} of the multiplications and {1 - held[1] / held[0]:.1%} of the parameters are"
            f" gone: {_short(before)} became {_short(after)} for a sample, {_short(held[0])} became {_short(held[1])}"
        )
        fates = [Layer(*fate) for fate in fates_of(self.subject, gone, self.curves)]
        return Applied(path, done, tuple(self._notes(gone)), tuple(fates))

    def _notes(self, gone: Sequence[int]) -> list[str]:
        found = [*self.notes]
        if self.seen is not None:
            found.append(f"fitted to {self.seen.samples} of the samples, judged by the others")
        least = self.subject.macs([self.subject.most(at) for at in range(len(gone))])
        whole = list(why_nothing(self.subject))
        if whole:
            found.append(f"{len(whole)} layers stay as wide as they are: {'; '.join(whole[:3])}")
        if sum(gone) == sum(self.subject.most(at) for at in range(len(gone))):
            found.append(f"no more can go: {least / self.subject.macs(self.subject.none_gone):.1%} are left")
        return found

    def _share(self, share: float) -> list[int]:
        """Say how many units of each group go so that about this share of the multiplications stays."""
        macs = share * self.subject.macs(self.subject.none_gone)
        return evenly(self.subject, macs) if self.asked.uniform else allocated(self.subject, self.curves, macs)

    def _goal(self) -> list[int]:
        """Say how many units of each group go for the goal."""
        if self.asked.target_macs:
            return self._share(self.asked.target_macs)
        if self.asked.target_latency:
            return self._by_latency(self.asked.target_latency)
        even = uniform(self.subject, self.asked.amount)
        return even if self.asked.uniform else self._share(
            self.subject.macs(even) / self.subject.macs(self.subject.none_gone)
        )  # fmt: skip

    def _by_latency(self, target: float) -> list[int]:
        """Find the smallest cut with which the latency is this share of what it was, by bisection."""
        enough, too_much, found = 0.02, 1.0, self._share(0.02)
        for number in range(_TRIES):
            share = target if not number else (enough + too_much) / 2
            gone = self._share(share)
            ratio = self._latency(gone)
            self.work.step(f"{share:.0%} of the multiplications take {ratio:.0%} of the time")
            if ratio <= target:
                enough, found = share, gone
            else:
                too_much = share
            if too_much - enough < _NARROW:
                break
        return found

    def _latency(self, gone: Sequence[int]) -> float:
        """Time a cut without its fit, which changes nothing of that: the share of the time that it surely keeps to."""
        from deploykit.onnx_io import load, signature
        from deploykit.timing import measure

        path = self.work.write(self.subject.cut(self.subject.removal(self.orders, gone)))
        call = next(parts_of(next(iter(self.work.calls())), 1, signature(load(self.source))))
        timed = measure([self.source, path], call, seconds=_SECONDS)
        shutil.rmtree(path.parent, ignore_errors=True)
        ratio = timed.rows[1].ratio
        if ratio is None:
            raise ModelError("the latency could not be measured", fix="give --target-macs")
        return ratio.high

    def _largest(self) -> tuple[Path, list[int]]:
        """Find the largest cut that keeps the budget, by bisection; where none does, give the smallest that was tried.

        Ctrl-C ends the search once some cut keeps it, and the largest of these is given.
        """
        kept, missed = 1.0, 0.0
        best: tuple[Path, list[int]] | None = None
        last: tuple[Path, list[int]] | None = None
        try:
            for number in range(_TRIES):
                share = 0.7 if not number else (kept + missed) / 2
                gone = self._share(share)
                self.work.step(f"does it keep the budget with {share:.0%} of the multiplications?")
                last = self._written(gone), gone
                if self.work.judge(last[0]).passed:
                    kept, best = share, last
                else:
                    missed = share
                if kept - missed < _NARROW:
                    break
        except KeyboardInterrupt:
            if best is None:
                raise
            self.notes.append("interrupted: more might go")
        found = best or last
        assert found is not None
        return found

    def _written(self, gone: Sequence[int]) -> Path:
        """Cut, fit, and write it."""
        from deploykit.onnx_io import set_lineage

        removal = self.subject.removal(self.orders, gone)
        model = self.subject.cut(removal)
        if self.seen is not None:
            fit_locally(model, self.subject.layers, removal, self.seen.grams)
            fit_in_order(model, self.subject.layers, removal, self.seen, self.work.calls, self.work.step)
        set_lineage(model, pruned=f"{self.subject.macs(gone) / self.subject.macs(self.subject.none_gone):.4f} of MACs")
        return self.work.write(model)


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"
