"""Weights in 8 bits: a scale for each output channel, and what the rounding does to the mean of each."""

from dataclasses import dataclass

import numpy as np

from deploykit.tensors import Array

_SHRINKS = np.linspace(1.0, 0.7, 13)
"""Parts of a channel's largest weight that are tried as the end of its scale."""


@dataclass(frozen=True)
class Rounded:
    """A weight in integers with zero in the middle: about ``integers * scale``."""

    integers: Array
    """int8, of the weight's shape."""
    scale: Array
    """float32, one for each output channel, or one for all."""
    axis: int | None
    """The axis of the output channels; None where there is one scale for all."""

    @property
    def values(self) -> Array:
        """The numbers that stand for the weight, in float32."""
        return self.integers * self.steps

    @property
    def steps(self) -> Array:
        """The scale of each number, float32 of the weight's shape."""
        shape = [1] * self.integers.ndim
        if self.axis is not None:
            shape[self.axis] = -1
        return np.broadcast_to(self.scale.reshape(shape), self.integers.shape)


def rounded(
    weight: Array, axis: int | None, levels: int, least: Array | None = None, *, searched: bool = True
) -> Rounded:
    """Round a weight to integers, each channel with the scale that makes its squared error least.

    Args:
        weight: float32.
        axis: that of the output channels; None for one scale for all.
        levels: steps of the integers, 254 for -127 to 127.
        least: the smallest scale that each channel may have, so that its bias fits too.
        searched: whether scales are searched for; else each is that of the largest weight.
    """
    most = levels // 2
    rows = weight.reshape(1, -1) if axis is None else np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    rows = rows.astype(np.float32)
    largest = np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.finfo(np.float32).tiny * 2**20)
    best, lowest = largest / most, np.full((len(rows), 1), np.inf, np.float64)
    for shrink in _SHRINKS if searched else _SHRINKS[:1]:
        scale = (largest * np.float32(shrink) / most).astype(np.float32)
        error = np.clip(np.rint(rows / scale), -most, most) * scale - rows
        squared = (error**2).sum(axis=1, keepdims=True, dtype=np.float64)
        best = np.where(squared < lowest, scale, best)
        lowest = np.minimum(squared, lowest)
    if least is not None:
        best = np.maximum(best, least.reshape(-1, 1)).astype(np.float32)
    integers = np.clip(np.rint(rows / best), -most, most).astype(np.int8)
    if axis is None:
        return Rounded(integers.reshape(weight.shape), best.reshape(()).astype(np.float32), None)
    moved = integers.reshape(np.moveaxis(weight, axis, 0).shape)
    return Rounded(np.ascontiguousarray(np.moveaxis(moved, 0, axis)), best.reshape(-1).astype(np.float32), axis)
