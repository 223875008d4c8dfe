"""Lossy artifacts: what samples prove, what an output decides, and that nothing dead or broken passes."""

import math
from collections.abc import Sequence
from itertools import pairwise
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.errors import UsageError
from deploykit.tensors import Array
from deploykit.validation.agreement import Agreed, Agreement, Flip
from deploykit.validation.budgets import Budget, Outcome, State, judge_agreement, judge_numbers
from deploykit.validation.decisions import Kind, Rule, recognize
from deploykit.validation.lossy import Found, Lossy
from deploykit.validation.statistics import (
    Pairs,
    Rate,
    Z,
    binomial_tail,
    mcnemar,
    needed_to_reach,
    reaches,
    wilson,
)

RNG = np.random.default_rng(4)
COUNTS = st.integers(1, 3000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))
BOUNDS = st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.995])
CLASSES, YES = Rule(Kind.CLASSES), Rule(Kind.BINARY, threshold=0.0)
INT8 = Budget()


def agreed(reference: Array, candidate: Array, rule: Rule = CLASSES, cuts: Sequence[int] = ()) -> Agreed:
    followed = Agreement(rule)
    edges = [0, *cuts, len(reference)]
    for start, end in pairwise(edges):
        followed.add(reference[start:end], candidate[start:end], start)
    return followed.result()


def found(
    reference: Array,
    candidate: Array,
    labels: Array | None = None,
    *,
    name: str = "logits",
    kind: str | None = None,
    size: int = 64,
) -> Found:
    followed = Lossy(name, kind)
    for start in range(0, len(reference), size):
        part = slice(start, start + size)
        followed.add(reference[part], candidate[part], start, None if labels is None else labels[part])
    return followed.result(labelled=labels is not None)


def worst(seen: Found, budget: Budget = INT8) -> State:
    states = {outcome.state for outcome in seen.outcomes(budget)}
    return next(state for state in (State.FAIL, State.UNDECIDED, State.PASS) if state in states)


def with_rule(seen: Found, words: str) -> Outcome:
    (outcome,) = [one for one in seen.outcomes(INT8) if words in one.rule]
    return outcome


def logits(samples: int, classes: int = 10) -> Array:
    return (4 * RNG.standard_normal((samples, classes))).astype(np.float32)


# What samples prove


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        (10, 10, 0.7225, 1.0),
        (0, 10, 0.0, 0.2775),
        (85, 100, 0.7672, 0.9069),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilsons_interval_is_that_of_the_literature(hits: int, total: int, low: float, high: float) -> None:
    interval = wilson(hits, total)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@given(counts=COUNTS)
def test_wilsons_interval_holds_the_rate_and_narrows_with_more_of_the_same(counts: tuple[int, int]) -> None:
    hits, total = counts
    one, twice = wilson(hits, total), wilson(2 * hits, 2 * total)
    assert 0 <= one.low <= hits / total <= one.high <= 1
    assert twice.high - twice.low < one.high - one.low
    if hits < total:
        more = wilson(hits + 1, total)
        assert more.low > one.low
        assert more.high > one.high


@given(counts=COUNTS)
def test_both_ends_are_where_the_score_test_rejects(counts: tuple[int, int]) -> None:
    hits, total = counts
    interval = wilson(hits, total)
    for end in (interval.low, interval.high):
        if 0 < end < 1:
            score = abs(hits / total - end) / math.sqrt(end * (1 - end) / total)
            assert score == pytest.approx(Z, rel=1e-6)


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (1, 7, 2 * 9 / 256), (2, 12, 2 * 106 / 16384), (5, 5, 1.0), (6, 5, 1.0)],
)
def test_mcnemars_p_is_the_binomial_by_hand(lost: int, gained: int, p: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(p, rel=1e-12)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


@given(lost=st.integers(0, 60), gained=st.integers(0, 60))
def test_mcnemars_p_falls_as_the_change_grows_uneven(lost: int, gained: int) -> None:
    assert 0 < mcnemar(lost, gained) <= 1
    if lost > gained:
        assert mcnemar(lost + 1, gained) < mcnemar(lost, gained) or mcnemar(lost, gained) == 1


def test_mcnemars_p_of_many_samples_is_near_the_normal_distributions() -> None:
    normal = math.erfc((20_400 - 19_600 - 1) / math.sqrt(40_000) / math.sqrt(2))
    assert mcnemar(20_400, 19_600) == pytest.approx(normal, rel=0.01)


@given(total=st.integers(1, 60), rate=st.sampled_from([0.005, 0.3, 0.9, 0.99]), data=st.data())
def test_the_binomial_tail_is_its_sum(total: int, rate: float, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, total))
    terms = (comb(total, k) * rate**k * (1 - rate) ** (total - k) for k in range(hits + 1))
    assert binomial_tail(hits, total, rate) == pytest.approx(math.fsum(terms), rel=1e-9)


