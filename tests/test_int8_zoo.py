# ruff: noqa: E501 - a graph is a line
"""Kinds of graphs that each way to round must take, for each target: it answers nearly as before, or says why not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit
from deploykit.errors import UsageError
from deploykit.passes.dynamic import Dynamic
from deploykit.passes.int8 import Int8
from deploykit.passes.weight_only import WeightOnly
from tests.int8_graphs import GRAPHS, Graph
from tests.test_int8_graphs import ANY, compared

pytestmark = pytest.mark.usefixtures("untimed")

STATIC = (
    *("depthwise", "grouped", "transposed", "one_dimension", "products", "two_activations", "lstm", "gru", "concat"),
    *("unet", "average_pool", "shared_weight", "several_consumers", "branches", "scan", "any_size", "old_opset"),
)
_SEQUENCE = "float[batch,seq,96] x", "float[batch,seq,96] y"
_SQUARE = dict.fromkeys(("wq", "wk", "wv", "wo"), (96, 96))

PRODUCTS = {
    "attention": Graph(
        "q=MatMul(x,wq) k=MatMul(x,wk) t=Transpose<perm=[0,2,1]>(k) s=MatMul(q,t) p=Softmax<axis=-1>(s) v=MatMul(x,wv) o=MatMul(p,v) y=MatMul(o,wo)",
        _SQUARE,
        *_SEQUENCE,
    ),
    "shared": Graph("a=MatMul(x,wq) b=Relu(a) c=MatMul(b,wq) d=Relu(c) y=MatMul(d,wq)", _SQUARE, *_SEQUENCE),
    "several consumers": Graph(
        "a=MatMul(x,wq) b=MatMul(x,wk) c=Concat<axis=-1>(a,b) d=MatMul(c,wide) e=Tanh(a) y=Add(d,e)",
        {**_SQUARE, "wide": (192, 96)},
        *_SEQUENCE,
    ),
    "gemm": Graph(
        "a=Gemm<transB=1>(x,wq,b) r=Relu(a) y=Gemm(r,wk)",
        {**_SQUARE, "b": (96,)},
        "float[batch,96] x",
        "float[batch,96] y",
    ),
    "branches": Graph(
        "a=MatMul(x,wq) i=If(flag)<then_branch=t()=>(float[batch,seq,96] o){o=MatMul(a,wk)},else_branch=e()=>(float[batch,seq,96] o2){o2=Identity(a)}> y=MatMul(i,wv)",
        _SQUARE,
        "float[batch,seq,96] x, bool flag",
        "float[batch,seq,96] y",
        floats=1,
    ),
    "loop": Graph(
        "a=MatMul(x,wq) l=Loop(two,yes,a)<body=t(int64 i, bool c, float[batch,seq,96] s)=>(bool d, float[batch,seq,96] e){d=Identity(c) n=MatMul(s,wk) e=Tanh(n)}> y=MatMul(l,wv)",
        {**_SQUARE, "two": np.array(2, np.int64), "yes": np.array(True)},
        *_SEQUENCE,
        floats=1,
    ),
    "gru": Graph(
        "a=MatMul(x,wq) h,h_n=GRU<hidden_size=96>(a,w,r) s=Squeeze(h,one) y=MatMul(s,wo)",
        {**_SQUARE, "w": (1, 288, 96), "r": (1, 288, 96), "one": np.array([1], np.int64)},
        "float[seq,batch,96] x",
        "float[seq,batch,96] y",
        floats=1,
    ),
    "words": Graph(
        "e=Gather(table,ids) p=Gather(places,at) s=Add(e,p) a=MatMul(s,wq) r=Relu(a) y=MatMul(r,wk)",
        {**_SQUARE, "table": (400, 96), "places": (256, 96), "at": np.arange(12)},
        "int64[batch,seq] ids",
        "float[batch,seq,96] y",
    ),
    "convolution beside": Graph(
        "c=Conv<pads=[1,1]>(x,k) t=Transpose<perm=[0,2,1]>(c) a=MatMul(t,wq) y=Relu(a)",
        {**_SQUARE, "k": (96, 16, 3)},
        "float[batch,16,seq] x",
        "float[batch,seq,96] y",
        floats=1,
    ),
}
WAYS = {"dynamic": (Dynamic(target="cpu"), 25.0), "8 bits": (WeightOnly(bits=8), 30.0), "4 bits": (WeightOnly(), 10.0)}


def rounded(graph: Graph, one: Any, folder: Path) -> tuple[Any, float]:
    """Round a graph; give what became of it, and the worst SQNR of its outputs."""
    model, samples = graph.written(folder)
    made = deploykit.optimize(model, folder / "q.onnx", passes=[one], data=samples, samples=32, demand=ANY)
    return made, min(compared(folder, graph.samples()))


@pytest.mark.parametrize("target", ["cpu-avx2", "tensorrt", "openvino"])
@pytest.mark.parametrize("name", STATIC)
def test_other_targets_take_the_same_graphs(name: str, target: str, tmp_path: Path) -> None:
    made, found = rounded(GRAPHS[name], Int8(target=target), tmp_path)
    assert found > 25
    layers = made.stages[0].layers
    done = sum(layer.fate == "int8" for layer in layers)
    assert done == len(layers) - (GRAPHS[name].floats if name != "transposed" else 0), layers
    assert made.stages[0].made.precision == "int8"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_rounded_whatever_is_around_them(name: str, way: str, tmp_path: Path) -> None:
    one, least = WAYS[way]
    made, found = rounded(PRODUCTS[name], one, tmp_path)
    assert found > least
    floats = [layer for layer in made.stages[0].layers if layer.fate.startswith("float")]
    assert len(floats) == PRODUCTS[name].floats, floats
    assert made.path.stat().st_size < 0.85 * (tmp_path / "model.onnx").stat().st_size


def test_a_shared_weight_stays_one(tmp_path: Path) -> None:
    alone = Graph("y=MatMul(x,wq)", _SQUARE, *_SEQUENCE)
    for name, (one, _) in WAYS.items():
        sizes = [rounded(graph, one, tmp_path / name)[0].path.stat().st_size for graph in (alone, PRODUCTS["shared"])]
        assert sizes[1] < 1.5 * sizes[0], name


def test_a_table_that_is_read_otherwise_too_stays_as_it_is(tmp_path: Path) -> None:
    graph = Graph(
        "e=Gather(table,ids) a=MatMul(e,wq) n=ReduceSum(table,zero) y=Add(a,n)",
        {**_SQUARE, "table": (400, 96), "zero": np.array([0], np.int64)},
        "int64[batch,seq] ids",
        "float[batch,seq,96] y",
    )
    for name, (one, _) in WAYS.items():
        made, _ = rounded(graph, one, tmp_path / name)
        assert [layer.operator for layer in made.stages[0].layers] == ["MatMul"]


def test_what_recurrent_nets_can_have_is_said(tmp_path: Path) -> None:
    static, _ = rounded(GRAPHS["lstm"], Int8(target="cpu"), tmp_path)
    assert static.stages[0].layers[0].fate == "float: only --dynamic has a kernel for it"
    gru, _ = rounded(PRODUCTS["gru"], Dynamic(target="cpu"), tmp_path / "gru")
    fates = {layer.operator: layer.fate for layer in gru.stages[0].layers}
    assert fates["GRU"] == "float: onnxruntime has no kernel with ranges at run time for GRU"


@pytest.mark.parametrize("one", [Int8(target="cpu"), Dynamic(target="cpu"), WeightOnly()], ids=["int8", *WAYS][:3])
def test_float16_and_integers_are_refused_by_every_way(one: Any, tmp_path: Path) -> None:
    import onnx

    half = Graph("y=MatMul(x,w)", {"w": np.ones((96, 96), np.float16)}, "float16[batch,96] x", "float16[batch,96] y")
    onnx.save(half.proto(), str(tmp_path / "half.onnx"))
    rounded(PRODUCTS["gemm"], WeightOnly(), tmp_path)
    np.savez(tmp_path / "half.npz", x=np.ones((4, 96), np.float16))
    for name, said in (("half", "in float16"), ("q", "in int4")):
        with pytest.raises(UsageError, match=f"takes a model in float32, and this one is {said}") as refused:
            deploykit.optimize(tmp_path / f"{name}.onnx", tmp_path / "r.onnx", passes=[one], data=tmp_path / "half.npz")
        assert "before that was done" in refused.value.fix[0]
