"""Faults in the graphs of ONNX models: attributes, activations, axes, sizes and outputs that are not the source's."""

from collections.abc import Iterator
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np

from benchmarks.verdict_faults import (
    Fault,
    Places,
    attribute,
    bias_sign,
    changed,
    embedding_row,
    nodes,
    one_channel,
    one_value,
    rows_swapped,
    shuffled,
    with_attribute,
)

ACTIVATIONS = (
    *("Relu", "LeakyRelu", "PRelu", "Elu", "Gelu", "HardSwish", "Clip", "Exp"),
    *("Tanh", "Sigmoid", "Softmax", "LogSoftmax"),
)
NORMS = {"LayerNormalization": 1e-5, "BatchNormalization": 1e-5, "InstanceNormalization": 1e-5}
NORMS |= {"SkipLayerNormalization": 1e-12, "EmbedLayerNormalization": 1e-12}
"""Operators with an epsilon, and what it is where none is said."""


def epsilon(model: Any, _: np.random.Generator) -> Iterator[Fault]:
    """Give a norm another epsilon."""
    for where, number, node in nodes(model, *NORMS):
        own = attribute(node, "epsilon", NORMS[node.op_type])
        for wrong in (1e-3, 1e-6, 1e-12, 1e-2):
            if not 0.5 < wrong / own < 2:
                yield Fault(f"{where} {wrong:g}", partial(with_attribute, number, "epsilon", wrong))


def axis(model: Any, _: np.random.Generator) -> Iterator[Fault]:
    """Let an operator work along another axis, or transpose otherwise."""
    for where, number, node in nodes(model, "Softmax", "LogSoftmax", "Concat", "Gather"):
        own = attribute(node, "axis", 0 if node.op_type == "Gather" else -1)
        for wrong in (0, 1, 2, -1, -2):
            if wrong != own:
                yield Fault(f"{where} axis {wrong}", partial(with_attribute, number, "axis", wrong))
    yield from _transposed(model)
    known = {one.name: one for one in model.graph.initializer}
    for where, _number, node in nodes(model, "ReduceMean", "ReduceMax"):
        if len(node.input) > 1 and node.input[1] in known:
            for wrong in (1, 2):
                yield Fault(f"{where} axes {wrong}", partial(changed, node.input[1], partial(_filled, wrong)))


def _transposed(model: Any) -> Iterator[Fault]:
    for where, number, node in nodes(model, "Transpose"):
        perm = attribute(node, "perm")
        for wrong_perm in (one for one in permutations(range(len(perm))) if list(one) != list(perm)):
            yield Fault(f"{where} {wrong_perm}", partial(with_attribute, number, "perm", wrong_perm))


def _filled(value: int, array: Any, _: float) -> None:
    array[:1] = value


def activation(model: Any, _: np.random.Generator) -> Iterator[Fault]:
    """Leave an activation out."""
    for where, number, _node in nodes(model, *ACTIVATIONS):
        yield Fault(where, partial(_identity, number))


def _identity(number: int, model: Any, _: float) -> None:
    node = model.graph.node[number]
    del node.input[1:]
    del node.attribute[:]
    node.op_type = "Identity"


def padding(model: Any, _: np.random.Generator) -> Iterator[Fault]:
    """Pad one pixel more on one side and less on the other, none at all, or count the padding in."""
    for where, number, node in nodes(model, "Conv", "FusedConv", "ConvTranspose", "MaxPool", "AveragePool"):
        rank = len(attribute(node, "kernel_shape") or attribute(node, "strides") or [0, 0])
        own = np.array(attribute(node, "pads", [0] * 2 * rank))
        for place in range(rank):
            turn = np.zeros_like(own)
            turn[[place, place + rank]] = 1, -1
            for wrong in (own + turn, own - turn, own + abs(turn)):
                if wrong.min() >= 0:
                    yield Fault(f"{where} {wrong}", partial(with_attribute, number, "pads", wrong.tolist()))
        if own.any():
            yield Fault(f"{where} none", partial(with_attribute, number, "pads", [0] * 2 * rank))


