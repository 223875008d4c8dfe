"""What is left of small graphs, that it answers as before, and what rewrites must leave alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.onnx_io import load, save
from deploykit.rewrites import rewrite
from deploykit.tensors import Array
from tests.onnx_models import SILERO, needs_silero, same, silero_feed, written

Proto = Any  # onnx is imported where it is used

RNG = np.random.default_rng(0)


def model(text: str, opset: int = 18, **weights: Any) -> Proto:
    """Make a model of a graph as text, with its weights."""
    from onnx import checker, helper, numpy_helper, parser

    proto = parser.parse_graph(text)
    proto.initializer.extend(numpy_helper.from_array(np.asarray(one), name) for name, one in weights.items())
    made = helper.make_model(proto, ir_version=9, opset_imports=[helper.make_opsetid("", opset)])
    checker.check_model(made)
    return made


def simplified(proto: Proto, without: tuple[str, ...] = ()) -> tuple[Proto, tuple[str, ...]]:
    """Rewrite a model; a second time nothing may change."""
    import onnx_ir
    from onnx import checker

    graph = onnx_ir.serde.deserialize_model(proto)
    used = rewrite(graph, without)
    assert rewrite(graph, without) == ()
    made = onnx_ir.serde.serialize_model(graph)
    checker.check_model(made)
    assert [value.name for value in made.graph.output] == [value.name for value in proto.graph.output]
    assert [str(value.type) for value in made.graph.input] == [str(value.type) for value in proto.graph.input]
    return made, used


def answers(proto: Proto, feed: Mapping[str, Array]) -> list[Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feed)))


def ops(proto: Proto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


BN = {"s": floats(4) + 2, "b": floats(4), "m": floats(4), "v": np.abs(floats(4)) + 0.1}
X4 = {"x": floats(2, 3, 6, 7)}
SEQ = {"x": floats(2, 5, 8)}

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Array], list[str]]] = {
    "batch norm into a convolution": (
        "g (float[n,3,h,w] x) => (float[n,4,h2,w2] y) { c = Conv(x, k)  y = BatchNormalization(c, s, b, m, v) }",
        {"k": floats(4, 3, 3, 3), **BN}, X4, ["Conv"],
    ),
    "batch norm into a convolution with a bias": (
        "g (float[n,3,h,w] x) => (float[n,4,h2,w2] y) { c = Conv(x, k, d)  y = BatchNormalization(c, s, b, m, v) }",
        {"k": floats(4, 3, 3, 3), "d": floats(4), **BN}, X4, ["Conv"],
    ),
    "batch norm into a transposed convolution in groups": (
        ("g (float[n,4,h,w] x) => (float[n,4,h2,w2] y)"
        " { c = ConvTranspose<group=2>(x, k)  y = BatchNormalization(c, s, b, m, v) }"),
        {"k": floats(4, 2, 2, 2), **BN}, {"x": floats(2, 4, 5, 5)}, ["ConvTranspose"],
    ),
    "batch norm into a gemm": (
        "g (float[n,3] x) => (float[n,4] y) { c = Gemm<transB=1>(x, k, d)  y = BatchNormalization(c, s, b, m, v) }",
        {"k": floats(4, 3), "d": floats(4), **BN}, {"x": floats(5, 3)}, ["Gemm"],
    ),
    "what a convolution is multiplied with and what is added, by channel": (
        "g (float[n,3,h,w] x) => (float[n,4,h2,w2] y) { c = Conv(x, k)  d = Mul(c, t)  e = Add(u, d)  y = Sub(e, z) }",
        {"k": floats(4, 3, 3, 3), "t": floats(4, 1, 1), "u": floats(1, 4, 1, 1), "z": floats(1)}, X4, ["Conv"],
    ),
    "what is added by place stays": (
        "g (float[n,3,6,7] x) => (float[n,4,4,5] y) { c = Conv(x, k)  y = Add(c, u) }",
        {"k": floats(4, 3, 3, 3), "u": floats(4, 4, 5)}, X4, ["Conv", "Add"],
    ),
    "weights that others read stay": (
        ("g (float[n,3,h,w] x) => (float[n,4,h2,w2] y, float[n,4,h2,w2] z)"
        " { z = Conv(x, k)  c = Conv<strides=[1,1]>(x, k)  y = Mul(c, t) }"),
        {"k": floats(4, 3, 3, 3), "t": np.float32(3)}, X4, ["Conv", "Conv", "Mul"],
    ),
    "a layer that is an output itself stays": (
        "g (float[n,3,h,w] x) => (float[n,4,h2,w2] y, float[n,4,h2,w2] c) { c = Conv(x, k)  y = Mul(c, t) }",
        {"k": floats(4, 3, 3, 3), "t": np.float32(3)}, X4, ["Conv", "Mul"],
    ),
    "zeros around the pixels into a convolution": (
        "g (float[n,3,h,w] x) => (float[n,4,h2,w2] y) { p = Pad(x, q)  y = Conv<pads=[1,0,0,1]>(p, k) }",
        {"k": floats(4, 3, 3, 3), "q": ints(0, 0, 1, 2, 0, 0, 3, 1)}, X4, ["Conv"],
    ),
    "what is padded with ones stays": (
        "g (float[n,3,h,w] x) => (float[n,4,h2,w2] y) { p = Pad(x, q, o)  y = Conv(p, k) }",
        {"k": floats(4, 3, 3, 3), "q": ints(0, 0, 1, 2, 0, 0, 3, 1), "o": np.float32(1)}, X4, ["Pad", "Conv"],
    ),
    "matmul and a bias of matrices": (
        "g (float[n,3] x) => (float[n,4] y) { c = MatMul(x, k)  y = Add(c, b) }",
        {"k": floats(3, 4), "b": floats(4)}, {"x": floats(5, 3)}, ["Gemm"],
    ),
    "a factor far behind the product": (
        ("g (float[n,5,8] x) => (float[n,2,5,4] y)"
        " { c = MatMul(x, k)  d = Add(b, c)  e = Reshape(d, r)  f = Transpose<perm=[0,2,1,3]>(e)  y = Mul(f, t) }"),
        {"k": floats(8, 8), "b": floats(8), "r": ints(0, 0, 2, 4), "t": np.float32(0.35)}, SEQ,
        ["MatMul", "Add", "Reshape", "Transpose"],
    ),
    "a shape that is computed": (
        ("g (float[n,s,8] x) => (float[n,s,2,4] y) { a = Shape(x)  n1 = Gather(a, zero)  s1 = Gather(a, one)"
        " n2 = Unsqueeze(n1, at)  s2 = Unsqueeze(s1, at)  r = Concat<axis=0>(n2, s2, two, four)  y = Reshape(x, r) }"),
        {"zero": np.int64(0), "one": np.int64(1), "at": ints(0), "two": ints(2), "four": ints(4)}, SEQ, ["Reshape"],
    ),
    "a shape that is computed in 32 bits, as tf2onnx does": (
        ("g (float[n,6,8] x) => (float[n,48] y) { s = Shape(x)  c = Cast<to=6>(s)  b = Slice(c, zero, one)"
        " r = Concat<axis=0>(b, rest)  w = Cast<to=7>(r)  y = Reshape(x, w) }"),
        {"zero": ints(0), "one": ints(1), "rest": np.array([-1], np.int32)}, {"x": floats(2, 6, 8)}, ["Reshape"],
    ),
    "a shape of sums and products": (
        ("g (float[n,s,8] x) => (float[m,4] y)"
        " { a = Shape<end=2>(x)  p = ReduceProd<keepdims=1>(a)  q = Mul(p, two)  r = Concat<axis=0>(q, four)"
        " y = Reshape(x, r) }"),
        {"two": ints(2), "four": ints(4)}, SEQ, ["Reshape"],
    ),
    "reshapes one after the other": (
        ("g (float[n,6,8] x) => (float[n,48] y) { a = Reshape(x, r)  b = Unsqueeze(a, at)  c = Squeeze(b, at)"
        " y = Flatten(c) }"),
        {"r": ints(0, 2, 3, 8), "at": ints(1)}, {"x": floats(2, 6, 8)}, ["Reshape"],
    ),
    "a reshape there and back": (
        "g (float[n,6,8] x) => (float[n,6,8] y) { a = Reshape(x, r)  b = Reshape(a, s)  y = Relu(b) }",
        {"r": ints(0, 2, 3, 8), "s": ints(-1, 6, 8)}, {"x": floats(2, 6, 8)}, ["Relu"],
    ),
    "transposes that undo each other": (
        ("g (float[n,6,8] x) => (float[n,6,8] y)"
        " { a = Transpose<perm=[1,2,0]>(x)  b = Transpose<perm=[2,0,1]>(a)  y = Relu(b) }"),
        {}, {"x": floats(2, 6, 8)}, ["Relu"],
    ),
    "a transpose between reshapes": (
        ("g (float[n,5,6,8] x) => (float[n,5,8,6] y)"
        " { a = Reshape(x, r)  b = Transpose<perm=[0,2,1]>(a)  y = Reshape(b, s) }"),
        {"r": ints(-1, 6, 8), "s": ints(-1, 5, 8, 6)}, {"x": floats(2, 5, 6, 8)}, ["Transpose"],
    ),
    "states of zeros": (
        ("g (float[t,n,3] x) => (float[t,1,n,4] y) { a = Shape<start=1, end=2>(x)  r = Concat<axis=0>(one, a, four)"
        " h = Expand(zero, r)  y = LSTM<hidden_size=4>(x, w, u, , , h, h) }"),
        {"w": floats(1, 16, 3), "u": floats(1, 16, 4), "one": ints(1), "four": ints(4), "zero": np.float32(0)},
        {"x": floats(6, 2, 3)}, ["LSTM"],
    ),
    "operands that change nothing": (
        ("g (float[n,s,8] x, bool[n,s,8] q) => (float[n,s,8] y, bool[n,s,8] z)"
        " { a = Add(x, zeros)  b = Mul(ones, a)  c = Div(b, one)  y = Relu(c)  w = And(q, yes)  z = Not(w) }"),
        {"zeros": np.zeros((1, 8), np.float32), "ones": np.ones(8, np.float32), "one": np.float32(1),
         "yes": np.array(True)},
        {**SEQ, "q": RNG.random((2, 5, 8)) > 0.5}, ["Relu", "Not"],
    ),
    "zeros that make the sum larger stay": (
        "g (float[1,8] x) => (float[4,8] y) { y = Add(x, zeros) }",
        {"zeros": np.zeros((4, 8), np.float32)}, {"x": floats(1, 8)}, ["Add"],
    ),
    "an expansion that the sum does anyway": (
        "g (float[n,s,8] x) => (float[n,s,8] y) { a = Shape(x)  b = Expand(k, a)  y = Add(x, b) }",
        {"k": floats(8)}, SEQ, ["Add"],
    ),
    "gelu as dynamo spells it": (
        ("g (float[n,s,8] x) => (float[n,s,8] y)"
        " { a = Div(x, root)  b = Erf(a)  c = Add(b, one)  d = Mul(half, c)  y = Mul(x, d) }"),
        {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}, SEQ,
        ["Div", "Erf", "Add", "Mul", "Mul"],
    ),
    "layer norm that is spelled out": (
        ("g (float[n,s,8] x) => (float[n,s,8] y) { a = ReduceMean<keepdims=1>(x, at)  b = Sub(x, a)  c = Pow(b, two)"
        " d = ReduceMean<keepdims=1>(c, at)  e = Add(d, eps)  f = Sqrt(e)  h = Div(b, f)  i = Mul(h, w)"
        " y = Add(i, k) }"),
        {"at": ints(-1), "two": np.float32(2), "eps": np.float32(1e-5), "w": floats(8), "k": floats(8)}, SEQ,
        ["LayerNormalization"],
    ),
    "what is computed twice": (
        ("g (float[n,s,8] x) => (float[n,s,8] y)"
        " { a = Exp(x)  b = Exp(x)  c = Add(a, k)  d = Add(b, l)  y = Mul(c, d) }"),
        {"k": np.arange(8, dtype=np.float32), "l": np.arange(8, dtype=np.float32)}, SEQ, ["Exp", "Add", "Mul"],
    ),
    "weights that are put together": (
        ("g (float[n,8] x) => (float[n,8] y) { a = Slice(k, zero, four, zero)  b = Slice(k, four, eight, zero)"
        " c = Concat<axis=0>(b, a)  y = MatMul(x, c) }"),
        {"k": floats(8, 8), "zero": ints(0), "four": ints(4), "eight": ints(8)}, {"x": floats(3, 8)}, ["MatMul"],
    ),
    "what onnxruntime computes": (
        "g (float[n,8] x) => (float[n,8] y) { a = Sqrt(k)  b = Softmax(a)  y = Mul(x, b) }",
        {"k": np.abs(floats(8))}, {"x": floats(3, 8)}, ["Mul"],
    ),
    "what chance has a part in": (
        ("g (float[n,8] x) => (float[n,8] y)"
        " { a = RandomNormal<shape=[8], seed=1.0>()  b = Sub(a, a)  y = Add(x, b) }"),
        {}, {"x": floats(3, 8)}, ["RandomNormal", "Sub", "Add"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_answers_as_before(name: str) -> None:
    text, weights, feed, left = CASES[name]
    proto = model(text, **weights)
    made, _ = simplified(proto)
    assert ops(made) == left
    for one, other in zip(answers(proto, feed), answers(made, feed), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)


def test_the_gelu_is_one_that_onnxruntime_fuses_and_one_node_from_opset_20_on() -> None:
    text, weights, feed, _ = CASES["gelu as dynamo spells it"]
    made, _ = simplified(model(text, **weights))
    assert made.graph.node[-1].input[1] == "half"
    newer = model(text, opset=20, **weights)
    made, used = simplified(newer)
    assert (ops(made), used[0]) == (["Gelu"], "gelus")
    np.testing.assert_allclose(answers(made, feed)[0], answers(newer, feed)[0], rtol=1e-5, atol=1e-6)


def test_folding_does_not_grow_the_file() -> None:
    grown = model("g (float[n,1000,1000] x) => (float[n,1000,1000] y) { r = Expand(k, s)  y = Mul(x, r) }",
                  k=floats(1000), s=ints(1000, 1000))  # fmt: skip
    made, _ = simplified(grown, without=("broadcasts",))
    assert made.ByteSize() < grown.ByteSize() + 100
    twice = model("g (float[n,64] x) => (float[n,64] y, float[n,64] z)"
                  " { t = Transpose<perm=[1,0]>(k)  y = MatMul(x, k)  z = MatMul(x, t) }",
                  k=floats(64, 64))  # fmt: skip
    made, _ = simplified(twice)
    assert ops(made) == ["Transpose", "MatMul", "MatMul"]


def test_quantized_weights_stay_quantized() -> None:
    proto = model("g (float[n,8] x) => (float[n,8] y) { w = DequantizeLinear(k, s)  y = MatMul(x, w) }",
                  k=RNG.integers(-99, 99, (8, 8)).astype(np.int8), s=np.float32(0.1))  # fmt: skip
    assert ops(simplified(proto)[0]) == ["DequantizeLinear", "MatMul"]


def test_a_default_value_of_an_input_is_no_constant() -> None:
    proto = model("g (float[n,8] x, float[8] b) => (float[n,8] y) { c = Add(x, b)  y = Relu(c) }",
                  b=np.zeros(8, np.float32))  # fmt: skip
    assert ops(simplified(proto)[0]) == ["Add", "Relu"]


def test_the_scope_names_of_the_main_node_stay_and_metadata_too() -> None:
    text, weights, _, _ = CASES["batch norm into a convolution"]
    proto = model(text, **weights)
    for node in proto.graph.node:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=f"['{node.op_type}']")
    proto.metadata_props.add(key="who", value="me")
    made, _ = simplified(proto)
    assert made.graph.node[0].metadata_props[0].value == "['Conv']"
    assert made.metadata_props[0].value == "me"


def test_weights_that_were_inputs_in_old_files_are_constants() -> None:
    proto = model("g (float[n,3] x, float[3,4] k, float[4] b) => (float[n,4] y) { c = MatMul(x, k)  y = Add(c, b) }",
                  opset=11, k=floats(3, 4), b=floats(4))  # fmt: skip
    import onnx_ir

    proto.ir_version = 3
    graph = onnx_ir.serde.deserialize_model(proto)
    rewrite(graph)
    assert [value.name for value in graph.graph.inputs] == ["x"]
    assert [node.op_type for node in graph.graph] == ["Gemm"]


SUBGRAPHS = """g (float[n,s,8] x, bool p) => (float[n,s,8] y) {
    a = Transpose<perm=[1,0,2]>(x)
    y = If (p) <
        then_branch = t () => (float[n,s,8] ty) {
            b = Transpose<perm=[1,0,2]>(a)  one = Constant<value=float {1.0}>()  c = Mul(b, one)  ty = Relu(c) },
        else_branch = e () => (float[n,s,8] ey) { d = Transpose<perm=[1,0,2]>(a)  f = Identity(d)  ey = Neg(f) }
    >
}"""


def test_subgraphs_are_rewritten_too() -> None:
    proto = model(SUBGRAPHS)
    made, _ = simplified(proto)
    inner = [node.op_type for attribute in made.graph.node[-1].attribute for node in attribute.g.node]
    assert inner.count("Identity") == inner.count("Mul") == inner.count("Constant") == 0
    for choice in (True, False):
        feed = {**SEQ, "p": np.array(choice)}
        np.testing.assert_array_equal(answers(made, feed)[0], answers(proto, feed)[0])


def test_functions_are_inlined_and_rewritten() -> None:
    from onnx import parser

    proto = parser.parse_model("""<ir_version: 9, opset_import: ["" : 18, "own" : 1]>
        g (float[n,8] x) => (float[n,8] y) { a = own.twice(x)  y = own.twice(a) }
        <domain: "own", opset_import: ["" : 18]> twice (v) => (w) { i = Identity(v)  w = Add(i, i) }""")
    made, _ = simplified(proto)
    assert ops(made) == ["Add", "Add"]
    feed = {"x": floats(2, 8)}
    np.testing.assert_array_equal(answers(made, feed)[0], answers(proto, feed)[0])


DECIDED = """g (float[n,s,8] x) => (float[n,s,8] y, float[n,s,8] z) {
    r = Shape(x)  k = Size(r)  three = Constant<value=int64 {3}>()  p = Equal(k, three)
    a = If (p) <
        then_branch = t () => (float[n,s,8] ty) {
            two = Constant<value=float {2.0}>()  x1 = Mul(x, two)  ty = Relu(x1) },
        else_branch = e () => (float[n,s,8] ey) { x1 = Neg(x)  ey = Neg(x1) }
    >
    y, z = If (p) <
        then_branch = t () => (float[n,s,8] ty, float[n,s,8] tz) { x1 = Exp(a)  ty = Relu(x1)  tz = Neg(x1) },
        else_branch = e () => (float[n,s,8] ey, float[n,s,8] ez) { ey = Neg(x)  ez = Neg(ey) }
    >
}"""


def test_decisions_that_are_always_the_same_are_taken() -> None:
    proto = model(DECIDED)
    made, _ = simplified(proto)
    assert ops(made) == ["Mul", "Relu", "Exp", "Relu", "Neg"]
    for one, other in zip(answers(proto, SEQ), answers(made, SEQ), strict=True):
        np.testing.assert_array_equal(other, one)


@needs_silero
def test_a_published_model_with_decisions_loses_most_of_its_nodes_and_hears_the_same(tmp_path: Path) -> None:
    graph = load(SILERO)
    rewrite(graph)
    save(graph, tmp_path / "vad.onnx")
    assert sum(1 for _ in graph.graph.all_nodes()) <= 152  # of 689
    for rate, size in ((16000, 512), (8000, 256)):
        sound = {**silero_feed(), "input": floats(1, size), "sr": np.array(rate, np.int64)}
        assert same(SILERO, tmp_path / "vad.onnx", sound)


def test_weights_that_do_not_change_stay_in_their_file(tmp_path: Path) -> None:
    import onnx_ir

    proto = model("g (float[n,24] x) => (float[n,24] y)"
                  " { a = Transpose<perm=[1,0]>(k)  b = MatMul(x, a)  y = MatMul(b, l) }",
                  k=floats(24, 24), l=floats(24, 24))  # fmt: skip
    graph = load(written(tmp_path, proto, external=True))
    rewrite(graph)
    kinds = {name: type(value.const_value) for name, value in graph.graph.initializers.items()}
    assert kinds == {"l": onnx_ir.ExternalTensor, "a": onnx_ir.Tensor}
