"""Long sums: onnxruntime adds them up more coarsely than others do, which is no fault of the model; a fault is one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.backends.onnxruntime import OrtSession
from deploykit.golden import Case, Golden
from deploykit.tensors import Signature, TensorSpec
from deploykit.validation.compare import compare

TERMS = 1 << 15
MODELS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "mean": ("y = ReduceMean <keepdims = 0> (s, one)", lambda x: x.mean(-1)),
    "norm": ("y = ReduceL2 <keepdims = 0> (s, one)", lambda x: np.sqrt((x * x).sum(-1))),
    "sum": ("y = ReduceSum <keepdims = 0> (s, one)", lambda x: x.sum(-1)),
}


def judged(folder: Path, name: str, scale: float) -> tuple[bool, float, str]:
    """Judge a model of one long sum whose source adds in pairs, as numpy does."""
    import onnx

    body, source = MODELS[name]
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> g (float[batch, {TERMS}] x) => (float[batch] y)'
        f" <float scale = {{{scale!r}}}, int64[1] one = {{1}}> {{ s = Mul (x, scale) {body} }}"
    )
    onnx.save(model, folder / "m.onnx")
    rng = np.random.default_rng(0)
    inputs = [(rng.standard_normal((2, TERMS)) + 1).astype(np.float32) for _ in range(4)]
    cases = tuple(
        Case({"x": x}, {"y": source(x)}, {"y": source(x.astype(np.float64))}, {"y": source(x)}) for x in inputs
    )
    signature = Signature((TensorSpec("x", "float32", ("batch", TERMS)),), (TensorSpec("y", "float32", ("batch",)),))
    golden = Golden(signature, cases, "float64", {})
    check = compare(golden, OrtSession(folder / "m.onnx"), artifact="m.onnx", reference="m").checks[0]
    return check.passed, check.value or 0.0, check.why


@pytest.mark.parametrize("name", MODELS)
def test_a_right_model_passes_though_the_runtime_adds_coarsely(tmp_path: Path, name: str) -> None:
    passed, ratio, why = judged(tmp_path, name, 1.0)
    assert passed, (ratio, why)
    assert ratio <= 10


def test_one_of_them_would_have_failed_but_for_that(tmp_path: Path) -> None:
    assert any("onnxruntime's own rounding" in judged(tmp_path, name, 1.0)[2] for name in MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_wrong_one_whose_error_is_no_larger_fails(tmp_path: Path, name: str) -> None:
    passed, ratio, why = judged(tmp_path, name, 1.0 + 3e-6)
    assert not passed, (ratio, why)
    assert ratio <= 100, "an error so large would fail without being looked at twice"
