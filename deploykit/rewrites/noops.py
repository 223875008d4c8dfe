"""Nodes that give what they were given, and operands that change nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit.rewrites.evaluation import attribute, axes_of
from deploykit.rewrites.inference import broadcast
from deploykit.rewrites.rewrite import rewrite
from deploykit.rewrites.scope import Scope
from deploykit.tensors import Array

Node = Any
Value = Any

_SAME_SIZE = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile")
"""Where these give the sizes that they were given, they give what they were given."""
_ONE_OPERAND = ("Concat", "Sum", "Max", "Min", "Mean")


@rewrite(
    "no-ops", "Identity", "Cast", "Transpose", "Dropout", "Pad", "Slice", "Clip", "CastLike", *_SAME_SIZE, *_ONE_OPERAND
)
def no_ops(node: Node, scope: Scope) -> bool:
    """f(x) -> x."""
    if len(node.outputs) > 1 and any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return False
    test = _TESTS.get(node.op_type, _keeps_size)
    return bool(node.inputs and node.inputs[0] and test(node, scope)) and scope.replace(node.outputs[0], node.inputs[0])


def _keeps_size(node: Node, scope: Scope) -> bool:
    return scope.facts.same_shape(node.inputs[0], node.outputs[0])


def _cast(node: Node, scope: Scope) -> bool:
    return scope.facts.dtype(node.inputs[0]) == attribute(node, "to")


def _cast_like(node: Node, scope: Scope) -> bool:
    dtype = scope.facts.dtype(node.inputs[0])
    return dtype is not None and dtype == scope.facts.dtype(node.inputs[1])


def _transpose(node: Node, scope: Scope) -> bool:
    rank = scope.facts.rank(node.inputs[0])
    perm = attribute(node, "perm")
    return list(perm) == sorted(perm) if perm is not None else rank in {0, 1}


def _dropout(node: Node, scope: Scope) -> bool:
    training = scope.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.array(False)  # noqa: PLR2004
    return training is not None and not training.any()


def _pad(node: Node, scope: Scope) -> bool:
    if "pads" in node.attributes:
        return not any(attribute(node, "pads"))
    pads = scope.constant(node.inputs[1])
    return pads is not None and not pads.any()


def _slice(node: Node, scope: Scope) -> bool:
    steps = node.inputs[4] if len(node.inputs) > 4 else None  # noqa: PLR2004
    step = np.ones(1) if steps is None else scope.constant(steps)
    return step is not None and bool((step == 1).all()) and _keeps_size(node, scope)


def _one_operand(node: Node, _: Scope) -> bool:
    return len(node.inputs) == 1


def _clip(node: Node, scope: Scope) -> bool:
    return scope.opset >= 11 and not any(node.inputs[1:])  # noqa: PLR2004


_TESTS: dict[str, Callable[[Node, Scope], bool]] = {
    "Identity": lambda *_: True,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Transpose": _transpose,
    "Dropout": _dropout,
    "Pad": _pad,
    "Slice": _slice,
    "Clip": _clip,
    **dict.fromkeys(_ONE_OPERAND, _one_operand),
}


@rewrite("neutral-operands", "Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Where")
def neutral_operands(node: Node, scope: Scope) -> bool:
    """Of x + 0, x * 1, x and true, where(true, x, y) leave x: where the other does not make x larger."""
    if node.op_type == "Where":
        filling = filled(node.inputs[0], scope)
        kept = None if filling is None else node.inputs[1 if filling else 2]
    else:
        kept = _kept(node, scope)
    same = kept is not None and scope.facts.same_shape(kept, node.outputs[0])
    return same and scope.replace(node.outputs[0], kept)


_NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1, "Pow": 1, "And": True, "Or": False}
_BOTH_SIDES = frozenset({"Add", "Mul", "And", "Or"})


def _kept(node: Node, scope: Scope) -> Value:
    neutral = _NEUTRAL[node.op_type]
    one, other = node.inputs
    found = filled(other, scope)
    if found is not None and found == neutral:
        return one
    found = filled(one, scope) if node.op_type in _BOTH_SIDES else None
    return other if found is not None and found == neutral else None


_MOVES = ("Expand", "Slice", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Tile", "Identity", "Flatten", "Gather")


def filled(value: Value, scope: Scope) -> Any:
    """Give the number that a value is filled with, whatever its sizes are; None where it holds several, or unknown."""
    while True:
        known = scope.constant(value)
        if known is not None:
            return known.flat[0].item() if _uniform(known) else None
        if (node := scope.made_by(value, "ConstantOfShape")) is not None:
            filling = attribute(node, "value")
            return 0 if filling is None else filling.numpy().item()
        if (node := scope.made_by(value, *_MOVES)) is None:
            return None
        value = node.inputs[0]


def _uniform(known: Array) -> bool:
    """Whether all numbers are the same; the last is looked at first, so that large weights are not read for it."""
    return bool(known.size and known.flat[0] == known.flat[-1] and (known == known.flat[0]).all())


_BROADCASTING = (
    *("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Where", "Equal", "Greater", "Less"),
    *("GreaterOrEqual", "LessOrEqual", "Min", "Max", "Mod"),
)


@rewrite("broadcasts", *_BROADCASTING)
def broadcasts(node: Node, scope: Scope) -> bool:
    """Of x + expand(y) make x + y, and of x + constant_of_shape(s) x + c: where x alone gives the result its sizes."""
    changed = [_unexpanded(node, at, scope) for at in range(len(node.inputs))]
    return any(changed)


def _unexpanded(node: Node, at: int, scope: Scope) -> bool:
    maker = scope.made_by(node.inputs[at], "Expand", "ConstantOfShape")
    if maker is None or scope.constant(node.inputs[at]) is not None:
        return False
    plain = maker.inputs[0] if maker.op_type == "Expand" else None
    others = [scope.shape(value) for place, value in enumerate(node.inputs) if place != at]
    shape = () if plain is None else scope.shape(plain)
    if shape is None or None in others:
        return False
    total = shape
    for other in others:
        total = broadcast(total, other)  # type: ignore[arg-type, assignment]
        if None in total:
            return False
    if total != scope.shape(node.outputs[0]):
        return False
    node.replace_input_with(at, _scalar(maker, scope) if plain is None else plain)
    return True


def _scalar(maker: Node, scope: Scope) -> Value:
    filling = attribute(maker, "value")
    number = np.zeros((), np.float32) if filling is None else filling.numpy().reshape(())
    return scope.weight(number, f"{maker.outputs[0].name}_scalar")


@rewrite("zero-states", "LSTM", "GRU", "RNN")
def zero_states(node: Node, scope: Scope) -> bool:
    """A state that begins with zeros is left out: that is what it is then."""
    changed = False
    for at in (5, 6):
        value = node.inputs[at] if at < len(node.inputs) else None
        if value is not None and filled(value, scope) == 0:
            node.replace_input_with(at, None)
            changed = True
    while node.inputs and node.inputs[-1] is None:
        node.resize_inputs(len(node.inputs) - 1)
    return changed


@rewrite("squeezes", "Unsqueeze", "Squeeze")
def squeezes(node: Node, scope: Scope) -> bool:
    """unsqueeze(unsqueeze(x)) -> unsqueeze(x), unsqueeze(squeeze(x)) -> x and the like."""
    inner = scope.made_by(node.inputs[0], "Unsqueeze", "Squeeze")
    if inner is None:
        return False
    own, before = (_places(one, scope) for one in (node, inner))
    if own is None or before is None:
        return False
    if inner.op_type != node.op_type:
        return own == before and scope.replace(node.outputs[0], inner.inputs[0])
    if node.op_type == "Squeeze" or not scope.sole(inner.outputs[0]):
        return False
    rank = len(scope.shape(node.outputs[0]) or ())
    moved = [at for at in range(rank) if at not in own]
    axes = sorted({*own, *(moved[axis] for axis in before)})
    if scope.opset < 13:  # noqa: PLR2004
        found = scope.add(node, "Unsqueeze", [inner.inputs[0]], {"axes": axes})
    else:
        found = scope.add(node, "Unsqueeze", [inner.inputs[0], scope.sizes(axes, node.outputs[0])])
    return scope.replace(node.outputs[0], found)


def _places(node: Node, scope: Scope) -> list[int] | None:
    """Give the axes that a node adds or takes away, counted from the first of the longer shape."""
    axes = axes_of(node, [None if value is None else scope.constant(value) for value in node.inputs])
    longer = scope.facts.rank(node.outputs[0] if node.op_type == "Unsqueeze" else node.inputs[0])
    return None if axes is None or longer is None else sorted(axis % longer for axis in axes)


REWRITES = (no_ops, neutral_operands, broadcasts, zero_states, squeezes)
