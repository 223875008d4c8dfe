"""The figures beside the verdict: mean and relative error, PSNR, and distances in float32 steps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.metrics import METRICS, measure_all
from deploykit.metrics.ulp import distances
from deploykit.tensors import Array

FLOATS = st.floats(width=32, allow_nan=False)


def measured(name: str, reference: list[float], candidate: list[float], **options: float) -> float:
    made = METRICS.make(name, **options)
    return made.measure(np.array(reference, np.float64), np.array(candidate, np.float64))


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_measures_equal_arrays_at_its_best(name: str) -> None:
    same = np.linspace(-3, 5, 24).reshape(2, 3, 4)
    best = {"cosine": 1.0, "sqnr": math.inf, "psnr": math.inf}
    assert measure_all(same, same.copy())[name] == pytest.approx(best.get(name, 0.0))


def test_the_mean_absolute_difference_is_of_all_values() -> None:
    assert measured("mean_abs", [1, 2, 3, 4], [1, 2, 5, 0]) == 1.5


def test_the_relative_difference_is_over_the_reference() -> None:
    assert measured("max_rel", [100, -0.5], [101, -0.4]) == pytest.approx(0.2)


def test_the_relative_difference_of_two_zeros_is_none_and_of_a_lost_zero_infinite() -> None:
    assert measured("max_rel", [0, 1], [0, 1.5]) == 0.5
    assert measured("max_rel", [0, 1], [1e-30, 1]) == math.inf


def test_psnr_is_over_the_range_of_the_reference() -> None:
    assert measured("psnr", [10, 20], [11, 19]) == pytest.approx(20)


def test_psnr_over_a_given_peak_is_the_textbooks_for_bytes() -> None:
    # A mean squared error of 1 on bytes: 20 log10(255).
    assert measured("psnr", [10, 20], [11, 19], peak=255) == pytest.approx(48.1308, abs=1e-4)


def test_psnr_of_a_constant_reference_that_was_missed_is_nothing() -> None:
    assert measured("psnr", [3, 3], [3, 4]) == -math.inf


@given(value=FLOATS)
def test_neighbouring_floats_are_one_step_apart(value: float) -> None:
    single = np.float32(value)
    with np.errstate(over="ignore"):
        above = np.nextafter(single, np.float32(np.inf))
    if above != single:
        assert steps(single, above) == [1]


@given(one=FLOATS, other=FLOATS, third=FLOATS)
def test_steps_add_up_along_the_line_and_do_not_depend_on_the_side(one: float, other: float, third: float) -> None:
    low, middle, high = sorted(map(np.float32, (one, other, third)))
    assert steps(low, high) == [steps(low, middle)[0] + steps(middle, high)[0]]
    assert steps(low, high) == steps(high, low)


def steps(one: np.float32, other: np.float32) -> list[float]:
    found: list[float] = distances(np.array([one], np.float64), np.array([other], np.float64)).tolist()
    return found


def test_both_zeros_are_the_same_place_and_the_smallest_numbers_two_steps_apart() -> None:
    tiny = np.float32(1e-45)
    assert steps(np.float32(-0.0), np.float32(0.0)) == [0]
    assert steps(-tiny, tiny) == [2]


def test_steps_are_counted_in_float32_whatever_finer_the_reference_is() -> None:
    assert measured("ulp", [1 + 1e-12], [1.0]) == 0


def test_a_nan_on_one_side_is_infinitely_far_and_on_both_no_distance() -> None:
    ours, theirs = np.array([np.nan, np.nan, 1.0, np.inf]), np.array([np.nan, 1.0, np.nan, np.inf])
    assert distances(ours, theirs).tolist() == [0, np.inf, np.inf, 0]


@pytest.mark.parametrize(("quantile", "expected"), [(0.0, 0), (0.5, 1), (0.75, 2), (1.0, 1000)])
def test_a_quantile_is_a_distance_that_occurs(quantile: float, expected: float) -> None:
    reference: Array = np.ones(4, np.float32)
    candidate = (reference.view(np.int32) + np.array([0, 1, 2, 1000], np.int32)).view(np.float32)
    assert measured("ulp", reference.tolist(), candidate.tolist(), quantile=quantile) == expected


def test_one_nan_does_not_spoil_the_median() -> None:
    assert measured("ulp", [1, 1, 1], [1, 1, math.nan]) == 0
    assert measured("ulp", [1, 1, 1], [1, math.nan, math.nan]) == math.inf
