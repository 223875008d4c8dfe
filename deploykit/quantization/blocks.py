"""Weights alone in 8 or 4 bits, in blocks with a scale each: onnxruntime's MatMulNBits, for large products."""

from collections.abc import Collection
from functools import partial

import numpy as np

from deploykit.quantization.running import MICROSOFT
from deploykit.quantization.sensitivity import Switchable
from deploykit.quantization.targets import Target
from deploykit.quantization.weighted import (
    Model,
    Node,
    constant,
    is_turned,
    kept,
    product_hindrance,
    put_in_place,
    sorted_out,
)
from deploykit.tensors import Array

_LEAST = 1 << 12
"""Weights from which blocks are worth it."""
_SHRINKS = np.linspace(1.0, 0.8, 9)


def find_matrices(model: Model, target: Target, excluded: Collection[str] = ()) -> tuple[list[Node], dict[str, str]]:
    """Find the products with a constant matrix; and of the other nodes with weights, by name, why they are left."""
    return sorted_out(model, partial(_why_not, target=target), excluded)


def _why_not(node: Node, target: Target) -> str:
    if node.op_type not in ("MatMul", "Gemm"):
        return f"{node.op_type} has no kernel with weights in blocks"
    return product_hindrance(node, target, _LEAST)


def in_blocks(weight: Array, bits: int, block: int) -> tuple[Array, Array]:
    """Round a matrix in blocks along its inputs, each with the scale that makes its squared error least.

    Args:
        weight: float32 [outputs, inputs].
        bits: 8 or 4.
        block: inputs that share a scale.

    Returns:
        Integers, uint8 [outputs, blocks, block], with zero at ``2 ** (bits - 1)``; scales, float32 [outputs, blocks].
    """
    outputs, inputs = weight.shape
    padded = np.zeros((outputs, -(-inputs // block) * block), np.float32)
    padded[:, :inputs] = weight
    parts = padded.reshape(outputs, -1, block)
    zero = 1 << (bits - 1)
    # The end with one step more goes to the side of the value that is farthest from zero.
    farthest = np.take_along_axis(parts, np.abs(parts).argmax(-1)[..., None], -1)
    farthest = np.where(farthest == 0, np.float32(1e-20), farthest)
    best, least = farthest / -zero, np.full(farthest.shape, np.inf)
    for shrink in _SHRINKS:
        scale = (farthest * np.float32(shrink) / -zero).astype(np.float32)
        error = np.clip(np.rint(parts / scale), -zero, zero - 1) * scale - parts
        squared = (error**2).sum(-1, keepdims=True)
        best, least = np.where(squared < least, scale, best), np.minimum(squared, least)
    integers = (np.clip(np.rint(parts / best), -zero, zero - 1) + zero).astype(np.uint8)
    return integers, best[..., 0].astype(np.float32)


def restored(integers: Array, scale: Array, bits: int, inputs: int) -> Array:
    """Give the matrix that blocks stand for, float32 [outputs, inputs]."""
    values = (integers.astype(np.float32) - (1 << (bits - 1))) * scale[..., None]
    return np.ascontiguousarray(values.reshape(len(integers), -1)[:, :inputs])


def place_blocks(model: Model, nodes: Collection[Node], bits: int, block: int) -> None:
    """Write products with their weights in blocks; in place."""
    import onnx_ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    for node in nodes:
        weight = _matrix(node)
        integers, scale = in_blocks(weight, bits, block)
        packed = integers if bits == 8 else integers[..., ::2] | integers[..., 1::2] << 4  # noqa: PLR2004
        name = node.inputs[1].name
        inputs = [
            node.inputs[0],
            kept(model, f"{name}_blocks", packed),
            kept(model, f"{name}_scales", scale.reshape(-1)),
        ]
        about = {"K": weight.shape[1], "N": weight.shape[0], "bits": bits, "block_size": block, "accuracy_level": 4}
        made = onnx_ir.node("MatMulNBits", inputs, about, domain=MICROSOFT, name=node.name)
        put_in_place(model, node, [made], main=made)
    model.opset_imports.setdefault(MICROSOFT, 1)
    RemoveUnusedNodesPass()(model)


def _matrix(node: Node) -> Array:
    """Give the weight of a product as [outputs, inputs]."""
    weight: Array = constant(node.inputs[1]).numpy()
    return weight if is_turned(node) else np.ascontiguousarray(weight.T)


def blocks_stand_in(model: Model, target: Target, names: Collection[str], bits: int, block: int) -> list[Switchable]:
    """Add what products read whose weights are in blocks."""
    nodes, _ = find_matrices(model, target)
    return [_stand_in(model, node, bits, block) for node in nodes if node.name in names]


def _stand_in(model: Model, node: Node, bits: int, block: int) -> Switchable:
    weight = _matrix(node)
    values = restored(*in_blocks(weight, bits, block), bits, weight.shape[1])
    own = values if is_turned(node) else np.ascontiguousarray(values.T)
    return Switchable(node, {1: kept(model, f"{node.name}_rounded", own)}, float(weight.size))
