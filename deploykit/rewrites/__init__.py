"""Rewrites of graphs: what is left answers as before, with fewer nodes. One file for each family.

A ``Rewrite`` looks at one node at a time, a ``Whole`` at a graph. Both are tried until nothing changes, and once more
with what is known forgotten: so a second run finds nothing to do.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from deploykit.errors import UsageError, nearest
from deploykit.rewrites import control, linear, noops, patterns, shapes, transposes, whole
from deploykit.rewrites.facts import STANDARD, Facts
from deploykit.rewrites.rewrite import Rewrite, Whole
from deploykit.rewrites.scope import Names, Scope

Model = Any
Graph = Any
Node = Any

AT_NODES: tuple[Rewrite, ...] = (
    *(*noops.REWRITES, *shapes.REWRITES, *transposes.REWRITES),
    *(*linear.REWRITES, *patterns.REWRITES, *control.REWRITES),
)
AT_GRAPHS: tuple[Whole, ...] = (whole.CONSTANTS, whole.DUPLICATES, whole.DEAD_ENDS)
_OLDEST = 9
"""The opset from which operators are known well enough to rewrite them."""
_MOST_SWEEPS = 50


def names() -> tuple[str, ...]:
    """List the rewrites by name."""
    return (*(one.name for one in AT_NODES), *(one.name for one in AT_GRAPHS))


def check_names(wanted: Collection[str]) -> None:
    """Make sure that there are rewrites of these names.

    Raises:
        UsageError: there is none; the nearest is named.
    """
    for name in wanted:
        if name not in names():
            raise UsageError(
                f"there is no rewrite '{name}'{nearest(name, names())}", fix=f"leave out some of {', '.join(names())}"
            )


def rewrite(model: Model, without: Collection[str] = ()) -> tuple[str, ...]:
    """Rewrite a model in place; give the names of the rewrites that changed it.

    Args:
        model: an ``onnx_ir.Model``; its weights may be in files, of which only those that change are read whole.
        without: names of rewrites to leave out.
    """
    _prepare(model)
    used: dict[str, None] = {}
    while _settled(model, frozenset(without), used):
        pass
    _name_nodes(model)
    return tuple(name for name in names() if name in used)


def _prepare(model: Model) -> None:
    from onnx_ir.passes.common import InlinePass

    if model.functions:
        InlinePass()(model)
    if model.ir_version < 4:  # noqa: PLR2004 - weights had to be inputs then, and could not be overridden
        weights = model.graph.initializers
        kept = [value for value in model.graph.inputs if value.name not in weights]
        model.graph.inputs[:] = kept
        model.ir_version = 4


def _name_nodes(model: Model) -> None:
    """Have no name twice, for onnxruntime refuses that: a node that was made has the name of the one it stands for."""
    taken: set[str] = set()
    for graph in model.graphs():
        for node in graph:
            name, count = node.name, 1
            while node.name and node.name in taken:
                node.name, count = f"{name}_{count}", count + 1
            taken.add(node.name)


def _settled(model: Model, without: Collection[str], used: dict[str, None]) -> bool:
    """Rewrite until nothing changes any more; whether anything did."""
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))
    known = Names({value.name for value in _values(model) if value.name})
    at_nodes = tuple(one for one in AT_NODES if one.name not in without) if opset >= _OLDEST else ()
    at_graphs = tuple(one for one in AT_GRAPHS if one.name not in without)
    sweep = _Sweep(Facts(model.graph, opset), known, at_nodes, at_graphs, used)
    for number in range(_MOST_SWEEPS):
        if not sweep.over(model.graph):
            return number > 0
    return False


@dataclass
class _Sweep:
    """One way through a graph and its subgraphs, from the inputs on."""

    facts: Facts
    names: Names
    at_nodes: tuple[Rewrite, ...]
    at_graphs: tuple[Whole, ...]
    used: dict[str, None]

    def over(self, graph: Graph) -> bool:
        """Try every rewrite once; whether something changed."""
        scope = Scope(graph, self.facts, self.names)
        changed = False
        for node in graph:
            self.facts.learn(node)
            for inner in _graphs_of(node):
                changed = self.over(inner) or changed
            if node.domain in STANDARD:
                changed = self._at(node, scope) or changed
        for one in self.at_graphs:
            if one.apply(scope):
                self.used[one.name] = None
                changed = True
        return changed

    def _at(self, node: Node, scope: Scope) -> bool:
        changed = False
        for one in self.at_nodes:
            if node.op_type in one.ops and node.graph is scope.graph and one.apply(node, scope):
                self.used[one.name] = None
                changed = True
                whole.prune(node, scope)
        return changed


def _graphs_of(node: Node) -> Iterator[Graph]:
    for attribute in node.attributes.values():
        if attribute.type.name == "GRAPH" and not attribute.is_ref():
            yield attribute.value
        elif attribute.type.name == "GRAPHS" and not attribute.is_ref():
            yield from attribute.value


def _values(model: Model) -> Iterator[Any]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs
