"""Engines of nets of the size of those in use, in three precisions, each for three devices at once."""

from pathlib import Path

import pytest

import deploykit
from deploykit.engines.options import Options
from tests.engine_nets import NETS

# Scores and their sums over values are products of two activations, which stay in float here.
LAYERS = {
    ("resnet50", "float32"): {"Conv": {"float32": 53}, "MatMul": {"float32": 1}},
    ("resnet50", "float16"): {"Conv": {"float16": 53}, "MatMul": {"float16": 1}},
    ("resnet50", "int8"): {"Conv": {"int8": 53}, "MatMul": {"int8": 1}},
    ("mobilenetv2", "float32"): {"Conv": {"float32": 52}, "MatMul": {"float32": 1}},
    ("mobilenetv2", "float16"): {"Conv": {"float16": 52}, "MatMul": {"float16": 1}},
    ("mobilenetv2", "int8"): {"Conv": {"int8": 52}, "MatMul": {"int8": 1}},
    ("vit", "float32"): {"Conv": {"float32": 1}, "MatMul": {"float32": 97}},
    ("vit", "float16"): {"Conv": {"float16": 1}, "MatMul": {"float16": 97}},
    ("vit", "int8"): {"Conv": {"int8": 1}, "MatMul": {"int8": 73, "float32": 24}},
    ("bert", "float32"): {"MatMul": {"float32": 97}},
    ("bert", "float16"): {"MatMul": {"float16": 97}},
    ("bert", "int8"): {"MatMul": {"int8": 73, "float32": 24}},
}


@pytest.mark.parametrize(("net", "kind"), LAYERS, ids=[f"{net} in {kind}" for net, kind in LAYERS])
def test_every_layer_gets_the_precision_that_was_asked_for(net: str, kind: str, tmp_path: Path) -> None:
    path = NETS[net](tmp_path, kind)
    made = deploykit.build(path, tmp_path / "net.engine", options=Options(targets=("sm86", "sm89", "sm120")))
    assert made.sidecar.layers == LAYERS[net, kind]
    assert made.sidecar.precision == kind
    assert made.path.stat().st_size > 0.5 * path.stat().st_size
    for one in (path, made.path):  # gigabytes, otherwise, until the run is over
        one.unlink()
