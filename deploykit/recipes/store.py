"""What steps have made, kept under their keys: ``.deploykit/steps/KEY/``, with ``result.json`` of each.

A key is a hash of all that a step depends on, so that what is there under it is what the step would make again. An
entry appears whole or not at all, and one whose files have changed since is none.
"""

import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import deploykit
from deploykit.artifact import fsync, sha256, staging
from deploykit.child import Step
from deploykit.workspace import FOLDER, opened

_RESULT = "result.json"
_HASHES = "hashes.json"
_SETTLED = 2.0
"""Seconds after which a file that is written again has another time, on any file system."""


def key_of(**parts: Any) -> str:
    """Hash what a step depends on; the order of the parts does not count."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@cache
def versions(*packages: str) -> tuple[str, ...]:
    """Say which versions of some packages are installed, and of deploykit itself by its own code."""
    return (f"deploykit {deploykit.__version__} {_own_code()}", *map(_version, sorted(packages)))


@cache
def _own_code() -> str:
    """Hash this package: a machine that installs it anew, as one in CI does, finds what another has made."""
    own = Path(deploykit.__file__).parent
    whole = hashlib.sha256()
    for file in sorted(own.rglob("*.py")):
        whole.update(f"{file.relative_to(own)}\0".encode() + file.read_bytes())
    return whole.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} none"


@dataclass(frozen=True)
class Store:
    """The steps of one folder."""

    folder: Path
    """``.deploykit``."""

    @classmethod
    def of(cls, folder: Path) -> "Store":
        """Give the store of a folder, making it where there is none.

        Raises:
            UsageError: the folder can't be written to.
        """
        own = opened(folder)
        (own / "steps").mkdir(exist_ok=True)
        return cls(own)

    def path(self, key: str) -> Path:
        """Say where the files of a step are."""
        return self.folder / "steps" / key

    def has(self, key: str) -> bool:
        """Tell whether a step was done, and its files are what they were then."""
        try:
            files = json.loads((self.path(key) / _RESULT).read_text())["files"]
            return all(self._is(self.path(key) / name, was) for name, was in files.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def _is(self, path: Path, was: Mapping[str, Any]) -> bool:
        now = path.stat()
        if (now.st_size, now.st_mtime_ns) == (was["size"], was["time"]):
            return True
        return now.st_size == was["size"] and sha256(path) == was["sha256"]

    def result(self, key: str) -> Any:
        """Give what a step that was done told of itself."""
        return json.loads((self.path(key) / _RESULT).read_text())["result"]

    def make(self, key: str, work: Callable[[Path], Any]) -> None:
        """Do a step in a folder of its own, and keep its files and what it gives; where it raises, nothing is kept."""
        with staging(self.folder / "steps") as stage:
            own = stage.folder / key
            own.mkdir()
            result = work(own)
            files = {str(file.relative_to(own)): _state(file) for file in sorted(own.rglob("*")) if file.is_file()}
            (own / _RESULT).write_text(json.dumps({"files": files, "result": result}, indent=1))
            for name in (*files, _RESULT):
                fsync(own / name)
            shutil.rmtree(self.path(key), ignore_errors=True)  # what is there is damaged
            stage.commit(key)

    @contextmanager
    def alone(self, step: Step) -> Iterator[None]:
        """Wait until no other run works in this folder, and keep others waiting; a killed run keeps nobody."""
        with (self.folder / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                step("waiting for another run in this folder to end")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def sha256(self, path: Path) -> str:
        """Hash a file or folder; what was hashed before, and has not changed since, is not read again."""
        name, state = str(path.resolve()), _stamp(path)
        known = self._noted(_HASHES).get(name)
        if isinstance(known, list) and known[:1] == [state]:
            return str(known[1])
        found = sha256(path)
        if _stamp(path) == state and time.time_ns() - max(one[2] for one in state) > _SETTLED * 1e9:
            self._note(_HASHES, name, [state, found])
        return found

    def is_placed(self, key: str, target: Path) -> bool:
        """Tell whether an artifact is what a step made, and has not changed since it was put there."""
        try:
            was, files = self._noted("placed.json")[str(target.resolve())]
            return bool(was == key) and all(_stamp(Path(name)) == state for name, state in files.items())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def place(self, key: str, target: Path, files: Sequence[Path]) -> None:
        """Note that an artifact, of these files, is what a step made."""
        self._note("placed.json", str(target.resolve()), [key, {str(one.resolve()): _stamp(one) for one in files}])

    def _noted(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / name).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _note(self, name: str, key: str, value: Any) -> None:
        place = self.folder / name
        part = place.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({**self._noted(name), key: value}, indent=1))
        part.replace(place)

    def clean(self) -> int:
        """Remove every step, and say how many bytes that gave back."""
        places = [self.folder / name for name in ("steps", "found")]
        size = sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file())
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
        for name in (_HASHES, "placed.json"):
            (self.folder / name).unlink(missing_ok=True)
        return size


def _state(file: Path) -> dict[str, Any]:
    about = file.stat()
    return {"size": about.st_size, "time": about.st_mtime_ns, "sha256": sha256(file)}


def _stamp(path: Path) -> list[list[Any]]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [[str(file.relative_to(path)), *_times(file.stat())] for file in files]


def _times(about: os.stat_result) -> tuple[int, int, int]:
    return about.st_size, about.st_mtime_ns, about.st_ino


__all__ = ["FOLDER", "Store", "key_of", "versions"]
