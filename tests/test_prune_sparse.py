"""Zeros in weights: where they are, what makes up for them, and that they stay in fewer bits."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit
from deploykit.errors import UsageError
from deploykit.pruning.allocation import answers, noise
from deploykit.pruning.linear import linear_layers
from deploykit.pruning.moments import see
from deploykit.pruning.sparse import is_two_of_four, thin
from deploykit.tensors import Array
from tests.prune_graphs import HEADS, chained, depthwise, residual
from tests.test_prune_fitting import calls, quiet
from tests.test_prune_structure import read

LENIENT: dict[str, Any] = {"min_agreement": 0.5, "min_sqnr": 3.0, "allow_undecided": True}


@pytest.mark.parametrize("share", [None, 0.6])
def test_what_is_left_makes_up_for_the_zeros(share: float | None) -> None:
    source = read(chained([residual, depthwise], HEADS[0], channels=8, seed=2))
    reference = answers(source.clone(), calls())
    seen = see(source.clone(), linear_layers(source), calls, quiet).grams
    whole = {name: one.gram for name, one in seen.items()}
    alone = {name: np.diag(np.diag(gram)) for name, gram in whole.items()}
    noises = []
    for grams in (whole, alone, dict[str, Array]()):
        model = source.clone()
        found = list(thin(model, grams, share))
        for one in found:
            expected = 0.5 if share is None else share
            assert one.why or one.zeros == pytest.approx(expected * one.total, abs=1 + 0.01 * one.total)
        layers = linear_layers(model)
        if share is None:
            assert {one.name for one in found if not one.why} == {
                name for name, layer in layers.items() if is_two_of_four(layer)
            }
            assert any(one.why for one in found)
        noises.append(noise(reference, answers(model, calls())))
    assert noises[0] < 0.7 * min(noises[1:])


def test_zeros_are_told_and_stay_through_fp16_and_int8(
    here: Path, digits: Path, monkeypatch: pytest.MonkeyPatch, untimed: None
) -> None:
    shutil.copy(digits / "digits_val.npz", here)
    monkeypatch.chdir(here)
    data = Path("digits_val.npz")
    made = deploykit.prune("digits.onnx", data=data, pattern="2:4", **LENIENT)
    stage = made.stages[-1]
    assert made.speed is None
    assert [layer.fate for layer in stage.layers] == ["it sums over 1 channels", "50.0% zeros", "50.0% zeros"]
    assert "packed (zlib)" in stage.notes[0]
    half = deploykit.quantize(made.path, to="fp16", data=data, **LENIENT)
    eight = deploykit.quantize(made.path, to="int8", data=data, **LENIENT)
    for path in (made.path, half.path, eight.path):
        assert _zeros(path) == pytest.approx(0.5, abs=0.03)


def _zeros(path: Path) -> float:
    """Give the share of zeros in the largest weight."""
    import onnx_ir

    weights = [value.const_value.numpy() for value in onnx_ir.load(path).graph.initializers.values()]
    return float((max(weights, key=lambda one: one.size) == 0).mean())


def test_what_zeros_can_not_do_is_said(here: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(digits / "digits_val.npz", here)
    monkeypatch.chdir(here)
    options: list[tuple[dict[str, Any], str]] = [
        ({"pattern": "2:4", "target_macs": 0.5}, "save no multiplications"),
        ({"pattern": "2:3"}, "no pattern '2:3'"),
    ]
    for one, said in options:
        with pytest.raises(UsageError, match=said):
            deploykit.prune("digits.onnx", data=Path("digits_val.npz"), **one)
