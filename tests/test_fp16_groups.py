"""What runtimes fuse is found in a graph, and is halved or kept as one; the cut between both sides is the cheapest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.halving.cut import Cut
from deploykit.halving.graph import Graph, read
from deploykit.halving.groups import groups
from deploykit.halving.plan import plan
from deploykit.halving.ranges import Ranges
from deploykit.halving.rewrite import Rewriting
from deploykit.rounding import FLOAT16
from tests.half_nets import net, normal

NORM = """net (float[batch,8] x) => (float[batch,8] y) {
    h = MatMul (x, w)
    mean = ReduceMean <axes = [-1]> (h)
    apart = Sub (h, mean)
    square = Pow (apart, two)
    spread = ReduceMean <axes = [-1]> (square)
    sure = Add (spread, epsilon)
    root = Sqrt (sure)
    normal = Div (apart, root)
    scaled = Mul (normal, gain)
    moved = Add (scaled, shift)
    y = MatMul (moved, w)
}"""
GELU = """net (float[batch,8] x) => (float[batch,8] y) {
    h = MatMul (x, w)
    part = Div (h, root2)
    e = Erf (part)
    up = Add (e, one)
    both = Mul (h, up)
    gelu = Mul (both, half)
    y = MatMul (gelu, w)
}"""
TANH = """net (float[batch,8] x) => (float[batch,8] y) {
    h = MatMul (x, w)
    cube = Pow (h, three)
    small = Mul (cube, some)
    inner = Add (h, small)
    part = Mul (inner, root2)
    t = Tanh (part)
    up = Add (t, one)
    both = Mul (h, up)
    gelu = Mul (both, half)
    y = MatMul (gelu, w)
}"""
SILU = """net (float[batch,8] x) => (float[batch,8] y) {
    h = MatMul (x, w)
    b = Add (h, gain)
    s = Sigmoid (b)
    silu = Mul (b, s)
    y = MatMul (silu, w)
}"""
WEIGHTS: dict[str, Any] = {
    "w": normal(8, 8),
    "gain": normal(8),
    "shift": normal(8),
    **{name: np.float32(1.5) for name in ("root2", "one", "half", "three", "some")},
    "two": np.float32(2),
    "epsilon": np.float32(1e-12),
}


def graph_of(text: str, folder: Path) -> Graph:
    used = {name: array for name, array in WEIGHTS.items() if f"{name})" in text}
    return read(net(text, folder, **used), FLOAT16)


@pytest.mark.parametrize(
    ("text", "together"),
    [
        (NORM, "mean apart square spread sure root normal scaled moved"),
        (GELU, "part e up both gelu"),
        (TANH, "cube small inner part t up both gelu"),
        (SILU, "s silu"),
    ],
    ids=["norm", "gelu", "tanh", "silu"],
)
def test_what_runtimes_fuse_is_one_group(text: str, together: str, tmp_path: Path) -> None:
    graph = graph_of(text, tmp_path)
    named = [{graph.nodes[one].outputs[0].name for one in group} for group in groups(graph)]
    assert any(set(together.split()) <= group for group in named), named


def test_a_group_of_which_one_node_does_not_fit_is_kept_whole_with_two_casts(tmp_path: Path) -> None:
    graph = graph_of(NORM, tmp_path)  # 1e-12 is zero in float16
    chosen = plan(graph, Ranges())
    Rewriting(graph, chosen).run()
    casts = [node for node in graph.model.graph if node.op_type == "Cast"]
    assert len(casts) == 4, "x and y, and around the normalization"
    assert {node.inputs[0].name for node in casts} >= {"x", "h", "moved"}


def test_nodes_between_two_that_are_kept_are_kept_where_that_saves_casts(tmp_path: Path) -> None:
    text = """net (float[batch,8] x) => (float[batch,8] y) {
        h = MatMul (x, w)
        a = CumSum (h, axis)
        b = Abs (a)
        c = CumSum (b, axis)
        y = MatMul (c, w)
    }"""
    graph = read(net(text, tmp_path, w=normal(8, 8), axis=np.array(1, np.int64)), FLOAT16)
    chosen = plan(graph, Ranges())
    assert {graph.nodes[one].outputs[0].name for one in chosen.halves} == {"h", "y"}


def test_the_cheapest_cut_is_found_and_a_tensor_costs_once_whoever_reads_it() -> None:
    cut = Cut()
    cut.prefer_here("heavy")
    cut.prefer_there("kept")
    for light in ("one", "other"):
        cut.prefer_here(light, 1)
        cut.tensor(light, light, ["kept"], 5)
    cut.tensor("shared", "heavy", ["one", "other", "kept"], 5)
    assert {"one", "other", "kept"} <= cut.there()
    assert "heavy" not in cut.there()
