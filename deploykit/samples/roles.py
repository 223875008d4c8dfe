"""What an input may be for, and the values that suit it: ids, mask, positions, lengths, pixels, numbers."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deploykit.samples.noise import noise
from deploykit.tensors import Array, Dim


@dataclass(frozen=True)
class Draw:
    """What values are asked for: one array for each shape, fixed by the seed and the input's name alone."""

    seed: int
    name: str
    shapes: Sequence[tuple[int, ...]]
    plan: Sequence[Mapping[str, int]]

    def rng(self, case: int) -> np.random.Generator:
        """Give the random numbers of one case of this input."""
        return np.random.default_rng([self.seed, zlib.crc32(self.name.encode()), case])

    def noise(self, case: int, shape: tuple[int, ...]) -> Array:
        """Give noise about 0 for one case, which goes on in the turns of the samples where the case before ended."""
        return noise(self.rng(case), shape, sum(one[0] for one in self.shapes[:case] if one))

    def size(self, dim: Dim, case: int) -> int:
        """Give the size that an axis has in a case; 1 where it is none of the inputs' axes."""
        return dim if isinstance(dim, int) else self.plan[case].get(dim, 1)


class Role(Protocol):
    """What an input is for."""

    def one(self, draw: Draw, case: int, shape: tuple[int, ...], /) -> Array:
        """Give the array of one case, still of any element type."""


@dataclass(frozen=True)
class Normal:
    """Numbers of about the unit normal distribution, as ``noise`` gives them."""

    def one(self, draw: Draw, case: int, shape: tuple[int, ...]) -> Array:
        """Give the array of one case."""
        return draw.noise(case, shape)


@dataclass(frozen=True)
class Table:
    """What is indexed: its name, its rows, and the least and greatest constant added to an id before."""

    name: str
    rows: Dim
    low: int = 0
    high: int = 0


@dataclass(frozen=True)
class Ids:
    """Indices into tables: their rows dealt out without replacement, first, last and middle always among them."""

    tables: tuple[Table, ...]

    def bounds(self, draw: Draw, case: int) -> range:
        """Give the ids that every table takes in a case."""
        fitting: range | None = None
        for table in self.tables:
            ids = range(max(0, -table.low), draw.size(table.rows, case) - table.high)
            both = ids if fitting is None else range(max(fitting.start, ids.start), min(fitting.stop, ids.stop))
            # A branch that no id fits is not for ids: the `index + rows` of negative indices.
            fitting = both or fitting
        return fitting or range(1)

    def one(self, draw: Draw, case: int, shape: tuple[int, ...]) -> Array:
        """Give one case's part of the rows, which are dealt out over all cases, to live tokens first."""
        bounds = self.bounds(draw, case)
        alike = [number for number in range(len(draw.shapes)) if self.bounds(draw, number) == bounds]
        live = [_live(draw.seed, number, draw.shapes[number]).reshape(-1) for number in alike]
        order = np.argsort(~np.concatenate(live), kind="stable")  # of a dead token's row a model may see nothing
        dealt = np.empty(len(order), np.int64)
        dealt[order] = _deal(draw.rng(0), len(bounds), len(order)) + bounds.start
        start = sum(map(len, live[: alike.index(case)]))
        return _varied(dealt[start : start + math.prod(shape)].reshape(shape), bounds)


@dataclass(frozen=True)
class Mask:
    """1 for live and 0 for padding (or the reverse), on the last axis, padded on the right."""

    dead_is_one: bool = False

    def one(self, draw: Draw, case: int, shape: tuple[int, ...]) -> Array:
        """Give ragged rows, the first of them whole: of single rows every other one."""
        single = _single(case, shape) and shape[-1] > 1
        length = int(draw.rng(case).integers(1, shape[-1])) if single else 1
        return _live(draw.seed, case, shape, length) != self.dead_is_one


@dataclass(frozen=True)
class Lengths:
    """How much of a sequence is used: the whole of it first, then no longer than the one before."""

    steps: Dim

    def one(self, draw: Draw, case: int, shape: tuple[int, ...]) -> Array:
        """Give the lengths of one case, from 1 to the size of the sequence."""
        return ragged(draw.seed, case, math.prod(shape), draw.size(self.steps, case)).reshape(shape)


@dataclass(frozen=True)
class Positions:
    """0, 1, 2, ... along the last axis, the same for every row, within a table where there is one."""

    ids: Ids | None = None

    def one(self, draw: Draw, case: int, shape: tuple[int, ...]) -> Array:
        """Give the positions of one case."""
        bounds = self.ids.bounds(draw, case) if self.ids else range(np.iinfo(np.int32).max)
        count = np.arange(shape[-1] if shape else 1) % len(bounds) + bounds.start
        return np.broadcast_to(count, shape or (1,)).reshape(shape).copy()