def test_tangos_interval_is_that_of_the_literature() -> None:
    # Airway reactivity before and after a transplantation, Bentur 2009, in Fagerland, Lydersen and Laake 2014.
    interval = Pairs(1, 7, 21).interval
    assert (interval.low, interval.high) == pytest.approx((-0.517, -0.026), abs=5e-4)


@given(lost=st.integers(0, 40), gained=st.integers(0, 40), same=st.integers(0, 400))
def test_tangos_interval_solves_his_quartic(lost: int, gained: int, same: int) -> None:
    """As a polynomial: Yang, Sun and Hardin, A Non-Iterative Implementation of Tango's Score Interval, 2013."""
    total = lost + gained + same
    if not total:
        return
    by, apart, moved = total / Z**2, lost - gained, lost + gained
    polynomial = [
        total**2 * (by + 1) ** 2,
        -total * apart * (by + 1) * (4 * by + 1),
        2 * apart**2 * by * (3 * by + 2) - total**2 * (moved / Z**2 + 1),
        total * apart * (2 * moved / Z**2 + 1) - apart**3 * (4 * by + 1) / Z**2,
        apart**2 / Z**2 * (apart**2 / Z**2 - moved),
    ]
    size = sum(map(abs, polynomial))
    for end in (Pairs(lost, gained, total).interval.low, Pairs(lost, gained, total).interval.high):
        assert abs(end) == pytest.approx(1) or np.polyval(polynomial, end) / size == pytest.approx(0, abs=1e-7)


@given(lost=st.integers(0, 40), gained=st.integers(0, 40), same=st.integers(0, 400))
def test_the_interval_of_a_drop_holds_it_narrows_with_samples_and_turns_with_the_sides(
    lost: int, gained: int, same: int
) -> None:
    pairs = Pairs(lost, gained, lost + gained + same + 1)
    interval, back = pairs.interval, Pairs(gained, lost, pairs.total).interval
    twice = Pairs(2 * lost, 2 * gained, 2 * pairs.total).interval
    assert interval.low - 1e-12 <= pairs.drop <= interval.high + 1e-12
    assert twice.high - twice.low < interval.high - interval.low
    assert (back.low, back.high) == pytest.approx((-interval.high, -interval.low), abs=1e-9)


# How many samples it takes


def test_all_of_381_prove_99_percent_and_all_of_380_do_not() -> None:
    assert needed_to_reach(Rate(16, 16), 0.99) == 381
    assert reaches(Rate(381, 381), 0.99) is True
    assert reaches(Rate(380, 380), 0.99) is None


def test_one_miss_in_16_does_not_rule_out_99_percent() -> None:
    assert wilson(15, 16).high < 0.99, "Wilson's interval alone would"
    assert reaches(Rate(15, 16), 0.99) is None
    assert reaches(Rate(13, 16), 0.99) is False


@given(counts=COUNTS, bound=BOUNDS)
def test_the_number_of_samples_that_is_needed_decides(counts: tuple[int, int], bound: float) -> None:
    rate = Rate(*counts)
    if reaches(rate, bound) is not None:
        return
    needed = needed_to_reach(rate, bound)
    if needed is None:
        assert abs(rate.value - bound) < 1e-3
        return
    assert needed > rate.total
    assert reaches(Rate(rate.value * needed, needed), bound) is (rate.value > bound)
    if rate.value > bound and needed > rate.total + 1:
        assert reaches(Rate(rate.value * (needed - 1), needed - 1), bound) is None, "the smallest"


