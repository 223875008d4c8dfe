"""compare() fails wherever another comparison has said "equal" of two that are not, and passes what is right."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from deploykit.backends import Session
from deploykit.errors import ModelError
from deploykit.golden import Case, Golden
from deploykit.recording import Answer
from deploykit.tensors import Array, Dim, Signature, Tensors, TensorSpec
from deploykit.validation import Check, Rules, Verdict, compare

RNG = np.random.default_rng(0)
BATCHES = (2, 3, 1)


class Fixed(Session):
    """An artifact that gives the answers it is told to."""

    def __init__(self, signature: Signature, answers: Sequence[Answer]) -> None:
        self.signature = signature
        self.versions = {}
        self._answers = list(answers)

    def run_all(self, cases: Iterable[Mapping[str, Array]], mode: str = "source") -> list[Answer]:
        return self._answers


def noisy(exact: Array) -> Array:
    """Give float32 numbers as a source gives them: an ulp or so from the exact ones."""
    return (exact * (1 + 6e-8 * RNG.standard_normal(exact.shape))).astype(np.float32)


def floats(batch: int) -> tuple[Array, Array]:
    exact = RNG.standard_normal((batch, 10)) + 3
    return noisy(exact), exact


def whole(batch: int) -> tuple[Array, Array]:
    own = RNG.integers(0, 200, (batch, 4)).astype(np.uint8)
    return own, own


def golden(**outputs: list[tuple[Array, Array]]) -> Golden:
    """Make a golden of the source's own answers and the exact ones, by output and case."""
    names = list(outputs)
    count = len(next(iter(outputs.values())))
    cases = tuple(
        Case(
            {"x": np.zeros((len(outputs[names[0]][case][0]), 2), np.float32)},
            {name: outputs[name][case][0] for name in names},
            {name: outputs[name][case][1] for name in names},
            {name: outputs[name][case][0] for name in names},
        )
        for case in range(count)
    )
    return Golden(signature(**{name: outputs[name][0][0] for name in names}), cases, "float64", {"path": "m.pt"})


def signature(**outputs: Array) -> Signature:
    return Signature(
        (TensorSpec("x", "float32", ("batch", 2)),),
        tuple(TensorSpec(name, str(array.dtype), free(array)) for name, array in outputs.items()),
    )


def free(array: Array) -> tuple[Dim, ...]:
    return tuple(f"axis_{axis}" for axis in range(array.ndim))


def judged(evidence: Golden, answers: Sequence[Answer], shown: Signature | None = None) -> Verdict:
    return compare(evidence, Fixed(shown or evidence.signature, answers), artifact="m.onnx", reference="m.pt")


def own_answers(evidence: Golden) -> list[Tensors]:
    return [dict(case.outputs) for case in evidence.cases]


def the_failure(verdict: Verdict) -> Check:
    assert not verdict.passed
    return verdict.failures[0]


@pytest.fixture
def scores() -> Golden:
    return golden(scores=[floats(batch) for batch in BATCHES])


@pytest.fixture
def pixels() -> Golden:
    return golden(pixels=[whole(batch) for batch in BATCHES])


def test_the_sources_own_answers_pass(scores: Golden) -> None:
    verdict = judged(scores, own_answers(scores))
    assert verdict.passed
    assert verdict.samples == sum(BATCHES)
    assert verdict.values == 10 * sum(BATCHES)


def test_answers_rounded_in_another_way_pass(scores: Golden) -> None:
    answers: list[Answer] = [{"scores": noisy(case.reference["scores"])} for case in scores.cases]
    verdict = judged(scores, answers)
    assert verdict.passed
    assert 0.3 < (verdict.checks[0].value or 0) < 3


def test_whole_numbers_that_are_equal_pass(pixels: Golden) -> None:
    assert judged(pixels, own_answers(pixels)).passed


def test_an_output_that_the_artifact_does_not_declare_fails() -> None:
    evidence = golden(a=[floats(2)], b=[floats(2)])
    answer: Tensors = {"a": evidence.cases[0].outputs["a"]}
    check = the_failure(judged(evidence, [answer], signature(a=answer["a"])))
    assert (check.what, check.why.splitlines()[0]) == ("outputs", "b missing")


def test_an_output_that_is_declared_but_not_given_fails() -> None:
    evidence = golden(a=[floats(2)], b=[floats(2)])
    check = the_failure(judged(evidence, [{"a": evidence.cases[0].outputs["a"]}]))
    assert (check.what, check.why) == ("b", "missing")


