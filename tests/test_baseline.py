"""A baseline tells what has become another from what rounding moves, and says which output and by how much."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.errors import UsageError
from deploykit.golden import Case
from deploykit.tensors import Array
from deploykit.validation.baseline import drift, keep
from deploykit.validation.judge import Bounds, judge
from deploykit.validation.tolerance import LIMIT
from deploykit.validation.verdict import Check, Verdict

HOSTILE = 'a|b"<script>\\\x00\ud800\u202e\r\n é日🦊'


def noise(what: str = "logits", value: float = 1.74, limit: float = 10.0, rule: str = "") -> Check:
    figures = {"max_abs": 7e-6, "sqnr": 134.0, "rmse": 2e-6, "cosine": 1.0}
    given_rule = rule or f"noise ratio at most {limit:g}"
    return Check(what, passed=value <= limit, rule=given_rule, why="errs", value=value, limit=limit, figures=figures)


def quanta(share: float) -> Check:
    """Make the check of an output that its source rounds to steps of 0.5, of which a share is a step away."""
    figures = {"max_abs": 0.5 if share else 0.0, "rmse": 0.5 * math.sqrt(share), "sqnr": 30.0, "cosine": 1.0}
    value = 1.0 if share else 0.0
    return Check("q", passed=True, rule="within one quantum", why="-", value=value, limit=1.0, figures=figures)


def count(value: int, limit: int) -> Check:
    rule = f"at most {limit} values differ" if limit else "equal"
    return Check("ids", passed=value <= limit, rule=rule, why="-", value=float(value), limit=float(limit))


def lossy(sqnr: float) -> Check:
    return Check("y", passed=True, rule="SQNR at least 20 dB", why="-", value=sqnr, limit=20.0, figures={"sqnr": sqnr})


def verdict(*checks: Check) -> Verdict:
    return Verdict("m.onnx", "m.golden.npz", checks, 11, 110, ("x 2x4", "x 9x4"), "float64", notes=("note",))


def drifted(path: Path, before: Verdict, after: Verdict) -> tuple[Check, ...]:
    keep(before, path)
    found = drift(after, path)
    assert not any(check.passed for check in found)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.json"


# What moved


def test_the_same_verdict_has_not_drifted(path: Path) -> None:
    same = verdict(noise(), noise(HOSTILE, math.inf), noise("nan", math.nan), quanta(0.02), count(3, 20), lossy(31.0))
    assert drifted(path, same, same) == ()


def test_an_output_that_moved_within_its_budget_is_named_and_by_how_much(path: Path) -> None:
    found = drifted(path, verdict(noise("a"), noise("b", 1.0)), verdict(noise("a"), noise("b", 8.0)))
    assert [check.what for check in found] == ["b"]
    assert found[0].why.startswith("noise ratio rose from 1 to 8, 8 times; ")
    assert found[0].figures == {"last": 1.0, "now": 8.0}
    assert not replace(verdict(), checks=(noise("b", 8.0), *found)).passed


def test_an_error_that_fell_has_moved_too(path: Path) -> None:
    assert "fell from 8 to 1" in drifted(path, verdict(noise(value=8.0)), verdict(noise(value=1.0)))[0].why


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 3.0), (0.5, 3.5), (1.0, 4.1), (3.0, 6.3), (5.0, 8.6), (1000.0, 1120.0)]
)
def test_what_rounding_can_do_is_no_drift_and_more_is(path: Path, low: float, high: float) -> None:
    assert drifted(path, verdict(noise(value=low)), verdict(noise(value=high))) == ()
    assert drifted(path, verdict(noise(value=high)), verdict(noise(value=low))) == ()
    assert len(drifted(path, verdict(noise(value=low)), verdict(noise(value=high + 0.1 + low * 0.01)))) == 1


def test_rounding_is_as_coarse_as_the_limit_says(path: Path) -> None:
    half = 81920.0
    assert drifted(path, verdict(noise(value=9000.0, limit=half)), verdict(noise(value=30000.0, limit=half))) == ()
    assert drifted(path, verdict(noise(value=9000.0, limit=half)), verdict(noise(value=40000.0, limit=half)))
    # Where the limit itself became coarser, the finer one still counts: it is the artifact that changed.
    assert drifted(path, verdict(noise(value=1.0)), verdict(noise(value=9000.0, limit=half)))


@pytest.mark.parametrize("odd", [math.inf, math.nan])
def test_an_error_that_is_no_ordinary_number_any_more_has_moved(path: Path, odd: float) -> None:
    assert len(drifted(path, verdict(noise(value=2.0)), verdict(noise(value=odd)))) == 1
    assert len(drifted(path, verdict(noise(value=odd)), verdict(noise(value=2.0)))) == 1


def test_an_error_is_compared_with_the_last_runs_even_when_it_fails_by_itself(path: Path) -> None:
    assert "from 1.74 to 4e+03" in drifted(path, verdict(noise()), verdict(noise(value=4000.0)))[0].why


def test_long_sums_in_one_run_only_are_the_runtimes_own(path: Path) -> None:
    finer = noise(value=1.0, rule="noise ratio at most 10, with long sums in float64")
    assert drifted(path, verdict(finer), verdict(noise(value=9.0))) == ()
    assert drifted(path, verdict(noise(value=9.0)), verdict(finer)) == ()
    assert drifted(path, verdict(finer), verdict(replace(finer, value=9.0)))
    assert drifted(path, verdict(finer), verdict(noise(value=90.0)))


def test_a_few_roundings_of_a_quantized_output_may_fall_otherwise_and_most_may_not(path: Path) -> None:
    assert drifted(path, verdict(quanta(0.0)), verdict(quanta(0.05))) == ()
    found = drifted(path, verdict(quanta(0.0)), verdict(quanta(0.9)))
    assert "RMS error in quanta rose from 0 to 0.949" in found[0].why


def test_more_than_one_quantum_is_judged_by_another_rule_and_said(path: Path) -> None:
    found = drifted(path, verdict(quanta(0.01)), verdict(noise("q", 2.0)))
    assert [check.why for check in found] == [
        "judged by another rule: 'within one quantum' in the last run, now 'noise ratio at most 10'"
    ]


def test_counts_of_whole_numbers_move_with_what_the_source_leaves_open(path: Path) -> None:
    assert drifted(path, verdict(count(3, 20)), verdict(count(8, 20))) == ()
    assert "rose from 3 to 19" in drifted(path, verdict(count(3, 20)), verdict(count(19, 20)))[0].why
    assert len(drifted(path, verdict(count(0, 0)), verdict(count(1, 0)))) == 1


def test_a_lossy_artifact_drifts_by_more_than_a_decibel(path: Path) -> None:
    assert drifted(path, verdict(lossy(31.0)), verdict(lossy(30.1))) == ()
    assert drifted(path, verdict(lossy(30.1)), verdict(lossy(31.0))) == ()
    assert "relative RMS error rose from" in drifted(path, verdict(lossy(31.0)), verdict(lossy(29.5)))[0].why
    assert drifted(path, verdict(lossy(math.inf)), verdict(lossy(60.0)))
    # Near the rounding of float32 decibels say little.
    assert drifted(path, verdict(lossy(150.0)), verdict(lossy(120.0))) == ()


def test_a_limit_that_the_user_changed_is_no_other_rule(path: Path) -> None:
    assert drifted(path, verdict(noise(limit=10.0)), verdict(noise(limit=12.0))) == ()


def test_drift_is_found_between_verdicts_of_real_answers(path: Path) -> None:
    usual, other, worse = (of_answers(seed, size) for seed, size in ((1, 1), (2, 1), (3, 6)))
    assert usual.passed
    assert worse.passed
    assert drifted(path, usual, other) == ()
    assert [check.what for check in drifted(path, usual, worse)] == ["y"]


def of_answers(seed: int, size: int) -> Verdict:
    """Judge answers that err by so many times what their source errs."""
    rng = np.random.default_rng(seed)
    answers = []
    for number in range(3):
        exact = np.random.default_rng(number).standard_normal((5, 200)) + 3
        own, reference, noisy = ({"y": near} for near in near_to(exact))
        case = Case({"x": np.zeros((5, 2), np.float32)}, own, reference, noisy)
        answers.append((case, {"y": (exact * (1 + 6e-8 * size * rng.standard_normal(exact.shape))).astype(np.float32)}))
    return verdict(judge("y", answers, Bounds(LIMIT)))


def near_to(exact: Array) -> tuple[Array, Array, Array]:
    """Give what a source answers, the right answer, and one as good as the source's."""
    own = (exact * (1 + 6e-8 * np.random.default_rng(9).standard_normal(exact.shape))).astype(np.float32)
    return own, exact, own