@given(total=st.integers(1, 400), bound=BOUNDS)
def test_a_right_artifact_is_failed_in_one_of_forty_draws_at_most(total: int, bound: float) -> None:
    failed = [hits for hits in range(total + 1) if reaches(Rate(hits, total), bound) is False]
    if failed:
        assert failed == list(range(failed[-1] + 1))
        assert binomial_tail(failed[-1], total, bound) <= 0.025


def test_a_drop_is_proved_small_with_as_many_samples_as_it_says() -> None:
    needed = Pairs(0, 0, 50).needed(0.005)
    assert needed == 765  # z^2 (1 - d) / d
    assert Pairs(0, 0, 764).within(0.005) is None
    assert Pairs(0, 0, 765).within(0.005) is True


@given(lost=st.integers(0, 30), gained=st.integers(0, 30), same=st.integers(1, 900))
def test_the_samples_that_a_drop_needs_decide_it(lost: int, gained: int, same: int) -> None:
    pairs = Pairs(lost, gained, lost + gained + same)
    needed = pairs.needed(0.01) if pairs.within(0.01) is None else None
    if needed is None:
        return
    assert needed > pairs.total
    times = math.ceil(1.5 * needed / pairs.total)  # well over what is about enough
    assert Pairs(lost * times, gained * times, pairs.total * times).within(0.01) is (pairs.drop < 0.01)


def test_one_lost_of_20_is_undecided_and_six_are_a_drop() -> None:
    assert Pairs(1, 0, 20).within(0.005) is None
    assert Pairs(6, 0, 20).within(0.005) is False
    assert Pairs(0, 9, 2000).within(0.005) is True


def test_a_drop_that_is_no_more_than_chance_fails_nothing() -> None:
    pairs = Pairs(22, 10, 54)
    assert pairs.interval.low > 0.01, "Tango's interval alone would"
    assert mcnemar(22, 10) > 0.05
    assert pairs.within(0.01) is None


# What an output decides


def softmax(scores: Array) -> Array:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def unit(rows: Array) -> Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


IMAGES = RNG.standard_normal((3, 12, 12, 5))


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        (logits(50), Kind.CLASSES, "logits of 10 classes"),
        (softmax(logits(50)), Kind.CLASSES, "add up to 1"),
        (softmax(logits(50, 1000)).astype(np.float16), Kind.CLASSES, "add up to 1"),
        (np.log(softmax(logits(50))), Kind.CLASSES, "log probabilities"),
        (unit(logits(50, 384)), Kind.NONE, "length 1"),
        (np.maximum(logits(50, 512), 0), Kind.NONE, "never negative"),
        (np.tanh(logits(50, 768)), Kind.NONE, "tanh"),
        (np.full((9, 10), 3.0), Kind.NONE, "constant"),
        (logits(50, 1), Kind.BINARY, "single logits"),
        (logits(50)[:, 0], Kind.BINARY, "single logits"),
        (softmax(logits(50))[:, :1], Kind.BINARY, "over 0.5"),
        (np.abs(logits(50, 1)) + 20, Kind.NONE, "of one sign"),
        (IMAGES, Kind.PIXELS, "5 classes for each pixel"),
        (np.moveaxis(IMAGES, -1, 1), Kind.PIXELS, "5 classes for each pixel"),
        (IMAGES[..., :3], Kind.NONE, "as of an image"),
        (np.abs(IMAGES), Kind.NONE, "never negative"),
        (softmax(40 * IMAGES)[..., :1], Kind.PIXELS, "a mask"),
        (IMAGES[..., :1], Kind.NONE, "one channel"),
        (RNG.standard_normal((2, 64, 7, 7)), Kind.NONE, "more channels"),
        (RNG.standard_normal((2, 6, 32)), Kind.NONE, "no shape of scores"),
        (RNG.integers(0, 9, (5, 4)), Kind.NONE, "no real numbers"),
        (np.array([["a", "b"]]), Kind.NONE, "no real numbers"),
        (np.full((4, 3), np.nan), Kind.NONE, "no finite value"),
        (np.zeros((0, 10), np.float32), Kind.NONE, "no finite value"),
        (np.zeros((4, 0), np.float32), Kind.NONE, "no shape"),
    ],
)
def test_an_output_is_taken_for_what_its_shape_and_values_say(values: Array, kind: Kind, words: str) -> None:
    reading = recognize(values)
    assert words in reading.words
    assert (reading.rule.kind if reading.rule else Kind.NONE) == kind


def test_a_name_settles_what_values_leave_open() -> None:
    assert recognize(logits(50), "image_embeds").rule is None
    assert recognize(np.maximum(logits(50), 0), "class_scores").rule == CLASSES
    assert recognize(logits(50, 1), "pred_boxes").rule is None


def test_the_user_overrules_values_and_name() -> None:
    assert recognize(unit(logits(50)), "embedding", Kind.CLASSES).rule == CLASSES
    assert recognize(logits(50), "logits", Kind.NONE).rule is None
    assert recognize(logits(50), "logits", Kind.BINARY).rule == YES


def test_a_kind_that_the_shape_can_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match=r"\[9\] can't be read as classes"):
        recognize(logits(9)[:, 0], kind=Kind.CLASSES)
    with pytest.raises(UsageError, match="no kind 'clases' of output; did you mean 'classes'"):
        Lossy("y", "clases")


def test_probabilities_are_told_from_logits_by_all_batches_not_by_the_first() -> None:
    values = np.concatenate([np.full((64, 1), 0.2, np.float32), logits(64, 1)])
    seen = found(values, values)
    assert seen.agreed is not None
    assert seen.agreed.rule == YES
    assert seen.agreed.top1.total == 128


# Agreement


def test_a_flipped_sample_is_named_with_both_classes_and_its_margin() -> None:
    ours, theirs = np.array([[0, 1.0, 3], [2, 1.5, 0]]), np.array([[0, 1.0, 3], [2, 2.5, 0]])
    seen = agreed(ours, theirs)
    assert seen.flips == (Flip(1, 0, 1, 0.5),)
    assert str(seen) == "1 of 2 flipped, with a margin under 0.6"


def test_the_sentence_bounds_the_margin_of_every_flip() -> None:
    ours = np.zeros((1000, 3))
    ours[:, 0] = 1
    theirs = ours.copy()
    for sample, margin in zip(range(100, 107), (0.0173, 0.001, 0.002, 0.003, 0.004, 0.005, 0.01), strict=True):
        ours[sample, 1] = 1 - margin
        theirs[sample] = [0, 1, 0]
    seen = agreed(ours, theirs)
    assert str(seen) == "7 of 1000 flipped, all with a margin under 0.02"
    assert seen.samples == tuple(range(100, 107))
    assert seen.top1.value == 0.993


@given(margin=st.floats(1e-30, 1e30))
def test_a_margin_is_under_what_is_said(margin: float) -> None:
    sentence = str(agreed(np.array([[margin, 0.0]]), np.array([[0.0, 1.0]])))
    said = float(sentence.rsplit(" ", 1)[1])
    assert margin < said <= 2 * margin * 1.01


def test_of_two_equal_scores_of_the_source_either_is_right() -> None:
    ours = np.array([[5.0, 5, 1], [5.0, 5, 1], [5.0, 5, 1]])
    theirs = np.array([[6.0, 5, 1], [4.0, 5, 1], [4.0, 5, 9]])
    seen = agreed(ours, theirs)
    assert seen.samples == (2,)
    assert seen.top1.hits == 2
    assert seen.flips[0].margin == 0


def test_an_artifact_that_ties_where_the_source_decides_gets_a_coins_share() -> None:
    seen = agreed(np.array([[3.0, 1, 0]] * 4), np.array([[3.0, 3, 0]] * 4))
    assert (seen.top1.hits, seen.ties, seen.flips) == (2.0, 4, ())


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_a_dead_artifact_with_equal_scores_agrees_as_chance_does(classes: int) -> None:
    ours = logits(200, classes)
    assert agreed(ours, np.zeros_like(ours)).top1.value == pytest.approx(1 / classes)


