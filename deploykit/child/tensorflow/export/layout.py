"""Keep images with their channels first all through a graph, as ONNX's convolutions take them.

tf2onnx puts a Transpose before and after each convolution, and its own optimizer moves and removes these one at a time;
it gives up where a value is used twice, starts again from the front after each, fails on a scalar bias, and changes
weights that other nodes share. Here the graph is walked once, in order: an operation whose input is a Transpose takes
what the Transpose takes, and the Transpose comes after it. What nobody reads in the end goes.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from tf2onnx import utils

from deploykit.child.tensorflow.export.layout_rules import RULES, Perm, Seen, inverse, only_moves_ones

_CHANNELS_LAST = {(0, 2, 1), (0, 2, 3, 1), (0, 2, 3, 4, 1)}


class LayoutOptimizer:
    """Takes the place of tf2onnx's ``optimize_transpose``."""

    def __init__(self) -> None:
        """Start with nothing done; tf2onnx makes one anew for each round."""
        self.graph_been_opt = False

    def optimize(self, graph: Any, _iteration: int) -> Any:
        """Sink the Transposes of a graph and of the graphs in it."""
        for one in _with_bodies(graph):
            self.graph_been_opt |= _Sinking(one).run()
            one.delete_unused_nodes(one.outputs)
        return graph


def _with_bodies(graph: Any) -> Iterator[Any]:
    yield graph
    for node in list(graph.get_nodes()):
        for body in (node.get_body_graphs() or {}).values():
            yield from _with_bodies(body)


def _is_transpose(node: Any) -> bool:
    return node.type == "Transpose" and bool(node.get_attr("perm"))


class _Ends(NamedTuple):
    """The outputs of a node."""

    names: list[str]
    shapes: list[list[int] | None]
    dtypes: list[int]

    @classmethod
    def of(cls, node: Any) -> "_Ends":
        return cls(list(node.output), node.output_shapes, node.output_dtypes)


class _Sinking:
    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.twins: dict[str, tuple[str, Perm]] = {}
        """Values that are another one transposed."""
        self.made: dict[tuple[str, Perm], str] = {}
        """Every Transpose that there is: input and permutation to output."""
        self.changed = False

    def run(self) -> bool:
        self.graph.topological_sort(self.graph.get_nodes())
        for node in list(self.graph.get_nodes()):
            if _is_transpose(node):
                self._through(node)
            elif node.type in RULES:
                self._sink(node)
        for node in list(self.graph.get_nodes()):
            if _is_transpose(node) and self.graph.find_output_consumers(node.output[0]):
                self._reshaped(node)
        return self.changed

    def _through(self, node: Any) -> None:
        """Let a Transpose of a Transpose take what that takes; one that undoes the other goes."""
        source, perm, output = node.input[0], tuple(node.get_attr_value("perm")), node.output[0]
        if source in self.twins:
            source, inner = self.twins[source]
            perm = tuple(inner[axis] for axis in perm)
            self.changed = True
            self.graph.replace_input(node, node.input[0], source, 0)
            node.set_attr("perm", list(perm))
        if perm == tuple(range(len(perm))) or (source, perm) in self.made:
            self._replace(node, self.made.get((source, perm), source))
            return
        self.twins[output] = source, perm
        self.made[source, perm] = output

    def _replace(self, node: Any, value: str) -> None:
        output = node.output[0]
        self.changed = True
        if value in self.twins:
            self.twins[output] = self.twins[value]
        if output in self.graph.outputs:
            ends = _Ends.of(node)
            self.graph.remove_node(node.name)
            self._make("Identity", [value], {}, ends, node.name)
        self.graph.replace_all_inputs(output, value)

    def _sink(self, node: Any) -> None:
        perm = next((perm for name in node.input if (perm := self._perm_of(name))), None)
        if perm is None or not all(node.output):
            return
        moved = RULES[node.type](Seen(self, node, perm))
        if moved is None:
            return
        self.changed = True
        ends = _Ends.of(node)
        attributes = {**node.get_onnx_attrs(), **moved.attributes}
        self.graph.remove_node(node.name)
        if moved.perm is None or moved.perm == tuple(range(len(moved.perm))):
            self._make(node.type, moved.inputs, attributes, ends, node.name)
            return
        back = inverse(moved.perm)
        shapes = [None if shape is None else [shape[axis] for axis in back] for shape in ends.shapes]
        inner = _Ends([utils.make_name(name) for name in ends.names], shapes, ends.dtypes)
        self._make(node.type, moved.inputs, attributes, inner, node.name)
        for source, output, shape, dtype in zip(inner.names, *ends, strict=True):
            self._make("Transpose", [source], {"perm": list(moved.perm)}, _Ends([output], [shape], [dtype]))
            self.twins[output] = source, moved.perm
            self.made[source, moved.perm] = output

    def _perm_of(self, name: str) -> Perm | None:
        perm = self.twins[name][1] if name in self.twins else None
        return perm if perm in _CHANNELS_LAST else None

    def transposed(self, name: str, perm: Perm) -> str | None:
        """Give a value transposed: what it is a Transpose of, a constant, one made before, or a new Transpose."""
        if name in self.twins and self.twins[name][1] == inverse(perm):
            return self.twins[name][0]
        if (name, perm) in self.made:
            return self.made[name, perm]
        node = self.graph.get_node_by_output(name)
        if node is not None and node.is_const():
            return self.constant(np.transpose(node.get_tensor_value(as_list=False), perm))
        shape, dtype = self.graph.get_shape(name), self.graph.get_dtype(name)
        if shape is None:
            return None
        output = utils.make_name(name)
        self._make(
            "Transpose", [name], {"perm": list(perm)}, _Ends([output], [[shape[axis] for axis in perm]], [dtype])
        )
        self.made[name, perm] = output
        self.twins[output] = name, perm
        return output

    def constant(self, value: Any) -> str:
        """Give the name of a new constant."""
        return self.graph.make_const(utils.make_name("const"), np.ascontiguousarray(value)).output[0]

    def make(self, operation: str, inputs: list[str], attributes: dict[str, Any], shape: list[int] | None) -> str:
        """Add a node with one output, of the type of its first input."""
        output = utils.make_name(inputs[0])
        self._make(operation, inputs, attributes, _Ends([output], [shape], [self.graph.get_dtype(inputs[0])]))
        return output

    def _make(
        self, operation: str, inputs: list[str], attributes: dict[str, Any], ends: _Ends, name: str | None = None
    ) -> None:
        self.graph.make_node(
            operation,
            inputs,
            attr=attributes,
            outputs=ends.names,
            shapes=ends.shapes,
            dtypes=ends.dtypes,
            name=name or utils.make_name(operation),
            infer_shape_dtype=False,
        )

    def _reshaped(self, node: Any) -> None:
        """Write a Transpose that moves no element as a Reshape, which copies none."""
        shape, perm = self.graph.get_shape(node.input[0]), tuple(node.get_attr_value("perm"))
        if shape is None or not only_moves_ones(shape, perm) or shape.count(-1) > 1 or 0 in shape:
            return
        self.changed = True
        sizes = self.constant(np.array([shape[axis] for axis in perm], np.int64))
        source, ends = node.input[0], _Ends.of(node)
        self.graph.remove_node(node.name)
        self._make("Reshape", [source, sizes], {}, ends, node.name)
