"""Tensors whose channels can be made larger or smaller without a change of the answer.

A positive factor for each channel passes through a ReLU, a pooling and a sum: ``relu(x / s) = relu(x) / s``. So where
all that makes a tensor can be divided by it (the weights of a convolution, the scale of a normalization), and all that
reads it can be multiplied, a net stays what it was. Residual sums tie several tensors together: they are one site.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from deploykit.quantization.regions import pads_with_zero
from deploykit.quantization.targets import WEIGHTED
from deploykit.quantization.weighted import Model, Node, Value, attribute, bias_of, constant, is_turned, kept
from deploykit.tensors import Array
from deploykit.validation.divergence.structure import SCALED

_CARRIES = frozenset({"Relu", "LeakyRelu", "PRelu", "Identity"})
"""Operators that commute with a positive factor for each channel."""
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
_RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze"})
_NORMS = frozenset({"LayerNormalization", "BatchNormalization"})


@dataclass
class Site:
    """Tensors that are scaled together, and what makes and reads them."""

    axis: int
    """That of the channels, counted from the first."""
    channels: int
    tensors: list[Value] = field(default_factory=list)
    makers: list[Node] = field(default_factory=list)
    readers: list[Node] = field(default_factory=list)
    added: list[tuple[Node, int]] = field(default_factory=list)
    """Constants that are added, by node and place."""

    @property
    def smooths(self) -> bool:
        """Whether it begins at a normalization, as in a transformer; else at a layer with weights."""
        return any(node.op_type in _NORMS or node.op_type == "Mul" for node in self.makers)

    def scale(self, model: Model, factors: Array) -> None:
        """Divide the tensors by factors, float32 [channels]; in place.

        Of powers of two not one bit of any answer changes, but for numbers at the end of what float32 holds.
        """
        for node in self.makers:
            for place, axis in _made(node):
                _times(model, node, place, axis, 1 / factors)
        for node, place in self.added:
            _times(model, node, place, self.axis - len(node.outputs[0].shape), 1 / factors)
        for value in self.tensors:
            value.name += SCALED
        for node in self.readers:
            array = constant(node.inputs[1]).numpy()
            _set(model, node, 1, array * read_along(node, array, factors))


def _times(model: Model, node: Node, place: int, axis: int, factors: Array) -> None:
    array = np.atleast_1d(constant(node.inputs[place]).numpy())
    shape = [-1 if one == axis % array.ndim else 1 for one in range(array.ndim)]
    _set(model, node, place, array * factors.reshape(shape))


def _set(model: Model, node: Node, place: int, array: Array) -> None:
    """Let a node read another constant; others may read the one that it had."""
    value = node.inputs[place]
    name = f"{value.name}{SCALED}"
    while name in model.graph.initializers:
        name += SCALED
    node.replace_input_with(place, kept(model, name, array.astype(constant(value).numpy().dtype)))


def read_along(node: Node, weight: Array, channels: Array) -> Array:
    """Lay numbers of the channels that a layer reads out, so that they are broadcast against its weight."""
    if node.op_type == "Conv":
        groups = int(attribute(node, "group", 1))
        laid = np.repeat(channels.reshape(groups, -1), len(weight) // groups, axis=0)
        return laid.reshape(*laid.shape, *[1] * (weight.ndim - 2))
    return channels if is_turned(node) else channels.reshape(-1, *[1] * (weight.ndim - 1))


def _made(node: Node) -> Iterator[tuple[int, int]]:
    """Give the places of the constants that set the size of a node's result, each with the axis of its channels."""
    if node.op_type in _NORMS:
        yield from ((place, -1) for place in (1, 2) if len(node.inputs) > place and node.inputs[place] is not None)
    elif node.op_type == "Mul":
        yield next(place for place in (0, 1) if constant(node.inputs[place]) is not None), -1
    else:
        yield 1, 0 if is_turned(node) else WEIGHTED[node.op_type].axis
        place = bias_of(node)
        if place is not None:
            yield place, -1


def find_sites(model: Model) -> list[Site]:
    """Find the tensors that are read by layers with weights and can be scaled, in the order of the graph."""
    found, seen = list[Site](), set[Value]()
    for node in model.graph:
        value = node.outputs[0] if node.outputs else None
        if value is None or value in seen or not _is_maker(node):
            continue
        site = _Growing(model).grown(value, _axis_of(node))
        seen.add(value)
        if site is not None and site.readers:
            seen.update(site.tensors)
            found.append(site)
    return found


def _is_maker(node: Node) -> bool:
    """Tell whether a node sets the size of each channel of its result by constants."""
    if node.op_type not in (*WEIGHTED, *_NORMS, "Mul") or node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Mul":
        return _scales_last(node)
    if node.op_type == "ConvTranspose" and attribute(node, "group", 1) != 1:
        return False
    if node.op_type == "LayerNormalization" and attribute(node, "axis", -1) != -1:
        return False
    constants = [constant(value) for value in node.inputs[1:3] if value is not None]
    if any(one is None for one in constants) or (node.op_type == "MatMul" and len(constants[0].shape) != 2):  # noqa: PLR2004
        return False
    return len(node.outputs[0].shape or ()) > 1