def test_samples_on_which_the_source_decides_nothing_are_left_out() -> None:
    ours = np.array([[1.0, 1, 1], [1, 2, 3], [np.nan, 1, 2]])
    seen = agreed(ours, ours)
    assert (seen.top1, seen.open) == (Rate(1.0, 1), 2)
    nothing = agreed(ours[:1], ours[:1])
    assert str(nothing) == "no sample on which the source decides"
    assert judge_agreement(nothing, INT8).state is State.UNDECIDED


def test_a_nan_of_the_artifact_agrees_with_nothing() -> None:
    ours = np.array([[1.0, 2, 3]])
    seen = agreed(ours, np.array([[np.nan, 2, 3]]))
    assert seen.flips == (Flip(0, 2, -1, 1.0),)
    assert seen.top1.hits == 0


def test_masked_classes_at_minus_infinity_are_scores_like_others() -> None:
    ours = np.array([[-np.inf, 2, 3], [-np.inf, -np.inf, 3]])
    assert agreed(ours, ours).top1 == Rate(2.0, 2)
    assert agreed(ours, ours[:, [2, 1, 0]]).flips[1].margin == math.inf


def test_the_first_five_hold_the_sources_class_wherever_it_stands_in_them() -> None:
    ours, theirs = np.zeros((2, 8)), np.tile(np.arange(8.0), (2, 1))
    ours[0, 3] = ours[1, 2] = 1  # fifth and sixth of the artifact's
    seen = agreed(ours, theirs)
    assert seen.top5 == Rate(1.0, 2)
    assert agreed(ours[:, :5], theirs[:, :5]).top5 is None


def test_ties_at_the_fifth_place_are_drawn_by_lot() -> None:
    ours, theirs = np.zeros((1, 8)), np.array([[9.0, 8, 7, 6, 1, 1, 1, 0]])
    ours[0, 4] = 1
    seen = agreed(ours, theirs)
    assert seen.top5 is not None
    assert seen.top5.value == pytest.approx(1 / 3)


SCORES = st.integers(1, 30).flatmap(
    lambda samples: st.lists(st.lists(st.integers(0, 3), min_size=14, max_size=14), min_size=samples, max_size=samples)
)


@given(scores=SCORES, data=st.data())
def test_neither_batches_nor_order_change_what_agrees(scores: list[list[int]], data: st.DataObject) -> None:
    both = np.array(scores, np.float64)
    ours, theirs = both[:, :7], both[:, 7:]
    whole = agreed(ours, theirs)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(both)), max_size=4)))
    order = np.array(data.draw(st.permutations(range(len(both)))))
    split, moved = agreed(ours, theirs, cuts=cuts), agreed(ours[order], theirs[order])
    assert (split.flips, split.ties, split.open, split.classes) == (whole.flips, whole.ties, whole.open, whole.classes)
    assert sorted(int(order[flip.sample]) for flip in moved.flips) == [flip.sample for flip in whole.flips]
    for other in (split, moved):
        assert other.top1.total == whole.top1.total
        assert other.top1.hits == pytest.approx(whole.top1.hits)
        assert (other.top5 is None) == (whole.top5 is None) == (whole.top1.total == 0)
        if other.top5 and whole.top5:
            assert other.top5.hits == pytest.approx(whole.top5.hits)
            assert other.top5.hits >= other.top1.hits - 1e-9


def test_a_sign_that_turns_is_a_flip_with_its_distance_from_zero() -> None:
    seen = agreed(np.array([[0.25], [-3.0]]), np.array([[-0.1], [-2.0]]), YES)
    assert seen.flips == (Flip(0, 1, 0, 0.25),)


def test_positions_of_one_sample_count_together_as_one() -> None:
    ours = RNG.standard_normal((4, 10, 6))
    theirs = ours.copy()
    theirs[2, :5] *= -1
    seen = agreed(ours, theirs)
    assert seen.top1 == Rate(3.5, 4)
    assert str(seen).startswith("5 positions flipped, in 1 of 4 samples")


