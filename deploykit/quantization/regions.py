"""Which nodes of a graph are computed in integers for a target, and which tensors that makes integers."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from deploykit.quantization.targets import WEIGHTED, Target

# onnx_ir is imported where it is used, so its types are Any in this package.
Node = Any
Value = Any
Model = Any


@dataclass(frozen=True)
class Unit:
    """A node in integers."""

    node: Node
    activations: tuple[int, ...]
    """Places of the inputs that are calibrated."""
    constants: tuple[int, ...] = ()
    """Places of constant inputs that are no weights: of an Add, say."""
    weight: int | None = None
    bias: int | None = None
    axis: int = 0
    """The axis of the weight that has the output channels."""
    end: Value = None
    """The tensor that its result is an integer in: its own output, or that of the activation folded into it."""
    rounded: bool = True
    """Whether its result becomes an integer: not where only floats read it, and the runtime can leave it so."""


@dataclass
class Regions:
    """The nodes of a graph that are computed in integers."""

    units: list[Unit] = field(default_factory=list)
    movers: list[Node] = field(default_factory=list)
    """Nodes that move integers about; what comes out has the range of what goes in."""
    left: dict[str, str] = field(default_factory=dict)
    """Nodes with weights that stay in float, by name, and why."""

    @cached_property
    def produced(self) -> set[Value]:
        """The tensors that come out of these nodes as integers."""
        return {unit.end for unit in self.units if unit.rounded} | {node.outputs[0] for node in self.movers}

    def calibrated(self) -> list[Value]:
        """List the tensors that need a range of their own, in the order of the graph."""
        moved = {node.outputs[0] for node in self.movers}
        wanted: dict[Value, None] = {}
        for unit in self.units:
            wanted.update(dict.fromkeys(unit.node.inputs[place] for place in unit.activations))
            if unit.rounded:
                wanted[unit.end] = None
        for node in self.movers:
            wanted[node.inputs[0]] = None
        return [value for value in wanted if value not in moved]

    def origin(self, value: Value) -> Value:
        """Give the tensor whose range a tensor has."""
        moved = {node.outputs[0]: node.inputs[0] for node in self.movers}
        while value in moved:
            value = moved[value]
        return value


def find_regions(model: Model, target: Target, excluded: Collection[str] = ()) -> Regions:
    """Find what a target computes in integers.

    Args:
        model: the graph; of its subgraphs nothing is.
        target: the rules.
        excluded: names of nodes that stay in float.
    """
    found = Regions()
    weighted = dict(_weighted(model, target, excluded, found.left))
    between = _between(model, target, excluded, weighted)
    for node in model.graph:
        unit = weighted.get(node) or between.get(node)
        if unit is not None:
            found.units.append(unit)
        elif node in between:
            found.movers.append(node)
    integers = {unit.node for unit in found.units} | set(found.movers)
    found.units = [_ended(unit, integers) for unit in found.units]
    return found


def constant(value: Value) -> Any:
    """Give the constant tensor behind a value, or None."""
    import onnx_ir

    return None if value is None else onnx_ir.convenience.get_const_tensor(value)


def is_turned(node: Node) -> bool:
    """Tell whether the weight of a product is [outputs, inputs]: a Gemm may have it so."""
    return node.op_type == "Gemm" and bool(_attribute(node, "transB", 0))


def _is_float(value: Value) -> bool:
    import onnx_ir

    return value is not None and value.dtype in (onnx_ir.DataType.FLOAT, None)


def _weighted(
    model: Model, target: Target, excluded: Collection[str], left: dict[str, str]
) -> Iterator[tuple[Node, Unit]]:
    for node in model.graph:
        rule = WEIGHTED.get(node.op_type)
        if rule is None or node.domain not in ("", "ai.onnx"):
            continue
        if node.name in excluded:
            left.setdefault(node.name, "left in float")
            continue
        why, unit = _as_unit(node, target)
        if unit is None:
            left[node.name] = why
        else:
            yield node, unit


def _as_unit(node: Node, target: Target) -> tuple[str, Unit | None]:
    """Take a node with weights, or say why it stays in float."""
    why = hindrance(node, target)
    if why:
        return why, None
    rule = WEIGHTED[node.op_type]
    end = _folded(node, target)
    if constant(node.inputs[rule.weight]) is None:
        return "", Unit(node, (0, 1), end=end)
    axis = 0 if is_turned(node) else rule.axis
    return "", Unit(node, (0,), weight=rule.weight, bias=_bias(node), axis=axis, end=end)


def hindrance(node: Node, target: Target) -> str:
    """Say why a node with weights can't be computed in integers; nothing where it can."""
    why = next((words for words, applies in _HINDRANCES if applies(node, target)), "")
    return why.format(target=target.name, op=node.op_type)


def _bias(node: Node) -> int | None:
    place = WEIGHTED[node.op_type].bias
    return place if len(node.inputs) > place and node.inputs[place] is not None else None


def _weight_of(node: Node) -> Any:
    return constant(node.inputs[WEIGHTED[node.op_type].weight])


