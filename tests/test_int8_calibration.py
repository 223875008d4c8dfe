"""What int8 is calibrated with, and what it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit
from deploykit.errors import ModelError, UsageError
from deploykit.passes.int8 import Int8
from deploykit.quantization.calibrating import Calibration, calibrate
from deploykit.quantization.health import Health, chosen
from deploykit.quantization.ranges import Grid
from deploykit.quantization.reading import read
from deploykit.quantization.targets import TARGETS
from deploykit.tensors import Tensors
from tests.int8_graphs import GRAPHS, Graph
from tests.test_int8_graphs import ANY, quantized

pytestmark = pytest.mark.usefixtures("untimed")

NET = GRAPHS["residual"]
TENSORS = ("x", "r", "t", "y")
CHANNELS = {"x": 1, "r": 1}


def calibrated(graph: Graph, folder: Path, samples: Tensors, batch: int = 8) -> Calibration:
    """Calibrate by a part of the samples, some at a time."""
    model, _ = graph.written(folder)
    count = len(samples["x"])

    def calls() -> Iterator[Tensors]:
        for start in range(0, count, batch):
            yield {"x": samples["x"][start : start + batch]}

    return calibrate(read(model), TENSORS, CHANNELS, calls, folder, lambda _: None)


def said_of(found: Calibration, method: str = "auto") -> list[str]:
    return list(Health.of(found, chosen(found, TARGETS["cpu"], method)).said())


def same(one: Calibration, other: Calibration) -> bool:
    return all(np.array_equal(one.counts[name].bins, other.counts[name].bins) for name in TENSORS)


def test_calibrations_of_two_machines_add_up_to_that_of_one(tmp_path: Path) -> None:
    x = NET.samples(32)["x"]
    whole, first, second = (calibrated(NET, tmp_path, {"x": part}) for part in (x, x[:16], x[16:]))
    merged = first.merged(second)
    assert same(whole, merged)
    assert not same(whole, first)
    assert merged.samples == whole.samples == 32
    for name in CHANNELS:
        assert merged.channels[name].means == pytest.approx(whole.channels[name].means)
    assert whole.channels["x"].means == pytest.approx(x.mean(axis=(0, 2, 3)), abs=1e-5)


def test_a_calibration_comes_back_from_its_file(tmp_path: Path) -> None:
    found = calibrated(NET, tmp_path, NET.samples(8))
    found.write(tmp_path / "ranges.json")
    again = Calibration.read(tmp_path / "ranges.json")
    assert same(found, again)
    assert again.samples == found.samples
    assert all(np.array_equal(again.channels[name].sums, found.channels[name].sums) for name in CHANNELS)


def test_a_saved_calibration_makes_the_same_integers_as_its_samples(tmp_path: Path) -> None:
    place = tmp_path / "ranges.json"
    first = quantized(NET, tmp_path, save_calibration=str(place))
    integers = _integers(first.path)
    again = deploykit.optimize(
        tmp_path / "model.onnx", tmp_path / "q2.onnx", passes=[Int8(target="cpu", calibration=str(place))], demand=ANY
    )
    assert integers
    assert _integers(again.path) == integers
    assert any("calibrated with 32 samples" in note for note in again.stages[0].notes)


def _integers(path: Path) -> dict[str, bytes]:
    import onnx

    return {one.name: one.raw_data for one in onnx.load(str(path)).graph.initializer}


def test_a_calibration_of_another_model_is_refused(tmp_path: Path) -> None:
    quantized(NET, tmp_path / "one", save_calibration=str(tmp_path / "ranges.json"))
    other = Graph(NET.nodes, {**NET.weights, "u": np.ones((8, 8, 3, 3), np.float32)})
    with pytest.raises(UsageError, match="another model"):
        quantized(other, tmp_path / "two", calibration=str(tmp_path / "ranges.json"))
    with pytest.raises(UsageError, match="says nothing of the tensor"):
        quantized(GRAPHS["concat"], tmp_path / "three", calibration=str(tmp_path / "ranges.json"))
    with pytest.raises(UsageError, match="different models"):
        Calibration(model="a").merged(Calibration(model="b"))


@pytest.mark.parametrize("text", ["", "{}", '{"tensors": 3}', "[1]"], ids=["empty", "no fields", "wrong", "a list"])
def test_a_damaged_calibration_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "ranges.json").write_text(text)
    with pytest.raises(UsageError, match="no calibration, or is damaged"):
        Calibration.read(tmp_path / "ranges.json")


def test_the_health_of_a_calibration_is_told(tmp_path: Path) -> None:
    x = NET.samples(32)["x"]
    growing = x * np.linspace(0.1, 3, 32).reshape(-1, 1, 1, 1).astype(np.float32)
    said = " ".join(said_of(calibrated(NET, tmp_path, {"x": growing}, batch=4)))
    assert "still growing at the last samples" in said
    said = " ".join(said_of(calibrated(NET, tmp_path, {"x": np.zeros_like(x)})))
    assert "tensors never change: x" in said
    assert not list(said_of(calibrated(NET, tmp_path, {"x": np.concatenate([x, x])}), "minmax"))


def test_what_is_clipped_is_said_with_the_worst(tmp_path: Path) -> None:
    x = NET.samples(32)["x"].copy()
    x[:, 0, 0, :8] = 1000
    found = calibrated(NET, tmp_path, {"x": x})
    health = Health.of(found, chosen(found, TARGETS["cpu"], "percentile"))
    assert max(health.saturation, key=lambda name: health.saturation[name]) in ("r", "t", "y")
    assert any(line.startswith("clipped at the ends of their ranges") for line in health.said())
    whole = Health.of(found, chosen(found, TARGETS["cpu"], "minmax"))
    assert not whole.saturation


def test_the_share_that_is_clipped_is_that_of_the_values(tmp_path: Path) -> None:
    x = NET.samples(32)["x"]
    found = calibrated(NET, tmp_path, {"x": x})
    grid = Grid(-1.0, 1.0, 255, symmetric=False)
    half = grid.scale / 2
    share = float(((x > 1 + half) | (x < -1 - half)).mean())
    assert share == pytest.approx(grid.outside(found.counts["x"].values()), rel=0.02)


def test_channels_that_never_change_are_counted(tmp_path: Path) -> None:
    graph = GRAPHS["dead_channels"]
    made = quantized(graph, tmp_path, save_calibration=str(tmp_path / "ranges.json"))
    assert any("2 channels of 'r' never change" in note for note in made.stages[0].notes), made.stages[0].notes
    report = json.loads((tmp_path / "ranges.json").read_text())["report"]
    assert report["constant_channels"] == {"r": 2}
    assert (report["samples"], report["tensors"]) == (32, 3)
    again = Calibration.read(tmp_path / "ranges.json")
    assert again.channels["r"].constant == 2


def test_what_it_can_not_be_calibrated_with_is_named(tmp_path: Path) -> None:
    x = NET.samples(8)["x"].copy()
    x[3, 0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="'x' can't be calibrated"):
        calibrated(NET, tmp_path, {"x": x})


def test_without_samples_it_is_refused_unless_made_up_ones_are_good_enough(tmp_path: Path) -> None:
    model, _ = NET.written(tmp_path)
    with pytest.raises(UsageError, match="needs samples like those in use"):
        deploykit.optimize(model, tmp_path / "q.onnx", passes=[Int8(target="cpu")], demand=ANY)
    one = Int8(target="cpu", synthetic_calibration=True)
    made = deploykit.optimize(model, tmp_path / "q.onnx", passes=[one], demand=ANY)
    assert any("made up" in note for note in made.stages[0].notes)
    assert "synthetic_calibration" in _lineage(made.path)["passes"]


def _lineage(path: Path) -> dict[str, str]:
    from deploykit.onnx_io import lineage, load

    return lineage(load(path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "cuda"}, "no target 'cuda'"),
        ({"method": "entrpoy"}, "no calibration method 'entrpoy'"),
        ({"keep": ("Conv_9",)}, "no node 'Conv_9'"),
        ({"calibration": "nothing.json"}, "can't read the calibration"),
    ],
    ids=["target", "method", "node", "calibration"],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as failed:
        quantized(NET, tmp_path, **options)
    assert failed.value.fix


def test_what_is_in_integers_or_float16_already_is_refused(tmp_path: Path) -> None:
    import onnx

    quantized(NET, tmp_path)
    with pytest.raises(UsageError, match="takes a model in float32, and this one is in int8"):
        deploykit.optimize(tmp_path / "q.onnx", tmp_path / "again.onnx", passes=[Int8()], data=tmp_path / "samples.npz")
    weights = {"w": np.ones((32, 32), np.float16)}
    half = Graph("y=MatMul(x,w)", weights, "float16[batch,32] x", "float16[batch,32] y")
    onnx.save(half.proto(), str(tmp_path / "half.onnx"))
    with pytest.raises(UsageError, match="takes a model in float32, and this one is in float16"):
        deploykit.optimize(tmp_path / "half.onnx", tmp_path / "again.onnx", passes=[Int8()])


def test_a_model_with_nothing_to_round_is_refused_with_the_reasons(tmp_path: Path) -> None:
    graph = Graph("k=Add(b,b) y=Conv(x,w,k)", {"w": (8, 8, 3, 3), "b": (8,)})
    with pytest.raises(UsageError, match="that cpu computes in int8") as failed:
        quantized(graph, tmp_path)
    assert failed.value.details == ("Conv_1: its bias is computed",)
