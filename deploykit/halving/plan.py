"""Which nodes stay in float32, and why."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploykit.halving.cut import Cut
from deploykit.halving.graph import Graph, holds_graph
from deploykit.halving.groups import groups
from deploykit.halving.ranges import LONG_SUMS, Ranges
from deploykit.halving.schema import is_float
from deploykit.halving.weights import Fit, fit_of
from deploykit.rounding import FLOAT16, MOVES, Half

MARGIN = 4.0
"""How far under the largest number the samples must stay: others may go farther."""
LONG = 1 << 11
"""Terms from which on a sum in float16 does not feel the next one."""
LONG_PRODUCT = 1 << 16
"""The same for products of matrices and convolutions, which are added up in float32 by what is made for them."""
FINE = 8.0
"""Over this, float16 has less than 8 bits behind the point: too few for the sine of an angle, or a floor."""
CANCELLED = 2.0**-5
"""A difference that is so small in relation to its operands has lost five of the digits that they are rounded to."""

_NO_KERNEL = {
    "float16": frozenset(
        {"LSTM", "GRU", "RNN", "NonMaxSuppression", "RoiAlign", "TopK", "GridSample", "CumSum", "Range"}
    ),
    "bfloat16": frozenset(
        {"LSTM", "GRU", "RNN", "NonMaxSuppression", "RoiAlign", "TopK", "GridSample", "CumSum", "Range"}
    ),
}
"""onnxruntime dies of the recurrent ones; the others have no kernel there, or their result hangs on every digit."""
_RANDOM = frozenset(
    ["RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"]
)
_DIGITS = frozenset(["Sin", "Cos", "Tan", "Floor", "Ceil", "Round", "Mod", "Cast"])
"""Operators whose result hangs on the digits behind the point of large numbers; a Cast, where it makes integers."""
_SQUARING = frozenset(
    [
        "LayerNormalization",
        "RMSNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "ReduceL2",
        "ReduceSumSquare",
        "LpNormalization",
        "MeanVarianceNormalization",
    ]
)
PRODUCTS = frozenset(["MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"])

_CAST, _NODE = 100, 7
"""What a cast costs, and a node of little work in float32, where a graph is cut in two."""


@dataclass(frozen=True)
class Plan:
    """What is done to a graph."""

    halves: frozenset[int]
    """The nodes that become 16 bits wide, by number."""
    reasons: Mapping[int, str]
    """Why others do not: for those that are kept for a reason of their own."""
    fits: Mapping[str, Fit]
    """Of the float32 weights, by name."""
    groups: tuple[frozenset[int], ...] = field(default=())
    """The nodes that are halved or kept together, alone ones too."""


def plan(graph: Graph, ranges: Ranges, kept: Mapping[int, str] | None = None) -> Plan:
    """Choose the nodes that become 16 bits wide.

    Args:
        graph: the model.
        ranges: how large its tensors get.
        kept: nodes that stay in float32 whatever was measured, and why.
    """
    fits = {
        value.name: fit_of(value.const_value, graph.half)
        for value in graph.model.graph.initializers.values()
        if is_float(value)
    }
    reasons = dict(_reasons(graph, ranges, fits)) | dict(kept or {})
    together = _grouped(graph)
    for group in together:
        why = next((reasons[one] for one in sorted(group) if one in reasons), None)
        if why is not None:
            reasons |= {one: reasons.get(one, why) for one in group}
    free = {number for number, ports in enumerate(graph.ports) if ports and number not in reasons}
    pulled = _pulled(graph, together, free)
    reasons |= dict.fromkeys(pulled, "a cast there costs more than it saves")
    return Plan(frozenset(free - pulled), reasons, fits, tuple(map(frozenset, together)))


def _reasons(graph: Graph, ranges: Ranges, fits: Mapping[str, Fit]) -> Iterator[tuple[int, str]]:
    for number, node in enumerate(graph.nodes):
        touched = [value for _, value in graph.inputs(number)]
        touched += [value for value in node.outputs if is_float(value)]
        why = _by_kind(node, graph.half) or _by_sums(node, ranges, graph.half)
        why = why or next((why for value in touched if (why := _unfit(value, ranges, fits, graph.half))), None)
        if why and touched:
            yield number, why
        if _hangs_on_digits(node, ranges, graph.half):
            why = f"takes the {node.op_type} of {ranges.largest.get(_origin(node.inputs[0]).name, 0):.3g}"
            yield from ((one, why) for one in (number, *_climb(graph, number, ranges, FINE)))
        rest = _rest(node, ranges)
        if rest:
            yield number, f"its result is {1 / rest:.0f} times smaller than what it subtracts"
            fine = ranges.largest[node.outputs[0].name] / CANCELLED
            made = f"makes the large numbers of which {graph.name(number)} leaves little"
            yield from ((one, made) for one in _climb(graph, number, ranges, fine))


def _by_kind(node: Any, half: Half) -> str | None:
    if node.op_type in _NO_KERNEL[half.name]:
        return f"{node.op_type} is computed in float32"
    if node.op_type in _RANDOM:
        return "draws random numbers"
    return "has a body" if holds_graph(node) else None


def _by_sums(node: Any, ranges: Ranges, half: Half) -> str | None:
    """Say what is wrong with a sum of many terms, or of large squares."""
    if node.op_type in LONG_SUMS:
        count = ranges.terms.get(node.outputs[0].name, 0)
        if count >= LONG:
            return f"adds {count} terms"
    if node.op_type in _SQUARING:
        largest = ranges.largest.get(_origin(node.inputs[0]).name, 0.0)
        if largest**2 > half.largest:
            return f"squares numbers up to {largest:.3g}"
    if node.op_type == "MatMul" and is_float(node.inputs[0]):
        count = _contracted(node)
        return f"adds {count} terms" if count >= LONG_PRODUCT else None
    return None


def _contracted(node: Any) -> int:
    sizes = [
        value.shape[axis]
        for value, axis in zip(node.inputs, (-1, -2), strict=True)
        if value.shape and len(value.shape) > 1
    ]
    return max((size for size in sizes if isinstance(size, int)), default=0)


def _unfit(value: Any, ranges: Ranges, fits: Mapping[str, Fit], half: Half) -> str | None:
    """Say why a tensor can't be had in 16 bits, or None."""
    origin = _origin(value)
    if origin.name in fits:
        fit = fits[origin.name]
        if fit.fits(half):
            return None
        if fit.over:
            return f"{fit.over} of {fit.values} weights are over {half.largest:g}, up to {fit.largest:.3g}"
        return f"weights up to {fit.largest:.3g} lose {fit.error:.1%} in {half.name}"
    largest = ranges.largest.get(origin.name, 0.0)
    if largest > half.largest / MARGIN:
        return f"numbers reach {largest:.3g}"
    if 0 < largest < half.normal:
        return f"numbers reach {largest:.3g} only"
    return None


