"""When and on what the first divergence is looked for: on demand, and by itself where a verdict fails."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked
from deploykit.backends.onnxruntime import OrtSession
from deploykit.child import Step, silent
from deploykit.errors import DeploykitError, ModelError, UsageError
from deploykit.golden import Case
from deploykit.tensors import Array, Tensors
from deploykit.validation.divergence import Divergence, bytes_of, locatable, locate
from deploykit.validation.divergence.apart import apart
from deploykit.validation.divergence.onnx_side import OnnxSide
from deploykit.validation.tolerance import LIMIT
from deploykit.validation.verdict import Verdict

_CASES = 64
"""Cases among which the worst is looked for."""


@dataclass(frozen=True)
class Search:
    """What to look into, and whether the user asked for it."""

    reference: Artifact | None
    """The source that was run anew; None where only a golden was at hand."""
    asked: Asked
    """How to load it."""
    wanted: bool
    """Whether the user asked for it; else it is done only where the verdict fails, and it can be done."""
    max_bytes: int
    """How much the tensors of one window may take."""

    @classmethod
    def of(cls, against: str | Path | None, asked: Asked, *, wanted: bool, max_memory: str | int) -> Self:
        """Settle what to do, before anything is run.

        Raises:
            UsageError: it was asked for, and the reference can't be looked into; or the memory is no amount.
            ModelError: the reference is of no known format.
        """
        reference = None if against is None else Artifact.open(against)
        if wanted:
            locatable(reference)
        return cls(reference, asked, wanted, bytes_of(max_memory))

    def add(self, verdict: Verdict, artifact: Path, cases: Iterable[Case], step: Step = silent) -> Verdict:
        """Add to a verdict where the artifact and its source part, or why that was not found.

        Args:
            verdict: what was found of the outputs.
            artifact: the ONNX file.
            cases: of the golden; the one with the largest error is looked into.
            step: takes a sentence about what goes on.
        """
        reference = self.reference
        needed = self.wanted or (not verdict.passed and not verdict.undecided and verdict.values > 0)
        if reference is None or reference.format is Format.GOLDEN or not needed:
            return verdict
        try:
            locatable(reference)
            case = worst(artifact, cases, step)
            found = locate(artifact, reference, self.asked, [case], max_bytes=self.max_bytes, step=step)
            if verdict.passed:
                found = _harmless(found, verdict)
            elif found.first is None:
                why = _OPTIMIZER if optimizer_differs(artifact, case) else _FINER
                found = replace(found, notes=(*found.notes, why))
        except (UsageError, ModelError) as error:
            return replace(verdict, notes=(*verdict.notes, _unknown(error)))
        return replace(verdict, divergence=found)


def _harmless(found: Divergence, verdict: Verdict) -> Divergence:
    """Let be what differs on the way, where every output is equal: matched wrongly, or undone before the end.

    An output that passed by another rule than the noise ratio, as a lossy one's, may differ all the same.
    """
    equal = {check.what for check in verdict.checks if check.rule.startswith("noise ratio")}
    outputs = {check.what for check in verdict.checks} - equal
    wrong = any(layer.ratio > found.limit for layer in found.steps if layer.tensor in outputs)
    if found.first is None or wrong:
        return found
    over = sum(layer.ratio > found.limit for layer in found.steps)
    said = f"{over} tensors differ on the way, from '{found.first.tensor}' on, and every output agrees"
    return replace(found, first=None, last_right=None, between=(), notes=(*found.notes, said))


_OPTIMIZER = (
    "the difference is made by onnxruntime's graph optimizer: with its optimizations off, what comes out is as the"
    " source's (SessionOptions.graph_optimization_level)"
)
_FINER = (
    "the outputs were judged by sample and by channel too, and so were those in whole numbers: what is wrong there does"
    " not show in a tensor as a whole"
)


def _unknown(error: DeploykitError) -> str:
    return f"where it goes wrong was not found: {error.message}; {'; '.join([*error.details, error.fix[0]])}"


def worst(artifact: Path, cases: Iterable[Case], step: Step = silent) -> Tensors:
    """Give the inputs of the case on which an artifact errs most, in relation to the size of the output.

    Raises:
        ModelError: it runs on none of them.
    """
    step("looking for the worst case")
    session = OrtSession(artifact)
    best: tuple[float, Tensors] | None = None
    refusal: ModelError | None = None
    for case in islice(cases, _CASES):
        answer = next(session.run_all([case.inputs]))
        if isinstance(answer, ModelError):
            refusal = answer
            continue
        far = max((_far(case.reference[name], answer[name]) for name in answer if name in case.reference), default=0.0)
        if best is None or far > best[0]:
            best = far, dict(case.inputs)
    if best is None:
        raise refusal or ModelError("there is no case to look into", fix="give --data")
    return best[1]


def _far(reference: Array, answer: Array) -> float:
    if reference.shape != answer.shape:
        return float("inf")
    if reference.dtype.kind != "f":
        return float(np.mean(reference != answer)) if reference.size else 0.0
    return apart(reference, reference, answer).error


def optimizer_differs(artifact: Path, case: Tensors) -> bool:
    """Tell whether onnxruntime's graph optimizations change what a file gives, by more than rounding does.

    Raises:
        ModelError: it does not run.
    """
    answer = next(OrtSession(artifact).run_all([case]))
    if isinstance(answer, ModelError):
        raise answer
    with tempfile.TemporaryDirectory(prefix="deploykit-") as folder:
        side = OnnxSide(artifact, Path(folder) / "artifact")
        outputs = {name: (array.size, 1) for name, array in answer.items() if name in side.real}
        own, other = side.fetch(outputs, case), side.fetch(outputs, case, other=True)
    return any(apart(own[name], other[name], answer[name]).ratio() > LIMIT for name in outputs)
