"""Faults to plant in the weights of ONNX models, each a change of one tensor."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from deploykit.tensors import Array


@dataclass(frozen=True)
class Fault:
    """One piece of damage: where it is, and what does it to an onnx_ir model, in place.

    The size is that of the change in relation to the weights; most faults have only one.
    """

    where: str
    plant: Callable[[Any, float], None]
    scales: bool = False


def _weights(model: Any, least_rank: int = 1) -> Iterator[tuple[str, Array]]:
    for name, value in model.graph.initializers.items():
        array = value.const_value.numpy()
        if array.dtype == np.float32 and array.ndim >= least_rank and array.size > 1:
            yield name, array


def _set(name: str, change: Callable[[Array, float], Array], model: Any, size: float) -> None:
    import onnx_ir as ir

    value = model.graph.initializers[name]
    value.const_value = ir.tensor(change(value.const_value.numpy().copy(), size), name=name)


def one_weight(model: Any) -> Iterator[Fault]:
    for name, array in _weights(model):
        for place in range(array.size):
            yield Fault(f"{name}[{place}]", partial(_set, name, partial(_add_one, place)), scales=True)


def _add_one(place: int, array: Array, size: float) -> Array:
    array.reshape(-1)[place] += np.float32(size * np.abs(array).max())
    return array


def embedding_row(model: Any) -> Iterator[Fault]:
    for node in model.graph:
        if node.op_type == "Gather" and node.inputs[0].is_initializer() and len(node.inputs[0].shape) > 1:
            name = node.inputs[0].name
            for row in range(node.inputs[0].shape[0]):
                yield Fault(f"{name}[{row}]", partial(_set, name, partial(_add_row, row)), scales=True)


def _add_row(row: int, array: Array, size: float) -> Array:
    array[row] *= np.float32(1 + size)
    return array


def swapped_entries(model: Any) -> Iterator[Fault]:
    for name, array in _weights(model):
        for axis, count in enumerate(array.shape):
            for one in range(count - 1):
                change = partial(_swap, axis, one)
                yield Fault(f"{name} axis {axis}: {one} and {one + 1}", partial(_set, name, change))


def _swap(axis: int, one: int, array: Array, _: float) -> Array:
    order = list(range(array.shape[axis]))
    order[one], order[one + 1] = order[one + 1], order[one]
    return np.ascontiguousarray(np.take(array, order, axis))


def bias_sign(model: Any) -> Iterator[Fault]:
    for name, array in _weights(model):
        if array.ndim == 1:
            for place in range(array.size):
                yield Fault(f"{name}[{place}]", partial(_set, name, partial(_negate, place)))


def _negate(place: int, array: Array, _: float) -> Array:
    array[place] *= -1
    return array


def transposed_weight(model: Any) -> Iterator[Fault]:
    for name, array in _weights(model, least_rank=2):
        if array.shape[-1] == array.shape[-2] > 1:
            yield Fault(name, partial(_set, name, lambda kept, _: np.ascontiguousarray(kept.swapaxes(-1, -2))))


def coarse_weight(model: Any) -> Iterator[Fault]:
    for name, _ in _weights(model):
        yield Fault(name, partial(_set, name, lambda array, _: array.astype(np.float16).astype(np.float32)))


def scale_constant(model: Any) -> Iterator[Fault]:
    for name, value in model.graph.initializers.items():
        if value.dtype.name == "FLOAT" and value.const_value.size == 1:
            yield Fault(name, partial(_set, name, lambda array, _: array * np.float32(1.001)))
