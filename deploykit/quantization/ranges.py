"""What the 256 steps of an integer shall span: ranges by several methods, and the error that each makes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deploykit.errors import UsageError, nearest
from deploykit.quantization.counts import Counts, Values
from deploykit.tensors import Array

_TAIL = 1e-4
"""Share of the values that the method ``percentile`` leaves out at each end."""
_LINES = 2048
_SHRINKS: list[float] = np.geomspace(1.0, 0.05, 72).tolist()
"""Parts of the whole range that are tried."""
_WIDE = 6


@dataclass(frozen=True)
class Grid:
    """The integers that stand for the values of a tensor: ``value = scale * (integer - zero_point)``."""

    low: float
    high: float
    levels: int
    """Steps between the smallest and the largest integer: 255, or 254 where both signs have as many."""
    symmetric: bool

    @property
    def scale(self) -> float:
        """The step."""
        if self.symmetric:
            return max(abs(self.low), abs(self.high), _SMALLEST) / (self.levels // 2)
        return max(self.high - self.low, _SMALLEST) / self.levels

    @property
    def zero(self) -> int:
        """The number of steps from the lowest value to zero; 0 for a symmetric grid."""
        return 0 if self.symmetric else int(np.clip(np.rint(-self.low / self.scale), 0, self.levels))

    def error(self, values: Values) -> float:
        """Give the mean squared error of values rounded to the grid, clipped at its ends.

        Of values that are spread evenly over their bin this is exact, whether that is wider than a step or narrower.
        """
        least, most = self._ends
        middle, half = values.middle / self.scale, values.width / self.scale / 2
        narrow = half < _NARROW
        spread = (_summed(middle + half) - _summed(middle - half)) / np.where(narrow, 1.0, 2 * half)
        inside = np.where(narrow, (middle - np.rint(middle)) ** 2, spread)
        outside = (middle - np.clip(middle, least, most)) ** 2
        squared = np.where((middle > most) | (middle < least), outside, inside)
        return float(squared @ values.counts / max(values.counts.sum(), 1)) * self.scale**2

    def outside(self, values: Values) -> float:
        """Give the share of values that are farther than half a step beyond its ends."""
        least, most = self._ends
        steps = values.middle / self.scale
        beyond = (steps > most + 0.5) | (steps < least - 0.5)
        return float(values.counts[beyond].sum() / max(values.counts.sum(), 1))

    @property
    def _ends(self) -> tuple[int, int]:
        """Give the steps from zero to the lowest value and to the highest."""
        half = self.levels // 2
        return (-half, half) if self.symmetric else (-self.zero, self.levels - self.zero)


def _summed(steps: Array) -> Array:
    """Integrate the squared distance to the nearest whole number, from zero on."""
    whole = np.rint(steps)
    return whole / 12 + (steps - whole) ** 3 / 3


_NARROW = 1e-4
"""Half the width of a bin, in steps, under which all of its values are taken for the same."""
_SMALLEST = float(np.finfo(np.float32).tiny) * 2**16


@dataclass(frozen=True)
class Choice:
    """A range, and the method that it is from."""

    grid: Grid
    method: str
    error: float
    """Mean squared error on the calibration's values."""
    outside: float
    """Share of these values that are farther out than the last step, and are clipped."""


Making = Callable[[float, float], Grid]
"""Makes the grid of a range, of the levels and symmetry that are asked for."""


def choose(counts: Counts, *, levels: int, symmetric: bool, method: str = "auto") -> Choice:
    """Choose the range of a tensor.

    Args:
        counts: what was seen of it.
        levels: steps of the integer.
        symmetric: whether zero is in the middle.
        method: one of ``METHODS``, or ``auto``: of all of them the one with the least squared error.

    """
    values = counts.values()

    def grid(low: float, high: float) -> Grid:
        return Grid(min(low, 0.0), max(high, 0.0), levels, symmetric)

    found = list[tuple[float, str, Grid]]()
    for name in METHODS if method == "auto" else (method,):
        own = grid(*METHODS[name](counts, values, grid))
        found.append((own.error(values), name, own))
    error, name, own = min(found, key=lambda one: one[0])
    return Choice(own, name, error, own.outside(values))


