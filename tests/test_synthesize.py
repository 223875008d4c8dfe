"""Synthesis: what is made up from a graph suits it, and lets no damage pass unseen."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.samples import coverage, synthesize
from deploykit.tensors import Tensors, TensorSpec

SPREAD = 1.3
"""Standard deviation of noise, whose samples are of different brightness and contrast."""


def specs(*texts: str) -> list[TensorSpec]:
    return [TensorSpec.parse(text) for text in texts]


def graph(inputs: str, body: str, outputs: str = "y", /, **weights: npt.NDArray[Any]) -> Any:
    """Read a graph of ONNX text, with weights added as initializers."""
    import onnx
    import onnx_ir as ir

    results = ", ".join(f"float[..] {name}" for name in outputs.split()).replace("[..]", "")
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({results}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return ir.from_proto(model)


def made(model: Any, *inputs: str, plan: list[Mapping[str, int]] | None = None, seed: int = 0) -> list[Tensors]:
    plan = plan or [{"B": 1, "T": 8}, {"B": 2, "T": 4}, {"B": 5, "T": 8}]
    cases = synthesize(model, specs(*inputs), plan, seed=seed)
    for sizes, case in zip(plan, cases, strict=True):
        for spec in specs(*inputs):
            assert spec.mismatch(case[spec.name]) is None or spec.dtype == "string"
            assert case[spec.name].shape == spec.sized(sizes)
    return cases


def flat(cases: list[Tensors], name: str) -> npt.NDArray[Any]:
    return np.concatenate([case[name].reshape(-1) for case in cases])


TABLE = np.zeros((40, 3), np.float32)
IN_BRANCHES = """
    c = Constant<value_int=1>()
    t = Equal(c, c)
    y = If(t) <then_branch = g1 () => (float a) { a = Gather(w, ids) },
               else_branch = g2 () => (float b) { b = Gather(w, ids) }>
