"""First divergence: which tensor of an artifact is the first that its source does not have.

Both sides run with what they compute on the way, in windows that keep within a memory bound. Each tensor's error is
held against its own noise floor, as an output's is, so that the first one over it is where the fault is, and not where
numbers are merely small. onnxruntime's optimizations are off on both sides: they leave no tensors to look at.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, backend_for
from deploykit.backends._child import ChildSession
from deploykit.child import Step, silent
from deploykit.child.prints import Print
from deploykit.errors import UsageError
from deploykit.tensors import Array, Tensors
from deploykit.validation.divergence.apart import Apart, aligned, apart, reshaped
from deploykit.validation.divergence.found import Divergence, Layer
from deploykit.validation.divergence.onnx_side import OnnxSide
from deploykit.validation.divergence.reference import OnnxReference, Reference, TorchReference
from deploykit.validation.divergence.scopes import ALIKE
from deploykit.validation.divergence.structure import Match
from deploykit.validation.divergence.trace import Rule, ancestors, first_of, plausible, trace, unmatched
from deploykit.validation.divergence.windows import Wanted, bytes_of, sampled, windows

__all__ = ["Divergence", "Layer", "bytes_of", "locatable", "locate"]

MEMORY = 10**9
"""Bytes of tensors that one window may hold when nothing else is said."""

_FORMATS = {Format.ONNX, Format.TORCH_EXPORT, Format.TORCHSCRIPT, Format.TORCH_PICKLE, Format.STATE_DICT,
            Format.SAFETENSORS}  # fmt: skip


def locatable(reference: Artifact | None) -> None:
    """Make sure that a reference has tensors to look at.

    Raises:
        UsageError: it is none, a golden, or of TensorFlow; with what to do instead.
    """
    if reference is None or reference.format is Format.GOLDEN:
        raise UsageError(
            "--locate needs the source itself: a golden holds what comes out, and nothing of the way there",
            fix="name it: --against model.pt, or another ONNX file of the same model: --against model.onnx",
        )
    if reference.format not in _FORMATS:
        raise UsageError(
            f"--locate can't look into {reference.path}, which is {reference.format}: only into PyTorch and ONNX",
            fix=f"hold the file against another ONNX file: deploykit convert {reference.path} --opset 17 -o other.onnx,"
            " then --against other.onnx --locate",
        )


def locate(
    artifact: Path,
    reference: Artifact,
    asked: Asked,
    cases: Sequence[Tensors],
    *,
    max_bytes: int = MEMORY,
    step: Step = silent,
) -> Divergence:
    """Find the first tensor of an ONNX file that leaves the noise floor of what it was made from.

    Args:
        artifact: the ONNX file.
        reference: its source of PyTorch, or another ONNX file of the same model.
        asked: how to load the source.
        cases: inputs by name, of a call each; one on which they differ is enough.
        max_bytes: how much the tensors of one window may take, of both sides together.
        step: takes a sentence about what goes on.

    Raises:
        UsageError: the reference is of a kind that can't be looked into.
        ModelError: one of them can't be loaded, or does not run on the cases.
    """
    from deploykit.onnx_io import load, precision_of, signature

    locatable(reference)
    model = load(artifact)
    rule = Rule.of(precision_of(model))
    if reference.format is not Format.ONNX and not asked.inputs:
        asked = replace(asked, inputs=tuple(str(spec) for spec in signature(model).inputs))
    del model
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deploykit-")))
        step("reading the graph")
        ours = OnnxSide(artifact, folder / "artifact")
        theirs = _opened(reference, asked, folder, step, stack)
        return _Search(ours, theirs, cases, max_bytes, step).run(rule)


def _opened(reference: Artifact, asked: Asked, folder: Path, step: Step, stack: ExitStack) -> Reference:
    if reference.format is Format.ONNX:
        return OnnxReference(OnnxSide(reference.path, folder / "reference"))
    session = stack.enter_context(backend_for(reference.format).load(reference, asked, step))
    assert isinstance(session, ChildSession)
    return TorchReference(session)


@dataclass
class _Search:
    """One search: both sides, the inputs, and what was used of the memory."""

    ours: OnnxSide
    theirs: Reference
    cases: Sequence[Tensors]
    max_bytes: int
    step: Step
    runs: int = 0
    peak: int = 0
    notes: list[str] = field(default_factory=list)

    def run(self, rule: Rule) -> Divergence:
        matches = {name: match for name, match in self._matches().items() if name in self._sizes}
        compared = self._compared(matches)
        found = plausible(self.ours.graph, matches, compared, rule)
        if len(found) < len(compared):
            taken = len(compared) - len(found)
            self.notes.append(f"not matched after all, as what is computed from them agrees: {taken} tensors")
        layers = trace(self.ours.graph, matches, found, rule)
        first = first_of(layers, rule)
        return Divergence(
            steps=layers,
            first=first,
            last_right=_last_right(self.ours, layers, first, rule),
            between=self._between(layers, first),
            limit=rule.limit,
            tensors=len(self._sizes),
            windows=self.runs,
            peak_bytes=self.peak,
            notes=(*self.ours.graph.notes, *self.notes),
        )

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """The elements of each tensor of the artifact, in the largest case."""
        shapes = [self.ours.shapes(case) for case in self.cases]
        sizes = {name: max(_count(shape[name]) for shape in shapes) for name in shapes[0]}
        return {name: size for name, size in sizes.items() if size}

    def _matches(self) -> Mapping[str, Match]:
        self.step("matching tensors")
        return self.theirs.match(self.ours.graph, self._prints, self.cases[0])

    def _prints(self) -> dict[str, Print]:
        """Take the fingerprints of all tensors of the artifact that one window can hold."""
        each = self.ours.real
        small = {name: size for name, size in self._sizes.items() if size * each[name] <= self.max_bytes}
        if len(small) < len(self._sizes):
            count = len(self._sizes) - len(small)
            self.notes.append(f"{count} tensors over the memory bound could not be matched by value")
        found: dict[str, Print] = {}
        for window in windows(small, each, self.max_bytes):
            tensors = self.ours.fetch({one.name: (one.size, one.every) for one in window}, self.cases[0])
            self._held(tensors.values())
            found.update({name: Print.of(tensors.pop(name)) for name in list(tensors)})
        return found

    def _compared(self, matches: Mapping[str, Match]) -> dict[str, Apart]:
        """Hold every matched tensor against its counterpart, window by window."""
        sizes = {name: size for name, size in self._sizes.items() if name in matches}
        each = {name: self.ours.real[name] + self.theirs.bytes_each(self.ours.real[name]) for name in sizes}
        planned = list(windows(sizes, each, self.max_bytes))
        parts = sampled(planned)
        if parts:
            self.notes.append(f"over the memory bound, and so only sampled: {', '.join(parts[:5])}")
        found: dict[str, Apart] = {}
        for number, window in enumerate(planned):
            self.step(f"comparing tensors, window {number + 1} of {len(planned)}")
            self.runs += 1
            for case in self.cases:
                for name, sums in self._window(window, matches, case):
                    found[name] = found[name] + sums if name in found else sums
        lost = len(sizes) - len(found)
        if lost:
            self.notes.append(f"not compared, having another form in the source: {lost} of the matched tensors")
        return found

    def _window(
        self, window: Sequence[Wanted], matches: Mapping[str, Match], case: Tensors
    ) -> Iterator[tuple[str, Apart]]:
        tensors = self.ours.fetch({one.name: (one.size, one.every) for one in window}, case)
        own = self._bytes(tensors.values())
        names: dict[str, list[str]] = {}
        for one in window:
            names.setdefault(matches[one.name][0], []).append(one.name)
        wanted = {matches[one.name][0]: (one.size, one.every) for one in window}
        theirs = 0
        for key, reference, noisy in self.theirs.fetch(wanted, case):
            theirs += reference.nbytes + noisy.nbytes
            for name in names[key]:
                how = "output" if name in self.ours.graph.outputs else matches[name][1]
                sums = _held_against(tensors.pop(name), reference, noisy, how)
                if sums is not None:
                    yield name, sums
        self.peak = max(self.peak, own + theirs)

    def _between(self, layers: Sequence[Layer], first: Layer | None) -> tuple[str, ...]:
        """Name the nodes that could be at fault as well: they lie before the first, and have no counterpart."""
        if first is None:
            return ()
        known = {layer.tensor for layer in layers}
        makers = {name: one for one in self.ours.graph.steps for name in one.outputs}
        before = set(unmatched(first.tensor, makers, known)) & set(self._sizes)
        steps = [step for step in self.ours.graph.steps if before & set(step.outputs)]
        return tuple(f"'{step.name}' ({step.operator})" for step in steps)

    def _held(self, arrays: Iterable[Array]) -> None:
        self.peak = max(self.peak, self._bytes(arrays))

    @staticmethod
    def _bytes(arrays: Iterable[Array]) -> int:
        return sum(array.nbytes for array in arrays)


def _held_against(candidate: Array, reference: Array, noisy: Array, how: str) -> Apart | None:
    """Compare two tensors that were matched; None where they turn out not to be the same one in another form."""
    if reference.shape == candidate.shape:
        return apart(reference, noisy, candidate)
    if how == "output":
        return reshaped(reference, candidate)
    sums = aligned(reference, noisy, candidate)
    if how == "name" or (how == "scope" and sums is None):
        return sums if sums is not None and sums.error <= ALIKE else reshaped(reference, candidate)
    if how == "structure" or (how == "value" and sums is not None and sums.error > ALIKE**0.5):
        return None
    return sums


def _count(shape: Sequence[int]) -> int:
    return int(np.prod(shape))


def _last_right(ours: OnnxSide, layers: Sequence[Layer], first: Layer | None, rule: Rule) -> Layer | None:
    """Give the last tensor that goes into the first wrong one, and still agrees."""
    if first is None:
        return None
    by_name = {layer.tensor: layer for layer in layers}
    makers = {name: one for one in ours.graph.steps for name in one.outputs}
    near = set(ancestors(first.tensor, makers, by_name))
    right = [layer for layer in layers if layer.tensor in near and layer.ratio <= rule.limit]
    return right[-1] if right else None