def _scales_last(node: Node) -> bool:
    """Tell whether a product is that by a factor for each channel on the last axis: a normalization written out."""
    factors = [value for value in node.inputs if constant(value) is not None]
    shape = node.outputs[0].shape
    return len(factors) == 1 and bool(shape) and tuple(factors[0].shape) == (shape[-1],)


def _axis_of(node: Node) -> int:
    rank = len(node.outputs[0].shape)
    return 1 if node.op_type in ("Conv", "ConvTranspose", "BatchNormalization") else rank - 1


@dataclass
class _Growing:
    """One site, found by going from tensor to tensor."""

    model: Model
    waiting: list[Value] = field(default_factory=list)

    def grown(self, start: Value, axis: int) -> Site | None:
        """Give the site that a tensor belongs to, or None where some of it can't be scaled."""
        size = start.shape[axis]
        if not isinstance(size, int):
            return None
        site = Site(axis, size)
        self.waiting = [start]
        while self.waiting:
            value = self.waiting.pop()
            if value in site.tensors:
                continue
            if not self._fits(value, site):
                return None
            site.tensors.append(value)
            nodes = dict.fromkeys([value.producer(), *(use.node for use in value.uses())])
            if not all(self._takes(node, value, site) for node in nodes):
                return None
        return site

    def _fits(self, value: Value, site: Site) -> bool:
        shape = value.shape
        return (
            value.producer() is not None
            and not value.is_graph_output()
            and shape is not None
            and len(shape) > site.axis
            and shape[site.axis] == site.channels
        )

    def _takes(self, node: Node, value: Value, site: Site) -> bool:
        """Take a node that makes or reads a tensor of the site; tell whether that could be done."""
        if node.graph is not self.model.graph or node.domain not in ("", "ai.onnx"):
            return False
        if value in node.outputs:
            if value is node.outputs[0] and _is_maker(node) and _axis_of(node) == site.axis:
                site.makers.append(node)
                return True
        elif _is_reader(node, value, site):
            site.readers.append(node)
            return True
        places = _carried(node, site)
        if places:
            site.added += [(node, one) for one in _constants(node) if (node, one) not in site.added]
            self.waiting += [*(node.inputs[place] for place in places), node.outputs[0]]
        return bool(places)


def _is_reader(node: Node, value: Value, site: Site) -> bool:
    """Tell whether a node multiplies the channels of a tensor by a weight, and reads it nowhere else."""
    weight = constant(node.inputs[1]) if node.op_type in ("Conv", "MatMul", "Gemm") else None
    if weight is None or (node.op_type == "MatMul" and len(weight.shape) != 2):  # noqa: PLR2004
        return False
    if [one for one in node.inputs if one is value] != [node.inputs[0]] or attribute(node, "transA", 0):
        return False
    return site.axis == (1 if node.op_type == "Conv" else len(value.shape) - 1)


def _carried(node: Node, site: Site) -> tuple[int, ...]:
    """Give the places of the tensors whose channels a node carries on as they are; nothing where it does not."""
    if node.op_type == "Add":
        own = tuple(place for place in (0, 1) if constant(node.inputs[place]) is None)
        ranks = {len(value.shape or ()) for value in (*(node.inputs[place] for place in own), node.outputs[0])}
        fit = len(ranks) == 1 and all(_has_channels(node, place, site) for place in _constants(node))
        return own if fit else ()
    if node.op_type in _RESHAPES:
        before, after = node.inputs[0].shape, node.outputs[0].shape
        flat = site.axis == 1 and None not in (before, after) and len(after) == 2  # noqa: PLR2004
        return (0,) if flat and all(size == 1 for size in before[2:]) else ()
    if node.op_type == "Pad":
        return (0,) if _pads_places(node, site.axis) else ()
    return (0,) if node.op_type in _CARRIES or (node.op_type in _POOLS and site.axis == 1) else ()


def _constants(node: Node) -> tuple[int, ...]:
    return tuple(place for place in (0, 1) if constant(node.inputs[place]) is not None) if node.op_type == "Add" else ()


def _has_channels(node: Node, place: int, site: Site) -> bool:
    """Tell whether a constant has a number for each channel."""
    shape = constant(node.inputs[place]).shape
    back = len(node.outputs[0].shape or ()) - site.axis
    return len(shape) >= back and shape[-back] == site.channels


def _pads_places(node: Node, axis: int) -> bool:
    """Tell whether a Pad adds zeros, and no channels."""
    pads = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if pads is None or len(node.inputs) > 3 or not pads_with_zero(node):  # noqa: PLR2004
        return False
    ends = pads.numpy().reshape(2, -1)
    return str(attribute(node, "mode", "constant")) == "constant" and not ends[:, axis].any()
