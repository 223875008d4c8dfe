"""Counts of values, and the ranges that are chosen from them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deploykit.errors import ModelError, UsageError
from deploykit.quantization.counts import Counts
from deploykit.quantization.ranges import METHODS, Grid, check_method, choose
from deploykit.tensors import Array

FLOATS = arrays.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32))


def counted(*parts: Array) -> Counts:
    counts = Counts()
    for part in parts:
        counts.add(part)
    return counts


def error_of(grid: Grid, array: Array) -> float:
    """Round an array to a grid as QuantizeLinear does, and give the mean squared error."""
    least, most = (-127, 127) if grid.symmetric else (0, 255)
    integers = np.clip(np.rint(array / np.float32(grid.scale)) + grid.zero, least, most)
    return float(np.mean((array - (integers - grid.zero) * np.float32(grid.scale)) ** 2, dtype=np.float64))


@given(st.lists(FLOATS, min_size=2, max_size=6), st.integers(1, 5))
def test_merging_the_counts_of_parts_gives_those_of_the_whole(parts: list[Array], cut: int) -> None:
    whole = counted(*parts)
    merged = counted(*parts[:cut]).merged(counted(*parts[cut:]))
    assert np.array_equal(whole.bins, merged.bins)
    assert (whole.lowest, whole.highest, whole.calls) == (merged.lowest, merged.highest, merged.calls)
    assert merged.sum_of_highest == pytest.approx(whole.sum_of_highest)
    for method in METHODS:
        ranges = [choose(one, levels=255, symmetric=False, method=method).grid.scale for one in (whole, merged)]
        assert ranges[0] == pytest.approx(ranges[1], rel=1e-6)


@given(FLOATS)
def test_counts_come_back_from_json_as_they_were(array: Array) -> None:
    counts = counted(array)
    again = Counts.from_json(json.loads(json.dumps(counts.to_json())))
    assert np.array_equal(again.bins, counts.bins)
    assert again.to_json() == counts.to_json()


def shaped(kind: str) -> Array:
    rng = np.random.default_rng(0)
    made = {
        "normal": rng.normal(size=50_000),
        "relu": np.maximum(rng.normal(size=50_000), 0),
        "heavy": rng.standard_t(3, 50_000),
        "far": np.append(rng.normal(size=50_000), 100.0),
        "one_sided": rng.exponential(size=50_000) - 0.2,
        "even": rng.uniform(-1, 3, 50_000),
    }
    return made[kind].astype(np.float32)


KINDS = ("normal", "relu", "heavy", "far", "one_sided", "even")


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_error_told_is_that_of_really_rounding(kind: str, symmetric: bool) -> None:
    array = shaped(kind)
    for method in METHODS:
        choice = choose(counted(array), levels=254 if symmetric else 255, symmetric=symmetric, method=method)
        assert choice.error == pytest.approx(error_of(choice.grid, array), rel=0.05), method


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_default_errs_no_more_than_any_range_that_could_be_tried(kind: str, symmetric: bool) -> None:
    array = shaped(kind)
    levels = 254 if symmetric else 255
    found = error_of(choose(counted(array), levels=levels, symmetric=symmetric).grid, array)
    low, high = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
    tried = [error_of(Grid(low * part, high * part, levels, symmetric), array) for part in np.geomspace(1, 0.02, 60)]
    assert found <= 1.05 * min(tried)


def test_methods_differ_in_what_they_cut_off() -> None:
    counts = counted(*np.split(shaped("normal"), 10), np.append(shaped("normal")[:5000], 100).astype(np.float32))
    high = {name: choose(counts, levels=255, symmetric=False, method=name).grid.high for name in METHODS}
    assert high["minmax"] == 100
    assert 3 < high["percentile"] < 5
    assert high["entropy"] < 100
    assert high["average"] == pytest.approx((100 + 10 * 3.7) / 11, rel=0.1)


def test_zero_is_a_number_of_every_grid() -> None:
    for low, high in ((0.5, 3.0), (-3.0, -0.5), (0.0, 0.0), (-1.0, 2.0)):
        for symmetric in (False, True):
            grid = choose(counted(np.linspace(low, high, 100).astype(np.float32)), levels=254, symmetric=symmetric).grid
            assert 0 <= grid.zero <= 255
            assert error_of(grid, np.zeros(3, np.float32)) == 0
            assert np.isfinite(grid.scale)
            assert grid.scale > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ModelError, match="infinite or no numbers"):
        counted(np.array([1, bad, 2], np.float32))


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="entropy"):
        check_method("entrpy")
