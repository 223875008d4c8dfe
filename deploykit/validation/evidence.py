"""The evidence that a verdict rests on: the golden beside an artifact, or one made anew from a source."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.artifact import Artifact, Format, sha256
from deploykit.backends import Asked, Session
from deploykit.errors import ModelError, UsageError
from deploykit.golden import Golden
from deploykit.recording import Plan, record
from deploykit.samples import covering, notes_of, plans, read, synthesize, unread_tables
from deploykit.samples.shapes import Sizes, asked_sizes, batch_sizes
from deploykit.tensors import Array, Dim, Signature, Tensors, TensorSpec
from deploykit.validation.asked_sizes import check_asked
from deploykit.validation.remarks import remarks, telling

SAMPLES = 32
"""How many of the user's samples go into a golden when nothing else is said."""

_BATCHES = (1, 2, 3, 5, 8, 13)


def golden_path(model: Path) -> Path:
    """Say where the golden of ``model.onnx`` lies: ``model.golden.npz`` beside it."""
    return model.with_name(f"{model.stem}.golden.npz")


def find_golden(model: Path, lineage: Mapping[str, str]) -> Path:
    """Find the golden that a model's lineage names by sha256, beside the model.

    Raises:
        UsageError: the model has none, or it is not beside it.
    """
    wanted = lineage.get("golden.sha256")
    if wanted is None:
        raise UsageError(
            f"{model} has no golden: it was not made by deploykit",
            fix=[f"compare it with its source: deploykit validate {model} --against model.pt", _again(model)],
        )
    own = golden_path(model)
    nearby = [own, *sorted(path for path in model.parent.glob("*.golden.npz") if path != own)]
    for path in nearby:
        if path.exists() and sha256(path) == wanted:
            return path
    if own.exists():
        raise UsageError(
            f"{own} is not the golden that {model.name} was proved with: its sha256 is another",
            fix=["put back the file that was written with the model", _again(model)],
            details=[f"wanted {wanted}", f"found  {sha256(own)}"],
        )
    raise UsageError(
        f"the golden of {model} is missing: {own.name} is not beside it",
        fix=["copy it there", f"or compare with the source: deploykit validate {model} --against model.pt"],
    )


def _again(model: Path) -> str:
    return f"or give it one: deploykit convert {model} -o {model.stem}.proved.onnx"


@dataclass(frozen=True)
class Size:
    """How much evidence is wanted, and where it may lie meanwhile."""

    folder: Path
    """Where the arrays are kept; it must outlive the golden."""
    samples: int = SAMPLES
    """At most so many of the user's samples."""
    seed: int = 0
    """Of what is synthesized."""
    floor_samples: int | None = None
    """How many of the user's samples tell the noise floor; None: all of them. What is synthesized is little."""


def make_golden(
    session: Session,
    graph: Any,
    source: Artifact,
    asked: Asked,
    wanted: Size,
) -> Golden:
    """Run a source on the user's samples, or on inputs synthesized from a graph, and keep what it answers.

    Args:
        session: the source, running.
        graph: the ONNX model of it, an ``onnx_ir.Model``: says what the inputs mean; None where the user's samples do.
        source: the file that the source is from.
        asked: what the user said: samples, and how images among them are prepared.
        wanted: how much of it.

    Raises:
        ModelError: the source takes none of the inputs, or only one size of an axis that should be dynamic.
        UsageError: the data does not fit the inputs.
    """
    from deploykit.onnx_io import table_hashes

    signature = session.signature
    batched = is_batched(signature)
    inputs = _inputs(session, graph, asked, wanted, batched=batched)
    origin = {"path": str(source.path), "format": str(source.format), "sha256": source.sha256()}
    if asked.data is not None:
        origin["data"] = asked.data.name
    few = wanted.floor_samples if asked.data is not None else None
    plan = Plan(wanted.folder, batched, few, partial(_is_tiny, signature))
    recorded = record(session, signature, inputs, origin, plan)
    golden = replace(
        recorded,
        tables=table_hashes(graph) if graph is not None else {},
        quanta=dict(session.quanta),
        limit=session.limit,
    )
    if asked.data is not None:
        said = (*notes_of(asked.data, signature.inputs, image=asked.preprocessing), *remarks(golden))
        return replace(golden, notes=(*golden.notes, *said))
    golden = telling(golden)
    unvaried = _unvaried(golden)
    if unvaried and source.format is not Format.ONNX:
        _refuse_fixed(golden, *next(iter(unvaried.items())))
    # An ONNX file says itself which axes are dynamic; what can't be tried is said, and is not ours to refuse.
    unread = unread_tables(graph, signature.inputs, [case.inputs for case in golden.cases])
    said = unread + tuple(f"axis '{axis}' was tried at {size} only" for axis, size in unvaried.items())
    return replace(golden, notes=(*golden.notes, *said, *remarks(golden, graph)))