# What came and went


def test_a_new_output_is_named(path: Path) -> None:
    found = drifted(path, verdict(noise()), verdict(noise(), noise("aux")))
    assert [(check.what, check.why) for check in found] == [("aux", "new: the last run did not compare it")]


def test_an_output_that_is_gone_is_named_with_what_stands_in_its_place(path: Path) -> None:
    missing = Check("aux", passed=False, rule="present", why="missing")
    found = drifted(path, verdict(noise(), noise("aux")), verdict(noise(), missing))
    assert [(check.what, check.why) for check in found] == [
        ("aux", "gone: the last run compared it, this one does not: missing")
    ]
    assert len(drifted(path, verdict(noise(), noise("aux")), verdict(noise()))) == 1


def test_checks_that_compare_no_numbers_are_the_verdicts_own_matter(path: Path) -> None:
    contract = Check("inputs", passed=False, rule="the same names", why="x missing")
    assert drifted(path, verdict(noise()), verdict(noise(), contract)) == ()
    assert drifted(path, verdict(noise(), contract), verdict(noise())) == ()


@pytest.mark.parametrize("change", [{"samples": 12}, {"shapes": ("x 2x4",)}, {"method": "ulp"}])
def test_other_evidence_is_not_compared_and_does_not_pass(path: Path, change: dict[str, object]) -> None:
    found = drifted(path, verdict(noise()), replace(verdict(noise(value=9.0)), **change))  # type: ignore[arg-type]
    assert [check.what for check in found] == ["evidence"]
    assert "11 samples in the shapes [x 2x4], [x 9x4], its noise floor by float64" in found[0].why


