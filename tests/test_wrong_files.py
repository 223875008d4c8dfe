"""Files that are not what they should be: each command refuses each with one plain message, and writes nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.running import assert_refused, deploykit, listing

Spoil = Callable[[Path, Path], Any]


def cut(share: float) -> Spoil:
    def spoil(good: Path, bad: Path) -> None:
        content = good.read_bytes()
        bad.write_bytes(content[: int(len(content) * share)])

    return spoil


WRONG: dict[str, tuple[Spoil, set[int]]] = {
    "missing": (lambda good, bad: None, {2}),
    "a directory": (lambda good, bad: bad.mkdir(), {2}),
    "empty": (lambda good, bad: bad.touch(), {3}),
    "text": (lambda good, bad: bad.write_text("just words\n" * 50), {3}),
    "zeros": (lambda good, bad: bad.write_bytes(bytes(4096)), {3}),
    "a link to nothing": (lambda good, bad: bad.symlink_to("gone"), {2}),
    "a device": (lambda good, bad: bad.symlink_to("/dev/null"), {2, 3}),
    "an npz of samples": (lambda good, bad: np.savez(bad.open("wb"), x=np.zeros(3)), {3}),
    **{f"cut off at {share:.0%}": (cut(share), {3}) for share in (0.001, 0.02, 0.3, 0.6, 0.9, 0.999)},
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ["digits.onnx", "digits.ts", "digits.pt", "digits.golden.npz"])
@pytest.mark.parametrize("command", ["convert", "validate", "seal", "inspect"])
def test_a_file_that_is_no_model_is_refused(
    command: str, name: str, wrong: str, digits: Path, proved: Path, tmp_path: Path
) -> None:
    good = next(folder / name for folder in (digits, proved) if (folder / name).exists())
    spoil, codes = WRONG[wrong]
    spoil(good, tmp_path / name)
    before = listing(tmp_path)
    ran = deploykit(command, name, cwd=tmp_path)
    # A pt or a golden that is whole enough to be told is refused by validate and convert for what it is.
    assert ran.code in codes | {2}
    assert_refused(ran, ran.code, name)
    assert listing(tmp_path) == before


def test_another_format_under_a_right_suffix_is_told_by_its_content(digits: Path, proved: Path, tmp_path: Path) -> None:
    shutil.copy(digits / "digits.ts", tmp_path / "model.onnx")
    shutil.copy(proved / "digits.onnx", tmp_path / "model.pt")
    assert deploykit("inspect", "model.onnx", "--json", cwd=tmp_path).json["format"] == "torchscript"
    assert deploykit("inspect", "model.pt", "--json", cwd=tmp_path).json["format"] == "onnx"
    assert_refused(deploykit("validate", "model.onnx", cwd=tmp_path), 2, "torchscript")
    assert_refused(deploykit("convert", "model.onnx", "-o", "model.onnx", cwd=tmp_path), 2, "the source itself")


def test_a_missing_file_is_answered_with_the_nearest_name(here: Path) -> None:
    assert_refused(deploykit("inspect", "digit.onnx", cwd=here), 2, "did you mean 'digits.onnx'")


def test_a_golden_cut_off_is_refused_by_validate(here: Path) -> None:
    golden = here / "digits.golden.npz"
    golden.write_bytes(golden.read_bytes()[:-40])
    assert_refused(deploykit("validate", "digits.onnx", "--against", golden, cwd=here), 3, "golden")
