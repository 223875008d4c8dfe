"""Artifacts: a model file or folder, told apart by content, and written whole or not at all."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from deploykit.errors import UsageError


class Format(StrEnum):
    """How a model is kept on disk."""

    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"
    TORCHSCRIPT = "torchscript"
    TORCH_PICKLE = "torch-pickle"
    STATE_DICT = "state-dict"
    SAFETENSORS = "safetensors"
    SAVED_MODEL = "saved-model"
    KERAS = "keras"
    KERAS_H5 = "keras-h5"
    GRAPH_DEF = "graph-def"
    TFLITE = "tflite"
    GOLDEN = "golden"
    ENGINE = "engine"


@dataclass(frozen=True)
class Artifact:
    """A model file or folder and its format."""

    path: Path
    format: Format

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Look into a file or folder and say what it is.

        Raises:
            UsageError: there is nothing there, or it can't be read.
            ModelError: it is empty, damaged, or of no known format.
        """
        from deploykit.sniff import sniff

        path = Path(path)
        recover(path.parent)
        return cls(path, sniff(path))

    def sha256(self) -> str:
        """Hash the content: the file, or every file of the folder with its name."""
        return sha256(self.path)

    @property
    def to_onnx(self) -> str:
        """Say how a user gets to an ONNX file from it."""
        if self.format is Format.ENGINE:
            return "give the ONNX file that it was built of"
        return f"deploykit convert {self.path} first"

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in _files(self.path))


def sha256(path: Path) -> str:
    """Hash a file, or every file of a folder together with its name."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for part in _files(path):
        whole.update(f"{part.relative_to(path)}\0{sha256(part)}\n".encode())
    return whole.hexdigest()


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


# Whole or not at all: new files are made in a hidden folder beside their place, then put there in one step that a
# kill can't leave half done. The step is: write the list of moves (COMMIT), move, remove the folder. Whoever comes
# next finishes a folder that has its list, and removes one that has none and whose maker is gone.

_STAGE = ".deploykit-stage-"
_COMMIT = "COMMIT"


@dataclass
class Staging:
    """A hidden folder for files in the making, beside the place where they belong."""

    folder: Path

    def commit(self, *names: str) -> None:
        """Put these files of the stage in the folder it stands in; older files of those names are replaced."""
        for name in names:
            fsync(self.folder / name)
        listed = self.folder / f"{_COMMIT}.part"
        listed.write_text(json.dumps(names))
        fsync(listed)
        listed.rename(self.folder / _COMMIT)
        fsync(self.folder)
        with _locked(self.folder.parent):
            _finish(self.folder)


@contextmanager
def staging(folder: Path) -> Iterator[Staging]:
    """Open a stage for files that belong in ``folder``; without ``commit`` nothing of it stays.

    Raises:
        UsageError: the folder does not exist or can't be written to.
    """
    recover(folder)
    with ExitStack() as stack:
        try:
            with _locked(folder):  # nobody tidies up between the making of the stage and its lock
                place = Path(tempfile.mkdtemp(prefix=_STAGE, dir=folder))
                stack.enter_context(_locked(place))
        except OSError as error:
            raise UsageError(
                f"can't write to the folder {folder}: {error.strerror}",
                fix="make the folder, or name another place with -o",
            ) from error
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        yield Staging(place)


def recover(folder: Path) -> None:
    """Finish what a killed run had begun to put in place, and remove what it had not."""
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return
    for stage in folder.glob(f"{_STAGE}*"):
        with _locked(folder):
            if (stage / _COMMIT).exists():
                _finish(stage)
            elif not _is_held(stage):
                shutil.rmtree(stage, ignore_errors=True)


def _finish(stage: Path) -> None:
    try:
        names = json.loads((stage / _COMMIT).read_text())
    except FileNotFoundError:  # another run was quicker
        return
    for name in names:
        if (stage / name).exists():
            (stage / name).replace(stage.parent / name)
    fsync(stage.parent)
    shutil.rmtree(stage, ignore_errors=True)


def fsync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the one lock of a folder; it goes with the process, however that ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_held(stage: Path) -> bool:
    try:
        handle = os.open(stage, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
