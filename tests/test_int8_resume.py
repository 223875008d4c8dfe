"""A search that was cut short is gone on with: what was measured is not measured again."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit import workspace
from deploykit.errors import NotEquivalent
from deploykit.passes.int8 import Int8
from tests.running import surroundings
from tests.test_int8_guard import HARMED, convolutions, in_float, searched

pytestmark = pytest.mark.usefixtures("untimed")

STANDS_STILL = """
import sys, time
from pathlib import Path
from deploykit.passes.int8 import Int8
from tests.test_int8_guard import searched

Int8.hastens = False

def step(said):
    print(said, flush=True)
    if said == sys.argv[1]:
        print("here", flush=True)
        time.sleep(600)

searched(Path("."), 25.0, step)
"""
MEASURING = "measuring the effect of layer 4 of 9"
TRYING = "the budget is missed: with 2 of 9 layers in float?"


def killed(folder: Path, at: str) -> None:
    """Search in a process of its own, and kill it at a certain step."""
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", STANDS_STILL, at], cwd=folder, env=surroundings({}), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert "here" in (line.strip() for line in process.stdout), "it ended before"
    finally:
        process.kill()
        process.wait()


def kept(folder: Path) -> list[Path]:
    return sorted((folder / workspace.FOLDER / "found").glob("*/*"))


@pytest.fixture(scope="module")
def half_way(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give folders of runs that were killed, by where."""
    folders = {at: tmp_path_factory.mktemp("killed") / "here" for at in (MEASURING, TRYING)}
    for at, folder in folders.items():
        killed(folder, at)
    return folders


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Give the file that a run makes that nobody cut short."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(Int8, "hastens", False)
        searched(Path(), 25.0)
    assert not kept(folder), "what was kept is of no use any more"
    return (folder / "q.onnx").read_bytes()


def again(half_way: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Any, list[str]]:
    """Go on with a copy of what was left; give the stage and what was said meanwhile."""
    shutil.copytree(half_way, folder / "copy")
    monkeypatch.chdir(folder / "copy")
    said: list[str] = []
    return searched(Path(), options.pop("least", 25.0), said.append, **options), said


@pytest.mark.parametrize(
    ("at", "measured", "told"),
    [
        (MEASURING, 6, "resumed: 3 of 9 layers were measured before, and 1 choice of them judged"),
        (TRYING, 0, "resumed: 9 of 9 layers were measured before, and 2 choices of them judged"),
    ],
    ids=["measuring", "trying"],
)
def test_what_a_killed_run_had_measured_is_not_measured_again(
    at: str, measured: int, told: str, half_way: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [file.name for file in kept(half_way[at])] == ["ranges.json", "search.json"]
    stage, said = again(half_way[at], tmp_path, monkeypatch)
    assert sum("measuring the effect" in one for one in said) == measured
    assert sum("calibrating" in one for one in said) == 0
    assert {told, "resumed: the calibration with 16 samples is of the run before"} <= set(stage.notes)
    assert in_float(stage) == {convolutions()[block] for block in HARMED}
    assert not kept(tmp_path / "copy")


def test_a_run_that_went_on_makes_the_same_bytes(
    half_way: dict[str, Path], whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again(half_way[MEASURING], tmp_path, monkeypatch)
    assert (tmp_path / "copy" / "q.onnx").read_bytes() == whole


@pytest.mark.parametrize(
    "changed", [{"method": "minmax"}, {"least": 24.0}, {"keep": (convolutions()[0],)}], ids=["option", "budget", "node"]
)
def test_another_command_starts_anew(
    changed: dict[str, Any], half_way: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, said = again(half_way[TRYING], tmp_path, monkeypatch, **changed)
    assert not any("resumed" in note for note in stage.notes)
    assert any("calibrating" in one for one in said)


def test_other_samples_start_anew(half_way: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.int8_graphs import Graph

    own = Graph.samples
    monkeypatch.setattr(Graph, "samples", lambda graph: {"x": own(graph)["x"] + np.float32(0.01)})
    stage, _ = again(half_way[TRYING], tmp_path, monkeypatch)
    assert not any("resumed" in note for note in stage.notes)


@pytest.mark.parametrize("damage", [b"", b'{"effects": {"a": {}}, "verdicts": [], "tensors": {}}'])
def test_what_is_damaged_is_measured_anew_and_said(
    damage: bytes, half_way: dict[str, Path], whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(half_way[TRYING], tmp_path / "damaged")
    for file in kept(tmp_path / "damaged"):
        file.write_bytes(damage)
    stage, said = again(tmp_path / "damaged", tmp_path, monkeypatch)
    assert sum("measuring the effect" in one for one in said) == 9
    assert sum("is damaged" in note for note in stage.notes) == 2
    assert (tmp_path / "copy" / "q.onnx").read_bytes() == whole


def test_what_the_time_was_too_short_for_is_gone_on_with(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(NotEquivalent) as failed:
            searched(tmp_path, 25.0, time_budget=0.0)
        assert any("the same command goes on from here" in line for line in failed.value.details)
    stage = searched(tmp_path, 25.0)
    assert any("resumed: 2 of 9 layers" in note for note in stage.notes), stage.notes
    assert in_float(stage) == {convolutions()[block] for block in HARMED}


def test_only_so_many_runs_are_remembered(tmp_path: Path) -> None:
    for number in range(12):
        workspace.Found.of(f"{number:032}").keep("search.json", lambda path: path.write_text("{}"))
    assert len(kept(tmp_path)) == 8
    workspace.Found.of(f"{11:032}").forget()
    assert len(kept(tmp_path)) == 7