def test_an_output_missing_in_one_case_only_fails() -> None:
    evidence = golden(a=[floats(2), floats(3)], b=[floats(2), floats(3)])
    answers = own_answers(evidence)
    del answers[1]["b"]
    assert the_failure(judged(evidence, answers)).what == "b"


def test_an_output_more_fails_whether_declared_or_not(scores: Golden) -> None:
    more = [{**answer, "more": np.ones(3, np.float32)} for answer in own_answers(scores)]
    assert the_failure(judged(scores, more)).why == "the source has no such output"
    declared = signature(**more[0])
    assert the_failure(judged(scores, more, declared)).why.startswith("more unknown\n")


def test_outputs_under_other_names_fail(scores: Golden) -> None:
    other: list[Answer] = [{"Scores": answer["scores"]} for answer in own_answers(scores)]
    verdict = judged(scores, other, signature(Scores=np.ones((2, 10), np.float32)))
    assert the_failure(verdict).why.splitlines() == [
        "scores missing; Scores unknown",
        "- scores:float32[axis_0,axis_1]",
        "+ Scores:float32[axis_0,axis_1]",
    ]


def test_outputs_in_another_order_fail() -> None:
    evidence = golden(a=[floats(2)], b=[floats(2)])
    turned = Signature(evidence.signature.inputs, evidence.signature.outputs[::-1])
    assert the_failure(judged(evidence, own_answers(evidence), turned)).why == "in another order: b, a"


def test_inputs_of_another_name_dtype_or_size_fail(scores: Golden) -> None:
    for text in ("y:float32[batch,2]", "x:float64[batch,2]", "x:float32[batch,3]", "x:float32[batch]"):
        shown = Signature((TensorSpec.parse(text),), scores.signature.outputs)
        assert the_failure(judged(scores, own_answers(scores), shown)).what == "inputs", text


def test_another_dtype_of_the_same_numbers_fails(scores: Golden) -> None:
    answers: list[Answer] = [{"scores": answer["scores"].astype(np.float64)} for answer in own_answers(scores)]
    assert the_failure(judged(scores, answers)).why == "is float64, the source's is float32"


def test_whole_numbers_of_another_dtype_fail(pixels: Golden) -> None:
    answers: list[Answer] = [{"pixels": answer["pixels"].astype(np.int64)} for answer in own_answers(pixels)]
    assert the_failure(judged(pixels, answers)).why == "is int64, the source's is uint8"


def test_one_column_that_would_broadcast_against_ten_fails() -> None:
    same = np.repeat(RNG.standard_normal((2, 1)), 10, 1)
    evidence = golden(scores=[(same.astype(np.float32), same)])
    verdict = judged(evidence, [{"scores": same[:, :1].astype(np.float32)}])
    assert "shape [2, 1]" in the_failure(verdict).why


def test_one_row_that_would_broadcast_against_all_fails() -> None:
    same = np.repeat(RNG.standard_normal((1, 10)), 3, 0)
    evidence = golden(scores=[(same.astype(np.float32), same)])
    for shape in ((1, 10), (10,), (3, 10, 1), (1, 3, 10), (30,), ()):
        answer = np.resize(same.astype(np.float32), shape)
        assert "has shape" in the_failure(judged(evidence, [{"scores": answer}])).why, shape


def test_fewer_samples_fail(scores: Golden) -> None:
    fewer: list[Answer] = [{"scores": answer["scores"][:1]} for answer in own_answers(scores)]
    assert "has shape [1, 10]" in the_failure(judged(scores, fewer)).why


def test_a_case_that_the_artifact_refuses_fails_even_if_all_others_are_right(scores: Golden) -> None:
    answers: list[Answer] = [*own_answers(scores)[:2], ModelError("it fails", fix="-", details=["node 7"])]
    check = the_failure(judged(scores, answers))
    assert check.what == "run"
    assert "node 7" in check.why


def test_empty_outputs_on_both_sides_fail() -> None:
    empty = np.zeros((2, 0), np.float32)
    evidence = golden(scores=[(empty, empty.astype(np.float64))])
    assert the_failure(judged(evidence, own_answers(evidence))).why == "empty: no value was compared"