def _origin(value: Any) -> Any:
    """Go up to where the numbers of a tensor come from."""
    node = value.producer()
    while node is not None and node.op_type in MOVES and node.inputs[0] is not None and is_float(node.inputs[0]):
        value = node.inputs[0]
        node = value.producer()
    return value


def _hangs_on_digits(node: Any, ranges: Ranges, half: Half) -> bool:
    if node.op_type not in _DIGITS or not node.inputs or not is_float(node.inputs[0]):
        return False
    if node.op_type == "Cast" and (is_float(node.outputs[0]) or not _is_whole(node.outputs[0].dtype)):
        return False
    coarse = FINE * 2.0 ** (half.digits - FLOAT16.digits)
    return ranges.largest.get(_origin(node.inputs[0]).name, 0.0) > coarse


def _rest(node: Any, ranges: Ranges) -> float:
    """Say how little a difference is in relation to what it is of, where digits are lost by that; zero elsewhere."""
    if node.op_type not in ("Add", "Sub") or not is_float(node.outputs[0]):
        return 0.0
    taken = max(ranges.largest.get(_origin(value).name, 0.0) for value in node.inputs)
    share = ranges.largest.get(node.outputs[0].name, 0.0) / taken if taken else 0.0
    return share if share < CANCELLED else 0.0


def _is_whole(dtype: Any) -> bool:
    return dtype is not None and dtype.is_integer() and dtype.name != "BOOL"


def _climb(graph: Graph, number: int, ranges: Ranges, fine: float) -> Iterator[int]:
    """Give the nodes that make such a number: up to where numbers are small, or of a layer with weights."""
    ahead, seen = [number], {number}
    while ahead:
        for value in graph.nodes[ahead.pop()].inputs:
            node = value.producer() if is_float(value) else None
            above = None if node is None else graph.number.get(node)
            if node is None or above is None or above in seen or (node.op_type in PRODUCTS and not _outer(node)):
                continue
            if node.op_type not in MOVES and ranges.largest.get(value.name, 0.0) <= fine:
                continue
            seen.add(above)
            ahead.append(above)
            yield above


def _outer(node: Any) -> bool:
    """Tell whether a product adds nothing up, as that of positions and frequencies."""
    return node.op_type in ("MatMul", "Einsum") and _contracted_of_any(node) == 1


def _contracted_of_any(node: Any) -> int:
    return _contracted(node) if node.op_type == "MatMul" and len(node.inputs) == 2 else 1  # noqa: PLR2004


def _grouped(graph: Graph) -> list[set[int]]:
    """Give all groups, and each node that is in none as a group of its own."""
    found = groups(graph)
    inside = set().union(*found)
    return [*found, *({number} for number, ports in enumerate(graph.ports) if ports and number not in inside)]


def _pulled(graph: Graph, together: list[set[int]], free: Collection[int]) -> set[int]:
    """Find the nodes of little work that are better left in float32, since a cast before and one behind fall away."""
    home = {one: place for place, group in enumerate(together) for one in group}
    whole = "sink"
    point = {
        one: home[one] if one in free else whole
        for one in range(len(graph.nodes))
        if graph.ports[one] or one not in free
    }
    cut = Cut()
    for one in free:
        heavy = graph.nodes[one].op_type in PRODUCTS
        cut.prefer_here(home[one], _CAST * _NODE if heavy else _NODE)
    for value, giver, takers in _tensors(graph):
        origin = whole if giver is None else point.get(giver, whole)
        readers = {whole if taker is None else point.get(taker, whole) for taker in takers}
        if readers - {origin}:
            cut.tensor(value.name, origin, readers, _CAST)
    there = cut.there()
    return {one for one in free if home[one] in there}


def _tensors(graph: Graph) -> Iterator[tuple[Any, int | None, set[int | None]]]:
    """Give each float32 tensor with the node that makes it and those that read it; None for what stays in float32."""
    outputs = set(graph.model.graph.outputs)
    readers: dict[Any, set[int | None]] = {}
    for number in range(len(graph.nodes)):
        for place, value in graph.inputs(number):
            if value.const_value is None:
                halves = place is not None and place in graph.ports[number].inputs
                readers.setdefault(value, set()).add(number if halves else None)
    for value, takers in readers.items():
        giver = graph.number.get(value.producer())
        if giver is not None and not (value in graph.nodes[giver].outputs and graph.ports[giver].outputs):
            giver = None
        yield value, giver, takers | ({None} if value in outputs else set())
    for value in outputs - readers.keys():
        if is_float(value) and value.producer() in graph.number:
            yield value, graph.number[value.producer()], {None}
