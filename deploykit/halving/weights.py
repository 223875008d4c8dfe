"""What becomes of a weight that is rounded to 16 bits."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit.rounding import Half
from deploykit.tensors import Array

_BLOCK = 1 << 18
"""Values looked at at a time."""
LOST = 4.0
"""Over so many times the usual error a weight loses too much: it is partly under the normal numbers."""
MASK = -32768.0
"""What stands for minus infinity where an exporter has written a number that does not fit. Scores are lost in it, as
they are in that number, and a score may be added to it without an overflow."""
_MASKS = -1e8
"""From which on a number is such a one."""


@dataclass(frozen=True)
class Fit:
    """How a weight takes it."""

    values: int
    over: int
    """Values beyond the largest number, which would become infinite."""
    vanished: int
    """Values that become zero."""
    error: float
    """RMS error in relation to the RMS of the weight."""
    mask: bool
    """Whether it holds nothing beside small numbers but what hides a score: ``-3.4e38``."""
    largest: float
    """Its largest finite magnitude."""

    def fits(self, half: Half) -> bool:
        """Tell whether it may be rounded."""
        return not self.over and self.error <= LOST * half.unit


def fit_of(tensor: Any, half: Half) -> Fit:
    """Look at a float32 weight, an ``onnx_ir`` tensor."""
    whole = tensor.numpy().reshape(-1)
    over = vanished = masks = 0
    largest = squares = errors = 0.0
    for start in range(0, whole.size, _BLOCK):
        block = whole[start : start + _BLOCK]
        near = halved(block, half)
        top = max(float(block.max()), -float(block.min()))
        if not top <= half.largest:
            known = np.isfinite(block)
            beyond = known & (np.abs(block) > half.largest)
            over += int(beyond.sum())
            masks += int((block[beyond] < _MASKS).sum())
            top = float(np.abs(block[known]).max(initial=0))
            block, near = block[known & ~beyond], near[known & ~beyond]
        vanished += int(np.count_nonzero(block) - np.count_nonzero(near))
        largest = max(largest, top)
        apart = near.astype(np.float32)
        apart -= block
        squares += float(np.dot(block, block))
        errors += float(np.dot(apart, apart))
    error = float(np.sqrt(errors / squares)) if squares else float(vanished > 0)
    return Fit(whole.size, over - masks, vanished, error, masks > 0 and masks == over, largest)


def fits_throughout(tensor: Any, half: Half) -> bool:
    """Tell whether a weight may be rounded where no proof sees it: in every row and column, not only on the whole."""
    fit = fit_of(tensor, half)
    if not fit.fits(half) or fit.mask:
        return False
    whole = tensor.numpy()
    with np.errstate(invalid="ignore"):  # where it is infinite it does not fit
        errors = np.abs(halved(whole, half).astype(np.float32) - whole)
    sizes = np.abs(whole)  # not squared: those of the smallest weights are zero
    others = [tuple(other for other in range(whole.ndim) if other != axis) for axis in range(whole.ndim)]
    return all(bool(np.all(errors.sum(axes) <= LOST * half.unit * sizes.sum(axes))) for axes in others)


def halved(array: Array, half: Half) -> Array:
    """Round to 16 bits; what hides a score becomes a number that fits."""
    if half.name == "bfloat16":
        from ml_dtypes import bfloat16

        return array.astype(bfloat16)
    with np.errstate(over="ignore"):
        near = array.astype(np.float16)
    if array.size and array.min() < _MASKS:
        near[(array < _MASKS) & np.isfinite(array)] = MASK
    return np.asarray(near)


def half_tensor(tensor: Any, half: Half) -> Any:
    """Give a tensor that is rounded when it is written, and not kept."""
    import onnx_ir

    def made() -> Any:
        return onnx_ir.Tensor(halved(tensor.numpy(), half), dtype=half.type, name=tensor.name)

    return onnx_ir.LazyTensor(made, dtype=half.type, shape=onnx_ir.Shape(tensor.shape), name=tensor.name)