_HINDRANCES: tuple[tuple[str, Callable[[Node, Target], bool]], ...] = (
    ("{target} has no kernel in integers for {op}", lambda node, target: node.op_type not in target.weighted),
    (
        "it is not in float32",
        lambda node, _: not all(map(_is_float, (node.inputs[0], node.inputs[1], node.outputs[0]))),
    ),
    (
        "its weight is computed",
        lambda node, target: _weight_of(node) is None and not (node.op_type == "MatMul" and target.two_activations),
    ),
    ("its first operand is constant", lambda node, _: constant(node.inputs[0]) is not None),
    (
        "its alpha, beta or transA is another than usual",
        lambda node, _: node.op_type == "Gemm" and not _is_plain(node),
    ),
    (
        "its weight has more than two axes",
        lambda node, _: node.op_type == "MatMul" and _weight_of(node) is not None and len(_weight_of(node).shape) > 2,  # noqa: PLR2004
    ),
    (
        "its bias is computed",
        lambda node, _: (place := _bias(node)) is not None and constant(node.inputs[place]) is None,
    ),
)
"""Why a node with weights stays in float: words, and whether they apply."""


def _is_plain(node: Node) -> bool:
    return (_attribute(node, "alpha", 1.0), _attribute(node, "beta", 1.0), _attribute(node, "transA", 0)) == (1, 1, 0)


def _attribute(node: Node, name: str, usual: Any) -> Any:
    return node.attributes[name].value if name in node.attributes else usual


def _folded(node: Node, target: Target) -> Value:
    """Give the output of the activation that alone reads a node's result, and that the target folds into it."""
    result = node.outputs[0]
    uses = list(result.uses())
    if len(uses) != 1 or result.is_graph_output() or uses[0].node.graph is not node.graph:
        return result
    reader = uses[0].node
    if reader.op_type not in target.folded or (reader.op_type == "Clip" and not _clips_above_zero(reader)):
        return result
    return reader.outputs[0]


def _clips_above_zero(node: Node) -> bool:
    low = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if low is None and "min" in node.attributes:
        return float(node.attributes["min"].value) == 0
    return low is not None and low.size == 1 and float(low.numpy().reshape(-1)[0]) == 0


def _between(
    model: Model, target: Target, excluded: Collection[str], weighted: dict[Node, Unit]
) -> dict[Node, Unit | None]:
    """Find what stands between nodes with weights: reads integers, and what it gives is read as integers.

    Returns:
        The nodes; a node that only moves integers about has no unit.
    """
    forward = _reached(model, target, excluded, weighted)
    while True:
        integers = set(forward) | set(weighted)
        idle = [node for node in forward if not _is_read(node, forward[node], integers)]
        if not idle:
            return forward
        for node in idle:
            del forward[node]
        forward = {node: unit for node, unit in forward.items() if _is_fed(node, set(forward) | set(weighted))}


def _reached(
    model: Model, target: Target, excluded: Collection[str], weighted: dict[Node, Unit]
) -> dict[Node, Unit | None]:
    produced = set[Value]()
    found: dict[Node, Unit | None] = {}
    for node in model.graph:
        if node in weighted:
            produced.add(weighted[node].end)
        elif node.name in excluded or node.domain not in ("", "ai.onnx") or not node.outputs:
            continue
        elif node.op_type in target.movers and node.inputs and node.inputs[0] in produced and _moves(node):
            found[node] = None
            produced.add(node.outputs[0])
        elif node.op_type in target.between and (unit := _joining(node, target, produced)) is not None:
            found[node] = unit
            produced.add(unit.end)
    return found


def _moves(node: Node) -> bool:
    """Tell whether a node only moves values about, so that integers come out as they went in."""
    if node.op_type == "Resize":
        mode = _attribute(node, "mode", "nearest")
        return str(mode) == "nearest"
    return len(node.outputs) == 1


def _joining(node: Node, target: Target, produced: set[Value]) -> Unit | None:
    """Take a node that joins or changes integers, where at least one of its inputs is integers already."""
    if node.op_type == "Split" or len(node.outputs) != 1 or not all(map(_is_float, node.inputs)):
        return None
    constants = tuple(place for place, value in enumerate(node.inputs) if constant(value) is not None)
    activations = tuple(place for place in range(len(node.inputs)) if place not in constants)
    if not any(node.inputs[place] in produced for place in activations):
        return None
    return Unit(node, activations, constants, end=_folded(node, target))


def _is_fed(node: Node, integers: set[Node]) -> bool:
    return any(value is not None and _maker(value) in integers for value in node.inputs)


def _maker(value: Value) -> Node:
    """Give the node that makes a value; of an activation, that before it."""
    node = value.producer()
    if node is not None and node.op_type in ("Relu", "Clip"):
        return node.inputs[0].producer()
    return node


def _is_read(node: Node, unit: Unit | None, integers: set[Node]) -> bool:
    end = node.outputs[0] if unit is None else unit.end
    return any(use.node in integers for use in end.uses())


def _ended(unit: Unit, integers: set[Node]) -> Unit:
    """Leave a product in float that no integers read: the runtime adds its sums up in float then."""
    free = unit.node.op_type in ("MatMul", "Gemm") and not any(use.node in integers for use in unit.end.uses())
    if free and unit.end is unit.node.outputs[0]:
        return replace(unit, rounded=False)
    return unit