def test_empty_whole_numbers_on_both_sides_fail() -> None:
    empty = np.zeros((2, 0), np.int64)
    evidence = golden(ids=[(empty, empty)])
    assert the_failure(judged(evidence, own_answers(evidence))).why == "empty: no value was compared"


def test_an_empty_output_beside_a_right_one_fails() -> None:
    empty = np.zeros((2, 0), np.float32)
    evidence = golden(scores=[floats(2)], none=[(empty, empty.astype(np.float64))])
    assert the_failure(judged(evidence, own_answers(evidence))).what == "none"


def test_a_golden_without_cases_fails(scores: Golden) -> None:
    verdict = judged(Golden(scores.signature, (), "float64", {}), [])
    assert not verdict.passed
    assert verdict.values == 0


def test_a_golden_without_outputs_fails() -> None:
    bare = Golden(signature(), (Case({"x": np.ones((1, 2), np.float32)}, {}, {}, {}),), "float64", {})
    assert not judged(bare, [{}]).passed


def test_nan_in_other_places_fails() -> None:
    own, exact = floats(2)
    own[0, 0] = exact[0, 0] = np.nan
    evidence = golden(scores=[(own, exact)])
    other = own.copy()
    other[0, 0], other[0, 1] = 1, np.nan
    assert the_failure(judged(evidence, [{"scores": other}])).why.startswith("NaN in other places than the source's: 2")
    assert judged(evidence, [{"scores": own}]).passed


def test_nan_on_one_side_fails_on_either(scores: Golden) -> None:
    answers = own_answers(scores)
    answers[0]["scores"] = np.full_like(answers[0]["scores"], np.nan)
    assert "NaN" in the_failure(judged(scores, answers)).why
    hollow = golden(scores=[(answers[0]["scores"], scores.cases[0].reference["scores"])])
    assert "NaN" in the_failure(judged(hollow, own_answers(scores)[:1])).why


def test_outputs_that_are_nan_throughout_on_both_sides_fail() -> None:
    nothing = np.full((2, 10), np.nan)
    evidence = golden(scores=[(nothing.astype(np.float32), nothing)])
    assert "no value was compared" in the_failure(judged(evidence, own_answers(evidence))).why


def test_infinity_of_the_other_sign_fails() -> None:
    own, exact = floats(2)
    own[1, 3] = exact[1, 3] = -np.inf
    evidence = golden(scores=[(own, exact)])
    other = own.copy()
    other[1, 3] = np.inf
    assert "inf in other places" in the_failure(judged(evidence, [{"scores": other}])).why
    assert judged(evidence, [{"scores": own}]).passed


def test_infinity_does_not_hide_what_is_wrong_beside_it() -> None:
    own, exact = floats(2)
    own[0] = exact[0] = np.inf
    evidence = golden(scores=[(own, exact)])
    other = own.copy()
    other[1, 2] += 1e-3
    assert not judged(evidence, [{"scores": other}]).passed


def test_bytes_that_wrap_around_fail() -> None:
    own = np.array([[250, 3]], np.uint8)
    evidence = golden(pixels=[(own, own)])
    for step in (1, 6, 128, 255):  # as uint8, |250 - (250 + 255)| is 1
        answer = own + np.uint8(step)
        assert the_failure(judged(evidence, [{"pixels": answer}])).value == 2, step


@pytest.mark.parametrize("step", [1, -1])
def test_whole_numbers_off_by_one_fail(step: int) -> None:
    own = np.arange(6).reshape(2, 3)
    evidence = golden(ids=[(own, own)])
    off = own.copy()
    off[1, 2] += step
    assert the_failure(judged(evidence, [{"ids": off}])).why == "1 of 6 values differ"


def test_a_turned_bool_fails() -> None:
    own = np.array([[True, False]])
    evidence = golden(alive=[(own, own)])
    assert not judged(evidence, [{"alive": ~own}]).passed
    assert judged(evidence, [{"alive": own}]).passed


def test_large_whole_numbers_are_not_compared_in_floating_point() -> None:
    own = np.array([[2**60]])
    evidence = golden(ids=[(own, own)])
    assert not judged(evidence, [{"ids": own + 1}]).passed


def test_whole_numbers_may_change_where_the_sources_own_do() -> None:
    own, exact = np.zeros((2, 100), np.int64), np.zeros((2, 100), np.int64)
    own[0, 0] = 1
    evidence = golden(best=[(own, exact)])
    near, far = exact.copy(), exact.copy()
    near[1, :10], far[1, :11] = 1, 1
    assert judged(evidence, [{"best": near}]).passed
    assert not judged(evidence, [{"best": far}]).passed


