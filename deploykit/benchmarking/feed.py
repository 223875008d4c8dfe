"""What goes into files that are timed: the same for all of them, in a batch of any size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from deploykit.artifact import Format
from deploykit.backends import Asked, described
from deploykit.backends.onnxruntime import OrtSession
from deploykit.child import Step
from deploykit.errors import UsageError
from deploykit.golden import Golden
from deploykit.samples import notes_of, read, synthesize
from deploykit.samples.shapes import asked_sizes
from deploykit.sidecar import golden_of, read_sidecar
from deploykit.sniff import sniff
from deploykit.tensors import Array, Dim, Tensors, TensorSpec, dynamic_axes
from deploykit.validation.evidence import find_golden


@dataclass(frozen=True)
class Feed:
    """Inputs that all of some files take."""

    specs: tuple[TensorSpec, ...]
    origin: str
    """Where they are from, in words."""
    make: Callable[[int], Mapping[str, Array]]
    """Gives a call of about so many samples."""
    said: tuple[str, ...] = ()

    @property
    def axis(self) -> Dim:
        """What counts the samples: its name, or its size where that is fixed."""
        return _axis(self.specs)

    def sizes(self, asked: Sequence[int]) -> tuple[int, ...]:
        """Give the sizes of a batch to time: those that are asked for, each once, or the one that is fixed."""
        return (self.axis,) if isinstance(self.axis, int) else tuple(dict.fromkeys(asked))

    def of(self, batch: int) -> Tensors:
        """Give a call of so many samples; the samples there are repeated, or those over it left out."""
        made = self.make(batch)
        return {spec.name: _filled(np.asarray(made[spec.name]), spec, self.axis, batch) for spec in self.specs}

    def notes(self, asked: Sequence[int]) -> tuple[str, ...]:
        """Say what there is to say of the inputs."""
        if isinstance(self.axis, int) and tuple(asked) != (self.axis,):
            return (*self.said, f"the batch was {self.axis}, which is fixed in the file")
        return self.said


def feed_for(paths: Sequence[Path], asked: Asked, seed: int, step: Step) -> Feed:
    """Find inputs for files: the user's samples, the golden's first call, or made up from the first file's graph.

    Raises:
        UsageError: the files take different inputs, or what was asked does not fit them.
        ModelError: a file can't be loaded.
    """
    specs = _common(paths, asked, step)
    if asked.data is not None:
        if asked.shapes:
            raise UsageError("with --data the sizes are those of the samples", fix="leave --shapes out")
        load = partial(_read, asked.data, specs, asked)
        return Feed(specs, str(asked.data), load, notes_of(asked.data, specs, image=asked.preprocessing))
    if not (asked.shapes or asked.inputs):
        kept = next(filter(None, (_golden_of(path, specs) for path in paths)), None)
        if kept is not None:
            return kept
    return _made_up(paths[0], specs, asked, seed)


def _common(paths: Sequence[Path], asked: Asked, step: Step) -> tuple[TensorSpec, ...]:
    """Describe what all files take; an axis that one of them fixes is fixed."""
    found: dict[str, TensorSpec] = {}
    for number, path in enumerate(paths):
        step(f"loading {path.name}")
        own = _inputs(path, asked)
        if number and not _are_alike(tuple(found.values()), own):
            raise UsageError(
                f"{path} does not take what {paths[0]} takes",
                fix="compare files that were made of one model",
                details=[
                    f"{one}: {', '.join(map(str, specs))}" for one, specs in ((paths[0], found.values()), (path, own))
                ],
            )
        found = {spec.name: _narrowed(found.get(spec.name, spec), spec) for spec in own}
    return tuple(found.values())


def _inputs(path: Path, asked: Asked) -> tuple[TensorSpec, ...]:
    if sniff(path) is Format.ENGINE:
        return read_sidecar(path).signature.inputs
    return OrtSession(path, described(asked)[0]).signature.inputs


def _are_alike(first: Sequence[TensorSpec], other: Sequence[TensorSpec]) -> bool:
    by_name = {spec.name: spec for spec in other}
    return len(first) == len(other) and all(
        spec.name in by_name
        and spec.dtype == by_name[spec.name].dtype
        and len(spec.dims) == len(by_name[spec.name].dims)
        and not any(
            isinstance(one, int) and isinstance(two, int) and one != two
            for one, two in zip(spec.dims, by_name[spec.name].dims, strict=True)
        )
        for spec in first
    )


def _narrowed(spec: TensorSpec, other: TensorSpec) -> TensorSpec:
    dims = tuple(two if isinstance(two, int) else one for one, two in zip(spec.dims, other.dims, strict=True))
    return TensorSpec(spec.name, spec.dtype, dims)


def _read(data: Path, specs: Sequence[TensorSpec], asked: Asked, batch: int) -> Tensors:
    return next(read(data, specs, limit=batch, batch=batch, image=asked.preprocessing))


def _golden_of(path: Path, specs: tuple[TensorSpec, ...]) -> Feed | None:
    """Give the first call of a file's golden, where it is there and fits."""
    from deploykit.onnx_io import lineage, load

    try:
        is_engine = sniff(path) is Format.ENGINE
        place = golden_of(path, read_sidecar(path)) if is_engine else find_golden(path, lineage(load(path)))
    except UsageError:  # it was not made by deploykit, or the golden is elsewhere
        return None
    case = Golden.read(place).cases[0].inputs
    if any(spec.name not in case or spec.mismatch(case[spec.name]) for spec in specs):
        return None
    return Feed(specs, f"the first call of {place.name}", lambda _: case)


def _made_up(path: Path, specs: tuple[TensorSpec, ...], asked: Asked, seed: int) -> Feed:
    from deploykit.onnx_io import load

    if sniff(path) is Format.ENGINE:
        raise UsageError(f"nothing says what goes into {path}", fix="--data samples.npz, or put its golden beside it")
    batch_axis = str(_axis(specs))
    sizes = {axis: column[0] for axis, column in asked_sizes(asked.shapes, specs).items()}
    if batch_axis in sizes:
        raise UsageError(
            f"--shapes gives a size to '{batch_axis}', which is the batch", fix=f"--batch {sizes[batch_axis]}"
        )
    open_ = [axis for axis in dynamic_axes(specs) if axis not in sizes and axis != batch_axis]
    guessed = {axis: size for axis, size in (OrtSession(path).sizes() if open_ else {}).items() if axis in open_}
    said = tuple(f"'{axis}' was {size}; --shapes '{axis}=...' says another" for axis, size in guessed.items())

    def make(batch: int) -> Tensors:
        plan = {**sizes, **guessed, batch_axis: batch}
        return synthesize(load(path), specs, [plan], seed=seed)[0]

    return Feed(specs, "made up from the graph", make, said)


def _axis(specs: Sequence[TensorSpec]) -> Dim:
    """Give the first axis of the first input that has one; what has none is one sample."""
    return next((spec.dims[0] for spec in specs if spec.dims), 1)


def _filled(array: Array, spec: TensorSpec, axis: Dim, batch: int) -> Array:
    """Bring every axis that counts samples to the size of a batch, wherever it stands."""
    for place, dim in enumerate(spec.dims):
        if isinstance(dim, str) and dim == axis and array.shape[place] != batch:
            array = np.take(array, np.arange(batch) % array.shape[place], place)
    return array
