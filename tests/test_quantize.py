"""``deploykit quantize`` as a user meets it: which type, with what, and what it says when that makes no sense."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import deploykit
from deploykit.errors import NotEquivalent
from tests.running import deploykit as command

DATA = ("--data", "digits_val.npz")


@pytest.fixture
def folder(here: Path, digits: Path) -> Path:
    shutil.copy(digits / "digits_val.npz", here)
    return here


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "none is named"),
        (["--int8", "--fp16", *DATA], 2, "two are named"),
        (["--dynamic"], 2, "--int8 --dynamic"),
        (["--fp16-io"], 2, "give --fp16 too"),
        (["--int8"], 2, "--synthetic-calibration"),
        (["--int8", *DATA, "--method", "entrpy"], 2, "did you mean 'entropy'?"),
        (["--int8", *DATA, "--target", "tensort"], 2, "did you mean 'tensorrt'?"),
        (["--int8", *DATA, "--effort", "hihg"], 2, "there is no effort 'hihg'; did you mean 'high'?"),
        (["--int8", *DATA, "--keep", "node_Conv_1"], 2, "has no node 'node_Conv_1'"),
        (["--int8", *DATA, "--block", "32"], 2, "--block says nothing about --int8"),
        (["--fp16", "--keep-slower"], 2, "leave it out"),
        (["--fp16", "--atol", "1e-9"], 1, "not answer"),
        (["--fp16", "--min-sqnr", "150"], 1, "SQNR"),
        (["--fp16", "--allow-undecided"], 2, "leave it out"),
        (["--fp16", "--target", "cpu"], 2, "--target says nothing about floats of 16 bits"),
        (["--weight-only", "5"], 2, "8 or 4 bits"),
        (["--weight-only", "4", "--block", "48"], 2, "blocks of 16, 32"),
        (["--int8", "--dynamic", "--target", "tensorrt"], 2, "--target cpu"),
        (["--int8", "--data", "nothing.npz"], 2, "nothing.npz"),
        (["--int8", *DATA, "--max-drop", "1%"], 2, "--labels"),
        (["--int8", *DATA, "--min-agreement", "101%"], 2, "from 0 to just under 1"),
        (["--int8", *DATA, "--labels", "digits_val.npz:z"], 2, "z"),
        (["--int8", "--calibration", "digits_val.npz"], 2, "is no calibration"),
        (["--int8", *DATA, "--save-calibration", "digits.onnx"], 2, "no name of such a file"),
        (["--int8", *DATA, "--save-calibration", "nowhere/r.json"], 2, "can't write to the folder nowhere"),
        (["--int8", *DATA, "--time-budget", "-1"], 2, "a number of seconds"),
        (["--weight-only", "4", "--time-budget", "nan"], 2, "a number of seconds"),
        (["--int8", *DATA, "--min-sqnr", "90"], 1, "SQNR"),
        (["--int8", *DATA], 1, "can't be told from 360 samples"),
    ],
)
def test_what_makes_no_sense_is_said_and_nothing_written(
    folder: Path, arguments: list[str], code: int, said: str
) -> None:
    before = {file.name for file in folder.iterdir()}
    ran = command("quantize", "digits.onnx", *arguments, cwd=folder)
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert {file.name for file in folder.iterdir()} == before


def test_int8_is_proved_timed_and_told(folder: Path) -> None:
    ran = command("quantize", "--int8", *DATA, "--allow-undecided", "--keep-slower", "--json", cwd=folder)
    assert ran.code == 0, ran.err
    made = ran.json
    assert made["path"] == "digits.int8.onnx"
    assert [layer["fate"] for layer in made["stages"][-1]["layers"]] == ["int8"] * 3
    assert made["speed"]["rows"][1]["ratio"]["value"] > 0
    assert made["verdict"]["lossy"]
    again = command("validate", "digits.int8.onnx", "--allow-undecided", cwd=folder)
    assert again.code == 0, again.err


def test_what_was_quantized_already_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    made = deploykit.quantize("digits.onnx", to="dynamic", allow_undecided=True, keep_slower=True)
    for how in (["--int8", *DATA], ["--fp16"], ["--weight-only", "8"]):
        ran = command("quantize", made.path, *how, cwd=folder)
        assert ran.code == 2
        assert "and this one is in int8" in ran.err


def test_a_result_that_is_not_faster_is_not_written_unless_its_size_is_what_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    # So small a net can't gain: what int8 saves is less than what rounding costs.
    with pytest.raises(NotEquivalent) as refused:
        deploykit.quantize("digits.onnx", to="dynamic", allow_undecided=True)
    assert "--keep-slower" in refused.value.fix[0]
    assert not Path("digits.int8.onnx").exists()


def test_a_calibration_can_be_saved_and_used_again(folder: Path) -> None:
    common = ("--allow-undecided", "--keep-slower", "--json")
    first = command("quantize", "digits.onnx", "--int8", *DATA, "--save-calibration", "r.json", *common, cwd=folder)
    assert first.code == 0, first.err
    kept = json.loads((folder / "r.json").read_text())
    assert kept["samples"] == 360
    again = command("quantize", "digits.onnx", "--int8", *DATA, "--calibration", "r.json", *common, cwd=folder)
    assert again.code == 0, again.err
    figures = [one.json["verdict"]["checks"][0]["value"] for one in (first, again)]
    assert figures[0] == figures[1]


def test_parts_of_the_data_are_calibrated_apart_and_merged(folder: Path) -> None:
    with np.load(folder / "digits_val.npz") as file:
        x = file["x"]
    np.savez(folder / "a.npz", x=x[:200])
    np.savez(folder / "b.npz", x=x[200:])
    journal = (folder / ".deploykit" / "journal.jsonl").read_text()
    for part in "ab":
        ran = command("calibrate", "digits.onnx", "--data", f"{part}.npz", "-o", f"{part}.json", cwd=folder)
        assert ran.code == 0, ran.err
    assert (folder / ".deploykit" / "journal.jsonl").read_text() == journal, "no model was made"
    ran = command("calibrate", "--merge", "a.json", "b.json", "-o", "all.json", "--json", cwd=folder)
    assert (ran.code, ran.json["samples"]) == (0, 360), ran.err
    whole = command("calibrate", "digits.onnx", *DATA, "-o", "whole.json", cwd=folder)
    assert whole.code == 0, whole.err
    kept = [json.loads((folder / name).read_text()) for name in ("all.json", "whole.json")]
    for name, one in kept[0]["tensors"].items():
        other = kept[1]["tensors"][name]
        assert (one["lowest"], one["highest"]) == (other["lowest"], other["highest"])
        assert dict(zip(one["bins"], one["counts"], strict=True)) == dict(
            zip(other["bins"], other["counts"], strict=True)
        )
    used = ("--calibration", "all.json", *DATA, "--allow-undecided", "--keep-slower")
    ran = command("quantize", "digits.onnx", "--int8", *used, cwd=folder)
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits.onnx"], "nothing to calibrate with"),
        (["digits.onnx", "digits.onnx", *DATA], "one model is calibrated"),
        (["--merge", "a.json"], "one file of several"),
        (["--merge", "digits.onnx", "digits.onnx"], "is no calibration"),
        (["--merge", "none.json", "none.json"], "can't read"),
        (["digits.onnx", *DATA, "--target", "gpu"], "there is no target 'gpu'"),
        (["digits.onnx", *DATA, "-o", "digits.onnx"], "no name of such a file"),
    ],
)
def test_what_can_not_be_calibrated_is_said(folder: Path, arguments: list[str], said: str) -> None:
    ran = command("calibrate", *arguments, cwd=folder)
    assert (ran.code, said in ran.err) == (2, True), ran.err
