"""Tolerances that the user fixes take the place of the noise ratio, for all outputs or for one."""

from pathlib import Path

import pytest

from tests.running import assert_refused, deploykit


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--atol", "1e-3"), 0),
        (("--atol", "1e-9"), 1),
        (("--rtol", "1e-3", "--atol", "1e-4"), 0),
        (("--rtol", "1e-12"), 1),
        (("--atol", "1e-9", "--atol", "output=1e-3"), 0),
        (("--atol", "1e-3", "--atol", "output=1e-9"), 1),
        (("--atol", "0"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_output_passes_within_the_tolerance_and_fails_beyond(
    options: tuple[str, ...], code: int, here: Path
) -> None:
    ran = deploykit("validate", "--json", *options, cwd=here)
    assert ran.code == code, ran.err
    (check,) = ran.json["checks"]
    assert check["passed"] is (code == 0)
    assert check["rule"].startswith("within ")
    assert ("farther off" in check["why"]) is (code == 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--atol", "much"), "--atol much is no tolerance"),
        (("--rtol", "-1"), "--rtol -1 is no tolerance"),
        (("--atol", "nan"), "is no tolerance"),
        (("--atol", "inf"), "is no tolerance"),
        (("--atol", "1", "--atol", "2"), "given twice for all outputs"),
        (("--atol", "outptu=1e-3"), "did you mean 'output'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_no_tolerance_is_a_wrong_usage(options: tuple[str, ...], says: str, here: Path) -> None:
    ran = deploykit("validate", *options, cwd=here)
    assert_refused(ran, 2)
    assert says in ran.err


def test_the_api_takes_numbers(here: Path) -> None:
    from deploykit import validate

    assert validate(here / "digits.onnx", atol=[1e-3]).passed
    assert not validate(here / "digits.onnx", atol=[1e-9]).passed
