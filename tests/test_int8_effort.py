"""What makes integers more accurate without training: each pays on a net that is hard for it, and harms none."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit
from deploykit.passes import Pass
from deploykit.passes.dynamic import Dynamic
from deploykit.passes.int8 import Int8
from deploykit.quantization.descent import settled
from deploykit.quantization.moments import Moments, Reading, as_matrix, as_weight, moments
from deploykit.quantization.reading import read
from deploykit.quantization.sites import find_sites
from deploykit.quantization.weighted import constant
from deploykit.quantization.weights import rounded
from deploykit.tensors import Array
from tests.int8_graphs import GRAPHS, Graph
from tests.int8_nets import correlated, depthwise, transformer
from tests.test_int8_graphs import ANY, compared, loaded

pytestmark = pytest.mark.usefixtures("untimed")


def made(graph: Graph, one: Pass, folder: Path) -> tuple[float, str, list[str]]:
    """Quantize a net; give its SQNR, its notes and what was said on the way."""
    model, samples = graph.written(folder)
    steps: list[str] = []
    done = deploykit.optimize(
        model, folder / "q.onnx", passes=[one], data=samples, samples=32, demand=ANY, step=steps.append
    )
    return min(compared(folder, graph.samples())), "; ".join(done.stages[0].notes), steps


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_channels_of_a_depthwise_net_are_equalized(target: str, tmp_path: Path) -> None:
    before, said, _ = made(depthwise(), Int8(target=target, effort="low"), tmp_path / "low")
    assert "equalized" not in said
    after, said, _ = made(depthwise(), Int8(target=target), tmp_path / "normal")
    assert after > before + 20
    assert "2 pairs of layers equalized: " in said


@pytest.mark.parametrize("kind", [Int8, Dynamic])
def test_what_a_transformer_normalizes_is_smoothed(kind: type[Int8 | Dynamic], tmp_path: Path) -> None:
    after, said, _ = made(transformer(), kind(target="cpu"), tmp_path)
    assert after > 30  # with channels as they are it keeps 5 dB
    assert "2 inputs of products smoothed: " in said


def test_weights_are_rounded_by_what_it_does_to_the_output_and_the_time_is_said(tmp_path: Path) -> None:
    before, _, _ = made(correlated(), Int8(target="cpu-avx2"), tmp_path / "normal")
    after, said, steps = made(correlated(), Int8(target="cpu-avx2", effort="high"), tmp_path / "high")
    assert after > before + 1.5
    assert "the rounding of 3 layers settled: " in said
    (first, *_, last) = [one for one in steps if one.startswith("settling the rounding")]
    assert first.startswith("settling the rounding: 1 of 3 layers, about ")
    assert last.endswith("3 of 3 layers, about 0 s left")


@pytest.mark.parametrize("name", ["convolutions", "residual", "layer_norm", "depthwise"])
def test_where_nothing_pays_nothing_is_done(name: str, tmp_path: Path) -> None:
    """Channels are alike in these, or a Clip stands between."""
    _, said, _ = made(GRAPHS[name], Int8(target="cpu"), tmp_path)
    assert "gained at" not in said


def test_ranges_that_are_saved_are_those_of_the_model_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "ranges.json"
    _, said, _ = made(depthwise(), Int8(target="cpu", save_calibration=str(place)), tmp_path)
    assert "equalized" not in said


def test_where_an_evened_net_errs_is_not_said_to_be_where_it_was_evened(tmp_path: Path) -> None:
    made(depthwise(), Int8(target="cpu"), tmp_path)
    against: dict[str, Any] = {"against": tmp_path / "model.onnx", "data": tmp_path / "samples.npz", "min_sqnr": 90}
    found = deploykit.validate(tmp_path / "q.onnx", locate=True, **against).divergence
    assert found is not None
    assert found.steps
    assert max(step.error for step in found.steps) < 0.1


SITES = {
    **dict.fromkeys(("convolutions", "grouped", "transposed", "one_dimension", "residual", "average_pool", "pad"), 1),
    **dict.fromkeys(("global_pool", "leaky", "prelu", "constant_add", "layer_norm", "normed", "squeeze_excite"), 1),
    **dict.fromkeys(("products", "shared_weight"), 2),
    **dict.fromkeys(("concat", "silu", "several_consumers", "read_output", "sum_is_output", "two_activations"), 0),
    **dict.fromkeys(("depthwise", "split", "branches", "shuffle", "batched_weight"), 0),
}
"""So often channels can be scaled in a graph: not where a Clip stands, or the tensor is given out."""


@pytest.mark.parametrize("name", SITES)
def test_factors_between_layers_change_no_answer(name: str, tmp_path: Path) -> None:
    from deploykit.onnx_io import save

    graph = GRAPHS[name]
    source, _ = graph.written(tmp_path)
    model = read(source)
    sites = find_sites(model)
    assert len(sites) == SITES[name]
    rng = np.random.default_rng(0)
    for site in sites:
        site.scale(model, np.exp2(rng.integers(-3, 4, site.channels)).astype(np.float32))
    save(model, tmp_path / "scaled.onnx")
    samples = graph.samples(4)
    answers = [loaded(tmp_path / f"{one}.onnx").run(None, samples)[0] for one in ("model", "scaled")]
    assert np.array_equal(*answers)


@pytest.mark.parametrize(
    "nodes", ["r=Clip(a,low,high)", "r=Sigmoid(a)", "r=Transpose<perm=[0,2,1,3]>(a)", "r=Add(a,x)"]
)
def test_what_does_not_carry_a_factor_is_left_alone(nodes: str, tmp_path: Path) -> None:
    numbers = {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    graph = Graph(
        f"a=Conv<pads=[1,1,1,1]>(x,w) {nodes} y=Conv(r,v)", {"w": (8, 8, 3, 3), "v": (8, 8, 3, 3), **numbers},
        "float[batch,8,8,8] x",
    )  # fmt: skip
    assert not find_sites(read(graph.written(tmp_path)[0]))


READINGS = {
    "plain": "y=Conv<pads=[1,1,1,1]>(x,w)",
    "strided": "y=Conv<pads=[0,1,2,1],strides=[2,3]>(x,w)",
    "dilated": "y=Conv<dilations=[2,1],pads=[2,1,2,1]>(x,w)",
    "same": 'y=Conv<auto_pad="SAME_UPPER",strides=[2,2]>(x,w)',
    "same_lower": 'y=Conv<auto_pad="SAME_LOWER",strides=[2,2]>(x,w)',
    "grouped": "y=Conv<group=2>(x,g)",
    "depthwise": "y=Conv<group=4,pads=[1,1,1,1]>(x,d)",
    "product": "y=MatMul(x,m)",
    "turned": "y=Gemm<transB=1>(x,t)",
    "gemm": "y=Gemm(x,m)",
    "spread": "y=ConvTranspose<strides=[2,2]>(x,s)",
    "spread_grouped": "y=ConvTranspose<strides=[2,2],group=2>(x,s)",
}


@pytest.mark.parametrize("name", READINGS)
def test_rows_times_the_matrix_are_what_a_layer_gives(name: str, tmp_path: Path) -> None:
    shapes = {"w": (6, 4, 3, 3), "g": (6, 2, 3, 3), "d": (8, 1, 3, 3), "m": (9, 5), "t": (5, 9), "s": (4, 3, 2, 2)}
    flat = name in ("turned", "gemm")
    ends = ("float[batch,9] x", "float[batch,5] y") if flat else ("float[batch,4,10,9] x", "float[batch,c,h,w] y")
    graph = Graph(READINGS[name], shapes, *ends)
    path, _ = graph.written(tmp_path)
    node: Any = next(iter(read(path).graph))
    weight = constant(node.inputs[1]).numpy()
    assert np.array_equal(as_weight(node, as_matrix(node, weight), weight.shape), weight)
    x = graph.samples(3)["x"]
    (expected,) = loaded(path).run(None, {"x": x})
    rows = Reading.of(node).rows(x, 1000, np.random.default_rng(0))
    found = rows @ as_matrix(node, weight).swapaxes(1, 2)
    assert np.sort(found, axis=None) == pytest.approx(np.sort(expected, axis=None), abs=1e-5)


def test_moments_are_sums_over_the_rows_of_all_samples(tmp_path: Path) -> None:
    graph = Graph(
        "a=MatMul(x,w) y=MatMul(a,v)", {"w": (32, 32), "v": (32, 32)}, "float[batch,32] x", "float[batch,32] y"
    )
    path, _ = graph.written(tmp_path)
    samples = graph.samples(100)

    def calls() -> Iterator[Mapping[str, Array]]:
        yield from ({"x": samples["x"][start : start + 30]} for start in range(0, 100, 30))

    (found,) = moments(lambda: read(path), ["MatMul_0", "MatMul_1"], calls, tmp_path, lambda _: None)
    x = samples["x"].astype(np.float64)
    assert found["MatMul_0"].gram[0] == pytest.approx(x.T @ x, rel=1e-5, abs=1e-4)
    assert found["MatMul_0"].sums[0] == pytest.approx(x.sum(axis=0), rel=1e-5, abs=1e-4)
    assert found["MatMul_0"].centered[0] == pytest.approx(np.cov(x.T) * 99, rel=1e-4, abs=1e-3)
    assert found["MatMul_1"].count == 100


def test_the_rounding_that_is_settled_never_errs_more_than_the_nearest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    node: Any = next(iter(read(correlated().written(tmp_path)[0]).graph))
    for inputs, levels in ((1, 254), (7, 14), (130, 126)):
        weight = rng.normal(size=(inputs, 12)).astype(np.float32)
        rows = (rng.normal(size=(1, 40, inputs)) @ rng.normal(size=(inputs, inputs))).astype(np.float32)
        own = Moments.empty(1, inputs)
        own.add(rows)
        own.settle()
        nearest = rounded(weight, 1, levels)
        found, part = settled(node, weight, nearest, own, levels)
        assert part <= 1
        assert np.abs(found.integers).max() <= levels // 2
        errors = [((rows[0] @ (one.values - weight)) ** 2).sum() for one in (nearest, found)]
        assert inputs == 1 or errors[1] < errors[0]
