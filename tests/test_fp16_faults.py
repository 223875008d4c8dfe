"""What onnxconverter-common's converter to float16 does wrong (1.16), and must not happen here.

Where the converter fails on a graph, its test says how. It is not used: beside these faults it holds the model several
times, and fails on files over 2 GB (onnx's shape inference takes one message of protobuf).
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit
from deploykit.onnx_io import check, load, signature
from deploykit.passes.fp16 import Fp16
from deploykit.tensors import Tensors
from tests.half_nets import net, normal
from tests.onnx_models import run


def halved(path: Path) -> Any:
    """Halve and prove a file; give what was made of it as an ``onnx_ir.Model``."""
    made = deploykit.optimize(path, path.with_name("half.onnx"), passes=[Fp16()])
    assert made.verdict.passed
    check(made.path)  # with the types of all values
    return load(made.path)


def near(path: Path, feed: Tensors) -> bool:
    """Tell whether a file and what was made of it answer alike, as far as float16 goes."""
    pairs = zip(run(path, feed), run(path.with_name("half.onnx"), feed), strict=True)
    return all(np.abs(one - other).max() <= 0.01 * np.abs(one).max() for one, other in pairs)


def test_the_scales_of_a_resize_stay_and_its_image_does_not(tmp_path: Path) -> None:
    # The converter keeps all of it in float32, with a cast before and one behind.
    text = """net (float[batch,3,8,8] x) => (float[batch,4,h,w] y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w1)
        b = Resize <mode = "linear"> (a, , scales)
        y = Conv <pads = [1, 1, 1, 1]> (b, w2)
    }"""
    own: dict[str, Any] = {"w1": normal(4, 3, 3, 3), "w2": normal(4, 4, 3, 3, seed=1)}
    path = net(text, tmp_path, scales=np.array([1, 1, 2, 2], np.float32), **own)
    model = halved(path)
    resize = next(node for node in model.graph if node.op_type == "Resize")
    assert [value.dtype.name for value in resize.inputs if value] == ["FLOAT16", "FLOAT"]
    assert sum(1 for node in model.graph if node.op_type == "Cast") == 2


BRANCHES = """net (float[batch,64] x, bool up) => (float[batch,64] y) {
    a = MatMul (x, w)
    b = Relu (a)
    c = If (up) <
        then_branch = more () => (float[batch,64] t) { s = MatMul (b, v)  t = Add (s, b) },
        else_branch = less () => (float[batch,64] e) { e = Neg (b) }
    >
    y = MatMul (c, w)
}"""


@pytest.mark.parametrize("up", [True, False])
def test_bodies_read_float32_and_their_weights_are_stored_in_half(tmp_path: Path, up: bool) -> None:
    # The converter puts the If before what its bodies read, and onnx's checker refuses the file.
    path = net(BRANCHES, tmp_path, w=normal(64, 64, scale=0.1), v=normal(64, 64, scale=0.1, seed=1))
    model = halved(path)
    assert {model.graph.initializers[name].dtype.name for name in "wv"} == {"FLOAT16"}
    assert near(path, {"x": normal(2, 64, seed=2), "up": np.array(up)})


def test_rows_of_small_weights_stay_whole_in_a_branch_that_never_ran(tmp_path: Path) -> None:
    # On the whole the weight fits well: what half of its rows lose is nothing beside the other half.
    uneven = normal(64, 64, scale=0.1, seed=1)
    uneven[::2] *= 1e-6
    text = """net (float[batch,64] x) => (float[batch,64] y) {
        top = ReduceMax <keepdims = 0> (x)
        far = Greater (top, limit)
        y = If (far) <
            then_branch = more () => (float[batch,64] t) { t = MatMul (x, uneven) },
            else_branch = less () => (float[batch,64] e) { e = MatMul (x, even) }
        >
    }"""
    path = net(text, tmp_path, limit=np.float32(1e4), uneven=uneven, even=normal(64, 64, scale=0.1))
    made = deploykit.optimize(path, path.with_name("half.onnx"), passes=[Fp16()])
    weights = load(made.path).graph.initializers
    assert [weights[name].dtype.name for name in ("uneven", "even")] == ["FLOAT", "FLOAT16"]
    assert any("1 weight in bodies of If in float16" in note for note in made.stages[0].notes)


def test_loops_and_scans_are_right(tmp_path: Path) -> None:
    text = """net (float[4,8] x, int64 times) => (float[4,8] last, float[4,8] sums) {
        a = MatMul (x, w)
        last = Loop (times, go, a) <body = turn (int64 i, bool on, float[4,8] h) => (bool more, float[4,8] next) {
            more = Identity (on)
            g = MatMul (h, w)
            next = Tanh (g)
        }>
        zero = Sub (first, first)
        end, sums = Scan <num_scan_inputs = 1, body = step (float[8] s, float[8] e) => (float[8] t, float[8] u) {
            t = Add (s, e)
            u = Identity (t)
        }> (zero, a)
    }"""
    path = net(text, tmp_path, w=normal(8, 8, scale=0.4), go=np.array(True), first=normal(8))
    halved(path)
    assert near(path, {"x": normal(4, 8, seed=2), "times": np.array(3)})


def test_functions_are_right(tmp_path: Path) -> None:
    import onnx

    text = """<ir_version: 9, opset_import: ["" : 18, "own" : 1]>
    net (float[batch,64] x) => (float[batch,64] y) { a = own.gate (x, w)  y = own.gate (a, w) }
    <domain: "own", opset_import: ["" : 18]>
    gate (x, w) => (y) { h = MatMul (x, w)  s = Sigmoid (h)  y = Mul (h, s) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(normal(64, 64, scale=0.1), "w"))
    onnx.save(model, tmp_path / "net.onnx")
    made = halved(tmp_path / "net.onnx")
    assert made.graph.initializers["w"].dtype.name == "FLOAT16"
    assert near(tmp_path / "net.onnx", {"x": normal(2, 64, seed=2)})


