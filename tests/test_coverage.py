"""No row of a table can change unnoticed: those of small ones are all looked up, larger ones are hashed."""

from pathlib import Path

import numpy as np
import pytest

from deploykit import convert, validate
from deploykit.golden import Golden

SMALL, LARGE = 300, 50_000


def table(folder: Path, rows: int) -> Path:
    """Write a model that looks rows up and adds them."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).standard_normal((rows, 8)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"]), helper.make_node("Relu", ["rows"], ["y"])],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(weights, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "source.onnx")
    return folder / "source.onnx"


def test_every_row_of_a_small_table_is_looked_up(tmp_path: Path) -> None:
    made = convert(table(tmp_path, SMALL), tmp_path / "model.onnx")
    golden = Golden.read(made.golden)
    assert {int(number) for case in golden.cases for number in case.inputs["ids"]} == set(range(SMALL))
    assert not any("rows" in note for note in made.verdict.notes)


def test_of_a_large_table_it_is_said_how_many_rows_were_looked_up(tmp_path: Path) -> None:
    made = convert(table(tmp_path, LARGE), tmp_path / "model.onnx")
    assert any(f"of {LARGE} rows" in note for note in made.verdict.notes)


@pytest.mark.parametrize("rows", [SMALL, LARGE])
@pytest.mark.parametrize("row", [1, 77, 211])
def test_one_changed_row_is_found_whether_or_not_a_sample_reads_it(tmp_path: Path, rows: int, row: int) -> None:
    import onnx
    from onnx import numpy_helper

    made = convert(table(tmp_path, rows), tmp_path / "model.onnx")
    assert validate(made.path).passed
    model = onnx.load(made.path)
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[row] += 0.01
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "table"))
    onnx.save(model, made.path)
    assert not validate(made.path).passed


def renamed(path: Path, row: int | None) -> None:
    """Call the table otherwise, as an optimizer may, and change a row of it."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    if row is not None:
        weights[row] += 1e-4
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "other"))
    model.graph.node[0].input[0] = "other"
    onnx.save(model, path)


def test_a_table_is_known_by_its_content_whatever_it_is_called(tmp_path: Path) -> None:
    made = convert(table(tmp_path, LARGE), tmp_path / "model.onnx")
    renamed(made.path, None)
    assert validate(made.path).passed
    renamed(made.path, LARGE - 77)
    assert [check.what for check in validate(made.path).failures] == ["weights"]
