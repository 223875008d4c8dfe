"""Faults for the benchmark of verdicts: damage that conversions and edits of ONNX files have done, one at a time.

Each kind lists the places that it fits in a model, drawn at random; all work on the protobuf, and on nothing of
deploykit's.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from deploykit.tensors import Array

Plant = Callable[[Any, float], None]
"""Changes an ``onnx.ModelProto`` in place; the number is the size of the change, in the tensor's own spread."""


@dataclass(frozen=True)
class Fault:
    """One piece of damage."""

    where: str
    plant: Plant
    scales: bool = False
    """Whether its size can be chosen."""


Places = Callable[[Any, np.random.Generator], Iterator[Fault]]


def planted(model: Any, fault: Fault, size: float) -> Any:
    """Give a copy of a model with a fault in it."""
    copy = type(model)()
    copy.CopyFrom(model)
    fault.plant(copy, size)
    return copy


def weights(model: Any, least_rank: int = 1) -> dict[str, Array]:
    """Give the tensors of real numbers by name."""
    from onnx import TensorProto, numpy_helper

    found = {one.name: one for one in model.graph.initializer if one.data_type == TensorProto.FLOAT}
    arrays = {name: numpy_helper.to_array(one) for name, one in found.items()}
    return {name: array for name, array in arrays.items() if array.ndim >= least_rank}


def changed(name: str, change: Callable[[Array, float], None], model: Any, size: float) -> None:
    """Change a tensor of a model in place."""
    from onnx import numpy_helper

    tensor = next(one for one in model.graph.initializer if one.name == name)
    array = numpy_helper.to_array(tensor).copy()
    change(array, size)
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def one_value(model: Any, rng: np.random.Generator) -> Iterator[Fault]:
    """Change one number of a tensor."""
    found = list(weights(model).items())
    while True:
        name, array = found[rng.integers(len(found))]
        place, sign = int(rng.integers(array.size)), float(rng.choice([-1, 1]))
        change = partial(_add, np.unravel_index(place, array.shape), sign)
        yield Fault(f"{name}[{place}]", partial(changed, name, change), scales=True)


def _add(place: Any, towards: Any, array: Array, size: float) -> None:
    array[place] += np.asarray(towards * size * (array.std() or np.abs(array).max() or 1.0), np.float32)


def one_channel(model: Any, rng: np.random.Generator) -> Iterator[Fault]:
    """Scale one row, or one column, of a tensor."""
    found = [(name, array, axis) for name, array in weights(model, 2).items() for axis in (0, 1)]
    while True:
        name, array, axis = found[rng.integers(len(found))]
        row = int(rng.integers(array.shape[axis]))
        yield Fault(f"{name} axis {axis}: {row}", partial(changed, name, partial(_scale, axis, row)), scales=True)


def _scale(axis: int, row: int, array: Array, size: float) -> None:
    np.moveaxis(array, axis, 0)[row] *= np.float32(1 + size)


def bias_sign(model: Any, rng: np.random.Generator) -> Iterator[Fault]:
    """Turn the sign of one number that is added."""
    known = weights(model)
    adding = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "LayerNormalization": 2, "BatchNormalization": 2}
    adding |= {"InstanceNormalization": 2, "Add": 1, "LSTM": 3, "GRU": 3}
    adding |= {"FusedConv": 2, "FusedGemm": 2, "SkipLayerNormalization": 4, "BiasGelu": 1}
    names = [
        node.input[adding[node.op_type]]
        for node in model.graph.node
        if node.op_type in adding and len(node.input) > adding[node.op_type]
    ]
    found = [(name, place) for name in dict.fromkeys(names) if name in known for place in range(known[name].size)]
    for index in rng.permutation(len(found)):
        name, place = found[index]
        yield Fault(f"{name}[{place}]", partial(changed, name, partial(_negate, place)))


def _negate(place: int, array: Array, _: float) -> None:
    array.reshape(-1)[place] *= -1


def rows_swapped(model: Any, rng: np.random.Generator) -> Iterator[Fault]:
    """Swap two rows, or two columns, of a tensor."""
    found = [
        (name, array, axis)
        for name, array in weights(model).items()
        for axis in (0, 1)
        if array.ndim > axis and array.shape[axis] > 1
    ]
    while True:
        name, array, axis = found[rng.integers(len(found))]
        one, two = sorted(rng.choice(array.shape[axis], 2, replace=False).tolist())
        change = partial(_swap, axis, one, two)
        yield Fault(f"{name} axis {axis}: {one} and {two}", partial(changed, name, change))


def _swap(axis: int, one: int, two: int, array: Array, _: float) -> None:
    rows = np.moveaxis(array, axis, 0)
    rows[[one, two]] = rows[[two, one]]


def embedding_row(model: Any, rng: np.random.Generator) -> Iterator[Fault]:
    """Change one row of a table that is looked up in."""
    known = weights(model, 2)
    names = [
        name for node in model.graph.node for name in node.input[_TABLES.get(node.op_type, _NONE)] if name in known
    ]
    found = [(name, row) for name in dict.fromkeys(names) for row in range(len(known[name]))]
    for index in rng.permutation(len(found)):
        name, row = found[index]
        towards = rng.standard_normal(known[name].shape[1:])
        yield Fault(f"{name}[{row}]", partial(changed, name, partial(_add, row, towards)), scales=True)


_TABLES = {"Gather": slice(0, 1), "EmbedLayerNormalization": slice(2, 5)}
_NONE = slice(0, 0)


def nodes(model: Any, *kinds: str) -> Iterator[tuple[str, int, Any]]:
    """Give the nodes of some kinds: what to call them, their number, and themselves."""
    for number, node in enumerate(model.graph.node):
        if node.op_type in kinds:
            yield f"{node.op_type} {node.output[0]}", number, node


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """Give an attribute of a node as a Python value."""
    from onnx import helper

    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def with_attribute(number: int, name: str, value: Any, model: Any, _: float) -> None:
    """Set an attribute of a node."""
    from onnx import helper

    node = model.graph.node[number]
    kept = [one for one in node.attribute if one.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def shuffled(faults: Iterator[Fault], rng: np.random.Generator) -> Iterator[Fault]:
    """Give faults in random order."""
    found = list(faults)
    return (found[index] for index in rng.permutation(len(found)))
