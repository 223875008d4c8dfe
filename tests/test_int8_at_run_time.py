"""Integers whose ranges are found at run time, and weights alone in blocks."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit
from deploykit.errors import UsageError
from deploykit.passes import Pass
from deploykit.passes.dynamic import Dynamic
from deploykit.passes.weight_only import WeightOnly
from deploykit.quantization.blocks import in_blocks, restored
from tests.int8_graphs import GRAPHS, Graph, weight
from tests.test_int8_graphs import ANY, compared

pytestmark = pytest.mark.usefixtures("untimed")

PRODUCTS = Graph(
    "a=MatMul(x,w) s=Add(a,b) r=Relu(s) m=MatMul(r,v) y=Gemm<transB=1>(m,g,b)",
    {"w": (96, 96), "v": (96, 96), "g": (96, 96), "b": (96,)},
    "float[batch,96] x",
    "float[batch,96] y",
)
UNEVEN = Graph(
    "a=MatMul(x,w) s=Add(a,b) r=Relu(s) y=MatMul(r,v)",
    {"w": (100, 96), "v": (96, 70), "b": (96,)},
    "float[batch,seq,100] x",
    "float[batch,seq,70] y",
)
BOTH_WAYS = Graph(
    'h,h_n,c_n=LSTM<hidden_size=32,direction="bidirectional">(x,w,r,b) y=Transpose<perm=[2,0,1,3]>(h)',
    {"w": (2, 128, 16), "r": (2, 128, 32), "b": (2, 256)},
    "float[seq,batch,16] x",
    "float[batch,seq,two,32] y",
)


def rounded(graph: Graph, one: Pass, folder: Path) -> tuple[Any, float, Counter[str]]:
    """Round a graph; give what became of it, the SQNR and the kernels that onnxruntime takes."""
    import onnx

    model, samples = graph.written(folder)
    made = deploykit.optimize(model, folder / "q.onnx", passes=[one], data=samples, samples=32, demand=ANY)
    found = min(compared(folder, graph.samples()))
    nodes = onnx.load(str(folder / "optimized.onnx")).graph.node
    return made.stages[0], found, Counter(node.op_type for node in nodes)


@pytest.mark.parametrize(
    ("graph", "kernel", "count"),
    [
        (PRODUCTS, "DynamicQuantizeMatMul", 3),
        (UNEVEN, "DynamicQuantizeMatMul", 2),
        (GRAPHS["layer_norm"], "DynamicQuantizeMatMul", 3),
        (GRAPHS["two_activations"], "MatMulIntegerToFloat", 3),
        (GRAPHS["lstm"], "DynamicQuantizeLSTM", 1),
        (BOTH_WAYS, "DynamicQuantizeLSTM", 1),
    ],
    ids=["products", "odd sizes", "layer norm", "attention", "lstm", "both ways"],
)
def test_products_and_lstms_become_one_kernel_each(graph: Graph, kernel: str, count: int, tmp_path: Path) -> None:
    _, found, kernels = rounded(graph, Dynamic(target="cpu"), tmp_path)
    assert kernels[kernel] == count, kernels
    assert kernels["MatMulInteger"] == 0
    assert found > 28


@pytest.mark.parametrize(("bits", "block", "least"), [(8, 32, 40), (4, 16, 20), (4, 32, 18), (4, 128, 17)])
@pytest.mark.parametrize("graph", [PRODUCTS, UNEVEN], ids=["products", "odd sizes"])
def test_weights_alone_are_rounded_in_blocks(graph: Graph, bits: int, block: int, least: float, tmp_path: Path) -> None:
    stage, found, kernels = rounded(graph, WeightOnly(bits=bits, block=block), tmp_path)
    assert kernels["MatMulNBits"] == len(stage.layers)
    assert [layer.fate for layer in stage.layers] == [f"int{bits}"] * len(stage.layers)
    assert found > least
    assert stage.made.precision == f"int{bits}"


def test_an_lstm_with_its_batch_first_stays_in_float(tmp_path: Path) -> None:
    from deploykit.quantization.reading import read
    from deploykit.quantization.running import find_products
    from deploykit.quantization.targets import TARGETS

    graph = Graph(
        "h,h_n,c_n=LSTM<hidden_size=32,layout=1>(x,w,r) y=Identity(h)",
        {"w": (1, 128, 16), "r": (1, 128, 32)},
        "float[batch,seq,16] x",
        "float[batch,seq,one,32] y",
    )
    found, left = find_products(read(graph.written(tmp_path)[0]), TARGETS["cpu"])
    assert not found
    assert left == {"LSTM_0": "its batch comes before its steps"}


@pytest.mark.parametrize("one", [Dynamic(target="cpu"), WeightOnly()], ids=["dynamic", "weight-only"])
def test_a_model_of_convolutions_is_refused_with_the_reasons(one: Pass, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is n") as failed:
        rounded(GRAPHS["convolutions"], one, tmp_path)
    assert "Conv" in failed.value.details[0]
    assert "--int8" in " ".join(failed.value.fix)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (Dynamic(target="tensorrt"), "tensorrt has no kernels with ranges at run time"),
        (WeightOnly(bits=3), "no weights of 3 bits"),
        (WeightOnly(block=48), "in blocks of 48"),
    ],
    ids=["target", "bits", "block"],
)
def test_options_that_make_no_sense_are_refused(one: Pass, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        rounded(PRODUCTS, one, tmp_path)


@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_err_by_no_more_than_half_a_step_but_at_the_far_end(bits: int) -> None:
    array = weight(np.random.default_rng(0), (70, 12)).T
    array[3] = 0
    integers, scale = in_blocks(array, bits, 32)
    found = restored(integers, scale, bits, array.shape[1])
    steps = np.abs(np.repeat(scale, 32, axis=1)[:, : array.shape[1]])
    assert found.shape == array.shape
    assert not found[3].any()
    share = np.mean(np.abs(found - array) <= 0.5001 * steps)
    assert share > 0.95
    assert integers.max() < 1 << bits