def test_another_name_of_the_artifact_or_its_reference_is_no_drift(path: Path) -> None:
    assert drifted(path, verdict(noise()), replace(verdict(noise()), artifact="n.onnx", reference="n.pt")) == ()


def test_what_drift_said_is_not_kept(path: Path) -> None:
    found = drifted(path, verdict(noise(value=1.0)), verdict(noise(value=9.0)))
    assert drifted(path, verdict(noise(value=9.0), *found), verdict(noise(value=9.0))) == ()


# The file


ANY = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)


@given(value=ANY, limit=ANY | st.none(), name=st.text(), sqnr=ANY)
def test_any_verdict_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, value: float, limit: float | None, name: str, sqnr: float
) -> None:
    figures = {"sqnr": sqnr, "rmse": value, "max_abs": 1.0}
    rules = ("noise ratio at most 10", "within one quantum", "equal", "SQNR at least 20 dB", name)
    checks = (
        Check(name, passed=False, rule=rule, why=name, value=value, limit=limit, figures=figures) for rule in rules
    )
    same = replace(verdict(*checks), artifact=name)
    assert drifted(tmp_path_factory.getbasetemp() / "same.json", same, same) == ()


def test_the_file_is_json_that_any_parser_reads(path: Path) -> None:
    keep(verdict(noise(value=math.inf), noise(HOSTILE, math.nan)), path)

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    content = json.loads(path.read_bytes(), parse_constant=refuse)
    assert [check["value"] for check in content["checks"]] == ["inf", "nan"]
    assert content["shapes"] == ["x 2x4", "x 9x4"]


def test_the_same_verdict_gives_the_same_file_and_nothing_beside_it(path: Path) -> None:
    keep(verdict(noise()), path)
    first = path.read_bytes()
    keep(verdict(noise()), path)
    assert path.read_bytes() == first
    assert [entry.name for entry in path.parent.iterdir()] == ["last.json"]


def test_a_baseline_that_is_not_there_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        drift(verdict(noise()), path)
    assert caught.value.message == f"there is no baseline {path}"
    assert "--update-baseline" in caught.value.fix[0]


FOREIGN = {
    "empty": b"",
    "text": b"hello",
    "binary": b"\x80\x02\xff\x00",
    "list": b"[1, 2]",
    "number": b"3",
    "null": b"null",
    "other object": b'{"error": {"kind": "UsageError"}}',
    "newer": b'{"format": "deploykit baseline", "version": 99}',
    "no checks": b'{"format": "deploykit baseline", "version": 1}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_the_users_error(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        drift(verdict(noise()), path)
    assert f"{path} is no baseline, or is damaged" in caught.value.message
    assert path.read_bytes() == content


def test_a_baseline_cut_off_anywhere_is_the_users_error(path: Path) -> None:
    keep(verdict(noise()), path)
    whole = path.read_bytes().rstrip()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UsageError):
            drift(verdict(noise()), path)


@pytest.mark.parametrize("field", ["checks", "shapes", "samples", "method"])
@pytest.mark.parametrize("value", [None, 1.5, "x", {"a": 1}, [[]], True])
def test_a_field_of_another_kind_is_damage_or_drift_and_never_a_pass(path: Path, field: str, value: object) -> None:
    keep(verdict(noise()), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    try:
        assert drift(verdict(noise()), path)
    except UsageError as error:
        assert "is damaged" in error.message  # noqa: PT017 - both ways of not passing are right


def test_a_folder_in_place_of_the_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        drift(verdict(noise()), tmp_path)
    with pytest.raises(UsageError):
        keep(verdict(noise()), tmp_path)
