"""ONNX files are loaded with their weights left on disk, described and checked; what is wrong with one is named."""

import os
from pathlib import Path

import pytest

from deploykit import onnx_io
from deploykit.errors import ModelError, UsageError
from deploykit.tensors import TensorSpec
from tests.onnx_models import SILERO, dense, needs_silero, written


def test_external_weights_stay_on_disk(tmp_path: Path) -> None:
    import onnx_ir

    model = onnx_io.load(written(tmp_path, dense(), external=True))
    weight = model.graph.initializers["weight"].const_value
    assert isinstance(weight, onnx_ir.ExternalTensor)
    assert weight.raw is None


def test_weights_are_found_after_the_working_folder_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, dense(), external=True)
    monkeypatch.chdir(tmp_path)
    model = onnx_io.load("model.onnx")
    monkeypatch.chdir(tmp_path.parent)
    assert model.graph.initializers["weight"].const_value.numpy().shape == (32, 32)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.onnx"):
        onnx_io.load(tmp_path / "nowhere.onnx")


def test_weights_of_an_impossible_type_are_refused(tmp_path: Path) -> None:
    proto = dense()
    proto.graph.initializer[1].data_type = 115
    with pytest.raises(ModelError) as caught:
        onnx_io.load(written(tmp_path, proto))
    assert "'bias'" in caught.value.details[0]


@pytest.mark.parametrize("content", [b"", b"garbage" * 9, b"\x08\x0a"], ids=["empty", "garbage", "no graph"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        onnx_io.load(path)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, dense())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ModelError, match="cut short"):
        onnx_io.load(path)


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, dense(), external=True)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"weights\.bin"):
        onnx_io.load(path)


def test_weights_cut_short_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, dense(), external=True)
    os.truncate(tmp_path / "weights.bin", 4000)
    with pytest.raises(ModelError, match="4096 bytes of weight"):
        onnx_io.load(path)


@pytest.mark.parametrize("location", ["../secret", "below/../../secret", "{folder}/secret"])
def test_weights_outside_of_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    import onnx

    (tmp_path / "secret").write_bytes(bytes(4096))
    (tmp_path / "models" / "below").mkdir(parents=True)
    path = written(tmp_path / "models", dense(), external=True)
    proto = onnx.load(str(path), load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = location.format(folder=tmp_path)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="outside of its own folder"):
        onnx_io.load(path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    path = written(tmp_path / "models", dense(), external=True)
    weights = tmp_path / "models" / "weights.bin"
    weights.rename(tmp_path / "secret")
    weights.symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="outside of its own folder"):
        onnx_io.load(path)


def test_a_file_of_weights_with_two_names_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    path = written(tmp_path, dense(), external=True)
    os.link(tmp_path / "weights.bin", tmp_path / "other")
    with pytest.raises(ModelError, match="hard links") as caught:
        onnx_io.load(path)
    assert "cp weights.bin" in caught.value.fix[0]


def test_sparse_weights_are_refused_because_they_would_be_lost(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    proto = dense()
    values = helper.make_tensor("thin", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("at", TensorProto.INT64, [1], [0])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [32]))
    with pytest.raises(ModelError, match="thin"):
        onnx_io.load(written(tmp_path, proto))


def test_the_signature_names_every_axis_and_leaves_default_values_out(tmp_path: Path) -> None:
    signature = onnx_io.signature(onnx_io.load(written(tmp_path, dense())))
    assert [str(spec) for spec in signature.inputs] == ["x:float32[batch,x_1,32]"]
    assert [str(spec) for spec in signature.outputs] == ["y:float32[batch,y_1,32]"]


@pytest.mark.parametrize("size", [-1, None])
def test_an_axis_without_a_name_gets_one_that_can_be_written_on_a_command_line(tmp_path: Path, size: int) -> None:
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, [size, 4]) for name in ("in.1", "out:0")]
    graph = helper.make_graph([helper.make_node("Relu", ["in.1"], ["out:0"])], "g", value[:1], value[1:])
    proto = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    (spec,) = onnx_io.signature(onnx_io.load(written(tmp_path, proto))).inputs
    assert spec == TensorSpec("in.1", "bfloat16", ("in_1_0", 4))


def test_a_tensor_of_unknown_rank_has_the_one_dimension_that_says_so(tmp_path: Path) -> None:
    proto = dense()
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    (spec,) = onnx_io.signature(onnx_io.load(written(tmp_path, proto))).outputs
    assert spec.dims == (onnx_io.UNRANKED,)


def test_an_output_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    proto = dense()
    proto.graph.node.append(helper.make_node("SequenceConstruct", ["y"], ["many"]))
    proto.graph.output.append(helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, None))
    with pytest.raises(ModelError, match="'many'"):
        onnx_io.signature(onnx_io.load(written(tmp_path, proto)))


@needs_silero
def test_a_real_model_passes_the_check() -> None:
    onnx_io.check(SILERO)


def test_the_node_with_an_undefined_input_is_named(tmp_path: Path) -> None:
    proto = dense()
    proto.graph.node[1].name = "plus"
    proto.graph.node[1].input[0] = "nothing"
    with pytest.raises(ModelError, match="node 'plus' \\(Add\\)"):
        onnx_io.check(written(tmp_path, proto))


def test_the_node_whose_shapes_do_not_fit_is_named(tmp_path: Path) -> None:
    proto = dense()
    proto.graph.node[0].name = "times"
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 31
    with pytest.raises(ModelError, match="node 'times' \\(MatMul\\)"):
        onnx_io.check(written(tmp_path, proto))


def test_an_operator_of_another_domain_is_not_a_fault(tmp_path: Path) -> None:
    from onnx import helper

    proto = dense()
    proto.graph.node[1].op_type, proto.graph.node[1].domain = "FancyAdd", "com.example"
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx_io.check(written(tmp_path, proto))
