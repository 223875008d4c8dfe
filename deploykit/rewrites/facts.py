"""What is known of the values in a graph before it runs: types, sizes, and of some what they hold.

Everything follows from the inputs as they are declared and from the weights; what an exporter says of the values
between is not believed, for it may have baked a size in.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from deploykit.rewrites.evaluation import Known, evaluate, settled
from deploykit.rewrites.inference import Types, inferred
from deploykit.rewrites.running import run_alone
from deploykit.rewrites.sizes import Size, Sum, symbol
from deploykit.tensors import Array

Value = Any
Node = Any
Shape: TypeAlias = tuple[Size, ...]

STANDARD = ("", "ai.onnx")
OPAQUE = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
"""They stay where they are, even if they could be computed: runtimes fuse them into what computes in integers."""
_KEPT = 1 << 10
"""Bytes that a node may give beyond those of its operands, and still be computed."""


@dataclass
class Facts:
    """What is known, by value."""

    main: Any
    """The main graph: its inputs are what they are declared as, those of a subgraph are not."""
    opset: int
    shapes: dict[Value, Shape | None] = field(default_factory=dict)
    types: dict[Value, Any] = field(default_factory=dict)
    arrays: dict[Value, Array | None] = field(default_factory=dict)
    count: int = 0

    def shape(self, value: Value) -> Shape | None:
        """Give the sizes of a value; None where even their number is unknown."""
        if value not in self.shapes:
            self._meet(value)
        return self.shapes[value]

    def dtype(self, value: Value) -> Any:
        """Give the ``onnx_ir.DataType`` of a value, or None."""
        if value not in self.types:
            self._meet(value)
        return self.types[value]

    def rank(self, value: Value) -> int | None:
        """Give the number of axes."""
        shape = self.shape(value)
        return None if shape is None else len(shape)

    def array(self, value: Value) -> Array | None:
        """Give what a value holds: numbers, or sizes (dtype object); None where it is not known."""
        if value not in self.arrays:
            self._meet(value)
        return self.arrays[value]

    def constant(self, value: Value | None) -> Array | None:
        """Give what a value always holds."""
        found = None if value is None else self.array(value)
        return None if found is None or found.dtype == object else found

    def same_shape(self, one: Value, other: Value) -> bool:
        """Whether two values surely have the same sizes."""
        return self.shape(one) is not None and self.shape(one) == self.shape(other)

    def fresh(self) -> Sum:
        """Give a size of which nothing is known."""
        self.count += 1
        return symbol(f"?{self.count}")

    def learn(self, node: Node) -> None:
        """Find out about the outputs of a node; those of its inputs are known."""
        if all(value in self.shapes for value in node.outputs):
            return
        if node.domain not in STANDARD:
            for value in node.outputs:
                self._opaque(value)
            return
        known = [None if value is None else self.array(value) for value in node.inputs]
        found = self._computed(node, known)
        types = inferred(node, self, known)
        for at, value in enumerate(node.outputs):
            array = found[at] if found is not None else None
            self._note(value, array, types)

    def _note(self, value: Value, array: Array | None, types: Types) -> None:
        import onnx_ir

        dtype, shape = types.get(value, (None, None))
        self.types[value] = dtype or (value.dtype if _is_tensor(value) else None)
        self.arrays[value] = array
        if array is None:
            self.shapes[value] = None if shape is None else tuple(self.fresh() if one is None else one for one in shape)
            return
        self.shapes[value] = tuple(array.shape)
        if array.dtype != object and dtype is None:
            self.types[value] = onnx_ir.DataType.from_numpy(array.dtype)
        elif array.dtype == np.int64 and dtype is not None and dtype.numpy() != array.dtype:
            self.arrays[value] = array.astype(dtype.numpy())  # sizes were counted in int64

    def _computed(self, node: Node, known: Known) -> list[Array | None] | None:
        if node.op_type in OPAQUE or not all(value.name for value in node.outputs):
            return None
        if node.op_type in {"Shape", "Size"}:
            return [self._size_of(node)]
        if len(node.outputs) == 1 and (found := evaluate(node, known)) is not None:
            return [found] if _bounded([found], known) else None
        given = [one for one in known if one is not None]
        if len(given) != sum(value is not None for value in node.inputs) or not given:
            return None
        if any(one.dtype == object for one in given):
            return None
        made = run_alone(node, known, self.opset)
        return list(made) if made is not None and _bounded(made, known) else None

    def _size_of(self, node: Node) -> Array | None:
        from deploykit.rewrites.evaluation import attribute
        from deploykit.rewrites.sizes import product

        shape = self.shape(node.inputs[0])
        if shape is None:
            return None
        if node.op_type == "Size":
            return settled(np.array(product(shape), dtype=object))
        found = np.empty(len(shape), dtype=object)
        found[:] = shape
        return settled(found[attribute(node, "start", 0) : attribute(node, "end", None)])

    def _meet(self, value: Value) -> None:
        """Take what a value says of itself that no node gives: an input, or a weight."""
        producer = value.producer()
        if producer is not None:
            self.learn(producer)
        elif value.is_initializer() and not value.is_graph_input() and value.const_value is not None:
            tensor = value.const_value
            self.types[value] = tensor.dtype
            self.shapes[value] = tuple(int(one) for one in tensor.shape)
            self.arrays[value] = _numbers(tensor)
        elif value.is_graph_input() and value.graph is self.main:
            self.arrays[value] = None
            self.types[value] = value.dtype
            self.shapes[value] = None if value.shape is None or not _is_tensor(value) else tuple(self._declared(value))
        else:
            self._opaque(value)

    def _declared(self, value: Value) -> Iterator[Size]:
        for one in value.shape:
            if isinstance(one, int):
                yield one
            else:
                yield symbol(str(one.value)) if one.value else self.fresh()

    def _opaque(self, value: Value) -> None:
        self.shapes[value], self.arrays[value] = None, None
        self.types[value] = value.dtype if _is_tensor(value) else None


def _is_tensor(value: Value) -> bool:
    import onnx_ir

    return isinstance(value.type, onnx_ir.TensorType)


def _numbers(tensor: Any) -> Array | None:
    """Give a weight as it lies in its file; None of what numpy does not know, such as texts and halves of bytes."""
    import onnx_ir

    if tensor.dtype == onnx_ir.DataType.STRING or tensor.dtype.bitwidth < 8 or tensor.dtype.name.startswith("FLOAT8"):  # noqa: PLR2004
        return None
    return np.asarray(tensor.numpy())


def _bounded(made: list[Array], known: Known) -> bool:
    """Whether a node gives no more than it takes; what only repeats one number costs nothing before it is written."""
    real = sum(one.nbytes for one in made if any(one.strides) or one.size == 1)
    return real <= sum(one.nbytes for one in known if one is not None) + max(_KEPT, 1 << 20)
