"""Trained models of others in float16: the accuracy that was measured on real data stays."""

from pathlib import Path

import numpy as np
import pytest

import deploykit
from deploykit.onnx_io import load
from deploykit.passes.fp16 import Fp16
from tests.onnx_models import SILERO, needs_silero, run, silero_feed
from tests.running import deploykit as command
from tests.test_real_models import ARCHITECTURES, REAL, imagenet_scaled

needs_models = pytest.mark.skipif(not ARCHITECTURES.exists(), reason="the real models are not here: ../shared/data")


def converted(folder: Path, weights: str, factory: str, inputs: str) -> Path:
    place = ("--factory", f"{ARCHITECTURES}:{factory}", "-o", "made.onnx", "--input", inputs)
    ran = command("convert", REAL / weights, *place, cwd=folder)
    assert ran.code == 0, ran.err
    ran = command("quantize", "made.onnx", "--fp16", "-o", "half.onnx", cwd=folder)
    assert ran.code == 0, ran.err
    return folder / "half.onnx"


@needs_models
def test_a_cifar_net_keeps_its_accuracy(tmp_path: Path) -> None:
    half = converted(tmp_path, "cifar10/resnet20-12fca82f.th", "CifarResNet", "x:float32[batch,3,32,32]")
    with np.load(REAL / "cifar10" / "cifar10_lossless_200.npz") as samples:
        (found,) = run(half, {"x": imagenet_scaled(samples["x"])})
        assert (found.argmax(1) == samples["y"]).mean() == pytest.approx(0.925, abs=0.0051)
    assert half.stat().st_size < 0.56 * (tmp_path / "made.onnx").stat().st_size


@needs_models
def test_a_gru_keeps_its_accuracy(tmp_path: Path) -> None:
    half = converted(tmp_path, "digits_audio/digits_gru.pt", "DigitsGRU", "x:float32[batch,time,40]")
    with np.load(REAL / "digits_audio" / "fsdd_yweweler_500.npz") as samples:
        name = load(half).graph.inputs[0].name
        (found,) = run(half, {name: samples["x"].astype(np.float32)})
        assert (found.argmax(1) == samples["y"]).mean() == pytest.approx(0.926, abs=0.0051)


@needs_silero
def test_a_published_net_with_branches_within_branches_is_halved(tmp_path: Path) -> None:
    feed = silero_feed()
    made = deploykit.optimize(SILERO, tmp_path / "half.onnx", passes=[Fp16()])
    assert made.verdict.passed
    for ours, theirs in zip(run(made.path, feed), run(SILERO, feed), strict=True):
        assert np.abs(ours - theirs).max() < 0.01 * max(1.0, float(np.abs(theirs).max()))
    assert made.path.stat().st_size < 0.56 * SILERO.stat().st_size