def masks() -> tuple[Array, Array]:
    ours = np.zeros((1, 2, 4, 4))
    ours[0, 1, :, :2] = 1  # the left half is class 1
    ours[0, 0, :, 2:] = 1
    theirs = ours.copy()
    theirs[0, :, 0, 2] = [0, 1]  # and one pixel more of the artifact's
    return ours, theirs


@pytest.mark.parametrize("axis", [1, 3])
def test_iou_is_what_both_see_over_what_either_sees(axis: int) -> None:
    ours, theirs = (np.moveaxis(one, 1, axis) for one in masks())
    seen = agreed(ours, theirs, Rule(Kind.PIXELS, axis))
    assert seen.ious == {0: 7 / 8, 1: 8 / 9}
    assert seen.top1.hits == pytest.approx(15 / 16)
    assert seen.lowest == ((0, 15 / 16),)


def test_a_pixel_that_the_source_leaves_open_is_right_either_way() -> None:
    ours = np.zeros((1, 3, 1, 2))
    ours[0, 0], ours[0, 1, 0, 1] = 1, 1  # the second pixel is of class 0 or 1
    for other in (0, 1):
        theirs = np.zeros_like(ours)
        theirs[0, [0, other], 0, [0, 1]] = 2
        seen = agreed(ours, theirs, Rule(Kind.PIXELS, 1))
        assert seen.top1.value == 1
        assert set(seen.ious.values()) == {1.0}


def test_of_a_mask_only_what_is_inside_counts() -> None:
    ours, theirs = (one[:, 1:] - one[:, :1] for one in masks())
    assert agreed(ours, theirs, Rule(Kind.PIXELS, 1, 0.0)).ious == {1: 8 / 9}


def test_a_small_class_that_is_lost_fails_though_the_pixels_agree() -> None:
    ours = np.zeros((450, 3, 40, 40), np.float32)
    ours[:, 0] = 5
    ours[::2, 1, 5:30] = 9
    ours[:, 2, 0, 0] = 9
    theirs = ours.copy()
    theirs[:, 2] = 0
    seen = found(ours, theirs, name="segmentation")
    assert with_rule(seen, "decisions").state is State.PASS
    outcome = with_rule(seen, "IoU")
    assert outcome.state is State.FAIL
    assert "0.0000 of class 2" in outcome.why


# Verdicts


def rounded(values: Array, bits: int = 8) -> Array:
    step = np.abs(values).max() / 2 ** (bits - 1)
    return np.asarray(np.round(values / step) * step).astype(values.dtype)


def test_a_right_int8_artifact_passes_on_enough_samples() -> None:
    ours = logits(4000)
    seen = found(ours, rounded(ours, 10))
    assert worst(seen) is State.PASS
    assert seen.figures["top1"] > 0.99


def test_too_few_samples_are_undecided_and_say_how_many_are_needed() -> None:
    ours = logits(16)
    outcome = with_rule(found(ours, ours), "decisions")
    assert (outcome.state, outcome.needed) == (State.UNDECIDED, 381)
    assert "undecided: needs about 390 samples" in outcome.why
    assert not outcome.passed


def test_a_dead_artifact_does_not_pass_whatever_constant_it_gives() -> None:
    ours = logits(2000)
    for constant in (np.zeros(10), ours.mean(axis=0), ours[0]):
        assert worst(found(ours, np.broadcast_to(constant, ours.shape).astype(np.float32))) is State.FAIL


def test_a_dead_regression_beside_a_large_mean_does_not_pass() -> None:
    ours = 1000 + RNG.standard_normal((500, 3, 7))
    seen = found(ours, np.broadcast_to(ours.mean(axis=0), ours.shape))
    assert seen.faithful.sqnr > 50
    assert worst(seen) is State.UNDECIDED
    assert worst(found(ours, ours + 0.01 * RNG.standard_normal(ours.shape))) is State.PASS


def test_an_output_that_is_constant_by_nature_passes() -> None:
    ours = np.broadcast_to(RNG.standard_normal((7, 4)), (20, 7, 4))
    assert worst(found(ours, ours + 1e-3)) is State.PASS


