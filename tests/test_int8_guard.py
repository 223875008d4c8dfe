"""What harms most goes back to float, as little as the budget takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit
from deploykit.console.made import show_layers
from deploykit.errors import NotEquivalent
from deploykit.passes.dynamic import Dynamic
from deploykit.passes.int8 import Int8
from deploykit.passes.weight_only import WeightOnly
from deploykit.validation import Demand
from tests.int8_graphs import Graph, weight

pytestmark = pytest.mark.usefixtures("untimed")

BLOCKS = 6
HARMED = (1, 3, 4)
"""What goes into these convolutions has one channel that is 300 times as large as the others."""


def uneven() -> Graph:
    """Convolutions in a row; to some, steps that fit the largest channel leave nothing of the others."""
    rng = np.random.default_rng(0)
    loud = np.ones((8, 1, 1), np.float32)
    loud[0] = 300
    nodes, weights = [], {"loud": loud}
    for block in range(BLOCKS):
        before, after = "x" if block == 0 else f"r{block - 1}", "y" if block == BLOCKS - 1 else f"r{block}"
        weights[f"w{block}"] = weight(rng, (8, 8, 3, 3)) * 2
        if block in HARMED:
            nodes.append(f"s{block}=Mul({before},loud)")
            weights[f"w{block}"] /= loud
        read = f"s{block}" if block in HARMED else before
        nodes.append(f"c{block}=Conv<pads=[1,1,1,1]>({read},w{block}) {after}=Relu(c{block})")
    return Graph(" ".join(nodes), weights)


def demand(least: float) -> Demand:
    return Demand(allow_undecided=True, bounds={"min_agreement": 0.0, "min_sqnr": least, "min_iou": 0.0})


def searched(folder: Path, least: float, step: Any = lambda _: None, **options: Any) -> Any:
    model, samples = uneven().written(folder)
    one = Int8(target="cpu", **options)
    place = folder / "q.onnx"
    return deploykit.optimize(
        model, place, passes=[one], data=samples, samples=16, demand=demand(least), step=step
    ).stages[0]


def in_float(stage: Any) -> set[str]:
    return {layer.name for layer in stage.layers if layer.fate == "float: for the budget"}


def convolutions() -> list[str]:
    return [node.name for node in uneven().proto().graph.node if node.op_type == "Conv"]


def test_the_layers_that_harm_go_back_to_float_and_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = searched(tmp_path, 25.0)
    assert in_float(stage) == {convolutions()[block] for block in HARMED}
    assert stage.verdict.passed
    alone = {layer.name: layer.alone for layer in stage.layers}
    harmed = [alone.pop(convolutions()[block]) for block in HARMED]
    assert max(harmed) < min(alone.values())
    assert any("went back to float" in note for note in stage.notes)
    show_layers(stage.layers)
    table = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()[1:]]
    assert {line[0] for line in table[:3]} == in_float(stage), "the worst first"
    assert [line[3].strip() for line in table] == ["float: for the budget"] * 3 + ["int8"] * 3
    assert len(list(tmp_path.glob("*.onnx"))) == 2, "only the source and the result are left"


def test_a_budget_that_all_in_integers_keeps_costs_no_search(tmp_path: Path) -> None:
    said: list[str] = []
    stage = searched(tmp_path, -20.0, said.append)
    assert not in_float(stage)
    assert all(layer.alone is None for layer in stage.layers)
    assert not any("effect" in one for one in said)


def test_a_budget_that_nothing_keeps_is_missed_with_what_was_reached(tmp_path: Path) -> None:
    with pytest.raises(NotEquivalent) as failed:
        searched(tmp_path, 80.0)
    assert any("missed even with" in line for line in failed.value.details)
    assert any("SQNR" in line for line in failed.value.details)
    assert failed.value.verdict is not None
    assert not (tmp_path / "q.onnx").exists()


def test_the_search_ends_when_its_time_is_over(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(NotEquivalent) as failed:
        searched(tmp_path, 25.0, said.append, time_budget=0.0)
    assert any("time for the search was over" in line for line in failed.value.details)
    assert sum("layers in float?" in one for one in said) == 1


def test_an_interrupted_search_keeps_the_best_that_it_has(tmp_path: Path) -> None:
    tried: list[str] = []

    def interrupt(said: str) -> None:
        if "layers in float?" in said:
            tried.append(said)
            if len(tried) == 4:
                raise KeyboardInterrupt

    stage = searched(tmp_path, 25.0, interrupt)
    assert (tmp_path / "q.onnx").exists()
    assert any("interrupted" in note for note in stage.notes)
    assert in_float(stage) >= {convolutions()[block] for block in HARMED}


def test_an_interruption_before_anything_keeps_the_budget_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(said: str) -> None:
        if "layers in float?" in said:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path, 25.0, interrupt)
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {"model.onnx", "samples.npz"}


def test_what_the_user_keeps_in_float_is_not_searched(tmp_path: Path) -> None:
    kept = tuple(convolutions()[block] for block in HARMED)
    stage = searched(tmp_path, 25.0, keep=kept)
    assert {layer.name for layer in stage.layers if layer.fate == "float: as asked"} == set(kept)
    assert not in_float(stage)


@pytest.mark.parametrize("one", [Dynamic(target="cpu"), WeightOnly(bits=4)], ids=["dynamic", "weight-only"])
def test_the_other_ways_to_round_have_the_same_guard(one: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    loud = np.ones(96, np.float32)
    loud[:8] = 3000
    rare = np.where(rng.random((96, 96)) < 0.02, 300, 1)
    outliers = (weight(rng, (96, 96)) * rare / loud[:, None]).astype(np.float32)
    graph = Graph(
        "a=MatMul(x,w) r=Relu(a) s=Mul(r,loud) k=Abs(s) b=MatMul(k,v) t=Relu(b) y=MatMul(t,u)",
        {"w": (96, 96), "v": outliers, "u": (96, 96), "loud": loud},
        "float[batch,96] x",
        "float[batch,96] y",
    )
    model, samples = graph.written(tmp_path)
    made = deploykit.optimize(model, tmp_path / "q.onnx", passes=[one], data=samples, demand=demand(16.0))
    assert in_float(made.stages[0]) == {"MatMul_4"}
