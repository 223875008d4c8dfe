"""Noise that differs from sample to sample as inputs in use do: in brightness, coarseness and contrast.

White noise has the same means in every sample. Behind a global pooling all samples then look alike, and a gate or a
ReLU there is open for all or shut for all: a damaged weight that it feeds would never be read.
"""

import numpy as np

from deploykit.tensors import Array

_IMAGE_AXES = 3
"""Axes from which an array has places (pixels, steps) beside its samples and channels."""
_COARSE = 8
"""Places in a row that have the same value in a sample of blocks."""
_FACTORS = (4, 8, 16)
"""Places between the grid points of a smooth sample."""


def noise(rng: np.random.Generator, shape: tuple[int, ...], first: int) -> Array:
    """Give numbers about 0 and of about unit size, float64; what has no places is unit normal.

    Samples take turns: white, of another mean in each channel, smooth, bright, of more contrast, dark, in blocks.

    Args:
        rng: where the numbers come from.
        shape: samples first.
        first: the number of the first sample among all that are drawn.
    """
    white = rng.standard_normal(shape)
    if white.ndim < _IMAGE_AXES:
        return white
    channel = 1 if shape[1] <= shape[-1] else white.ndim - 1
    kinds = (_same, _offset, _smooth, _bright, _stronger, _dark, _blocks)
    for row, sample in enumerate(white):
        white[row] = kinds[(first + row) % len(kinds)](rng, sample, channel - 1)
    return white


def _same(_: np.random.Generator, sample: Array, __: int) -> Array:
    return sample


def _offset(rng: np.random.Generator, sample: Array, channel: int) -> Array:
    sizes = [size if axis == channel else 1 for axis, size in enumerate(sample.shape)]
    return np.asarray(0.5 * sample + rng.standard_normal(sizes))


def _smooth(rng: np.random.Generator, sample: Array, channel: int) -> Array:
    """Draw a coarse grid, and interpolate in between."""
    factor = int(rng.choice(_FACTORS))
    axes = [axis for axis in range(sample.ndim) if axis != channel]
    found = rng.standard_normal(
        [-(-size // factor) + 1 if axis in axes else size for axis, size in enumerate(sample.shape)]
    )
    for axis in axes:
        places = np.arange(sample.shape[axis]) / factor
        low = places.astype(int)
        share = (places - low).reshape([-1 if one == axis else 1 for one in range(sample.ndim)])
        found = np.take(found, low, axis) * (1 - share) + np.take(found, low + 1, axis) * share
    return np.asarray(1.5 * found + 0.1 * sample)


def _blocks(_: np.random.Generator, sample: Array, channel: int) -> Array:
    found = sample
    for axis, size in enumerate(sample.shape):
        if axis != channel:
            found = np.take(found, np.arange(size) // _COARSE, axis=axis)
    return np.asarray(found + 0.25 * sample)


def _bright(rng: np.random.Generator, sample: Array, _: int) -> Array:
    return np.asarray(0.5 * sample + rng.uniform(1, 3))


def _dark(rng: np.random.Generator, sample: Array, _: int) -> Array:
    return np.asarray(0.5 * sample - rng.uniform(1, 3))


def _stronger(_: np.random.Generator, sample: Array, __: int) -> Array:
    return np.asarray(1.5 * sample)
