"""Passes: what makes another ONNX file of one. One file each; each holds one frozen dataclass derived from ``Pass``.

A pass reads one file and writes another through its ``Work``, which adds the lineage and judges what was written by the
evidence of the ORIGINAL source. A pass may try several files and keep the best; whatever it gives, the runner
(``deploykit.optimization``) checks and proves.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from deploykit.child import Step
from deploykit.plugin import Registry
from deploykit.tensors import Array
from deploykit.validation.verdict import Verdict
from deploykit.workspace import Found


@dataclass(frozen=True)
class Work:
    """What a pass works with."""

    calls: Callable[[], Iterable[Mapping[str, Array]]]
    """Give inputs to run the model on: the user's samples, else those of the golden; each time from the first on."""
    write: Callable[[Any], Path]
    """Write an ``onnx_ir.Model``, with the lineage of this pass, as the next file of the stage; give its path.

    The model is not changed but for its lineage, and may be written again after more was done to it."""
    judge: Callable[[Path], Verdict]
    """Judge a file that was written by the evidence of the original source."""
    made_up: bool
    """Whether the inputs are made up: a calibration by them says little of real ones."""
    folder: Path
    """Where other files may lie while the pass runs."""
    step: Step
    """Takes a sentence about what goes on."""
    found: Callable[[Sequence[str]], Found]
    """Say where what the pass has found out so far is kept, for a rerun to go on from.

    It takes in words what of the pass that hangs on. Model, evidence, versions and machine are the runner's to add."""


@dataclass(frozen=True)
class Layer:
    """What became of one node with weights."""

    name: str
    operator: str
    fate: str
    """``int8`` or ``int4``, or why it is not: ``float: its weight is computed``."""
    alone: float | None = None
    """Signal to noise at the outputs in dB with only this layer changed; None where that was not measured."""


@dataclass(frozen=True)
class Applied:
    """What a pass made."""

    path: Path
    """A file that ``Work.write`` gave."""
    done: str
    """What it did, in one line: ``41 of 53 nodes left``."""
    notes: tuple[str, ...] = ()
    """What the user should know: what was left out, and why."""
    layers: tuple[Layer, ...] = ()
    """The fate of each layer, where the pass chooses among them."""
    settled: bool = True
    """Whether a rerun would find nothing better: not where the time was over."""


@dataclass(frozen=True)
class Pass(ABC):
    """Makes another ONNX file of one; its fields are its options."""

    accepts: ClassVar[frozenset[str]] = frozenset({"float32"})
    """The precisions, as ``onnx_io.precision_of`` names them, of the files that it takes."""
    lossy: ClassVar[bool] = False
    """Whether what it makes is judged by what it lost, and so by the user's samples where there are any."""
    suffix: ClassVar[str]
    """What the file it makes is called after, where the user names none: ``model.SUFFIX.onnx``."""

    @property
    def precision(self) -> str | None:
        """The precision of what it makes; None for that of what it takes."""
        return None

    @property
    def hastens(self) -> bool:
        """Whether what it makes is meant to be faster on this machine, which is then measured."""
        return False

    def check(self, *, made_up: bool) -> None:  # noqa: B027 - most have nothing to say
        """Make sure that the options make sense, before anything runs.

        Args:
            made_up: whether there are no samples of the user's.

        Raises:
            UsageError: they do not.
        """

    @abstractmethod
    def apply(self, source: Path, work: Work) -> Applied:
        """Make another file of one; the source is not touched.

        Raises:
            ModelError: it can't be done to this model.
            NotEquivalent: nothing that it made is the same model any more, or keeps the budget.
        """


PASSES: Registry[Pass] = Registry("deploykit.passes", Pass, "pass")
