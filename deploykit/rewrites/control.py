"""Decisions that are always the same."""

from typing import Any

from deploykit.rewrites.rewrite import rewrite
from deploykit.rewrites.scope import Scope

Node = Any
Graph = Any


@rewrite("decisions", "If")
def decisions(node: Node, scope: Scope) -> bool:
    """if(true) { a } else { b } -> a."""
    known = scope.constant(node.inputs[0])
    if known is None:
        return False
    branch: Graph = node.attributes["then_branch" if known.all() else "else_branch"].value
    made = list(branch.outputs)
    makers = [value.producer() for value in made]
    if len(set(made)) < len(made) or any(one is None or one.graph is not branch for one in makers):
        return False
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        value.name = scope.names.new(name)
        scope.graph.register_initializer(value)
    branch.outputs.clear()
    moved = list(branch)
    branch.remove(moved)
    for value in (value for one in moved for value in one.outputs if value.name):
        value.name = scope.names.new(value.name)
    scope.graph.insert_before(node, moved)
    replaced = [scope.replace(old, new) for old, new in zip(node.outputs, made, strict=True)]
    return all(replaced)


REWRITES = (decisions,)