def resize(model: Any, _: np.random.Generator) -> Iterator[Fault]:
    """Resize in another mode, from other coordinates, or with another rounding."""
    choices: dict[str, tuple[Any, ...]] = {
        "mode": (b"nearest", b"linear", b"cubic"),
        "coordinate_transformation_mode": (b"align_corners", b"asymmetric", b"half_pixel"),
        "nearest_mode": (b"round_prefer_floor", b"floor", b"ceil", b"round_prefer_ceil"),
        "cubic_coeff_a": (-0.5, -0.75),
    }
    for where, number, node in nodes(model, "Resize"):
        for name, values in choices.items():
            for wrong in values:
                if wrong != attribute(node, name):
                    yield Fault(f"{where} {name} {wrong!r}", partial(with_attribute, number, name, wrong))


def batch(model: Any, rng: np.random.Generator) -> Iterator[Fault]:
    """Bake the batch of the exporter's example into a Reshape somewhere in the graph."""
    from onnx import shape_inference

    values = shape_inference.infer_shapes(model).graph.value_info
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in values
        if value.type.tensor_type.shape.dim and value.type.tensor_type.shape.dim[0].dim_param == "batch"
    }
    for number, node in enumerate(model.graph.node):
        if node.input and node.input[0] in ranks and node.op_type not in {"Shape", "Reshape"}:
            size = int(rng.integers(1, 3))
            shape = [size, *[0] * (ranks[node.input[0]] - 1)]
            yield Fault(f"{node.op_type} {node.output[0]} batch {size}", partial(_reshaped, number, shape))


def _reshaped(number: int, shape: list[int], model: Any, _: float) -> None:
    from onnx import helper, numpy_helper

    node = model.graph.node[number]
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape), "baked.shape"))
    made = helper.make_node("Reshape", [node.input[0], "baked.shape"], ["baked"])
    node.input[0] = "baked"
    model.graph.node.insert(number, made)


def output(model: Any, _: np.random.Generator) -> Iterator[Fault]:
    """Swap two outputs, or two entries of one: its classes, say."""
    names = [value.name for value in model.graph.output]
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            yield Fault(f"{first} and {second}", partial(_exchanged, first, second))
    for value in model.graph.output:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for place in {1, len(dims) - 1}:
            for one, two in ((0, 1), (0, dims[place] - 1), (dims[place] - 2, dims[place] - 1)):
                if dims[place] > max(1, one) and one != two:
                    order = list(range(dims[place]))
                    order[one], order[two] = two, one
                    yield Fault(
                        f"{value.name} axis {place}: {one} and {two}", partial(_sorted, value.name, place, order)
                    )


def _exchanged(first: str, second: str, model: Any, _: float) -> None:
    other = {first: second, second: first}
    for node in model.graph.node:
        for names in (node.input, node.output):
            for number, name in enumerate(names):
                names[number] = other.get(name, name)
    one, two = (next(value for value in model.graph.output if value.name == name) for name in (first, second))
    kept = type(one.type)()
    kept.CopyFrom(one.type)
    one.type.CopyFrom(two.type)
    two.type.CopyFrom(kept)


def _sorted(name: str, place: int, order: list[int], model: Any, _: float) -> None:
    from onnx import helper, numpy_helper

    for node in model.graph.node:
        for names in (node.input, node.output):
            for number, own in enumerate(names):
                names[number] = f"{name}.before" if own == name else own
    model.graph.initializer.append(numpy_helper.from_array(np.array(order), f"{name}.order"))
    model.graph.node.append(helper.make_node("Gather", [f"{name}.before", f"{name}.order"], [name], axis=place))


SCATTERED: dict[str, Places] = {
    "one value": one_value,
    "one channel": one_channel,
    "sign of a bias": bias_sign,
    "rows swapped": rows_swapped,
    "embedding row": embedding_row,
}
"""Of these there are more places than can be tried; they come in random order."""
LISTED: dict[str, Places] = {
    "epsilon": epsilon,
    "axis": axis,
    "missing activation": activation,
    "padding": padding,
    "resize mode": resize,
    "batch baked in": batch,
    "output swapped": output,
}
KINDS = (*SCATTERED, *LISTED)


def places(model: Any, kind: str, rng: np.random.Generator) -> Iterator[Fault]:
    """Give faults of one kind in random order."""
    if kind in SCATTERED:
        return SCATTERED[kind](model, rng)
    return shuffled(LISTED[kind](model, rng), rng)