def test_the_types_that_a_file_says_are_those_that_its_operators_give(tmp_path: Path) -> None:
    # The converter says float16 of a Cast that gives float32.
    import onnx

    text = """net (float[batch,8] x, int64[batch] at) => (float[batch,8] y) {
        a = MatMul (x, w)
        b = CumSum (a, axis)
        c = Gather (table, at)
        d = Add (b, c)
        y = Relu (d)
    }"""
    path = net(text, tmp_path, w=normal(8, 8), table=normal(100, 8), axis=np.array(1, np.int64))
    halved(path)
    proto = onnx.load(path.with_name("half.onnx"))
    said = {one.name: one.type.tensor_type.elem_type for one in proto.graph.value_info}
    del proto.graph.value_info[:]
    told = {
        one.name: one.type.tensor_type.elem_type
        for one in onnx.shape_inference.infer_shapes(proto, strict_mode=True).graph.value_info
    }
    assert {"a", "b", "c", "d"} <= said.keys()
    assert all(told[name] == kind for name, kind in said.items() if name in told)


def test_small_and_large_weights_become_what_is_nearest_without_a_warning(tmp_path: Path) -> None:
    # The converter pushes what is under 1e-7 up to it, clips at 10,000, and warns for every tensor.
    weight = normal(64, 64)
    weight[0, :3] = 1e-9, 20000.0, -3e-8
    path = net("net (float[batch,64] x) => (float[batch,64] y) { y = MatMul (x, w) }", tmp_path, w=weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = halved(path)
    found = model.graph.initializers["w"].const_value.numpy()
    assert np.array_equal(found, weight.astype(np.float16))


def test_a_cast_to_float32_in_the_graph_gives_float16_at_once(tmp_path: Path) -> None:
    # The converter says that it gives float16 and lets it give float32: onnxruntime refuses the file.
    text = """net (int64[batch,8] ids) => (float[batch,8] y) {
        a = Cast <to = 1> (ids)
        b = Mul (a, part)
        y = MatMul (b, w)
    }"""
    path = net(text, tmp_path, part=np.float32(0.01), w=normal(8, 8))
    model = halved(path)
    assert [node.attributes["to"].as_int() for node in model.graph if node.op_type == "Cast"] == [10, 1]


def test_outputs_that_are_read_on_within_the_graph_keep_name_and_type(tmp_path: Path) -> None:
    # The converter gives two casts one name where nodes have none: onnxruntime refuses the file.
    text = """net (float[batch,8] x) => (float[batch,8] y, float[batch,8] h, float[batch,8] same) {
        h = MatMul (x, w)
        r = Relu (h)
        y = MatMul (r, w)
        same = Identity (x)
    }"""
    path = net(text, tmp_path, w=normal(8, 8))
    model = halved(path)
    assert signature(model) == signature(load(path))
    assert near(path, {"x": normal(2, 8, seed=2)})


def test_constants_in_nodes_and_of_any_attribute_are_halved(tmp_path: Path) -> None:
    # The converter gives two casts one name where nodes have none: onnxruntime refuses the file.
    text = """net (float[batch,8] x) => (float[batch,8] y) {
        two = Constant <value_float = 2.0> ()
        shape = Shape (x)
        ones = ConstantOfShape <value = float[1] {1.5}> (shape)
        a = Mul (x, two)
        b = Add (a, ones)
        y = MatMul (b, w)
    }"""
    path = net(text, tmp_path, w=normal(8, 8))
    model = halved(path)
    assert sum(1 for node in model.graph if node.op_type == "Cast") == 2
    assert near(path, {"x": normal(2, 8, seed=2)})


def test_one_weight_that_both_widths_read_is_kept_once(tmp_path: Path) -> None:
    # The converter clips 1e6 to 10,000, and the answers are a hundredth of what they should be.
    text = """net (float[batch,64] x) => (float[batch,64] y) {
        a = MatMul (x, w)
        b = Mul (a, large)
        c = MatMul (b, w)
        d = Mul (c, small)
        y = MatMul (d, w)
    }"""
    own: dict[str, Any] = {"large": np.float32(1e6), "small": np.float32(1e-6)}
    path = net(text, tmp_path, w=normal(64, 64, scale=0.1), **own)
    model = halved(path)
    assert [value.name for value in model.graph.initializers.values() if value.const_value.size > 1] == ["w"]
    assert model.graph.initializers["w"].dtype.name == "FLOAT16"
    assert near(path, {"x": normal(2, 64, seed=2)})


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_a_recurrent_layer_computes_in_float32_with_weights_of_half_the_size(op: str, tmp_path: Path) -> None:
    # The converter halves it, and onnxruntime dies of some such files.
    gates = {"LSTM": 4, "GRU": 3}[op]
    text = f"""net (float[time,batch,16] x) => (float[time,1,batch,16] y) {{
        y = {op} <hidden_size = 16> (x, w, r, b)
    }}"""
    own: dict[str, Any] = {name: normal(1, gates * 16, 16, scale=0.3, seed=seed) for seed, name in enumerate("wr")}
    path = net(text, tmp_path, b=normal(1, gates * 32, scale=0.3), **own)
    model = halved(path)
    assert {model.graph.initializers[name].dtype.name for name in "wr"} == {"FLOAT16"}
    assert near(path, {"x": normal(5, 2, 16, seed=2)})


def test_external_weights_stay_where_they_are_until_they_are_written(tmp_path: Path) -> None:
    # The converter takes them all into memory.
    import onnx

    path = net("net (float[batch,64] x) => (float[batch,64] y) { y = MatMul (x, w) }", tmp_path, w=normal(64, 64))
    onnx.save(onnx.load(path), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = (tmp_path / "weights.bin").read_bytes()
    halved(path)
    assert (tmp_path / "weights.bin").read_bytes() == before
    assert near(path, {"x": normal(2, 64, seed=2)})


def test_what_is_added_has_names_of_its_own(tmp_path: Path) -> None:
    # onnxruntime tells nodes apart by their names, and loads no file in which two have one.
    text = """net (float[batch,16] x) => (float[batch,16] y, float[batch,16] y) {
        [x_float16_cast] x_float16 = MatMul (x, w)
        [y_cast] y_float16 = Relu (x_float16)
        [node_Cast_0] y = MatMul (y_float16, w)
    }"""
    model = halved(net(text, tmp_path, w=normal(16, 16)))
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names) == 5, "three nodes and two casts"
    assert [value.name for value in model.graph.outputs] == ["y", "y"]


def test_sequences_are_let_alone(tmp_path: Path) -> None:
    # What infers types takes a sequence of tensors for a tensor.
    text = """net (float[batch,8] x) => (float[batch,8] y) {
        a = MatMul (x, w)
        parts = SplitToSequence <axis = 1> (a)
        b = ConcatFromSequence <axis = 1> (parts)
        y = MatMul (b, w)
    }"""
    path = net(text, tmp_path, w=normal(8, 8))
    model = halved(path)
    assert {node.op_type: node.inputs[0].dtype.name for node in model.graph}["MatMul"] == "FLOAT16"
    assert near(path, {"x": normal(2, 8, seed=2)})
