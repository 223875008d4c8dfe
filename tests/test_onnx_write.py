"""ONNX files are saved whole or not at all, and answer exactly as what they were made of."""

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
from deploykit.tensors import Signature, TensorSpec
from tests.onnx_models import SILERO, dense, feed, needs_silero, same, silero_feed, written


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


def test_a_size_that_the_source_was_seen_to_change_is_no_longer_declared() -> None:
    import onnx_ir as ir

    from deploykit.onnx_io import describe

    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[b,s,4] x) => (float[b,16,4] y) <float[b,16,4] h> { h = Relu(x) y = Abs(h) }"""
    model = ir.from_onnx_text(text)
    specs = [TensorSpec(name, "float32", ("batch", "time", 4)) for name in ("x", "y")]
    describe(model, Signature((specs[0],), (specs[1],)))
    assert [str(dim) for dim in model.graph.outputs[0].shape or ()] == ["batch", "time", "4"]
    assert [value.shape for node in model.graph for value in node.outputs if value.name == "h"] == [None]
