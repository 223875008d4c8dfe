"""The workspace of a folder, ``.deploykit/``: the journal of the artifacts made there, and so "the latest".

Beside it lies what runs that did not come to their end have found out, for a rerun to go on from.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from deploykit.errors import UsageError

FOLDER = ".deploykit"
_JOURNAL = "journal.jsonl"
_FOUND = "found"
_RUNS = 8
"""So many runs that did not come to their end are remembered."""


@dataclass(frozen=True)
class Entry:
    """One artifact that was made and proved."""

    path: str
    """Relative to the folder of the workspace where it lies below it."""
    sha256: str
    step: str
    """The command that made it: ``convert``."""
    source: str
    made: str
    """Date and time, ISO 8601, UTC."""


def write(entry: Entry, folder: Path | None = None) -> None:
    """Add an entry to the journal of a folder (the current one); where that can't be written, do without."""
    if FOLDER in Path(entry.path).parts:
        return  # what a step has made is none of the user's artifacts yet
    try:
        place = opened(folder or Path.cwd())
        handle = os.open(place / _JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # One write, so that two runs don't mix lines; a line that a crash has cut off before it is ended first.
            os.write(handle, b"\n" + json.dumps(asdict(entry)).encode() + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError:
        return  # a folder that can't be written to has no "latest"; the artifact itself is where it was asked for


def opened(folder: Path) -> Path:
    """Give the workspace of a folder, making it where there is none; version control passes it over."""
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    if not (place / ".gitignore").exists():
        (place / ".gitignore").write_text("*\n")
    return place


def entries(folder: Path | None = None) -> Iterator[Entry]:
    """Read the journal of a folder (the current one), oldest first; a line cut off by a crash is passed over."""
    try:
        lines = ((folder or Path.cwd()) / FOLDER / _JOURNAL).read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield Entry(**json.loads(line))
        except (ValueError, TypeError):
            continue


def latest(folder: Path | None = None, suffix: str = "") -> Path:
    """Give the artifact made last in a folder (the current one) that is still there.

    Args:
        folder: where it was made.
        suffix: its name ends so: ``.onnx`` for what takes nothing else.

    Raises:
        UsageError: there is none.
    """
    for entry in reversed(list(entries(folder))):
        if Path(entry.path).exists() and entry.path.endswith(suffix):
            return Path(entry.path)
    raise UsageError(
        "no artifact was named, and none was made in this folder yet",
        fix=["name one after the command: model.onnx", "or make one: deploykit convert model.pt"],
    )


@dataclass(frozen=True)
class Found:
    """What one run has found out so far: files that a rerun of the same command reads."""

    place: Path

    @classmethod
    def of(cls, key: str) -> Self:
        """Name the place for a command on certain files, in the current folder; nothing is made yet."""
        return cls(Path.cwd() / FOLDER / _FOUND / key[:32])

    def keep(self, name: str, write: Callable[[Path], object]) -> None:
        """Have a file written, which appears whole or not at all; where that can't be, do without."""
        part = self.place / f"{name}.{os.getpid()}"
        try:
            if not self.place.exists():
                opened(self.place.parents[2])
                _forget_old(self.place.parent)
            self.place.mkdir(parents=True, exist_ok=True)
            write(part)
            # Not synced: a file that a crash of the machine has damaged is found out, and what it had is measured anew.
            part.replace(self.place / name)
        except OSError:
            with suppress(OSError):
                part.unlink()

    def forget(self) -> None:
        """Remove it: the run has come to its end."""
        shutil.rmtree(self.place, ignore_errors=True)


def _forget_old(folder: Path) -> None:
    """Leave room for the run that is about to begin."""
    runs = sorted(folder.glob("*"), key=lambda run: run.stat().st_mtime, reverse=True)
    for run in runs[_RUNS - 1 :]:
        shutil.rmtree(run, ignore_errors=True)