def _inputs(session: Session, graph: Any, asked: Asked, wanted: Size, *, batched: bool) -> Iterable[Tensors]:
    """Give the calls, from the user's samples or made up, when the source takes the sizes that were asked for."""
    specs = session.signature.inputs
    sizes = asked_sizes(asked.shapes, specs)
    if asked.data is None:
        made_up = _made_up(session, graph, sizes, wanted.seed, batched=batched)
        check_asked(session, sizes, made_up)
        return made_up
    split = (batch_sizes(sizes, specs, wanted.samples) or _BATCHES) if batched else None
    data = partial(batches, asked, asked.data, session.signature, wanted.samples, split)
    check_asked(session, sizes, data())
    return data()


def is_batched(signature: Signature) -> bool:
    """Tell whether the first axis of all inputs is one and the same batch, of any size."""
    first = [spec.dims[0] for spec in signature.inputs if spec.dims]
    return bool(first) and isinstance(first[0], str) and all(dim == first[0] for dim in first)


_TINY = 2
"""Size of an axis at which a norm along it makes large numbers out of rounding errors."""


def _is_tiny(signature: Signature, call: Mapping[str, Array]) -> bool:
    """Tell whether a dynamic axis, but for the first, has next to no size in a call."""
    return any(
        isinstance(dim, str) and axis and size <= _TINY
        for spec in signature.inputs
        for axis, (dim, size) in enumerate(zip(spec.dims, call[spec.name].shape, strict=True))
    )


def batches(
    asked: Asked, data: Path, signature: Signature, limit: int, sizes: Sequence[int] | None
) -> Iterator[Tensors]:
    """Cut the user's samples into calls: of several batch sizes where the batch is free, else of the fixed size."""
    fixed = next((spec.dims[0] for spec in signature.inputs if spec.dims), 1)
    batch = sizes or (fixed if isinstance(fixed, int) else 1)
    return read(data, signature.inputs, limit=limit, batch=batch, image=asked.preprocessing)


def _made_up(session: Session, graph: Any, sizes: Sizes, seed: int, *, batched: bool) -> list[Tensors]:
    signature = session.signature
    first = signature.inputs[0].dims[0] if batched else None
    batch = first if isinstance(first, str) else None
    plan = plans(signature.axes, session.sizes(), batch_axis=batch, asked=sizes)
    if batch is not None and batch not in sizes:
        plan = covering(graph, signature.inputs, plan, batch)
    made_up = synthesize(graph, signature.inputs, plan, seed=seed)
    return [*made_up, *session.opening(made_up, batched=batch is not None and batch not in sizes)]


def _unvaried(golden: Golden) -> dict[str, int]:
    """Give the dynamic axes that were tried at one size only, and that size."""
    tried = {axis: set(_sizes(golden, axis)) for axis in golden.signature.axes}
    return {axis: sizes.pop() for axis, sizes in tried.items() if len(sizes) == 1}


def _refuse_fixed(golden: Golden, axis: str, size: int) -> None:
    inputs = golden.signature.inputs
    fixed = [f"--input '{TensorSpec(spec.name, spec.dtype, _fixed(spec, axis, size))}'" for spec in inputs]
    raise ModelError(
        f"the axis '{axis}' can't be dynamic: the source itself runs only with {axis} = {size}",
        fix=f"give it that size: {' '.join(fixed)}" + (", or --static" if axis == "batch" and size == 1 else ""),
        details=[*map(str, inputs), *golden.notes],
    )


def _fixed(spec: TensorSpec, axis: str, size: int) -> tuple[Dim, ...]:
    return tuple(size if dim == axis else dim for dim in spec.dims)


def settled_outputs(golden: Golden) -> tuple[TensorSpec, ...]:
    """Describe the outputs as the cases show them: what changes is dynamic, named after the input axis it equals."""
    return tuple(_settled(golden, spec.name) for spec in golden.signature.outputs)


def _settled(golden: Golden, name: str) -> TensorSpec:
    rank = golden.cases[0].outputs[name].ndim  # which may be another where a model drops axes of one
    golden = replace(golden, cases=tuple(case for case in golden.cases if case.outputs[name].ndim == rank))
    shapes = np.array([case.outputs[name].shape for case in golden.cases])
    dtype = str(golden.cases[0].outputs[name].dtype)
    dims: list[Dim] = []
    for axis in range(shapes.shape[1]):
        column = shapes[:, axis]
        equal = [free for free in golden.signature.axes if np.array_equal(_sizes(golden, free), column)]
        changes = len(set(column.tolist())) > 1
        dims.append(equal[0] if equal and changes else f"{name}_{axis}" if changes else int(column[0]))
    return TensorSpec(name, dtype, tuple(dims))


def _sizes(golden: Golden, axis: str) -> list[int]:
    places = [
        (spec.name, number) for spec in golden.signature.inputs for number, dim in enumerate(spec.dims) if dim == axis
    ]
    name, number = places[0]
    return [int(case.inputs[name].shape[number]) for case in golden.cases]
