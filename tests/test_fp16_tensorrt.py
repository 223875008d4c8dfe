"""TensorRT-RTX takes what is made in 16 bits: its network is strongly typed, so every type must fit."""

from pathlib import Path

import pytest

import deploykit
from deploykit.passes.bf16 import Bf16
from deploykit.passes.fp16 import Fp16
from tests.half_nets import HARD, net, normal
from tests.rtx import refusals


@pytest.mark.parametrize("kind", [Fp16, Bf16])
@pytest.mark.parametrize("name", ["scores", "tiny"])
def test_what_stays_in_float32_and_what_does_not_meet_in_the_right_types(
    name: str, kind: type[Fp16 | Bf16], tmp_path: Path
) -> None:
    made = deploykit.optimize(HARD[name](tmp_path), tmp_path / "half.onnx", passes=[kind()])
    assert refusals(made.path) == []


def test_a_recurrent_layer_takes_weights_that_are_cast(tmp_path: Path) -> None:
    text = "net (float[5,batch,16] x) => (float[5,1,batch,16] y) { y = LSTM <hidden_size = 16> (x, w, r) }"
    path = net(text, tmp_path, w=normal(1, 64, 16), r=normal(1, 64, 16, seed=1))
    made = deploykit.optimize(path, tmp_path / "half.onnx", passes=[Fp16()])
    assert refusals(made.path) == []
