"""Tables that rows are looked up in, as those of words: in 8 or 4 bits, for they are a large part of a file.

Nothing is computed faster by it. A row is restored when it is looked up: by standard operators with a scale for each
row, or by onnxruntime's GatherBlockQuantized with one for each block, as the weights beside it have.
"""

from collections.abc import Callable, Collection, Iterator

import numpy as np

from deploykit.quantization.blocks import in_blocks, restored
from deploykit.quantization.running import MICROSOFT
from deploykit.quantization.sensitivity import Switchable
from deploykit.quantization.weighted import Model, Node, Value, attribute, constant, kept, put_in_place
from deploykit.quantization.weights import rounded
from deploykit.tensors import Array

_LEAST = 1 << 14
"""Values from which a table is worth it."""
_AT_ONCE = 1 << 22
"""Values of a table that are rounded at a time."""
_LEVELS = 254
_TABLE = 2
"""Axes of a table."""


def find_tables(model: Model, products: Collection[Node], excluded: Collection[str], block: int = 1) -> list[Node]:
    """Find the nodes that look up rows of a table that nothing else reads, so that it need not stay in float too.

    Args:
        model: the graph.
        products: nodes whose weights are rounded: they may have the same table for one.
        excluded: names of nodes that stay in float.
        block: rows must be whole blocks of so many values.
    """
    found = [node for node in model.graph if node.name not in excluded and _looks_up(node, block)]
    free = {*found, *products}
    return [node for node in found if {use.node for use in node.inputs[0].uses()} <= free]


def _looks_up(node: Node, block: int) -> bool:
    import onnx_ir

    if node.op_type != "Gather" or node.domain not in ("", "ai.onnx") or attribute(node, "axis", 0) != 0:
        return False
    table = constant(node.inputs[0])
    return (
        table is not None
        and table.dtype == onnx_ir.DataType.FLOAT
        and len(table.shape) == _TABLE
        and table.size >= _LEAST
        and table.shape[1] % block == 0
    )


def place_rows(model: Model, nodes: Collection[Node]) -> None:
    """Write tables in int8 with a scale for each row; in place.

    ``y = float(integers[ids]) * scale[ids]``
    """
    import onnx_ir

    for node in nodes:
        table, ids = node.inputs
        integers, scale = _known(model, table, _in_rows)
        rows = onnx_ir.node("Gather", [integers, ids], {"axis": 0}, name=node.name)
        real = onnx_ir.node("Cast", [rows.outputs[0]], {"to": onnx_ir.DataType.FLOAT})
        steps = onnx_ir.node("Gather", [scale, ids], {"axis": 0})
        product = onnx_ir.node("Mul", [real.outputs[0], steps.outputs[0]])
        put_in_place(model, node, [rows, real, steps, product], main=rows)


def place_row_blocks(model: Model, nodes: Collection[Node], bits: int, block: int) -> None:
    """Write tables in blocks with a scale each; in place."""
    import onnx_ir

    def split(table: Array) -> tuple[Array, Array]:
        integers, scale = in_blocks(table, bits, block)
        flat = integers.reshape(len(table), -1)
        return (flat if bits == 8 else flat[:, ::2] | flat[:, 1::2] << 4), scale  # noqa: PLR2004

    for node in nodes:
        table, ids = node.inputs
        integers, scale = _known(model, table, split)
        about = {"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
        made = onnx_ir.node("GatherBlockQuantized", [integers, ids, scale], about, domain=MICROSOFT, name=node.name)
        model.opset_imports.setdefault(MICROSOFT, 1)
        put_in_place(model, node, [made], main=made)


def tables_stand_in(model: Model, nodes: Collection[Node], bits: int = 8, block: int | None = None) -> list[Switchable]:
    """Add what nodes look up whose tables are rounded: by rows, or in blocks."""

    def own(table: Array) -> Array:
        if block is None:
            return rounded(table, 0, _LEVELS).values
        return restored(*in_blocks(table, bits, block), bits, table.shape[1])

    def stand_in(node: Node) -> Switchable:
        table = constant(node.inputs[0]).numpy()
        values = kept(model, f"{node.name}_rounded", np.concatenate([*map(own, _parts(table))]))
        return Switchable(node, {0: values}, float(table.size))

    return [stand_in(node) for node in nodes]


def _known(model: Model, table: Value, split: Callable[[Array], tuple[Array, Array]]) -> tuple[Value, Value]:
    """Give integers and scales of a table, which several nodes may look rows up in."""
    ends = f"{table.name}_rows", f"{table.name}_row_scales"
    values = model.graph.initializers
    if ends[0] not in values:
        parts = [split(part) for part in _parts(constant(table).numpy())]
        for end, arrays in zip(ends, zip(*parts, strict=True), strict=True):
            kept(model, end, np.concatenate(arrays))
    return values[ends[0]], values[ends[1]]


def _in_rows(table: Array) -> tuple[Array, Array]:
    found = rounded(table, 0, _LEVELS)
    return found.integers, found.scale.reshape(-1, 1)


def _parts(table: Array) -> Iterator[Array]:
    step = max(1, _AT_ONCE // max(table.shape[1], 1))
    for start in range(0, len(table), step):
        yield table[start : start + step]
