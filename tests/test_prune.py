"""``deploykit prune`` as a user meets it: goals, proof, speed, and what it says where it makes no sense."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import deploykit
from deploykit.tensors import Array
from tests.running import deploykit as command

DATA = ("--data", "digits_val.npz")


@pytest.fixture
def folder(here: Path, digits: Path) -> Path:
    shutil.copy(digits / "digits_val.npz", here)
    return here


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "prune needs samples"),
        ([*DATA, "--amount", "1.5"], 2, "between 0 and 1"),
        ([*DATA, "--amount", "0"], 2, "between 0 and 1"),
        ([*DATA, "--amount", "a"], 2, "is no share"),
        ([*DATA, "--amount", "0.01"], 2, "no channel goes"),
        ([*DATA, "--samples", "1"], 2, "one call of them"),
        ([*DATA, "--amount", "0.3", "--target-macs", "0.5"], 2, "two goals"),
        ([*DATA, "--importance", "magnitud"], 2, "did you mean 'magnitude'?"),
        ([*DATA, "--max-drop", "1%"], 2, "--labels"),
        ([*DATA, "--target-macs", "0.5", "--min-sqnr", "90", "--keep-slower"], 1, "SQNR"),
    ],
)
def test_what_makes_no_sense_is_said_and_nothing_written(
    folder: Path, arguments: list[str], code: int, said: str
) -> None:
    before = {file.name for file in folder.iterdir()}
    ran = command("prune", "digits.onnx", *arguments, cwd=folder)
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert {file.name for file in folder.iterdir()} == before


def test_a_cut_is_proved_timed_and_told_and_can_be_quantized_but_not_the_other_way_round(folder: Path) -> None:
    goal = ("--target-macs", "50%", "--min-agreement", "90%", "--allow-undecided", "--keep-slower")
    ran = command("prune", *DATA, *goal, "--json", cwd=folder)
    assert ran.code == 0, ran.err
    made, stage = ran.json, ran.json["stages"][-1]
    assert made["path"] == "digits.pruned.onnx"
    assert [layer["operator"] for layer in stage["layers"]] == ["Conv", "Conv", "Gemm"]
    assert "it is an output of the model" in stage["layers"][-1]["fate"]
    assert made["speed"]["rows"][1]["ratio"]["value"] > 0
    assert made["verdict"]["lossy"]
    assert stage["made"]["pruned"]
    assert stage["made"]["bytes"] < made["before"]["bytes"]
    bounds = ("--min-agreement", "90%", "--allow-undecided")
    again = command("validate", "digits.pruned.onnx", *bounds, cwd=folder)
    assert again.code == 0, again.err
    against = command("validate", "digits.pruned.onnx", "--against", "digits.onnx", *DATA, *bounds, cwd=folder)
    assert against.code == 0, against.err
    small = command(
        "quantize", "digits.pruned.onnx", "--int8", *DATA, *bounds, "--keep-slower", "-o", "8.onnx", cwd=folder
    )
    assert small.code == 0, small.err
    refused = command("prune", "8.onnx", *DATA, cwd=folder)
    assert (refused.code, "prune first, then quantize" in refused.err) == (2, True), refused.err


def test_with_a_bound_and_no_goal_as_much_goes_as_it_allows(
    folder: Path, untimed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    shares = []
    for bound in (0.01, 0.08):
        made = deploykit.prune(
            "digits.onnx", data=Path("digits_val.npz"), labels="digits_val.npz:y", max_drop=bound, allow_undecided=True
        )
        assert made.verdict.passed
        shares.append(made.stages[-1].done)
    assert float(shares[0].partition("%")[0]) < float(shares[1].partition("%")[0])


def test_the_latency_that_is_asked_for_is_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    made = deploykit.prune(
        "digits.onnx", data=Path("digits_val.npz"), target_latency=0.9, min_agreement=0.0, min_sqnr=-50
    )
    assert made.speed is not None
    ratio = made.speed.rows[1].ratio
    assert ratio is not None
    assert ratio.value < 1


def test_ours_loses_less_than_the_smallest_weights_alone(
    folder: Path, untimed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with np.load("digits_val.npz") as file:
        x, y = file["x"], file["y"]
    np.savez("fit.npz", x=x[:180])
    lost = []
    for ours, importance in ((True, "reconstruction"), (False, "magnitude")):
        made = deploykit.prune(
            "digits.onnx",
            data=Path("fit.npz"),
            target_macs=0.35,
            min_agreement=0.0,
            min_sqnr=-50,
            importance=importance,
            refit=ours,
            uniform=not ours,
        )
        lost.append(_accuracy(Path("digits.onnx"), x[180:], y[180:]) - _accuracy(made.path, x[180:], y[180:]))
    assert lost[1] > 0.02
    assert lost[0] < 0.5 * lost[1]


def _accuracy(path: Path, x: Array, y: Array) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return float((session.run(None, {session.get_inputs()[0].name: x})[0].argmax(-1) == y).mean())
