"""Which nodes of a graph are computed in integers for a target, and which tensors that makes integers."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

from deploykit.quantization.targets import WEIGHTED, Target
from deploykit.quantization.weighted import (
    Model,
    Node,
    Value,
    attribute,
    bias_of,
    constant,
    hindrance,
    is_float,
    is_turned,
)


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
        return {unit.end for unit in self.units if unit.rounded} | set(self.moved)

    @cached_property
    def moved(self) -> dict[Value, Value]:
        """The tensors that come out of nodes that move integers about, and what went in."""
        return {value: node.inputs[0] for node in self.movers for value in node.outputs}

    def calibrated(self) -> list[Value]:
        """List the tensors that need a range of their own, in the order of the graph."""
        wanted: dict[Value, None] = {}
        for unit in self.units:
            wanted.update(dict.fromkeys(unit.node.inputs[place] for place in unit.activations))
            if unit.rounded:
                wanted[unit.end] = None
        for node in self.movers:
            wanted[node.inputs[0]] = None
        return [value for value in wanted if value not in self.moved]

    def origin(self, value: Value) -> Value:
        """Give the tensor whose range a tensor has."""
        while value in self.moved:
            value = self.moved[value]
        return value


@dataclass(frozen=True)
class Named:
    """What regions need to know of tensors, by their names: the graph need not stay in memory for that."""

    calibrated: tuple[str, ...]
    channels: Mapping[str, int]
    """The axis of the channels of the tensors that go into nodes with weights."""
    origins: Mapping[str, str]
    """Of a tensor that was only moved about: that whose range it has."""
    nodes: frozenset[str]
    """The nodes in integers."""

    @classmethod
    def of(cls, regions: Regions) -> Self:
        """Take the names out of the graph."""
        weighted = (unit.node for unit in regions.units if unit.weight is not None)
        return cls(
            tuple(value.name for value in regions.calibrated()),
            {node.inputs[0].name: 1 if node.op_type.startswith("Conv") else -1 for node in weighted},
            {value.name: regions.origin(value).name for value in regions.moved},
            frozenset(unit.node.name for unit in regions.units),
        )


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
    places = {**dict.fromkeys(found.movers, (0,)), **{unit.node: unit.activations for unit in found.units}}
    found.units = [replace(unit, rounded=_is_rounded(unit, places, target)) for unit in found.units]
    return found


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
    return "", Unit(node, (0,), weight=rule.weight, bias=bias_of(node), axis=axis, end=end)


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
    """Find what stands between nodes with weights: all it reads is integers anyway, and what it gives is read as such.

    Returns:
        The nodes; a node that only moves integers about has no unit.
    """
    fixed = {unit.end for unit in weighted.values()}
    fixed |= {unit.node.inputs[place] for unit in weighted.values() for place in unit.activations}
    found = _reached(model, target, excluded, fixed, weighted)
    while True:
        nodes = set(found) | set(weighted)
        tensors = fixed.union(*(_ends(node, unit) for node, unit in found.items()))
        useful = {
            node: unit
            for node, unit in found.items()
            if _reads(node, unit) <= tensors and _is_read(_ends(node, unit), nodes)
        }
        if len(useful) == len(found):
            return found
        found = useful


def _reached(
    model: Model, target: Target, excluded: Collection[str], fixed: set[Value], weighted: Mapping[Node, Unit]
) -> dict[Node, Unit | None]:
    tensors = set(fixed)
    found: dict[Node, Unit | None] = {}
    for node in model.graph:
        if node in weighted or node.name in excluded or node.domain not in ("", "ai.onnx"):
            continue
        moves = node.op_type in target.movers and _moves(node)
        unit = _joining(node, target, weighted) if node.op_type in target.between else None
        if (moves or unit is not None) and _reads(node, unit) <= tensors:
            found[node] = unit
            tensors.update(_ends(node, unit))
    return found


def _reads(node: Node, unit: Unit | None) -> set[Value]:
    """Give the tensors that a node would read as integers."""
    return {node.inputs[place] for place in ((0,) if unit is None else unit.activations)}


def _moves(node: Node) -> bool:
    """Tell whether a node only moves values about, so that integers come out as they went in."""
    if node.op_type == "Resize":
        return str(attribute(node, "mode", "nearest")) == "nearest"
    if node.op_type == "Pad":
        return str(attribute(node, "mode", "constant")) != "constant" or pads_with_zero(node)
    return node.op_type == "Split" or len(node.outputs) == 1


def pads_with_zero(node: Node) -> bool:
    """Tell whether a Pad of the mode ``constant`` adds zeros, which are the zero point in integers."""
    value = node.inputs[2] if len(node.inputs) > 2 else None  # noqa: PLR2004
    given = constant(value)
    return value is None or (given is not None and not given.numpy().any())


def _joining(node: Node, target: Target, weighted: Mapping[Node, Unit]) -> Unit | None:
    """Take a node that joins or changes integers."""
    if len(node.outputs) != 1 or not all(map(is_float, node.inputs)) or all(map(constant, node.inputs)):
        return None
    constants = tuple(place for place, value in enumerate(node.inputs) if constant(value) is not None)
    activations = [place for place in range(len(node.inputs)) if place not in constants]
    if node.op_type == "Add" and target.sums_fuse and len(activations) > 1:
        fused = [place for place in activations if _is_only_for(node, node.inputs[place], weighted)]
        activations = [place for place in activations if place not in fused[-1:]]
    return Unit(node, tuple(activations), constants, end=_folded(node, target))


def _ends(node: Node, unit: Unit | None) -> tuple[Value, ...]:
    return tuple(node.outputs) if unit is None else (unit.end,)


def _is_read(ends: tuple[Value, ...], integers: set[Node]) -> bool:
    return any(use.node in integers for end in ends for use in end.uses())


def _is_only_for(node: Node, value: Value, weighted: Mapping[Node, Unit]) -> bool:
    """Tell whether a value is the result of a node with weights, and read by one node alone."""
    made = weighted.get(value.producer())
    return made is not None and made.end is value and {use.node for use in value.uses()} == {node}


def _is_rounded(unit: Unit, places: Mapping[Node, tuple[int, ...]], target: Target) -> bool:
    """Tell whether a result becomes integers: where integers read it, or the target has no kernel that leaves it."""
    if unit.node.op_type not in target.free:
        return True
    return any(use.idx in places.get(use.node, ()) for use in unit.end.uses())