@dataclass(frozen=True)
class Choice:
    """One of a few numbers, mixed within an array; a single number takes them in turn, case by case."""

    of: tuple[float, ...]

    def one(self, draw: Draw, case: int, shape: tuple[int, ...]) -> Array:
        """Give the array of one case."""
        if not shape:
            return np.asarray(self.of[case % len(self.of)])
        order = np.resize(np.asarray(self.of), math.prod(shape))
        return draw.rng(case).permutation(order).reshape(shape)


@dataclass(frozen=True)
class Whole:
    """Whole numbers from ``low`` to ``high``, as pixels and sound samples are."""

    low: int
    high: int

    def one(self, draw: Draw, case: int, shape: tuple[int, ...]) -> Array:
        """Give the array of one case: noise about the middle, of the size that a uniform distribution has."""
        middle, size = (self.low + self.high) / 2, (self.high - self.low) / 12**0.5
        return np.asarray(np.clip(np.rint(middle + size * draw.noise(case, shape)), self.low, self.high))


@dataclass(frozen=True)
class Within:
    """Numbers from ``low`` to ``high``, of which a quantizer cuts off the rest."""

    low: float
    high: float

    def one(self, draw: Draw, case: int, shape: tuple[int, ...]) -> Array:
        """Give the array of one case: noise about the middle, four deviations wide."""
        middle, size = (self.low + self.high) / 2, (self.high - self.low) / 4
        return np.asarray(np.clip(middle + size * draw.noise(case, shape), self.low, self.high))


@dataclass(frozen=True, eq=False)
class Scaled:
    """Numbers that the model itself brings to the unit normal distribution."""

    mean: Array
    std: Array

    def one(self, draw: Draw, case: int, shape: tuple[int, ...]) -> Array:
        """Give mean + std * normal; one mean and std for all where theirs do not broadcast."""
        mean, std = (_fitted(array, shape) for array in (self.mean, self.std))
        return np.asarray(mean + std * draw.noise(case, shape))


@dataclass(frozen=True)
class Positive:
    """Numbers over zero, for a logarithm, a root or a division."""

    def one(self, draw: Draw, case: int, shape: tuple[int, ...]) -> Array:
        """Give log-normal numbers, seldom under 0.1 or over 10."""
        return np.asarray(np.exp(0.7 * draw.rng(case).standard_normal(shape)))


def ragged(seed: int, case: int, rows: int, size: int) -> Array:
    """Give lengths from 1 to ``size``: the first is ``size``, none is longer than the one before, one shorter.

    They depend on nothing else, so that the masks and lengths of one case agree.
    """
    lengths = np.sort(np.random.default_rng([seed, case]).integers(1, size + 1, rows))[::-1].copy()
    lengths[:1] = size
    if rows > 1 and size > 1:
        lengths[-1] = min(lengths[-1], size - 1)
    return lengths


def _live(seed: int, case: int, shape: tuple[int, ...], length: int = 1) -> Array:
    """Say which tokens are live where there is a mask; of single rows, every other one is of the length given."""
    size = shape[-1] if shape else 1
    rows = shape[0] if len(shape) > 1 else 1
    lengths = np.full(1, length) if _single(case, shape) else ragged(seed, case, rows, size)
    live = np.arange(size) < lengths.reshape(rows, *[1] * max(len(shape) - 1, 1))
    return np.broadcast_to(live.reshape(size) if len(shape) == 1 else live, shape or (1, 1)).reshape(shape)


def _single(case: int, shape: tuple[int, ...]) -> bool:
    return bool(case % 2 and shape and (len(shape) == 1 or shape[0] == 1))


def _deal(rng: np.random.Generator, rows: int, count: int) -> Array:
    """Give permutations of the rows, one after the other; a part of one has the first, last and middle row."""
    if count < rows:
        part = rng.choice(rows, count, replace=False)
        sure = (0, rows - 1, rows // 2)[:count]
        part = np.concatenate([sure, part[~np.isin(part, sure)]])[:count]
        return rng.permutation(part).astype(np.int64)
    turns = [rng.permutation(rows) for _ in range(-(-count // rows))]
    return np.concatenate(turns)[:count].astype(np.int64)


def _varied(ids: Array, bounds: range) -> Array:
    """Change the last id of every row that holds the same id throughout."""
    if ids.ndim == 0 or ids.shape[-1] <= 1 or len(bounds) == 1:
        return ids
    rows = ids.reshape(-1, ids.shape[-1])
    same = (rows == rows[:, :1]).all(axis=1)
    rows[same, -1] = (rows[same, -1] - bounds.start + 1) % len(bounds) + bounds.start
    return ids


def _fitted(array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        return np.asarray(array.mean())