def test_texts_are_compared() -> None:
    own = np.array([["cat"], ["dog"]])
    evidence = golden(label=[(own, own)])
    assert judged(evidence, [{"label": own.copy()}]).passed
    assert not judged(evidence, [{"label": own[::-1]}]).passed


def test_complex_numbers_are_compared_in_both_parts() -> None:
    exact = RNG.standard_normal((2, 8)) + 1j * RNG.standard_normal((2, 8))
    own = exact.astype(np.complex64)
    evidence = golden(waves=[(own, exact)])
    assert judged(evidence, [{"waves": own}]).passed
    assert not judged(evidence, [{"waves": own.conj()}]).passed


def test_one_wrong_sample_in_many_fails() -> None:
    evidence = golden(scores=[floats(200)])
    answers = own_answers(evidence)
    answers[0]["scores"] = answers[0]["scores"].copy()
    answers[0]["scores"][117] *= np.float32(1 + 1e-5)
    assert "sample 117" in the_failure(judged(evidence, answers)).why


def test_two_swapped_samples_fail(scores: Golden) -> None:
    answers = own_answers(scores)
    answers[1]["scores"] = answers[1]["scores"][[1, 0, 2]]
    assert not judged(scores, answers).passed


def test_answers_of_another_case_fail(scores: Golden) -> None:
    twin = golden(scores=[floats(2), floats(2)])
    assert not judged(twin, own_answers(twin)[::-1]).passed


def test_a_constant_answer_fails(scores: Golden) -> None:
    for constant in (0, 3, np.float32(1e30)):
        answers: list[Answer] = [{"scores": np.full_like(case.outputs["scores"], constant)} for case in scores.cases]
        assert not judged(scores, answers).passed


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20])
def test_the_size_of_an_output_changes_nothing(scale: float) -> None:
    exact = (RNG.standard_normal((4, 10)) + 3) * scale
    evidence = golden(scores=[(noisy(exact), exact)])
    assert judged(evidence, [{"scores": noisy(exact)}]).passed
    assert not judged(evidence, [{"scores": noisy(exact) * np.float32(1 + 1e-5)}]).passed


def test_an_output_that_is_zero_must_stay_zero() -> None:
    zero = np.zeros((3, 4))
    evidence = golden(scores=[(zero.astype(np.float32), zero)])
    assert judged(evidence, own_answers(evidence)).passed
    assert not judged(evidence, [{"scores": np.full((3, 4), 1e-30, np.float32)}]).passed


def test_float16_answers_of_a_float32_artifact_fail_but_pass_as_float16(scores: Golden) -> None:
    coarse: list[Answer] = [
        {"scores": answer["scores"].astype(np.float16).astype(np.float32)} for answer in own_answers(scores)
    ]
    assert not judged(scores, coarse).passed
    session = Fixed(scores.signature, coarse)
    assert compare(scores, session, artifact="m", reference="m", rules=Rules("float16")).passed


def test_a_report_has_a_figure_for_each_input_shape_and_the_failing_one_is_over_the_limit(scores: Golden) -> None:
    answers = own_answers(scores)
    answers[2] = {"scores": answers[2]["scores"] + np.float32(1e-3)}
    check = the_failure(judged(scores, answers))
    assert list(check.by_shape) == ["x 2x2", "x 3x2", "x 1x2"]
    assert [value > (check.limit or 0) for value in check.by_shape.values()] == [False, False, True]


def few_tell_the_floor(evidence: Golden) -> Golden:
    """Give the golden of a source that ran in float64 on its first case only."""
    first, *others = evidence.cases
    return replace(
        evidence, cases=(first, *(Case(c.inputs, c.outputs, c.outputs, c.outputs, floor=False) for c in others))
    )


def test_where_a_few_cases_tell_the_floor_the_others_are_judged_by_it(scores: Golden) -> None:
    few = few_tell_the_floor(scores)
    right: list[Answer] = [{"scores": noisy(case.reference["scores"])} for case in scores.cases]
    assert judged(few, right).passed
    for number, case in enumerate(scores.cases):
        wrong = [{"scores": answer["scores"].copy()} for answer in own_answers(scores)]
        wrong[number]["scores"][0, 3] *= np.float32(1 + 3e-5)
        assert not judged(few, wrong).passed, case
