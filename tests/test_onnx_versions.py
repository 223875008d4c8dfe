"""Lineage is kept, and a model raised to other versions keeps its names and its answers."""

from pathlib import Path

import pytest

from deploykit import onnx_io
from deploykit.errors import ModelError
from tests.onnx_models import SILERO, dense, feed, needs_silero, same, silero_feed, written


def test_lineage_survives_saving_and_keeps_other_metadata(tmp_path: Path) -> None:
    model = onnx_io.load(written(tmp_path, dense()))
    model.metadata_props["author"] = "somebody"
    onnx_io.set_lineage(model, source="abc", **{"pass.1": "fp16"})
    onnx_io.set_lineage(model, source="def")
    (path,) = onnx_io.save(model, tmp_path / "new.onnx")
    again = onnx_io.load(path)
    assert onnx_io.lineage(again) == {"source": "def", "pass.1": "fp16"}
    assert again.metadata_props["author"] == "somebody"


@pytest.mark.parametrize("opset", [15, 18, 22])
def test_a_converted_model_keeps_its_names_and_its_answers(tmp_path: Path, opset: int) -> None:
    source = written(tmp_path, dense(opset=20), external=True)
    model = onnx_io.load(source)
    onnx_io.set_versions(model, ir=8, opset=opset)
    (path,) = onnx_io.save(model, tmp_path / "new.onnx", external=False)
    again = onnx_io.load(path)
    assert (again.ir_version, again.opset_imports[""]) == (8, opset)
    assert list(again.graph.initializers) == ["weight", "bias"]
    assert [str(spec) for spec in onnx_io.signature(again).inputs] == ["x:float32[batch,x_1,32]"]
    assert same(source, path, feed())


@needs_silero
def test_a_real_model_with_subgraphs_is_raised_to_a_newer_opset(tmp_path: Path) -> None:
    model = onnx_io.load(SILERO)
    onnx_io.set_versions(model, ir=10, opset=20)
    (path,) = onnx_io.save(model, tmp_path / "vad.onnx")
    onnx_io.check(path)
    assert same(SILERO, path, silero_feed())


def test_an_opset_that_can_not_be_reached_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    model = onnx_io.load(written(tmp_path, dense()))
    with pytest.raises(ModelError, match="from opset 20 to 999"):
        onnx_io.set_versions(model, ir=8, opset=999)
    assert (model.ir_version, model.opset_imports[""]) == (10, 20)
    (path,) = onnx_io.save(model, tmp_path / "new.onnx")
    assert same(tmp_path / "model.onnx", path, feed())


def test_an_ir_version_older_than_a_type_in_the_model_is_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    proto = dense()
    proto.graph.initializer.append(helper.make_tensor("small", TensorProto.INT4, [3], [1, -2, 7]))
    model = onnx_io.load(written(tmp_path, proto))
    with pytest.raises(ModelError, match="INT4 came with IR version 10"):
        onnx_io.set_versions(model, ir=9)


def test_functions_are_written_out_before_a_conversion(tmp_path: Path) -> None:
    from onnx import helper

    proto = dense()
    body = [helper.make_node("Relu", ["a"], ["b"])]
    opsets = [helper.make_opsetid("", 20)]
    proto.functions.append(helper.make_function("own", "Rectify", ["a"], ["b"], body, opsets))
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.graph.node[1].output[0] = "z"
    proto.graph.node.append(helper.make_node("Rectify", ["z"], ["y"], domain="own"))
    source = written(tmp_path, proto)
    model = onnx_io.load(source)
    onnx_io.set_versions(model, ir=10, opset=21)
    (path,) = onnx_io.save(model, tmp_path / "new.onnx")
    assert not onnx_io.load(path).functions
    assert same(source, path, feed())