def test_a_source_that_decides_alike_on_all_samples_leaves_it_undecided() -> None:
    ours = np.abs(logits(1000, 4))
    ours[:, 2] += 50
    outcome = with_rule(found(ours, ours), "decisions")
    assert outcome.state is State.UNDECIDED
    assert "it needs others" in outcome.why


def test_right_decisions_with_wrong_numbers_fail() -> None:
    ours = logits(1000)
    seen = found(ours, 3 * ours)
    assert with_rule(seen, "decisions").state is State.PASS
    assert worst(seen) is State.FAIL


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_on_one_side_fails_on_either(value: float) -> None:
    ours = logits(1000)
    spoilt = ours.copy()
    spoilt[321, 4] = value
    for seen in (found(ours, spoilt), found(spoilt, ours)):
        outcome = with_rule(seen, "SQNR")
        assert outcome.state is State.FAIL
        assert "the first in sample 321" in outcome.why
    assert worst(found(spoilt, spoilt)) is State.PASS


def test_an_answer_that_would_broadcast_fails() -> None:
    ours = np.ones((4, 1))
    followed = Lossy("y")
    followed.add(ours, np.ones((4, 10)), 8)
    outcome = followed.result().outcomes(INT8)[0]
    assert outcome.state is State.FAIL
    assert outcome.why == "has shape [4, 10] where the source's is [4, 1], at sample 8"


@pytest.mark.parametrize("shape", [(0, 10), (4, 0), (0,)])
def test_nothing_does_not_pass(shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape, np.float32)
    assert worst(found(empty, empty, size=2)) is State.FAIL
    assert worst(Lossy("y").result()) is State.FAIL


def test_one_sample_is_undecided_unless_it_is_equal() -> None:
    ours = RNG.standard_normal((1, 3, 7))
    assert with_rule(found(ours, ours * 1.01), "SQNR").needed == 2
    assert worst(found(ours, ours)) is State.PASS


@given(cut=st.integers(1, 199), offset=st.sampled_from([0.0, 1e6]))
def test_neither_batches_nor_order_change_the_numbers(cut: int, offset: float) -> None:
    rng = np.random.default_rng(cut)
    ours = offset + rng.standard_normal((200, 3, 5))
    theirs = ours + 0.03 * rng.standard_normal(ours.shape)
    order = rng.permutation(200)
    whole = found(ours, theirs, size=200).faithful
    error = float(np.sum((theirs - ours) ** 2))
    assert whole.sqnr == pytest.approx(10 * math.log10(np.sum(ours**2) / error), rel=1e-9)
    spread = float(np.sum((ours - ours.mean(axis=0)) ** 2))
    assert whole.spread_sqnr == pytest.approx(10 * math.log10(spread / error), rel=1e-7)
    for other in (found(ours, theirs, size=cut), found(ours[order], theirs[order], size=200)):
        seen = other.faithful
        for name in ("sqnr", "cosine", "relative_rmse", "spread_sqnr"):
            assert getattr(seen, name) == pytest.approx(getattr(whole, name), rel=1e-7)
        assert seen.worst is not None
        assert whole.worst is not None
        assert seen.worst[1] == pytest.approx(whole.worst[1])


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e30, 1e200])
def test_the_size_of_the_numbers_does_not_matter(size: float) -> None:
    ours = RNG.standard_normal((100, 3, 5))
    theirs = ours + 0.03 * RNG.standard_normal(ours.shape)
    seen, scaled = found(ours, theirs).faithful, found(size * ours, size * theirs).faithful
    assert (scaled.sqnr, scaled.cosine) == pytest.approx((seen.sqnr, seen.cosine))
    assert worst(found(ours, ours * 1e300)) is State.FAIL


def test_classes_masked_with_the_lowest_float_do_not_hide_what_is_wrong_beside_them() -> None:
    ours, theirs = logits(1000), logits(1000)
    ours[:, ::2] = theirs[:, ::2] = np.finfo(np.float32).min
    seen = found(ours, theirs)
    assert seen.faithful.sqnr > 100
    assert worst(seen) is State.FAIL
    assert worst(found(ours, theirs, name="embedding")) is State.UNDECIDED