def check_method(name: str) -> None:
    """Make sure that there is a method of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in (*METHODS, "auto"):
        known = ("auto", *METHODS)
        raise UsageError(
            f"there is no calibration method '{name}'{nearest(name, known)}", fix=f"one of {', '.join(known)}"
        )


def _minmax(counts: Counts, values: Values, grid: Making) -> tuple[float, float]:  # noqa: ARG001
    return counts.lowest, counts.highest


def _average(counts: Counts, values: Values, grid: Making) -> tuple[float, float]:  # noqa: ARG001
    """Average the smallest and the largest value of each call."""
    return counts.sum_of_lowest / max(counts.calls, 1), counts.sum_of_highest / max(counts.calls, 1)


def _percentile(counts: Counts, values: Values, grid: Making) -> tuple[float, float]:  # noqa: ARG001
    """Leave out the outermost values."""
    below = np.cumsum(values.counts)
    total = below[-1] if below.size else 0
    if not total:
        return 0.0, 0.0
    ends = np.searchsorted(below, [_TAIL * total, (1 - _TAIL) * total])
    low, high = (values.middle[min(end, below.size - 1)] for end in ends)
    return max(low, counts.lowest), min(high, counts.highest)


def _mse(counts: Counts, values: Values, grid: Making) -> tuple[float, float]:
    """Search for the range with the least squared error: first of both ends together, then of each."""

    def error(low: float, high: float) -> float:
        return grid(low, high).error(values)

    low, high = counts.lowest, counts.highest
    part = _shrunk(lambda shrink: error(low * shrink, high * shrink))
    low, high = low * part, high * part
    high = counts.highest * _shrunk(lambda shrink: error(low, counts.highest * shrink))
    low = counts.lowest * _shrunk(lambda shrink: error(counts.lowest * shrink, high))
    return low, high


def _shrunk(error: Callable[[float], float]) -> float:
    """Give the part of a range that errs least: looked for in wide steps, and around the best of them."""
    coarse = min(range(0, len(_SHRINKS), _WIDE), key=lambda place: error(_SHRINKS[place]))
    near = _SHRINKS[max(coarse - _WIDE + 1, 0) : coarse + _WIDE]
    return min(near, key=error)


def _entropy(counts: Counts, values: Values, grid: Making) -> tuple[float, float]:
    """Keep the part of the range whose distribution loses least information, by the Kullback-Leibler divergence.

    After S. Migacz, 8-bit inference with TensorRT, GTC 2017: the tails are added to the outermost bins, and the steps
    are compared with the bins that they merge.
    """
    low, high, levels = min(counts.lowest, 0.0), max(counts.highest, 0.0), grid(0.0, 1.0).levels
    if not high > low:
        return low, high
    lines = _spread(values, low, high)
    zero = int(np.rint(-low / (high - low) * _LINES))
    parts = [part for part in _SHRINKS if part * _LINES > levels]
    kept = [(int(np.floor(zero * (1 - part))), int(np.ceil(zero + (_LINES - zero) * part))) for part in parts]
    first, last = min(kept, key=lambda ends: _divergence(lines, ends[0], ends[1], levels + 1))
    step = (high - low) / _LINES
    return low + first * step, low + last * step


def _spread(values: Values, low: float, high: float) -> Array:
    """Turn counts by magnitude into a histogram of even bins, each value spread over its own width."""
    edges = np.linspace(low, high, _LINES + 1)
    points = np.concatenate([values.middle - values.width / 2, values.middle + values.width / 2])
    order = np.argsort(points, kind="stable")
    density = np.concatenate([values.counts, -values.counts]) / np.maximum(np.tile(values.width, 2), 1e-30)
    area = np.concatenate([[0.0], np.cumsum(np.cumsum(density[order])[:-1] * np.diff(points[order]))])
    lines = np.diff(np.interp(edges, points[order], area))
    return np.maximum(lines, 0.0)


def _divergence(lines: Array, first: int, last: int, levels: int) -> float:
    inner = lines[first:last].copy()
    reference = inner.copy()
    reference[0] += lines[:first].sum()
    reference[-1] += lines[last:].sum()
    starts = np.unique((np.arange(levels) * (last - first)) // levels)
    sizes = np.diff([*starts, last - first])
    filled = np.add.reduceat((inner > 0).astype(np.float64), starts)
    means = np.add.reduceat(inner, starts) / np.maximum(filled, 1)
    candidate = np.where(inner > 0, np.repeat(means, sizes), 0.0)
    p, q = reference / max(reference.sum(), 1e-30), candidate / max(candidate.sum(), 1e-30)
    both = (p > 0) & (q > 0)
    lost = p[(p > 0) & (q <= 0)].sum()
    return float((p[both] * np.log(p[both] / q[both])).sum() + lost * np.log(1e6))


METHODS: dict[str, Callable[[Counts, Values, Making], tuple[float, float]]] = {
    "minmax": _minmax,
    "average": _average,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}
"""Ways to choose a range, by name."""
