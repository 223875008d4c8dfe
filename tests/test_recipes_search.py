"""``deploykit run --search``, and steps that are done by the workers of a dask cluster."""

import math
import shutil
from pathlib import Path

import pytest

import deploykit
from deploykit.recipes.recipe import Recipe, Samples, Wanted
from deploykit.recipes.searching import Found, Search, combinations, ranked
from deploykit.timing import Ratio
from tests.running import assert_refused
from tests.running import deploykit as command


@pytest.fixture
def folder(here: Path, digits: Path) -> Path:
    shutil.copy(digits / "digits_val.npz", here)
    return here


def found(name: str, accuracy: float, latency: float, size: int, *, passed: bool = True) -> Found:
    return Found(name, passed, accuracy, math.inf, Ratio(latency, latency, latency), size)


def test_the_fastest_that_passed_is_best_and_what_nothing_beats_is_on_the_front() -> None:
    rows = ranked(
        [
            found("exact", 0.9, 1.0, 100),
            found("fast", 0.88, 0.5, 50),
            found("worse than fast", 0.87, 0.6, 50),
            found("small", 0.86, 0.9, 20),
            found("fails", 0.5, 0.1, 10, passed=False),
        ]
    )
    assert [one.name for one in rows if one.best] == ["fast"]
    assert [one.name for one in rows if one.pareto] == ["exact", "fast", "small"]


def test_without_samples_no_combination_needs_them() -> None:
    bare = combinations(Recipe("m.onnx"), Search())
    assert {"simplify", "fp16", "dynamic"} <= {one.name for one in bare.artifact}
    assert not any(one.name.startswith("int8") for one in bare.artifact)
    full = combinations(Recipe("m.onnx", data=Samples(validation="v.npz")), Search(target="tensorrt"))
    assert any(one.name.startswith("int8") for one in full.artifact)
    assert not any(one.name == "dynamic" for one in full.artifact)


def test_a_search_that_runs_out_of_time_writes_the_best_so_far_and_goes_on_later(folder: Path) -> None:
    ran = command(
        *("run", "digits.onnx", "--search", "--data", "digits_val.npz", "--time-budget", "0.01", "--json"), cwd=folder
    )
    assert ran.code == 0, ran.err
    assert [one["name"] for one in ran.json["searched"]] == ["simplify"]
    assert ran.json["searched"][0]["best"] is True
    assert "not tried" in ran.json["notes"][0]
    assert command("validate", "digits.best.onnx", cwd=folder).code == 0


def test_a_search_and_a_pass_are_not_named_together(folder: Path) -> None:
    assert_refused(command("run", "digits.onnx", "--search", "--fp16", cwd=folder), 2, "--search tries what there is")
    assert_refused(
        command("run", "digits.onnx", "--search", "--target", "cpux", cwd=folder), 2, "there is no target 'cpux'"
    )
    assert_refused(command("run", "digits.onnx", "--search", "--time-budget", "-1", cwd=folder), 2, "--time-budget")


def test_workers_of_a_cluster_make_the_same_and_one_that_is_lost_costs_nothing(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    distributed = pytest.importorskip("distributed")
    alone = tmp_path_factory.mktemp("alone")
    shutil.copytree(folder, alone, dirs_exist_ok=True)
    from deploykit.passes import PASSES

    steps = {"small": ("simplify",), "half": ("simplify", "fp16")}
    wanted = tuple(Wanted(name, tuple(map(PASSES.parse, texts))) for name, texts in steps.items())
    recipe = Recipe("digits.onnx", wanted, Samples(validation="digits_val.npz"))
    here = deploykit.run(Recipe(**{**vars(recipe), "folder": alone}), output=alone)
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        address = cluster.scheduler_address
        killed = next(iter(cluster.workers.values()))
        killed.process.process.terminate()  # in the midst of what it begins with
        made = deploykit.run(Recipe(**{**vars(recipe), "folder": folder}), output=folder, executor=f"dask:{address}")
    assert made.passed
    for one, other in zip(here.artifacts, made.artifacts, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
    assert all(step.cached for one in made.artifacts for step in one.steps), "the workers have done them"


def test_an_engine_that_is_not_there_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploykit.recipes.executing.PATIENCE", "1s")
    assert_refused(command("run", "digits.onnx", "--executor", "spark:x", cwd=folder), 2, "no executor 'spark:x'")
    assert_refused(
        command("run", "digits.onnx", "--executor", "dask:tcp://127.0.0.1:9", cwd=folder), 2, "no dask scheduler"
    )
