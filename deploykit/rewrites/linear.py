"""What follows a convolution or a product with weights goes into the weights.

The new weights are computed in float64 and rounded once. They have names of their own, for they are others.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit.rewrites.evaluation import attribute
from deploykit.rewrites.rewrite import rewrite
from deploykit.rewrites.scope import Scope
from deploykit.tensors import Array

Node = Any
Value = Any

_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Layer:
    """A node with weights, seen by its output channels."""

    node: Node
    scope: Scope
    weight: Array
    axis: int
    """Of the weights, along which the output channels lie; those of a grouped ConvTranspose are in groups there."""
    bias: Array | None

    @property
    def channels(self) -> int:
        """How many outputs there are."""
        return int(self.weight.shape[self.axis]) * self.groups

    @property
    def groups(self) -> int:
        """Into how many groups the channels are split along another axis than ``axis``."""
        return attribute(self.node, "group", 1) if self.node.op_type == "ConvTranspose" else 1

    @property
    def channel_axis(self) -> int:
        """The axis of the output that the channels are along, from the first."""
        rank = self.scope.facts.rank(self.node.outputs[0])
        return 1 if "Conv" in self.node.op_type else (rank or 0) - 1

    def scaled(self, by: Array) -> Array:
        """Give the weights with each output channel multiplied: in float64, and rounded, block by block."""
        made = np.empty_like(self.weight)
        count = len(made) // self.groups  # [inputs, outputs of a group, ...]
        with np.errstate(over="ignore", under="ignore"):
            for at, part in enumerate(np.split(by, self.groups)):
                own = slice(at * count, (at + 1) * count)
                along = self._along(part, made.ndim)
                np.multiply(self.weight[own], along, out=made[own], dtype=np.float64, casting="same_kind")
        return made

    def _along(self, numbers: Array, rank: int) -> Array:
        shape = [1] * rank
        shape[self.axis] = -1
        return numbers.reshape(shape)


def layer_of(value: Value, scope: Scope) -> Layer | None:
    """Give the layer that makes a value for one reader only, whose weights nothing else reads."""
    node = scope.made_by(value, *_LINEAR)
    if node is None or not scope.sole(value) or not _plain(node):
        return None
    weight = _own(node.inputs[1], scope)
    second = node.inputs[2] if len(node.inputs) > 2 else None  # noqa: PLR2004
    bias = None if second is None else scope.constant(second)
    if weight is None or (second is not None and bias is None):
        return None
    axis = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}.get(node.op_type, 0 if attribute(node, "transB", 0) else 1)
    if node.op_type in {"MatMul", "Gemm"} and weight.ndim != 2:  # noqa: PLR2004
        return None
    layer = Layer(node, scope, weight, axis, None)
    if bias is None:
        return layer
    each = _each(bias, layer.channels)
    return None if each is None else Layer(node, scope, weight, axis, each)


def _each(bias: Array, channels: int) -> Array | None:
    """Give a bias as one number for each channel; None where it also differs along another axis."""
    if bias.size not in {1, channels} or (bias.ndim and bias.shape[-1] != bias.size):
        return None
    return np.broadcast_to(bias.reshape(-1), (channels,))


def _plain(node: Node) -> bool:
    if node.op_type != "Gemm":
        return True
    return attribute(node, "alpha", 1.0) == 1 and attribute(node, "beta", 1.0) == 1


def _own(value: Value, scope: Scope) -> Array | None:
    """Give a float weight that one node reads, and nothing else."""
    if value is None or not value.is_initializer() or not scope.sole(value):
        return None
    found = scope.constant(value)
    return found if found is not None and found.dtype in (np.float32, np.float64, np.float16) else None


def _loses(made: Array | None, before: Array) -> bool:
    """Whether more of the weights than before are too small for float16 to hold them in full."""
    if made is None or before.dtype != np.float16:
        return False
    least = np.finfo(np.float16).tiny
    return int((np.abs(made) < least).sum()) > int((np.abs(before) < least).sum())


def _set(layer: Layer, weight: Array | None, bias: Array | None) -> bool:
    """Give a layer other numbers; not if one of them does not fit into its type."""
    with np.errstate(over="ignore", under="ignore"):
        cast = None if bias is None else bias.astype(layer.weight.dtype)
    made = [(at, one) for at, one in ((1, weight), (2, cast)) if one is not None]
    if not all(np.isfinite(one).all() for _, one in made) or _loses(weight, layer.weight):
        return False
    node = layer.node
    for at, one in made:
        old = node.inputs[at] if at < len(node.inputs) else None
        name = f"{old.name}_folded" if old is not None else f"{node.outputs[0].name}_bias"
        layer.scope.operand(node, at, layer.scope.weight(one, name))
    return True


@rewrite("batch-norms", "BatchNormalization")
def batch_norms(node: Node, scope: Scope) -> bool:
    """batch_norm(conv(x)) -> conv(x) with other weights. (Jacob et al. 2018, arXiv:1712.05877, section 3.2)."""
    layer = layer_of(node.inputs[0], scope)
    numbers = [scope.constant(one) for one in node.inputs[1:5]]
    if layer is None or attribute(node, "training_mode", 0) or not attribute(node, "spatial", 1):
        return False
    extra = any(one.name and (one.uses() or one.is_graph_output()) for one in node.outputs[1:])
    if extra or any(one is None or one.size != layer.channels for one in numbers) or not _channels_first(layer, scope):
        return False
    scale, shift, mean, variance = (one.astype(np.float64) for one in numbers if one is not None)
    by = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    bias = 0.0 if layer.bias is None else layer.bias.astype(np.float64)
    if layer.node.op_type == "MatMul":  # it has no place for a bias
        return False
    return _set(layer, layer.scaled(by), (bias - mean) * by + shift) and scope.replace(
        node.outputs[0], layer.node.outputs[0]
    )


def _channels_first(layer: Layer, scope: Scope) -> bool:
    """Whether the second axis is that of the channels, as BatchNormalization has it."""
    return layer.channel_axis == 1 and (scope.facts.rank(layer.node.outputs[0]) or 0) > 1


def _per_channel(numbers: Array | None, layer: Layer) -> Array | None:
    """Give an operand as one number for each output channel; None where it is something else."""
    rank = layer.scope.facts.rank(layer.node.outputs[0])
    if numbers is None or rank is None or numbers.ndim > rank:
        return None
    wide = numbers.reshape((1,) * (rank - numbers.ndim) + numbers.shape)
    if any(size != 1 for at, size in enumerate(wide.shape) if at != layer.channel_axis):
        return None
    if wide.size not in {1, layer.channels}:
        return None
    return np.broadcast_to(wide.reshape(-1), (layer.channels,)).astype(np.float64)


def _operands(node: Node, scope: Scope) -> tuple[Value, Array | None]:
    """Give the operand that is computed, and the other, if that is known."""
    one, other = node.inputs
    known = scope.constant(other)
    if known is None and node.op_type in {"Add", "Mul"}:
        return other, scope.constant(one)
    return one, known


@rewrite("biases", "Add", "Sub")
def biases(node: Node, scope: Scope) -> bool:
    """conv(x) + b -> conv(x, b), and so for gemm; matmul(x, w) + b -> gemm(x, w, b) of matrices."""
    value, numbers = _operands(node, scope)
    layer = layer_of(value, scope)
    if layer is None:
        return False
    shift = _per_channel(numbers, layer)
    if shift is None or numbers is None or numbers.dtype != layer.weight.dtype:
        return False
    shift = -shift if node.op_type == "Sub" else shift
    if layer.node.op_type == "MatMul":
        return node.op_type == "Add" and _gemm(node, layer, scope)
    bias = shift if layer.bias is None else layer.bias.astype(np.float64) + shift
    return _set(layer, None, bias) and scope.replace(node.outputs[0], layer.node.outputs[0])


def _gemm(node: Node, layer: Layer, scope: Scope) -> bool:
    product = layer.node
    if scope.facts.rank(product.inputs[0]) != 2 or scope.opset < 11:  # noqa: PLR2004
        return False
    bias = next(one for one in node.inputs if one is not product.outputs[0])
    if scope.facts.rank(bias) != 1:
        return False
    found = scope.add(product, "Gemm", [*product.inputs, bias])
    return scope.replace(node.outputs[0], found)


@rewrite("scales", "Mul", "Div")
def scales(node: Node, scope: Scope) -> bool:
    """conv(x) * s -> conv(x) with other weights; so for gemm and matmul, and through what only moves elements."""
    value, numbers = _operands(node, scope)
    if numbers is None or not scope.facts.same_shape(value, node.outputs[0]):
        return False
    biased, layer = _source(value, scope, far=numbers.size == 1)
    if layer is None or numbers.dtype != layer.weight.dtype:
        return False
    scalar = np.full(layer.channels, float(numbers.flat[0])) if numbers.size == 1 else None
    by = scalar if scalar is not None else None if biased is not None else _per_channel(numbers, layer)
    if by is None or not by.all():
        return False
    by = 1 / by if node.op_type == "Div" else by
    bias = None if layer.bias is None else layer.bias.astype(np.float64) * by
    added = None if biased is None else _shift(biased, scope)
    if (biased is not None and added is None) or not _set(layer, layer.scaled(by), bias):
        return False
    if biased is not None and added is not None:
        at, array = added
        moved = (array.astype(np.float64) * by[0]).astype(array.dtype)
        biased.replace_input_with(at, scope.weight(moved, f"{biased.inputs[at].name}_folded"))
    return scope.replace(node.outputs[0], value)


_MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")


def _source(value: Value, scope: Scope, *, far: bool) -> tuple[Node | None, Layer | None]:
    """Find the layer behind a value, and the addition of its bias, if that is a node of its own."""
    while far and scope.sole(value) and (node := scope.made_by(value, *_MOVES)) is not None:
        value = node.inputs[0]
    add = scope.made_by(value, "Add") if far and scope.sole(value) else None
    if add is None:
        return None, layer_of(value, scope)
    return add, layer_of(_operands(add, scope)[0], scope)


def _shift(add: Node, scope: Scope) -> tuple[int, Array] | None:
    """Give the place of an addition's constant, and the constant, if nothing else reads it."""
    for at, value in enumerate(add.inputs):
        if (found := _own(value, scope)) is not None:
            return at, found
    return None


