"""Files in float16: their tables are known by their rounding, and what onnxruntime crashes on is refused in words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit import validate
from deploykit.backends.onnxruntime import OrtSession
from deploykit.errors import ModelError
from deploykit.onnx_io import load, table_hashes
from deploykit.validation.rules import Bounds, ByRatio
from deploykit.validation.tolerance import least_sqnr, limit
from tests.converted import Converted, converted

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return converted("ids", tmp_path_factory)


def in_float16(source: Path, target: Path, change: Any = None) -> Path:
    """Convert a file to float16 with onnxconverter-common's algorithm, as onnxruntime ships it."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    if change is not None:
        change(made.graph)
    onnx.save(made, target)
    return target


def tables(path: Path) -> dict[str, str]:
    return table_hashes(load(path))


def test_a_float16_file_passes_with_its_tables_rounded(ids: Converted, tmp_path: Path) -> None:
    half = in_float16(ids.onnx, tmp_path / "half.onnx")
    assert tables(ids.onnx)
    assert tables(half).keys() == tables(ids.onnx).keys(), "the converter keeps the names, or this tests nothing"
    verdict = validate(half, ids.golden)
    assert verdict.passed, verdict.failures


def test_a_row_changed_in_a_float16_file_is_found_even_where_no_sample_reads_it(ids: Converted, tmp_path: Path) -> None:
    def spoil(graph: Any) -> None:
        from onnx import numpy_helper

        table = next(one for one in graph.initializer if one.name in tables(ids.onnx))
        array = numpy_helper.to_array(table).copy()
        array[-1, 0] *= np.float16(1.01)
        table.CopyFrom(numpy_helper.from_array(array, table.name))

    verdict = validate(in_float16(ids.onnx, tmp_path / "half.onnx", spoil), ids.golden)
    assert "weights" in {check.what for check in verdict.failures}


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_a_recurrent_layer_in_float16_is_refused_and_does_not_crash(op: str, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    weights = [numpy_helper.from_array(np.zeros((1, gates * 3, size), np.float16), f"w{size}") for size in (2, 3)]
    node = helper.make_node(op, ["x", "w2", "w3"], ["y"], name="cell", hidden_size=3)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT16, [4, 1, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT16, [4, 1, 1, 3])
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], weights), opset_imports=opsets)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="onnxruntime"):
        OrtSession(tmp_path / "m.onnx")


def test_an_output_in_float16_that_lost_its_signal_fails_however_noisy_its_source_is() -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(32, 16))
    noisy, candidate = exact + 5e-4 * rng.normal(size=exact.shape), exact + rng.normal(size=exact.shape)
    for least, passes in ((None, True), (least_sqnr("float16"), False)):
        rule = ByRatio("float32", Bounds(limit("float16"), least_sqnr=least))
        rule.add(exact, noisy, candidate, floor=True)
        assert rule.check().passed == passes
        assert ("of its signal are left" in rule.check().why) == (not passes)
