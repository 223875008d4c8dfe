"""What the inputs of a module may look like: templates of shapes, and the sizes to try in them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from deploykit.tensors import Array, Tensors, TensorSpec

ROWS = 3
"""Rows of the batch that ``Plan.feed`` makes."""

B, N, H, W, D = "batch", "n", "h", "w", "d"
IMAGES = {
    3: (224, 32, 64, 96, 128, 256, 299, 384, 512, 48, 28, 112, 160, 192, 320, 416, 640, 16, 8),
    1: (28, 32, 64, 48, 128, 224, 256, 96, 512, 16, 8),
}
FEATURES = (32, 64, 16, 28, 56, 128, 224, 256, 14, 8, 7, 4)
SEEDS = (1, 4, 7, 8, 16, 32, 64)
LENGTHS = (16, 32, 64, 100, 128, 256, 512)
"""Of sequences; the memory of attention grows with their square."""
LONG = (*LENGTHS, 1000, 1024, 2048, 4096, 8000, 16000)
AUDIO = (16000, 8000, 1024, 4096, 32000, 48000, 22050, 44100, 512, 2048, 100, 16)
_RECTANGLES = (
    *((480, 640), (240, 320), (256, 128), (128, 256), (128, 64), (64, 128), (32, 128), (32, 100), (64, 200), (66, 200)),
    *((80, 160), (40, 101), (40, 100), (64, 101), (80, 100), (49, 10), (98, 40), (32, 64), (28, 56), (512, 1024)),
)
_CLIPS = ((16, 112), (16, 224), (8, 224), (8, 112), (32, 224), (16, 64), (16, 32))


@dataclass(frozen=True)
class Guess:
    """One way that an input may look."""

    dtype: str
    dims: tuple[int | str, ...]
    """Sizes, and of those that are not known the letter: batch, n, h, w, d."""
    why: str
    sizes: tuple[int, ...] = LENGTHS
    """What is conventional for the unknown ones."""
    below: int = 0
    """One more than the largest id."""
    role: str = "values"

    @property
    def batch_axis(self) -> int | None:
        """Which axis is the batch."""
        return self.dims.index(B) if B in self.dims else None


@dataclass(frozen=True)
class Plan:
    """A guess for every input; equal letters are equal sizes."""

    guesses: Mapping[str, Guess]

    @property
    def letters(self) -> frozenset[str]:
        """The unknown sizes, without the batch."""
        return frozenset(dim for guess in self.guesses.values() for dim in guess.dims if isinstance(dim, str)) - {B}

    @property
    def scaled(self) -> bool:
        """Whether one number stands for the unknown sizes that matter, so that it can be searched for."""
        return bool(self.letters) and D not in self.letters

    @property
    def axes(self) -> dict[str, int | None]:
        """The batch axis of each input."""
        return {name: guess.batch_axis for name, guess in self.guesses.items()}

    def conventional(self) -> Iterator[dict[str, int]]:
        """Give the usual sizes, the most usual first."""
        letters = self.letters
        if not letters:
            yield {}
            return
        if D in letters:
            yield from ({D: depth, H: side, W: side, N: 16} for depth, side in (*_CLIPS, *((s, s) for s in FEATURES)))
            return
        for size in dict.fromkeys(size for guess in self._unknown(letters) for size in guess.sizes):
            yield {H: size, W: size, N: 16 if H in letters else size}

    def rectangles(self) -> Iterator[dict[str, int]]:
        """Give usual sizes that are not square."""
        if H in self.letters:
            yield from ({H: height, W: width, N: 16} for height, width in _RECTANGLES)

    def longest(self) -> int:
        """Give the end of a search for the unknown size."""
        return (
            512 if H in self.letters else 4 * max(size for guess in self._unknown(self.letters) for size in guess.sizes)
        )

    def elements(self, sizes: Mapping[str, int]) -> int:
        """Count the elements of a batch of three."""
        return sum(prod(spec.sized({B: ROWS})) for spec in self.specs(sizes))

    def specs(self, sizes: Mapping[str, int]) -> tuple[TensorSpec, ...]:
        """Describe the inputs, with only the batch dynamic."""
        return tuple(
            TensorSpec(name, guess.dtype, tuple(dim if dim == B else _size(dim, sizes) for dim in guess.dims))
            for name, guess in self.guesses.items()
        )

    def feed(self, sizes: Mapping[str, int]) -> Tensors:
        """Make a batch of three, the same at every call."""
        rng = np.random.default_rng(0)
        return {name: _fill(guess, {**sizes, B: ROWS}, rng) for name, guess in self.guesses.items()}

    def _unknown(self, letters: frozenset[str]) -> list[Guess]:
        leading = [guess for guess in self.guesses.values() if H in guess.dims] if H in letters else []
        return leading or [guess for guess in self.guesses.values() if N in guess.dims]


def _size(dim: int | str, sizes: Mapping[str, int]) -> int:
    return dim if isinstance(dim, int) else sizes[dim]


def _fill(guess: Guess, sizes: Mapping[str, int], rng: np.random.Generator) -> Array:
    shape = tuple(_size(dim, sizes) for dim in guess.dims)
    dtype = np.dtype("float32" if guess.dtype == "bfloat16" else guess.dtype)
    if guess.role == "mask":
        # Half and half: right where ones mean keep, and where they mean leave out.
        return np.broadcast_to(np.arange(shape[-1]) < (shape[-1] + 1) // 2, shape).astype(dtype)
    if guess.role == "lengths":
        return np.full(shape, sizes.get(N, 1), dtype)
    if guess.dtype.startswith("int"):
        return rng.integers(0, max(1, guess.below), shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)
