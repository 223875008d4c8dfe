"""Where rewrites happen: one graph, what is known of its values, and the few ways to change it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit.rewrites.facts import Facts, Node, Shape, Value
from deploykit.tensors import Array

Graph = Any


@dataclass
class Names:
    """Names that no value of the model has yet."""

    taken: set[str]

    def new(self, name: str) -> str:
        """Give a name, with a number if it is taken."""
        found, count = name, 1
        while found in self.taken:
            found, count = f"{name}_{count}", count + 1
        self.taken.add(found)
        return found


@dataclass
class Scope:
    """One graph while it is rewritten."""

    graph: Graph
    facts: Facts
    names: Names
    small: dict[tuple[Any, ...], Value] = field(default_factory=dict)
    """Constants that rewrites made, by content."""

    @property
    def opset(self) -> int:
        """The version of the standard operators."""
        return self.facts.opset

    def constant(self, value: Value | None) -> Array | None:
        """Give what a value always holds; None where that is not known."""
        return self.facts.constant(value)

    def shape(self, value: Value) -> Shape | None:
        """Give the sizes of a value."""
        return self.facts.shape(value)

    def weight(self, array: Array, name: str) -> Value:
        """Make an initializer; a small one that is there already is used again."""
        import onnx_ir

        array = np.ascontiguousarray(array) if array.ndim else array
        key = (array.dtype.str, array.shape, array.tobytes()) if array.nbytes <= 1 << 10 else None
        if key in self.small:
            return self.small[key]
        new = self.names.new(name)
        value = onnx_ir.Value(name=new, const_value=onnx_ir.tensor(array, name=new))
        value.type, value.shape = onnx_ir.TensorType(value.const_value.dtype), value.const_value.shape
        self.graph.register_initializer(value)
        if key is not None:
            self.small[key] = value
        return value

    def sizes(self, numbers: Sequence[int], like: Value) -> Value:
        """Make an initializer of whole numbers, as shapes and axes are."""
        return self.weight(np.array(numbers, dtype=np.int64), f"{like.name}_sizes")

    def add(
        self, at: Node, op_type: str, inputs: Iterable[Value | None], attributes: Mapping[str, Any] | None = None,
    ) -> Value:  # fmt: skip
        """Put a node with one output before another, which it stands for: it has its scope names."""
        import onnx_ir

        output = onnx_ir.Value(name=self.names.new(f"{at.outputs[0].name}_{op_type.lower()}"))
        made = onnx_ir.convenience.convert_attributes(attributes or {})
        node = onnx_ir.Node(
            "", op_type, list(inputs), made, outputs=[output], name=at.name, metadata_props=dict(at.metadata_props)
        )
        node.doc_string = at.doc_string
        self.graph.insert_before(at, node)
        self.facts.learn(node)
        return output

    def replace(self, old: Value, new: Value) -> bool:
        """Have a value in place of another, which keeps its name where it is an output; whether that can be done."""
        if old is new:
            return False
        if old.is_graph_output() and not self._as_output(old, new):
            return False
        new.type = new.type or old.type
        new.shape = old.shape if new.shape is None else new.shape
        old.replace_all_uses_with(new)
        return True

    def _as_output(self, old: Value, new: Value) -> bool:
        graph = old.graph
        producer = new.producer()
        if producer is None or new.is_graph_output() or producer.graph is not graph:
            return False
        name = old.name
        old.name = self.names.new(f"{name}_before")
        new.name = name
        new.type, new.shape = old.type or new.type, old.shape or new.shape
        for at, value in enumerate(graph.outputs):
            if value is old:
                graph.outputs[at] = new
        return True

    def sole(self, value: Value) -> bool:
        """Whether exactly one operand, and no output, is this value."""
        return len(value.uses()) == 1 and not value.is_graph_output()

    def made_by(self, value: Value | None, *ops: str) -> Node | None:
        """Give the node of this graph that gives a value, if its operator is one of these."""
        node = None if value is None else value.producer()
        own = node is not None and node.graph is self.graph and node.op_type in ops and node.domain in {"", "ai.onnx"}
        return node if own else None

    def change(self, node: Node, **attributes: Any) -> None:
        """Set attributes of a node."""
        import onnx_ir

        for name, value in attributes.items():
            node.attributes[name] = onnx_ir.convenience.convert_attribute(name, value)

    def operand(self, node: Node, at: int, value: Value | None) -> None:
        """Set an operand of a node, which may not have had so many."""
        if at >= len(node.inputs):
            node.resize_inputs(at + 1)
        node.replace_input_with(at, value)
