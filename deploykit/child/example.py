"""Make tensors that fit the inputs a user described, at sizes that the model really takes."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deploykit.child.said import said
from deploykit.errors import UsageError
from deploykit.tensors import Array, Tensors, TensorSpec, dynamic_axes

BATCH = 2
"""Size of a dynamic batch in the example: an exporter takes a size of 1 for a fixed one."""

_SIZES = (16, 32, 64, 128, 224, 256, 8, 512, 24, 40, 50, 96, 100, 160, 192, 300, 384, 1024, 4, 2, 3, 5, 7, 4096, 16000)
_IMAGE_AXES = 4
_CONVENTIONAL = (64, 32, 128, 224, 256, 512, 16, 96, 8)


def example(specs: Sequence[TensorSpec], rows: int, runs: Callable[[Tensors], Exception | None]) -> Tensors:
    """Give tensors that the model runs on.

    Args:
        specs: what the user said of the inputs; axis 0 of a name is a batch.
        rows: the size of the model's smallest embedding table: ids stay below it.
        runs: tries the model, and gives None or the error.

    Raises:
        UsageError: the model refuses every size that was tried.
    """
    failure: Exception | None = None
    tried = None
    for sizes in _sizes(specs):
        tensors = {spec.name: fill(spec, sizes, rows) for spec in specs}
        failure = runs(tensors)
        if failure is None:
            return tensors
        tried = tried or (sizes, failure)
    assert tried is not None
    raise UsageError(
        f"the model does not run on {', '.join(map(str, specs))}",
        fix="give --input with the dtype and sizes that the model was trained with, or --data samples.npz",
        details=[said(tried[1])],
    )


def _sizes(specs: Sequence[TensorSpec]) -> Iterator[Mapping[str, int]]:
    axes = dynamic_axes(specs)
    batch = {spec.dims[0] for spec in specs if spec.dims and isinstance(spec.dims[0], str)}
    if "batch" in axes:
        batch = {"batch"}
    free = [axis for axis in axes if axis not in batch]
    images = any(len(spec.dims) >= _IMAGE_AXES and spec.dtype.startswith("float") for spec in specs)
    if not free:
        yield dict.fromkeys(axes, BATCH)
        return
    order = (*_CONVENTIONAL, *_SIZES) if images else _SIZES
    for size in dict.fromkeys(order):  # all alike first: most nets take squares
        yield {**dict.fromkeys(axes, BATCH), **dict.fromkeys(free, size)}
    for several in itertools.product(_SIZES[:5], repeat=len(free)):
        yield {**dict.fromkeys(axes, BATCH), **dict(zip(free, several, strict=True))}


def fill(spec: TensorSpec, sizes: Mapping[str, int], rows: int) -> Array:
    """Give one tensor of ordinary values: unit normal floats, small ids, masks of ones."""
    rng = np.random.default_rng(len(spec.name))
    shape = spec.sized(sizes)
    if spec.dtype == "bool" or "mask" in spec.name:
        return np.ones(shape, _dtype(spec))
    if spec.dtype.startswith(("int", "uint")):
        return np.asarray(rng.integers(0, max(1, min(rows, 100)), shape)).astype(_dtype(spec))
    return np.asarray(rng.standard_normal(shape)).astype(_dtype(spec))


def sizes_of(specs: Sequence[TensorSpec], tensors: Tensors) -> dict[str, int]:
    """Give the size that every dynamic axis has in an example."""
    return {
        dim: size
        for spec in specs
        for dim, size in zip(spec.dims, tensors[spec.name].shape, strict=True)
        if isinstance(dim, str)
    }


REPEATS = 1e-3
"""How far apart, in relation to their size, two runs on the same inputs may be: threads add up in any order."""


def apart(one: Array, other: Array) -> float:
    """Give the distance of two answers in relation to their size; of arrays of the same shape."""
    both = [np.nan_to_num(array.astype(np.float64)) for array in (one, other)]
    size, distance = float(np.linalg.norm(both[0])), float(np.linalg.norm(both[0] - both[1]))
    return distance / size if size else distance


def one_sample(specs: Sequence[TensorSpec], tensors: Tensors) -> tuple[tuple[TensorSpec, ...], Tensors]:
    """Fix the batch axis at one sample, in the description and in the example.

    Raises:
        UsageError: another axis is dynamic.
    """
    free = [axis for axis in dynamic_axes(specs) if axis != "batch"]
    if free:
        raise UsageError(
            f"--static fixes every axis, and '{free[0]}' is dynamic",
            fix=f"write a size in place of {free[0]} in --input",
        )
    cut = {
        spec.name: tensors[spec.name][tuple(slice(1) if dim == "batch" else slice(None) for dim in spec.dims)]
        for spec in specs
    }
    return tuple(TensorSpec(spec.name, spec.dtype, cut[spec.name].shape) for spec in specs), cut


def _dtype(spec: TensorSpec) -> Any:
    try:
        return np.dtype(spec.dtype)
    except TypeError:
        raise UsageError(
            f"a model with inputs of {spec.dtype} can't be run here: {spec}", fix="wrap the model to take float32"
        ) from None