def test_the_sample_that_errs_most_is_named() -> None:
    ours = RNG.standard_normal((300, 4, 6))
    theirs = ours + 1e-3
    theirs[217] *= -1
    seen = found(ours, theirs)
    assert seen.faithful.worst is not None
    assert seen.faithful.worst[0] == 217
    assert "sample 217 errs most, -6.0 dB" in judge_numbers(seen.faithful, INT8).why


# Accuracy


def labelled(samples: int, right: float) -> tuple[Array, Array]:
    ours = logits(samples)
    labels = ours.argmax(axis=1)
    wrong = RNG.random(samples) > right
    return ours, np.where(wrong, (labels + 1) % 10, labels)


def test_accuracy_is_counted_before_and_after_with_the_lost_samples() -> None:
    ours, labels = labelled(1000, 1.0)
    theirs = ours.copy()
    theirs[[5, 700]] *= -1
    seen = found(ours, theirs, labels)
    assert seen.scored is not None
    assert (seen.scored.before.hits, seen.scored.after.hits, seen.scored.lost) == (1000, 998, (5, 700))
    assert seen.scored.p == 0.5
    assert with_rule(seen, "accuracy").state is State.UNDECIDED


def test_an_unchanged_accuracy_passes_on_enough_samples_and_a_lower_one_fails() -> None:
    ours, labels = labelled(2000, 0.8)
    assert with_rule(found(ours, ours, labels), "accuracy").state is State.PASS
    worse = ours.copy()
    worse[:100] *= -1
    outcome = with_rule(found(ours, worse, labels), "accuracy")
    assert outcome.state is State.FAIL
    assert outcome.interval is not None
    assert outcome.interval.low > 0.005


def test_labels_of_another_data_set_are_noticed() -> None:
    ours = logits(2000)
    outcome = with_rule(found(ours, ours, ours.argmin(axis=1)), "accuracy")
    assert outcome.state is State.UNDECIDED
    assert "may not be its labels" in outcome.why


def test_yes_and_no_are_labels_of_a_single_logit() -> None:
    ours = logits(300, 1)
    seen = found(ours, ours, (ours[:, 0] > 0).astype(np.int64))
    assert seen.scored is not None
    assert seen.scored.after == Rate(300, 300)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(4), "do not go with 5 samples"),
        (np.array([0, 1, 2, 3, 10]), "label 10 is none of the 10 classes"),
        (np.array([0, 1, 2, 3, -1]), "label -1"),
        (np.array([0, 1, 2, 3, 0.5]), "label 0.5"),
        (np.array([0, 1, 2, 3, np.nan]), "label nan"),
        (np.array(list("abcde")), "not numbers"),
        (np.eye(5), "do not go with"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Array, words: str) -> None:
    ours = logits(5)
    with pytest.raises(UsageError, match=words):
        Lossy("logits").add(ours, ours, 0, labels)


def test_labels_for_an_embedding_are_refused() -> None:
    ours = unit(logits(5, 64))
    with pytest.raises(UsageError, match="decides nothing"):
        found(ours, ours, np.arange(5), name="embedding")


# Budgets


def test_every_precision_has_a_budget_and_coarser_ones_allow_more() -> None:
    fine, coarse, pruned = Budget.of("fp16"), Budget.of("int4"), Budget.of("pruned")
    assert Budget.of("int8") == INT8 == Budget(min_agreement=0.99, min_sqnr=20.0, max_drop=0.005)
    assert fine.min_agreement > INT8.min_agreement > coarse.min_agreement > pruned.min_agreement
    assert fine.min_sqnr > INT8.min_sqnr > coarse.min_sqnr > pruned.min_sqnr
    assert fine.max_drop < INT8.max_drop < coarse.max_drop
    with pytest.raises(UsageError, match="no budget for 'int9'; did you mean 'int8'"):
        Budget.of("int9")


@pytest.mark.parametrize("wrong", [{"min_agreement": 99}, {"max_drop": -0.1}, {"min_sqnr": math.nan}, {"min_iou": 1}])
def test_a_bound_that_can_not_be_kept_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Budget(**wrong)
