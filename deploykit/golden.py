"""Golden: the evidence kept from a source: inputs, its outputs, and its noise floor.

A golden is an .npz file that anyone can read: ``inputs/0/x``, ``outputs/0/logits``, ``reference/0/logits``,
``noisy/0/logits`` for each case, and ``golden.json`` with the signature, where it is from and how it was made.
"""

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, overload

from deploykit.errors import ModelError
from deploykit.tensors import Array, Npz, Signature, TensorSpec, write_npz

CONTENT = "golden.json"
_VERSION = 1


@dataclass(frozen=True)
class Case:
    """One call of the source.

    ``reference`` is the best that is known of the right answer, ``noisy`` an answer that is as good as the source's:
    how far it is from the reference is the noise floor. Where float64 can be had, reference is the source in float64
    and noisy the source itself; else reference is the source itself and noisy the source moved by an ulp.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    reference: Mapping[str, Array]
    noisy: Mapping[str, Array]
    floor: bool = True
    """Whether it tells the noise floor; else reference and noisy are the source itself, and other cases tell it."""


class Cases(Sequence[Case]):
    """Cases that lie in files: one is read when it is asked for, and none is kept."""

    def __init__(self, count: int, load: Callable[[int], Case]) -> None:
        """Take how many there are, and what loads one by its number."""
        self._count, self._load = count, load

    @overload
    def __getitem__(self, number: int) -> Case: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Case]: ...
    def __getitem__(self, number: int | slice) -> Case | Sequence[Case]:
        """Load one."""
        if isinstance(number, slice):
            return [self._load(one) for one in range(*number.indices(self._count))]
        if not -self._count <= number < self._count:
            raise IndexError(number)
        return self._load(number % self._count)

    def __iter__(self) -> Iterator[Case]:
        """Load one after the other."""
        return map(self._load, range(self._count))

    def __len__(self) -> int:
        """Count them."""
        return self._count


@dataclass(frozen=True)
class Golden:
    """Evidence of what a source answers, enough to judge an artifact without it."""

    signature: Signature
    cases: Sequence[Case]
    method: str
    """``float64`` or ``ulp``: how the noise floor was found."""
    source: Mapping[str, str]
    """path, format and sha256 of the source."""
    notes: tuple[str, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict)
    """sha256 of each table that inputs look rows up in, by name: samples can't reach every row of a large one."""
    quanta: Mapping[str, float] = field(default_factory=dict)
    """Size of one quantum of each output that the source quantizes, in the output's own unit."""
    limit: float | None = None
    """The largest noise ratio of a right artifact, where the source's own arithmetic is coarse; None: the usual one."""

    @property
    def samples(self) -> int:
        """Samples over all cases, counted along the first axis of the first input that has one."""
        return sum(rows(case.inputs) for case in self.cases)

    @property
    def shapes(self) -> tuple[str, ...]:
        """The input shapes of each case, as text."""
        return tuple(shapes_of(case.inputs) for case in self.cases)

    def write(self, path: Path) -> None:
        """Write the file; the same evidence gives the same bytes."""
        about = {
            "version": _VERSION,
            "inputs": [asdict(spec) for spec in self.signature.inputs],
            "outputs": [asdict(spec) for spec in self.signature.outputs],
            "cases": len(self.cases),
            "told": sum(case.floor for case in self.cases),
            "samples": self.samples,
            "method": self.method,
            "source": dict(self.source),
            "notes": list(self.notes),
            "tables": dict(self.tables),
            "quanta": dict(self.quanta),
            "limit": self.limit,
        }
        arrays = (
            (f"{kind}/{number}/{name}", array)
            for number, case in enumerate(self.cases)
            for kind in _kept(self.method, case)
            for name, array in getattr(case, kind).items()
        )
        write_npz(path, arrays, {CONTENT: json.dumps(about, indent=1)})

    @classmethod
    def read(cls, path: Path) -> "Golden":
        """Read a golden back: all of it is looked at, and none of its arrays is kept.

        Raises:
            ModelError: the file is damaged, or no golden.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                about, entries = json.loads(archive.read(CONTENT)), archive.namelist()
            signature = Signature(tuple(map(_spec, about["inputs"])), tuple(map(_spec, about["outputs"])))
            coarse = {"quanta": about.get("quanta", {}), "limit": about.get("limit")}
            cases = Cases(about["cases"], partial(_case, path, about["method"], entries, about.get("told")))
            _look_at(cases, about["method"])
            notes = tuple(about["notes"])
            return cls(signature, cases, about["method"], about["source"], notes, about["tables"], **coarse)
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile, EOFError) as error:
            raise ModelError(
                f"{path} is no golden, or is damaged: {error}", fix="make it again with deploykit convert"
            ) from error


def shapes_of(tensors: Mapping[str, Array]) -> str:
    """Give the shapes of some tensors as text: ``x 2x3x224x224, mask 2x16``."""
    return ", ".join(f"{name} {'x'.join(map(str, array.shape))}" for name, array in tensors.items())


def rows(tensors: Mapping[str, Array]) -> int:
    """Count the samples of one call."""
    return next((len(array) for array in tensors.values() if array.ndim), 1)


def _spec(fields: Mapping[str, Any]) -> TensorSpec:
    """Read a spec back from its fields: names such as ``input:0`` and ``2*time`` have no text form."""
    return TensorSpec(fields["name"], fields["dtype"], tuple(fields["dims"]))


_KINDS = ("inputs", "outputs", "reference", "noisy")


def _kept(method: str, case: Case) -> tuple[str, ...]:
    # What would be the same as the outputs is not written twice.
    if not case.floor:
        return ("inputs", "outputs")
    if method != "float64":
        return ("inputs", "outputs", "noisy")
    return _KINDS[:3] if case.noisy is case.outputs else _KINDS


def _case(path: Path, method: str, entries: Sequence[str], told: int | None, number: int) -> Case:
    inputs, outputs, reference, noisy = (Npz(path, f"{kind}/{number}/", entries) for kind in _KINDS)
    floor = told is None or number < told  # those that tell it come first
    if not outputs or (floor and not (reference if method == "float64" else noisy)):
        raise KeyError(f"call {number} is missing")
    return Case(inputs, outputs, reference or outputs, noisy or outputs, floor)


def _look_at(cases: Sequence[Case], method: str) -> None:
    for case in cases:
        for kind in _kept(method, case):
            for _ in getattr(case, kind).values():
                pass
