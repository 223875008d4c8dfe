"""Files appear whole or not at all: whatever is killed, whenever, and whoever else is at work in the folder."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploykit.artifact import Artifact, Format, recover, sha256, staging
from deploykit.errors import UsageError

ROOT = Path(__file__).parents[1]
NEW = {"model.onnx": "new model", "model.golden.npz": "new golden", "model.data": "new weights"}
OLD = {"model.onnx": "old model", "model.golden.npz": "old golden"}

COMMITTING = """
import os, pathlib, sys
from deploykit.artifact import staging
folder, word, *names = sys.argv[1:]
with staging(pathlib.Path(folder)) as stage:
    for name in names:
        (stage.folder / name).write_text(f"{word} {name}")
    BEFORE
    stage.commit(*names)
"""
DYING = """
renames = COUNT
for kind in ("rename", "replace"):
    def last(path, target, own=getattr(pathlib.Path, kind)):
        global renames
        renames -= 1
        if renames < 0:
            os._exit(9)
        return own(path, target)
    setattr(pathlib.Path, kind, last)
"""


def committing(before: str) -> str:
    """Give the code of a process that fills a stage, does something, and commits."""
    return COMMITTING.replace("BEFORE", before.replace("\n", "\n    "))


def fill(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text)


def visible(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(".")}


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> int:
    process.communicate(timeout=60)
    return process.returncode


@contextmanager
def stage_of_a_living_process(folder: Path) -> Iterator[Path]:
    """Let another process hold a stage with a file in it, until the block ends."""
    process = python(committing("print(stage.folder, flush=True); input()"), folder, "slow", "slow.onnx")
    assert process.stdout is not None
    try:
        yield Path(process.stdout.readline().strip())
    finally:
        assert ended(process) != 0, "its input ended, and so must it"


def test_nothing_is_visible_before_the_commit_and_all_of_it_after(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    with staging(tmp_path) as stage:
        fill(stage.folder, NEW)
        assert visible(tmp_path) == OLD
        stage.commit(*NEW)
        assert visible(tmp_path) == NEW
    assert hidden(tmp_path) == []


def test_only_what_is_committed_appears(tmp_path: Path) -> None:
    with staging(tmp_path) as stage:
        fill(stage.folder, NEW)
        stage.commit("model.onnx")
    assert visible(tmp_path) == {"model.onnx": "new model"}
    assert hidden(tmp_path) == []


def test_an_error_in_the_stage_leaves_what_was_there(tmp_path: Path) -> None:
    fill(tmp_path, OLD)

    def fail() -> None:
        with staging(tmp_path) as stage:
            fill(stage.folder, NEW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert visible(tmp_path) == OLD
    assert hidden(tmp_path) == []


def test_a_commit_of_a_file_that_was_not_made_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    with staging(tmp_path) as stage:
        fill(stage.folder, {"model.onnx": "new model"})
        with pytest.raises(FileNotFoundError):
            stage.commit("model.onnx", "model.golden.npz")
    assert visible(tmp_path) == OLD


def test_a_stage_killed_between_its_moves_is_finished_by_the_next(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    stage = tmp_path / ".deploykit-stage-killed"
    stage.mkdir()
    fill(stage, {name: text for name, text in NEW.items() if name != "model.onnx"})
    (stage / "COMMIT").write_text(json.dumps(list(NEW)))
    fill(tmp_path, {"model.onnx": NEW["model.onnx"]})  # the move that was done before the kill
    recover(tmp_path)
    assert visible(tmp_path) == NEW
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("replaces", range(5))
def test_a_process_killed_at_any_rename_leaves_the_old_or_the_new(tmp_path: Path, replaces: int) -> None:
    old = dict.fromkeys(("a", "b", "c"), "old")
    new = {name: f"new {name}" for name in old}
    fill(tmp_path, old)
    code = committing(DYING.replace("COUNT", str(replaces)))
    assert ended(python(code, tmp_path, "new", *new)) == (9 if replaces < 4 else 0)
    assert bool(hidden(tmp_path)) == (replaces < 4)
    recover(tmp_path)
    assert visible(tmp_path) == (old if replaces == 0 else new)
    assert hidden(tmp_path) == []


def test_looking_at_an_artifact_finishes_what_a_killed_run_began(tmp_path: Path) -> None:
    stage = tmp_path / ".deploykit-stage-killed"
    stage.mkdir()
    fill(stage, {"weights.safetensors": "", "COMMIT": json.dumps(["weights.safetensors"])})
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (stage / "weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    artifact = Artifact.open(tmp_path / "weights.safetensors")
    assert artifact.format is Format.SAFETENSORS


def test_the_stage_of_a_dead_process_without_a_commit_is_removed(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    code = committing("os._exit(9)")
    assert ended(python(code, tmp_path, "new", "model.onnx")) == 9
    assert len(hidden(tmp_path)) == 1
    recover(tmp_path)
    assert hidden(tmp_path) == []
    assert visible(tmp_path) == OLD


def test_a_half_written_list_of_moves_is_no_commit(tmp_path: Path) -> None:
    stage = tmp_path / ".deploykit-stage-killed"
    stage.mkdir()
    fill(stage, {**NEW, "COMMIT.part": '["mod'})
    recover(tmp_path)
    assert visible(tmp_path) == {}
    assert hidden(tmp_path) == []


def test_the_stage_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    with stage_of_a_living_process(tmp_path) as other:
        recover(tmp_path)
        assert (other / "slow.onnx").read_text() == "slow slow.onnx"
        with staging(tmp_path) as stage:
            fill(stage.folder, NEW)
            stage.commit(*NEW)
        assert (other / "slow.onnx").exists()
    assert visible(tmp_path) == NEW


def test_processes_committing_at_once_leave_a_consistent_pair(tmp_path: Path) -> None:
    names = ("model.golden.npz", "model.onnx")
    code = committing("print(flush=True); input()")
    processes = [python(code, tmp_path, word, *names) for word in ("one", "two", "three", "four")]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()  # all are ready ...
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()  # ... and now go
    assert [ended(process) for process in processes] == [0] * 4
    found = visible(tmp_path)
    winner = found["model.onnx"].split()[0]
    assert found == {name: f"{winner} {name}" for name in names}
    assert hidden(tmp_path) == []


def test_a_folder_that_is_not_there_or_is_a_file_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(UsageError, match="can't write to the folder") as caught, staging(place):
            pass
        assert caught.value.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_can_not_be_written_to_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        recover(tmp_path)
        with pytest.raises(UsageError, match="Permission denied"), staging(tmp_path):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_the_hash_of_a_folder_depends_on_the_names_and_the_content_of_all_its_files(tmp_path: Path) -> None:
    hashes = set()
    for number, texts in enumerate(({"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": "1", "c": "2"}, {"a": "12"})):
        folder = tmp_path / str(number)
        (folder / "in").mkdir(parents=True)
        fill(folder / "in", texts)
        hashes.add(sha256(folder))
        assert sha256(folder) == Artifact(folder, Format.SAVED_MODEL).sha256()
    assert len(hashes) == 4
    assert Artifact(tmp_path / "0", Format.SAVED_MODEL).size == 2
