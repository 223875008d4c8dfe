"""Every graph that int8 meets: it answers nearly as before, and runs in integers where it says so."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit
from deploykit.passes.int8 import Int8
from deploykit.tensors import Tensors
from deploykit.validation import Demand
from tests.int8_graphs import GRAPHS, Graph
from tests.rtx import build

pytestmark = pytest.mark.usefixtures("untimed")

ANY = Demand(allow_undecided=True, bounds={"min_agreement": 0.0, "min_sqnr": 0.0, "min_iou": 0.0})
"""Nothing goes back to float by this."""


def quantized(graph: Graph, folder: Path, **options: Any) -> Any:
    """Quantize a graph with its own samples."""
    model, samples = graph.written(folder)
    one = Int8(**{"target": "cpu", **options})
    return deploykit.optimize(model, folder / "q.onnx", passes=[one], data=samples, samples=32, demand=ANY)


def loaded(path: Path, optimized: Path | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def signal_to_noise(reference: Any, found: Any) -> float:
    own, error = reference.astype(np.float64), reference.astype(np.float64) - found
    return float(10 * np.log10((own**2).sum() / max((error**2).sum(), 1e-30)))


def compared(folder: Path, samples: Tensors) -> list[float]:
    """Hold each output against the model in float; names and shapes are the same."""
    source, made = loaded(folder / "model.onnx"), loaded(folder / "q.onnx", folder / "optimized.onnx")
    for ends in ("get_inputs", "get_outputs"):
        assert [one.name for one in getattr(source, ends)()] == [one.name for one in getattr(made, ends)()]
    pairs = list(zip(source.run(None, samples), made.run(None, samples), strict=True))
    assert all(reference.shape == found.shape and reference.dtype == found.dtype for reference, found in pairs)
    return [signal_to_noise(reference, found) for reference, found in pairs]


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_keeps_its_answers_and_runs_in_integers(name: str, tmp_path: Path) -> None:
    import onnx

    graph = GRAPHS[name]
    made = quantized(graph, tmp_path)
    samples = graph.samples(1 if name == "fixed_batch" else 32)
    assert min(compared(tmp_path, samples)) > 25
    (stage,) = made.stages
    floats = [layer for layer in stage.layers if layer.fate != "int8"]
    assert len(floats) == graph.floats, floats
    kernels = Counter(node.op_type for node in onnx.load(str(tmp_path / "optimized.onnx")).graph.node)
    assert kernels["QuantizeLinear"] == graph.rounded, kernels
    assert not any("did not load" in note for note in stage.notes)


@pytest.mark.parametrize("name", ["residual", "two_activations"])
def test_the_same_model_and_samples_make_the_same_bytes(name: str, tmp_path: Path) -> None:
    first, again = (quantized(GRAPHS[name], tmp_path).path.read_bytes() for _ in range(2))
    assert first == again


@pytest.mark.parametrize("name", ["residual", "depthwise", "transposed", "concat", "global_pool", "layer_norm"])
def test_tensorrt_builds_what_was_made_for_it_and_computes_it_in_int8(name: str, tmp_path: Path) -> None:
    quantized(GRAPHS[name], tmp_path, target="tensorrt")
    layers = [one for one in build(tmp_path / "q.onnx") if "LayerType: correlation" in one or "LayerType: gemm" in one]
    assert layers
    assert all("Datatype: Int8" in one.split("Constants:")[0] for one in layers), layers


@pytest.mark.parametrize("name", ["residual", "two_activations", "concat"])
def test_for_tensorrt_zero_is_zero_and_biases_stay_in_float(name: str, tmp_path: Path) -> None:
    from onnx import load, numpy_helper

    quantized(GRAPHS[name], tmp_path, target="tensorrt")
    graph = load(str(tmp_path / "q.onnx")).graph
    arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    zeros = [
        arrays[node.input[2]]
        for node in graph.node
        if node.op_type.endswith("quantizeLinear") or "Quant" in node.op_type
    ]
    assert zeros
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)


def test_for_tensorrt_the_product_before_a_sum_is_not_rounded_between_them(tmp_path: Path) -> None:
    import onnx

    quantized(GRAPHS["residual"], tmp_path, target="tensorrt")
    nodes = onnx.load(str(tmp_path / "q.onnx")).graph.node
    made = {name: node for node in nodes for name in node.output}
    (add,) = (node for node in nodes if node.op_type == "Add")
    assert [made[name].op_type for name in add.input] == ["Conv", "DequantizeLinear"]


def test_for_openvino_activations_are_uint8_and_biases_float(tmp_path: Path) -> None:
    import onnx

    quantized(GRAPHS["residual"], tmp_path, target="openvino")
    graph = onnx.load(str(tmp_path / "q.onnx")).graph
    made = {name: node for node in graph.node for name in node.output}
    kinds = {one.name: one.data_type for one in graph.initializer}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    assert {kinds[made[node.input[0]].input[2]] for node in convs} == {onnx.TensorProto.UINT8}
    assert {kinds[node.input[2]] for node in convs if len(node.input) > 2} == {onnx.TensorProto.FLOAT}
    assert "y" in {name for node in convs for name in node.output}, "no integers read the last result"


def test_nodes_without_names_get_their_own(tmp_path: Path) -> None:
    import onnx

    model, samples = GRAPHS["shared_weight"].written(tmp_path)
    proto = onnx.load(str(model))
    for node in proto.graph.node:
        node.ClearField("name")
    onnx.save(proto, str(model))
    made = deploykit.optimize(model, tmp_path / "q.onnx", passes=[Int8(target="cpu")], data=samples, demand=ANY)
    layers = made.stages[0].layers
    assert [layer.fate for layer in layers] == ["int8"] * 3
    assert len({layer.name for layer in layers}) == len(layers)


def test_weights_in_a_file_beside_the_model_are_rounded_too(tmp_path: Path) -> None:
    import onnx

    graph = GRAPHS["gemm_after_flatten"]
    model, samples = graph.written(tmp_path)
    proto = onnx.load(str(model))
    onnx.save(proto, str(model), save_as_external_data=True, location="weights.bin", size_threshold=64)
    deploykit.optimize(model, tmp_path / "q.onnx", passes=[Int8(target="cpu")], data=samples, demand=ANY)
    (tmp_path / "weights.bin").rename(tmp_path / "elsewhere")
    onnx.load(str(tmp_path / "q.onnx"))
    (tmp_path / "elsewhere").rename(tmp_path / "weights.bin")
    assert min(compared(tmp_path, graph.samples())) > 25


def test_without_vnni_weights_have_seven_bits(tmp_path: Path) -> None:
    from onnx import load, numpy_helper

    quantized(GRAPHS["residual"], tmp_path, target="cpu-avx2")
    arrays = [numpy_helper.to_array(one) for one in load(str(tmp_path / "q.onnx")).graph.initializer]
    weights = [array for array in arrays if array.dtype == np.int8 and array.ndim > 1]
    assert len(weights) == 3
    assert max(int(np.abs(array.astype(int)).max()) for array in weights) == 63
    assert min(compared(tmp_path, GRAPHS["residual"].samples())) > 25
