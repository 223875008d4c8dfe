"""The journal of a folder names the artifact made last, whatever became of the ones before and of the journal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploykit.errors import UsageError
from deploykit.workspace import FOLDER, Entry, entries, latest, write

ROOT = Path(__file__).parents[1]


def entry(path: Path | str) -> Entry:
    return Entry(str(path), "0" * 64, "convert", "model.pt", "2026-01-01T00:00:00+00:00")


def made(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()
        write(entry(folder / name), folder)


def journal(folder: Path) -> Path:
    return folder / FOLDER / "journal.jsonl"


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    made(tmp_path, "one.onnx", "två.onnx")
    assert list(entries(tmp_path)) == [entry(tmp_path / "one.onnx"), entry(tmp_path / "två.onnx")]


def test_the_latest_is_the_one_written_last(tmp_path: Path) -> None:
    made(tmp_path, "one.onnx", "two.onnx", "one.onnx")
    assert latest(tmp_path) == tmp_path / "one.onnx"


def test_an_artifact_that_was_deleted_is_passed_over(tmp_path: Path) -> None:
    made(tmp_path, "one.onnx", "two.onnx")
    (tmp_path / "two.onnx").unlink()
    assert latest(tmp_path) == tmp_path / "one.onnx"


def test_without_any_artifact_left_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no artifact was named") as caught:
        latest(tmp_path)
    made(tmp_path, "one.onnx")
    (tmp_path / "one.onnx").unlink()
    with pytest.raises(UsageError, match="no artifact was named"):
        latest(tmp_path)
    assert any("deploykit convert" in fix for fix in caught.value.fix)


@pytest.mark.parametrize("cut", [1, 20, 90])
def test_a_line_cut_off_by_a_crash_is_passed_over(tmp_path: Path, cut: int) -> None:
    made(tmp_path, "one.onnx", "two.onnx")
    journal(tmp_path).write_bytes(journal(tmp_path).read_bytes()[:-cut])
    assert latest(tmp_path) == tmp_path / ("two.onnx" if cut == 1 else "one.onnx")


@pytest.mark.parametrize("cut", [1, 20, 90])
def test_what_is_written_after_a_line_that_was_cut_off_is_found(tmp_path: Path, cut: int) -> None:
    made(tmp_path, "one.onnx", "two.onnx")
    journal(tmp_path).write_bytes(journal(tmp_path).read_bytes()[:-cut])
    made(tmp_path, "three.onnx")
    assert latest(tmp_path) == tmp_path / "three.onnx"


def test_lines_that_are_no_entries_are_passed_over(tmp_path: Path) -> None:
    made(tmp_path, "one.onnx")
    with journal(tmp_path).open("a") as file:
        file.write('\nnull\n[]\n{}\n"text"\n{"path": "x", "of": "a newer version"}\n3\n')
    assert [found.path for found in entries(tmp_path)] == [str(tmp_path / "one.onnx")]


def test_a_journal_that_is_not_text_has_no_entries(tmp_path: Path) -> None:
    made(tmp_path, "one.onnx")
    journal(tmp_path).write_bytes(b"\xff\xfe\x00" * 20)
    assert list(entries(tmp_path)) == []


def test_a_folder_that_can_not_be_written_to_has_no_journal_and_no_error(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder would be")
    write(entry("one.onnx"), tmp_path)
    assert list(entries(tmp_path)) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_has_no_journal_and_no_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        write(entry("one.onnx"), tmp_path)
        assert list(entries(tmp_path)) == []
    finally:
        tmp_path.chmod(0o700)


def test_the_workspace_keeps_itself_out_of_git(tmp_path: Path) -> None:
    made(tmp_path, "one.onnx")
    assert (tmp_path / FOLDER / ".gitignore").read_text() == "*\n"


def test_processes_writing_at_once_lose_no_line(tmp_path: Path) -> None:
    code = """
import sys, pathlib
from deploykit.workspace import Entry, write
for number in range(50):
    write(Entry(f"{sys.argv[2]}-{number}" + "x" * 200, "", "", "", ""), pathlib.Path(sys.argv[1]))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen([*command, word], cwd=ROOT) for word in "abc"]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    lines = [line for line in journal(tmp_path).read_text().splitlines() if line]
    assert len({json.loads(line)["path"] for line in lines}) == 150


def test_an_entry_made_in_another_folder_is_found_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").touch()
    write(entry("model.onnx"))
    assert latest() == Path("model.onnx")


def test_what_takes_onnx_files_alone_passes_over_what_was_made_of_one(tmp_path: Path) -> None:
    for name in ("a.onnx", "a.engine"):
        (tmp_path / name).touch()
        write(entry(tmp_path / name), tmp_path)
    assert latest(tmp_path).name == "a.engine"
    assert latest(tmp_path, ".onnx").name == "a.onnx"
