"""What a graph draws at random: which inputs steer it, and a dropout that these switch off."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from deploykit.child.tensorflow.model import Frozen, operation


def switch_off_dropout(graph_def: Any) -> None:
    """Let a value pass where it is multiplied with, or chosen by, a mask that always is one.

    With a ``keep_prob`` of 1 a dropout draws random numbers still, and the exported file would too.
    """
    masks = _Masks(graph_def)
    for node in graph_def.node:
        match node.op:
            case "Mul":
                ones = [index for index, source in enumerate(node.input) if masks.constant(source) == 1]
                kept = 1 - ones[0] if ones else None
            case "Select" | "SelectV2":
                chosen = masks.constant(node.input[0])
                kept = None if chosen is None else 1 if chosen else 2
            case _:
                kept = None
        if kept is not None:
            source, kind = node.input[kept], node.attr["T"].type
            controls = [one for one in node.input if one.startswith("^")]
            node.op, node.input[:] = "Identity", [source, *controls]
            node.attr.clear()
            node.attr["T"].type = kind


class _Masks:
    """The bounds of what is made of random numbers and constants, and nothing else."""

    def __init__(self, graph_def: Any) -> None:
        self._nodes = {node.name: node for node in graph_def.node}

    def constant(self, source: str) -> float | None:
        """Give the one value of a tensor that is drawn at random, and yet has only one."""
        node = self._nodes.get(operation(source))
        bounds = None if node is None or node.op == "Const" else self._bounds(source, 0)
        return bounds[0] if bounds and bounds[0] == bounds[1] and self._drawn(source) else None

    def _drawn(self, source: str) -> bool:
        node = self._nodes[operation(source)]
        return node.op == "RandomUniform" or (
            node.op in _BOUNDS and any(self._drawn(one) for one in node.input if not one.startswith("^"))
        )

    def _bounds(self, source: str, depth: int) -> tuple[float, float] | None:
        node = self._nodes.get(operation(source))
        if node is None or depth > _DEPTH:
            return None
        if node.op == "Const":
            array = tf.make_ndarray(node.attr["value"].tensor)
            return (float(array.min()), float(array.max())) if array.size and array.dtype.kind in "fiub" else None
        if node.op == "RandomUniform":  # the largest is the last number before one, in steps from one to two
            return 0.0, 1 - float(np.finfo(tf.as_dtype(node.attr["dtype"].type).as_numpy_dtype).eps)
        if node.op not in _BOUNDS:
            return None
        inner = [self._bounds(one, depth + 1) for one in node.input if not one.startswith("^")]
        known = [bounds for bounds in inner if bounds is not None]
        return _BOUNDS[node.op](*known) if len(known) == len(inner) else None


_DEPTH = 20
_Bounds = tuple[float, float]


def _product(a: _Bounds, b: _Bounds) -> _Bounds:
    corners = [one * other for one in a for other in b]
    return min(corners), max(corners)


def _quotient(a: _Bounds, b: _Bounds) -> _Bounds | None:
    return _product(a, (1 / b[1], 1 / b[0])) if b[0] > 0 else None


def _at_least(a: _Bounds, b: _Bounds) -> _Bounds:
    return float(a[0] >= b[1]), float(a[1] >= b[0])


def _more(a: _Bounds, b: _Bounds) -> _Bounds:
    return float(a[0] > b[1]), float(a[1] > b[0])


_BOUNDS: dict[str, Callable[..., _Bounds | None]] = {
    **dict.fromkeys(("Identity", "Cast", "PlaceholderWithDefault"), lambda a: a),
    "Floor": lambda a: (math.floor(a[0]), math.floor(a[1])),
    **dict.fromkeys(("Add", "AddV2"), lambda a, b: (a[0] + b[0], a[1] + b[1])),
    "Sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "Mul": _product,
    "RealDiv": _quotient,
    "GreaterEqual": _at_least,
    "Greater": _more,
    "Less": lambda a, b: _more(b, a),
    "LessEqual": lambda a, b: _at_least(b, a),
}


def steering(frozen: Frozen) -> tuple[str, ...]:
    """List the inputs without axes that steer what is drawn at random: ``keep_prob`` of a dropout, ``is_training``."""
    nodes = {node.name: node for node in frozen.graph_def.node}
    takers: dict[str, list[str]] = {}
    for node in frozen.graph_def.node:
        for source in node.input:
            takers.setdefault(operation(source), []).append(node.name)
    drawn = _downstream({name for name, node in nodes.items() if DRAWS.search(node.op)}, takers, nodes, None)
    found = []
    for name, tensor in frozen.inputs.items():
        shape = nodes[operation(tensor)].attr["shape"].shape
        if (shape.unknown_rank or not shape.dim) and _downstream({operation(tensor)}, takers, nodes, _PASSES) & drawn:
            found.append(name)
    return tuple(found)


DRAWS = re.compile(r"^(Stateless)?(Random|Truncated|ParameterizedTruncated|Multinomial)|^Stateful|^Rng")
_PASSES = {*_BOUNDS, "Placeholder", "Switch", "Merge", "NoOp", "LogicalNot", "LogicalAnd"}


def _downstream(
    starts: set[str], takers: Mapping[str, list[str]], nodes: Mapping[str, Any], through: set[str] | None
) -> set[str]:
    """Give what takes these nodes' answers, and so on as far as the operations are such as it goes through."""
    seen, waiting = set(starts), list(starts)
    while waiting:
        name = waiting.pop()
        if through is None or nodes[name].op in through:
            new = [one for one in takers.get(name, ()) if one not in seen]
            seen.update(new)
            waiting.extend(new)
    return seen
