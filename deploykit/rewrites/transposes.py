"""Transposes that follow one another, and those that reshapes hide."""

from typing import Any

from deploykit.rewrites.evaluation import attribute
from deploykit.rewrites.rewrite import rewrite
from deploykit.rewrites.scope import Scope

Node = Any


def _perm(node: Node, scope: Scope) -> list[int] | None:
    rank = scope.facts.rank(node.inputs[0])
    perm = attribute(node, "perm")
    return list(perm) if perm is not None else None if rank is None else list(range(rank))[::-1]


@rewrite("transposes", "Transpose")
def transposes(node: Node, scope: Scope) -> bool:
    """transpose(transpose(x)) -> transpose(x), or x."""
    inner = scope.made_by(node.inputs[0], "Transpose")
    if inner is None:
        return False
    outer, before = _perm(node, scope), _perm(inner, scope)
    if outer is None or before is None:
        return False
    both = [before[at] for at in outer]
    if both == sorted(both):
        return scope.replace(node.outputs[0], inner.inputs[0])
    found = scope.add(node, "Transpose", [inner.inputs[0]], {"perm": both})
    return scope.replace(node.outputs[0], found)


@rewrite("batched-transposes", "Reshape")
def batched_transposes(node: Node, scope: Scope) -> bool:
    """reshape(transpose(reshape(x, [-1, a, b]), [0, 2, 1]), [..., b, a]) -> transpose(x) of the last two axes."""
    turn = scope.made_by(node.inputs[0], "Transpose")
    first = None if turn is None else scope.made_by(turn.inputs[0], "Reshape")
    if turn is None or first is None or _perm(turn, scope) != [0, 2, 1]:
        return False
    source = first.inputs[0]
    before, middle, after = (scope.shape(one) for one in (source, first.outputs[0], node.outputs[0]))
    if before is None or middle is None or after is None or len(before) != len(after):
        return False
    if before[-2:] != middle[-2:] or after != (*before[:-2], *before[:-3:-1]):
        return False
    perm = [*range(len(before) - 2), len(before) - 1, len(before) - 2]
    return scope.replace(node.outputs[0], scope.add(node, "Transpose", [source], {"perm": perm}))


REWRITES = (transposes, batched_transposes)
