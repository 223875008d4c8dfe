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
_FACTORS = (2, 4, 8, 16)
"""Places between the grid points of what a natural sample is made of."""


def noise(rng: np.random.Generator, shape: tuple[int, ...], first: int) -> Array:
    """Give numbers about 0 and of about unit size, float64; what has no places is unit normal.

    Samples take turns: white, of another mean in each channel, as of nature, bright, of more contrast, dark, in blocks.

    Args:
        rng: where the numbers come from.
        shape: samples first.
        first: the number of the first sample among all that are drawn.
    """
    white = rng.standard_normal(shape)
    if white.ndim < _IMAGE_AXES:
        return white
    channel = 1 if shape[1] <= shape[-1] else white.ndim - 1
    kinds = (_same, _offset, _natural, _bright, _stronger, _natural, _dark, _blocks)
    for row, sample in enumerate(white):
        white[row] = kinds[(first + row) % len(kinds)](rng, sample, channel - 1)
    return white


def _same(_: np.random.Generator, sample: Array, __: int) -> Array:
    return sample


def _offset(rng: np.random.Generator, sample: Array, channel: int) -> Array:
    sizes = [size if axis == channel else 1 for axis, size in enumerate(sample.shape)]
    return np.asarray(0.5 * sample + rng.standard_normal(sizes))


def _natural(rng: np.random.Generator, sample: Array, channel: int) -> Array:
    """Add up noise of every coarseness, the coarser the stronger, as in natural images.

    Field, "Relations between the statistics of natural images and the response properties of cortical cells", 1987:
    their amplitude falls with the frequency, 1/f.
    """
    found = 0.3 * sample + 0.3 * rng.standard_normal()
    for factor in _FACTORS:
        found = found + 0.2 * factor**0.5 * _coarse(rng, sample.shape, channel, factor)
    return np.asarray(found)


def _coarse(rng: np.random.Generator, shape: tuple[int, ...], channel: int, factor: int) -> Array:
    """Draw a grid with so many places from point to point, and interpolate in between."""
    sizes = [size if axis == channel else -(-size // factor) + 1 for axis, size in enumerate(shape)]
    found = rng.standard_normal(sizes)
    for axis, size in enumerate(shape):
        if axis != channel:
            places = np.arange(size) / factor
            low = places.astype(int)
            share = (places - low).reshape([-1 if one == axis else 1 for one in range(len(shape))])
            found = np.take(found, low, axis) * (1 - share) + np.take(found, low + 1, axis) * share
    return np.asarray(found)


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
