"""Loading, saving, checking and converting ONNX files."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit import onnx_io
from deploykit.errors import ModelError, UsageError
from deploykit.tensors import Tensors, TensorSpec

SILERO = Path(__file__).parents[1].parent / "shared" / "data" / "vad" / "silero_vad.onnx"
needs_silero = pytest.mark.skipif(not SILERO.exists(), reason="shared/data/vad/silero_vad.onnx is not here")


def dense(opset: int = 20, ir: int = 10, **extra: Any) -> Any:
    """MatMul and Add with weights of 4 kB and 128 bytes, a batch of its own, and a default value for the bias."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(32, 32)).astype(np.float32), "weight"),
        numpy_helper.from_array(rng.normal(size=32).astype(np.float32), "bias"),
    ]
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["h"]), helper.make_node("Add", ["h", "bias"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", None, 32])
    bias = helper.make_tensor_value_info("bias", TensorProto.FLOAT, [32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", None, 32])
    graph = helper.make_graph(nodes, "dense", [x, bias], [y], weights)
    return helper.make_model(graph, ir_version=ir, opset_imports=[helper.make_opsetid("", opset)], **extra)


def written(folder: Path, proto: Any, *, external: bool = False) -> Path:
    """Write a model with onnx itself; its weights into ``weights.bin`` if they are to be external."""
    import onnx

    path = folder / "model.onnx"
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 1024} if external else {}
    onnx.save(proto, str(path), **options)
    return path


def run(path: Path, feed: Tensors) -> list[Any]:
    import onnxruntime

    return list(onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed))


def feed() -> Tensors:
    return {"x": np.random.default_rng(1).normal(size=(2, 3, 32)).astype(np.float32)}


def silero_feed() -> Tensors:
    sound = np.random.default_rng(0).normal(size=(1, 512)).astype(np.float32)
    return {"input": sound, "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16000, np.int64)}


def same(reference: Path, candidate: Path, tensors: Tensors) -> bool:
    pairs = zip(run(reference, tensors), run(candidate, tensors), strict=True)
    return all(np.array_equal(first, second) for first, second in pairs)


# load


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


# signature


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


# save


@pytest.mark.parametrize("external", [True, False])
@pytest.mark.parametrize("from_external", [True, False])
def test_a_saved_model_answers_exactly_as_its_source(tmp_path: Path, *, external: bool, from_external: bool) -> None:
    source = written(tmp_path, dense(), external=from_external)
    (tmp_path / "out").mkdir()
    files = onnx_io.save(onnx_io.load(source), tmp_path / "out" / "new.onnx", external=external)
    onnx_io.check(files[-1])
    assert same(source, files[-1], feed())
    assert sorted(files) == sorted((tmp_path / "out").iterdir())


@needs_silero
@pytest.mark.parametrize("external", [True, False])
def test_a_real_model_with_subgraphs_answers_exactly_as_before(tmp_path: Path, *, external: bool) -> None:
    files = onnx_io.save(onnx_io.load(SILERO), tmp_path / "vad.onnx", external=external)
    onnx_io.check(files[-1])
    assert same(SILERO, files[-1], silero_feed())


def test_weights_of_a_subgraph_are_saved_beside_the_model_too(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    def branch(name: str, factor: float) -> Any:
        weight = numpy_helper.from_array(np.full(512, factor, np.float32), f"{name}_weight")
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, [512])
        return helper.make_graph([helper.make_node("Mul", ["x", weight.name], [name])], name, [], [out], [weight])

    pick = helper.make_tensor_value_info("pick", TensorProto.BOOL, [])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [512]) for name in "xy")
    node = helper.make_node("If", ["pick"], ["y"], then_branch=branch("a", 2), else_branch=branch("b", 3))
    graph = helper.make_graph([node], "g", [pick, x], [y])
    proto = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    source = written(tmp_path, proto)
    files = onnx_io.save(onnx_io.load(source), tmp_path / "new.onnx", external=True)
    assert files[0].stat().st_size == 4096
    again = onnx_io.save(onnx_io.load(files[-1]), tmp_path / "whole.onnx", external=False)
    for path in (files[-1], again[-1]):
        assert same(source, path, {"pick": np.array(False), "x": np.ones(512, np.float32)})


def test_the_file_of_weights_is_named_after_its_content_and_aligned(tmp_path: Path) -> None:
    weights, path = onnx_io.save(onnx_io.load(written(tmp_path, dense())), tmp_path / "new.onnx", external=True)
    assert weights.name == f"new.{hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}.data"
    assert onnx_io.external_files(path) == (weights,)
    assert onnx_io.load(path).graph.initializers["weight"].const_value.offset % onnx_io.ALIGNMENT == 0


def test_a_model_saved_over_its_own_weights_leaves_the_old_ones_whole(tmp_path: Path) -> None:
    first = onnx_io.save(onnx_io.load(written(tmp_path, dense())), tmp_path / "new.onnx", external=True)
    old = shutil.copy(first[0], tmp_path / "kept")
    model = onnx_io.load(first[-1])
    model.graph.initializers["weight"].const_value = doubled(model.graph.initializers["weight"].const_value)
    second = onnx_io.save(model, first[-1], external=True)
    assert second[0] != first[0]
    assert first[0].read_bytes() == Path(old).read_bytes()
    assert not same(first[-1], tmp_path / "model.onnx", feed())


def doubled(tensor: Any) -> Any:
    import onnx_ir

    return onnx_ir.Tensor(tensor.numpy() * 2, name=tensor.name)


@pytest.mark.parametrize("external", [True, False])
def test_saving_leaves_the_model_as_it_was(tmp_path: Path, *, external: bool) -> None:
    model = onnx_io.load(written(tmp_path, dense(), external=True))
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    onnx_io.save(model, tmp_path / "new.onnx", external=external)
    assert all(value.const_value is before[name] for name, value in model.graph.initializers.items())


@pytest.mark.parametrize("external", [True, False])
def test_the_same_model_gives_the_same_bytes(tmp_path: Path, *, external: bool) -> None:
    model = onnx_io.load(written(tmp_path, dense()))
    first = [file.read_bytes() for file in onnx_io.save(model, tmp_path / "new.onnx", external=external)]
    second = [file.read_bytes() for file in onnx_io.save(model, tmp_path / "new.onnx", external=external)]
    assert first == second


def test_a_model_without_large_weights_needs_no_second_file(tmp_path: Path) -> None:
    proto = dense()
    del proto.graph.node[0], proto.graph.initializer[0]
    proto.graph.node[0].input[0] = "x"
    files = onnx_io.save(onnx_io.load(written(tmp_path, proto)), tmp_path / "new.onnx", external=True)
    assert files == (tmp_path / "new.onnx",)


@given(shape=st.lists(st.integers(0, 5), max_size=3), dtype=st.sampled_from(["float32", "float16", "int8", "bool"]))
def test_every_tensor_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], dtype: str
) -> None:
    from onnx import numpy_helper

    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    proto = dense()
    proto.graph.initializer.append(numpy_helper.from_array(array, "extra"))
    folder = tmp_path_factory.mktemp("tensors")
    onnx_io.save(onnx_io.load(written(folder, proto)), folder / "new.onnx", external=False)
    back = onnx_io.load(folder / "new.onnx").graph.initializers["extra"].const_value.numpy()
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