"""


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        ("y = Gather(w, ids)", range(40)),
        ("a = Cast<to=6>(ids) b = Unsqueeze(a, zero) y = Gather(w, b)", range(40)),
        ("a = Add(two, ids) y = Gather(w, a)", range(38)),
        ("a = Sub(ids, two) y = Gather(w, a)", range(2, 42)),
        ("y = Gather<axis=1>(wide, ids)", range(6)),
        ("a = Gather(w, ids) b = Gather(wide, ids) y = Add(a, b)", range(5)),
        ("low = Less(ids, zero) a = Add(ids, all) b = Where(low, a, ids) y = Gather(w, b)", range(40)),
        ("y = GatherElements(w, ids)", range(40)),
        ("a = Add(ids, all) y = Gather(w, a)", range(1)),
        ("a = Unsqueeze(ids, minus) y = GatherND(w, a)", range(40)),
        ("v = Constant<value_floats=[0.0, 1.0]>() d = Constant<value_int=7>() y = OneHot(ids, d, v)", range(7)),
        ("h = Cast<to=10>(w) f = Cast<to=1>(h) y = Gather(f, ids)", range(40)),
        (IN_BRANCHES, range(40)),
    ],
)
def test_ids_cover_the_rows_of_the_table_they_index(body: str, rows: range) -> None:
    weights = {
        "w": TABLE,
        "wide": np.zeros((5, 6), np.float32),
        "two": np.array(2),
        "all": np.array(40),
        "zero": np.array([0]),
        "minus": np.array([-1]),
    }
    model = graph("int64[B,T] ids", body, **weights)
    cases = made(model, "ids:int64[B,T]")
    assert set(flat(cases, "ids").tolist()) == set(rows)


def test_ids_are_found_inside_functions_and_loops() -> None:
    import onnx
    import onnx_ir as ir

    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
    g (int64[B,T] ids, int64[T] more) => (float[B,T,3] y, float z) <int64 n = {1}, bool on = {1}> {
      y = own.look (ids)
      z = Loop (n, on, more) <body = inner (int64 i, bool c, int64[T] state) => (bool c2, int64[T] s2, float[T,3] o) {
        c2 = Identity (c) s2 = Identity (state) o = Gather (w, state) }>
    }
    <domain: "own", opset_import: ["" : 17]> look (x) => (r) {
      t = Constant <value = float[4,1] {1,2,3,4}> ()
      r = Gather (t, x)
    }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(TABLE, "w"))
    cases = made(ir.from_proto(proto), "ids:int64[B,T]", "more:int64[T]")
    assert set(flat(cases, "ids").tolist()) == set(range(4))
    assert flat(cases, "more").max() == 39


def test_ids_into_an_input_fit_its_size_in_each_call() -> None:
    model = graph("float[B,T,3] x, int64[T] index", "y = Gather<axis=1>(x, index)")
    plan: list[Mapping[str, int]] = [{"B": 2, "T": 8}, {"B": 1, "T": 1}, {"B": 2, "T": 5}, {"B": 3, "T": 8}]
    for case in made(model, "x:float32[B,T,3]", "index:int64[T]", plan=plan):
        assert sorted(case["index"].tolist()) == list(range(case["x"].shape[1]))


def test_rows_are_dealt_to_live_tokens_before_dead_ones() -> None:
    model = graph("int64[B,T] ids, int64[B,T] mask", "y = Gather(w, ids)", w=TABLE)
    plan: list[Mapping[str, int]] = [{"B": 4, "T": 9}, {"B": 1, "T": 9}, {"B": 5, "T": 11}]
    cases = made(model, "ids:int64[B,T]", "mask:int64[B,T]", plan=plan)
    live = np.concatenate([case["ids"][case["mask"] == 1] for case in cases])
    assert 40 < live.size < flat(cases, "ids").size
    assert set(live.tolist()) == set(range(40))


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(2, 300), batch=st.integers(1, 6), steps=st.integers(1, 30), seed=st.integers(0, 9))
def test_ids_are_as_many_different_rows_as_fit_with_both_ends(rows: int, batch: int, steps: int, seed: int) -> None:
    model = graph("int32[B,T] ids", "y = Gather(w, ids)", w=np.zeros((rows, 1), np.float32))
    plan: list[Mapping[str, int]] = [{"B": batch, "T": steps}, {"B": 1, "T": steps + 1}]
    cases = made(model, "ids:int32[B,T]", plan=plan, seed=seed)
    ids = flat(cases, "ids")
    assert len(set(ids.tolist())) == min(rows, ids.size)
    assert set((0, rows - 1, rows // 2)[: ids.size]) <= set(ids.tolist())
    assert ids.min() >= 0
    assert ids.max() < rows
    for case in cases:
        if case["ids"].shape[1] > 1:
            assert (np.ptp(case["ids"], axis=1) > 0).all()


MASKED = "a = Cast<to=9>(m) y = Where(a, x, off)"


@pytest.mark.parametrize(
    ("name", "body", "live"),
    [
        ("m", MASKED, 1),
        ("m", "a = Cast<to=9>(m) y = Where(a, off, x)", 0),
        ("m", "a = Equal(m, zero) y = Where(a, off, x)", 1),
        ("m", "a = Cast<to=9>(m) b = Not(a) y = Where(b, x, off)", 0),
        ("m", "f = Cast<to=1>(m) a = Sub(one, f) b = Mul(a, off) y = Add(x, b)", 1),
        ("m", "f = Cast<to=1>(m) b = Mul(f, off) y = Add(x, b)", 0),
        ("m", "a = Cast<to=9>(m) y = Where(a, x, x)", 1),
        ("attention_mask", "f = Cast<to=1>(attention_mask) y = Mul(f, x)", 1),
        ("key_padding_mask", "f = Cast<to=1>(key_padding_mask) y = Mul(f, x)", 0),
    ],
)
def test_masks_are_ragged_and_leave_every_row_a_live_token(name: str, body: str, live: int) -> None:
    arrays = {"off": np.array(-3e38, np.float32), "one": np.array(1, np.float32), "zero": np.array(0)}
    model = graph(f"float[B,T] x, int64[B,T] {name}", body, **arrays)
    cases = made(model, "x:float32[B,T]", f"{name}:int64[B,T]")
    for case in cases:
        mask = case[name] == live
        assert set(np.unique(case[name])) <= {0, 1}
        assert mask[:, 0].all()
        assert mask[0].all()
        assert (np.diff(mask.astype(int), axis=1) <= 0).all(), "padded on the right"
    assert any((case[name] != live).any() for case in cases)
    lines = coverage(model, specs(f"{name}:int64[B,T]"), cases)
    assert lines == (f"{name}: {int((flat(cases, name) == live).sum())} of {flat(cases, name).size} live",)


@pytest.mark.parametrize("spec", ["mask:bool[B,1,T,T]", "mask:float32[B,T]", "mask:int32[T]", "mask:bool[B,T]"])
def test_masks_of_any_type_and_rank_have_dead_tokens(spec: str) -> None:
    model = graph("float[B,T] x", "y = Identity(x)")
    cases = made(model, spec)
    assert cases[0]["mask"].all()
    assert not all(case["mask"].all() for case in cases)
    assert all(case["mask"][..., 0].all() for case in cases)


def test_masks_and_lengths_of_a_case_agree() -> None:
    model = graph("float[B,T] x", "y = Identity(x)")
    cases = made(model, "x:float32[B,T,4]", "mask:int64[B,T]", "lengths:int64[B]", plan=[{"B": 4, "T": 9}])
    np.testing.assert_array_equal(cases[0]["mask"].sum(axis=1), cases[0]["lengths"])


def test_lengths_fall_from_the_whole_sequence_to_no_less_than_one() -> None:
    weights = {name: np.zeros((1, 8, 2), np.float32) for name in ("w", "r")}
    body = "e = Cast<to=6>(n) y = LSTM<hidden_size=2>(x, w, r, , e)"
    model = graph("float[T,B,2] x, int64[B] n", body, **weights)
    for case in made(model, "x:float32[T,B,2]", "n:int64[B]"):
        assert case["n"][0] == len(case["x"])
        assert case["n"].min() >= 1
        assert (np.diff(case["n"]) <= 0).all()


def test_positions_rise_and_stay_in_their_table() -> None:
    model = graph("int64[B,T] position_ids", "y = Gather(w, position_ids)", w=np.zeros((5, 2), np.float32))
    for case in made(model, "position_ids:int64[B,T]", plan=[{"B": 2, "T": 4}, {"B": 1, "T": 7}]):
        steps = case["position_ids"].shape[1]
        np.testing.assert_array_equal(case["position_ids"][0], np.arange(steps) % 5)


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("a = Cast<to=1>(x) y = Div(a, c)", {"c": 255.0}),
        ("a = Cast<to=1>(x) b = Transpose<perm=[0,3,1,2]>(a) y = Mul(b, c)", {"c": 1 / 255}),
        ("a = Cast<to=1>(x) b = Sub(a, c) y = Div(b, c)", {"c": 127.5}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "uint8", "int32"])
def test_pixels_are_whole_numbers_from_0_to_255(body: str, weights: dict[str, float], dtype: str) -> None:
    arrays = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    kind = dtype.replace("float32", "float")
    model = graph(f"{kind}[B,8,8,3] x", body, **arrays)
    x = flat(made(model, f"x:{dtype}[B,8,8,3]"), "x").astype(np.float64)
    assert (x == np.round(x)).all()
    assert (x.min(), x.max()) == (0, 255)


@pytest.mark.parametrize(
    "body",
    [
        "a = Sub(x, mean) y = Div(a, std)",
        "a = Sub(x, mean) y = Mul(a, inverse)",
        "y = BatchNormalization(x, scale, bias, mean1, var)",
    ],
)
def test_numbers_that_the_graph_normalizes_are_of_its_mean_and_deviation(body: str) -> None:
    mean, std = np.array([5.0, -3.0], np.float32), np.array([0.5, 4.0], np.float32)
    shape = (1, 2, 1, 1)
    weights: dict[str, Any] = {
        "mean": mean.reshape(shape),
        "std": std.reshape(shape),
        "inverse": 1 / std.reshape(shape),
    }
    model = graph(
        "float[B,2,30,30] x", body, **weights, scale=np.ones_like(std), bias=mean, mean1=mean, var=np.square(std)
    )
    x = np.concatenate([case["x"] for case in made(model, "x:float32[B,2,30,30]")])
    assert (np.abs(x.mean(axis=(0, 2, 3)) - mean) < std).all()
    np.testing.assert_allclose(x.std(axis=(0, 2, 3)) / std, SPREAD, rtol=0.4)


@pytest.mark.parametrize("body", ["a = Add(x, e) y = Log(a)", "y = Sqrt(x)", "y = Pow(x, e)", "y = Div(e, x)"])
def test_numbers_of_a_logarithm_a_root_or_a_divisor_are_positive(body: str) -> None:
    cases = made(graph("float[B,T] x", body, e=np.asarray(0.3, np.float32)), "x:float32[B,T]")
    assert flat(cases, "x").min() > 0


def test_numbers_that_the_graph_says_nothing_of_are_noise_about_zero() -> None:
    body = "a = Conv(x, w) b = Pow(x, two) c = Log(a) y = Add(b, c)"
    two = np.asarray(2, np.float32)
    model = graph("float[B,3,16,16] x", body, w=np.zeros((1, 3, 1, 1), np.float32), two=two)
    x = flat(made(model, "x:float32[B,3,16,16]"), "x")
    assert abs(x.mean()) < 0.3
    assert abs(x.std() - SPREAD) < 0.4


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16", "int8", "uint16", "complex64", "bool", "string"])
def test_every_element_type_gets_more_than_one_value(dtype: str) -> None:
    cases = made(graph("float[B,T] x", "y = Identity(x)"), f"v:{dtype}[B,T]")
    assert len(set(flat(cases, "v").tolist())) > 1


def test_integers_and_switches_take_the_values_that_the_graph_compares_with() -> None:
    model = graph("int64 rate, int64[B] k", "a = Equal(rate, c) y = Cast<to=1>(a)", c=np.asarray(16000))
    inputs = ("rate:int64[]", "k:int64[B]", "flag:bool[]", "keep_prob:float32[]")
    cases = made(model, *inputs)
    assert [int(case["rate"]) for case in cases] == [16000] * 3
    assert set(flat(cases, "k").tolist()) == {0, 1}
    assert [bool(case["flag"]) for case in cases] == [True, False, True]
    assert [float(case["keep_prob"]) for case in cases] == [1.0] * 3


def test_the_same_seed_gives_the_same_bytes_whatever_the_order_of_inputs() -> None:
    model = graph("float[B,T] x, int64[B,T] ids", "y = Gather(w, ids)", w=TABLE)
    inputs = ("x:float32[B,T]", "ids:int64[B,T]", "mask:bool[B,T]")
    one, two, other = made(model, *inputs), made(model, *reversed(inputs)), made(model, *inputs, seed=1)
    for name in ("x", "ids", "mask"):
        assert flat(one, name).tobytes() == flat(two, name).tobytes()
        assert flat(one, name).tobytes() != flat(other, name).tobytes()


def test_coverage_counts_rows_and_gives_ranges() -> None:
    model = graph("float[B,T] x, int64[B,T] ids", "y = Gather(w, ids)", w=TABLE)
    cases = [{"x": np.array([[0.5, -2]], np.float32), "ids": np.array([[3, 3, 7]])}]
    assert coverage(model, specs("x:float32[B,T]", "ids:int64[B,T]"), cases) == (
        "x: 2 values from -2 to 0.5",
        "w: 2 of 40 rows touched",
    )


def test_samples_of_images_differ_in_brightness_contrast_and_coarseness() -> None:
    model = graph("float[B,3,32,32] x", "y = Relu(x)")
    cases = made(model, "x:float32[B,3,32,32]")
    images = np.concatenate([case["x"] for case in cases])
    means, spreads = images.mean(axis=(1, 2, 3)), images.std(axis=(1, 2, 3))
    steps = np.abs(np.diff(images, axis=-1)).mean(axis=(1, 2, 3)) / spreads
    assert means.max() > 1
    assert means.min() < -1
    assert spreads.max() > 2 * spreads.min()
    assert steps.min() < 0.6 * np.median(steps), "neighbours in a coarse image are alike"


def test_numbers_that_go_into_a_quantizer_are_within_its_range() -> None:
    weights: dict[str, Any] = {"scale": np.asarray(1 / 255, np.float32), "zero": np.asarray(0, np.uint8)}
    body = "q = QuantizeLinear(x, scale, zero) y = DequantizeLinear(q, scale, zero)"
    x = flat(made(graph("float[B,3,16,16] x", body, **weights), "x:float32[B,3,16,16]"), "x")
    assert 0 <= x.min() < 0.1
    assert 0.9 < x.max() <= 1
    assert np.isin(x, (0, 1)).mean() < 0.4
