"""Round each weight up or down by what it does to the output of its layer, and not to the nearest.

After M. Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization (ICML 2020): errors of weights whose
inputs go together can cancel. The squared error of the output is quadratic in the weights, with the Gram matrix of the
inputs; as in E. Frantar et al., GPTQ (ICLR 2023), nothing else is needed. It is made smaller by coordinate descent on
the integers, one input after the other, which can't make it larger; columns come in blocks, as there.
"""

import numpy as np

from deploykit.quantization.moments import Moments, as_matrix, as_weight
from deploykit.quantization.weighted import Node
from deploykit.quantization.weights import Rounded
from deploykit.tensors import Array

_BLOCK = 64
_SWEEPS = 4
_DAMPING = 1e-2
"""Part of the mean square of an input that is added to that of each: inputs are rounded too, and there are more of them
than samples."""


def settled(node: Node, weight: Array, nearest: Rounded, moments: Moments, levels: int) -> tuple[Rounded, float]:
    """Choose the integers of a weight so that the layer's output errs less than with the nearest.

    Args:
        node: a Conv, ConvTranspose, Gemm or MatMul.
        weight: its weight, float32.
        nearest: the weight in integers, each the nearest.
        moments: of what the layer reads.
        levels: steps of the integers, 254 for -127 to 127.

    Returns:
        The weight with the same scales, and its squared error over that of the nearest.
    """
    matrix, start = as_matrix(node, weight), as_matrix(node, nearest.integers)
    steps = as_matrix(node, nearest.steps)[:, :, :1]
    # A bias makes up for what is shifted on average; a MatMul has none.
    grams = (moments.gram if node.op_type == "MatMul" else moments.centered) / max(moments.count, 1)
    found, errors = [], np.zeros(2)
    for rows, integers, step, gram in zip(matrix, start, steps, grams, strict=True):
        damped = gram + np.eye(len(gram)) * (_DAMPING * np.trace(gram) / len(gram))
        found.append(_descended(rows, step, integers, damped.astype(np.float32), levels // 2))
        errors += [_error(integers * step - rows, damped), _error(found[-1] * step - rows, damped)]
    integers = as_weight(node, np.stack(found).astype(np.int8), weight.shape)
    return Rounded(integers, nearest.scale, nearest.axis), float(errors[1] / max(errors[0], 1e-30))


def _error(change: Array, gram: Array) -> float:
    return float(((change @ gram) * change).sum())


def _descended(rows: Array, step: Array, integers: Array, gram: Array, most: int) -> Array:
    """Give integers of the least error that is found: float32 [outputs, inputs]."""
    found = integers.astype(np.float32)
    slope = (found * step - rows) @ gram
    squares = np.maximum(np.diag(gram), np.finfo(np.float32).tiny)
    for _ in range(_SWEEPS):
        moved = 0.0
        for start in range(0, len(gram), _BLOCK):
            block = slice(start, start + _BLOCK)
            change = _block(found[:, block], slope[:, block], step, gram[block, block], squares[block], most)
            slope += change @ gram[block]
            moved += float(np.abs(change).sum())
        if not moved:
            break
    return found


def _block(found: Array, slope: Array, step: Array, gram: Array, squares: Array, most: int) -> Array:
    """Move the integers of some inputs, in place; give how far their weights moved."""
    own, change = slope.copy(), np.zeros_like(slope)
    for column, square in enumerate(squares):
        best = np.clip(np.rint(found[:, column] - own[:, column] / (square * step[:, 0])), -most, most)
        change[:, column] = (best - found[:, column]) * step[:, 0]
        found[:, column] = best
        own += change[:, column, None] * gram[column]
    return change