@pytest.mark.parametrize("external", [True, False, None])
def test_strings_and_four_bit_weights_come_back(tmp_path: Path, external: bool | None) -> None:
    from onnx import TensorProto, helper

    proto = dense()
    proto.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [2], [b"one", b"two"]))
    proto.graph.initializer.append(helper.make_tensor("small", TensorProto.INT4, [3], [1, -2, 7]))
    onnx_io.save(onnx_io.load(written(tmp_path, proto)), tmp_path / "new.onnx", external=external)
    weights = onnx_io.load(tmp_path / "new.onnx").graph.initializers
    assert list(weights["words"].const_value.numpy()) == [b"one", b"two"]
    assert weights["small"].const_value.numpy().astype(int).tolist() == [1, -2, 7]


def test_a_place_that_does_not_exist_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    model = onnx_io.load(written(tmp_path, dense()))
    with pytest.raises(UsageError, match=r"nowhere/new\.onnx"):
        onnx_io.save(model, tmp_path / "nowhere" / "new.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_a_failed_save_leaves_the_old_model_and_nothing_else(tmp_path: Path) -> None:
    model = onnx_io.load(written(tmp_path, dense(), external=True))
    target = tmp_path / "new.onnx"
    target.write_bytes(b"the old model")
    os.truncate(tmp_path / "weights.bin", 100)
    with pytest.raises(ModelError, match="became shorter"):
        onnx_io.save(model, target, external=True)
    assert target.read_bytes() == b"the old model"
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "weights.bin", "new.onnx"}


# check


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


# lineage and versions


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