@rewrite("pads", "Conv")
def pads(node: Node, scope: Scope) -> bool:
    """conv(pad(x)) -> conv(x), where zeros are put around the pixels only."""
    pad = scope.made_by(node.inputs[0], "Pad")
    plain = attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    if pad is None or not plain or attribute(pad, "mode", "constant") != "constant":
        return False
    rank = scope.facts.rank(pad.inputs[0])
    around = _around(pad, rank or 0, scope)
    if rank is None or around is None or (around < 0).any() or around[:, :2].any():
        return False
    spatial = rank - 2
    before = np.array(attribute(node, "pads", [0] * 2 * spatial)).reshape(2, spatial)
    scope.change(node, pads=[int(one) for one in (before + around[:, 2:]).reshape(-1)])
    node.replace_input_with(0, pad.inputs[0])
    return True


def _around(pad: Node, rank: int, scope: Scope) -> Array | None:
    """Give the zeros that a Pad puts before and after each axis, [2, rank]; None where it pads with something else."""
    if "pads" in pad.attributes:
        return None if attribute(pad, "value", 0.0) else np.array(attribute(pad, "pads")).reshape(2, rank)
    known = [None if value is None else scope.constant(value) for value in pad.inputs[1:]]
    operands: list[Array | None] = [*known, None, None, None]
    sizes, filling, axes = operands[:3]
    unknown = any(one is None and value is not None for one, value in zip(known, pad.inputs[1:], strict=True))
    if sizes is None or unknown or (filling is not None and filling.any()):
        return None
    found = np.zeros((2, rank), np.int64)
    found[:, range(rank) if axes is None else axes] = sizes.reshape(2, -1)
    return found


REWRITES = (batch_norms, biases, scales, pads)
