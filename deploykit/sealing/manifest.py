"""The manifest of a seal: a JSON file beside the model, with the names of files relative to its folder."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self, cast

from deploykit.artifact import sha256
from deploykit.errors import ModelError, Refused, UsageError
from deploykit.validation.demand import Bounds, Demand
from deploykit.validation.reports import save
from deploykit.validation.stored import read_verdict, stored
from deploykit.validation.verdict import Verdict

SUFFIX = ".seal.json"
ROLES = ("artifact", "weights", "golden")
_FORMAT = "deploykit seal"
_VERSION = 1
_LONGEST = 1 << 26
"""Characters that are read of a manifest; one of a thousand outputs has less than a million."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SealedFile:
    """One file as it was when it was sealed."""

    role: str
    """``artifact``, ``weights`` (external data of it) or ``golden``."""
    name: str
    """Its path in the folder of the manifest, with ``/`` between the parts."""
    bytes: int
    sha256: str

    @classmethod
    def of(cls, role: str, path: Path, folder: Path) -> Self:
        """Look at a file in a folder."""
        name = os.path.relpath(os.path.normpath(path), os.path.normpath(folder))
        return cls(role, Path(name).as_posix(), path.stat().st_size, sha256(path))


@dataclass(frozen=True)
class Seal:
    """What was proved: the files, where they are from, what they were judged with and how that came out."""

    path: Path
    """Of the manifest."""
    sealed: str
    """Date and time, ISO 8601, UTC."""
    files: tuple[SealedFile, ...]
    """The artifact first, then its external data, then the golden."""
    source: Mapping[str, str]
    """name and sha256 of the source, as the model's lineage says."""
    passes: str
    """What was done to the model, as its lineage says."""
    exported_with: str
    """The framework and the exporter, and their versions, as its lineage says."""
    versions: Mapping[str, str]
    """What it was validated with: deploykit, python, numpy, onnxruntime."""
    verdict: Verdict
    bounds: Bounds = field(default_factory=Bounds)
    """What it was asked in the place of the usual rules."""

    @property
    def artifact(self) -> SealedFile:
        """The ONNX file."""
        return self.files[0]


def seal_path(model: Path) -> Path:
    """Say where the seal of ``model.onnx`` lies: ``model.seal.json`` beside it."""
    return model.with_name(f"{model.stem}{SUFFIX}")


def write(seal: Seal) -> None:
    """Write a manifest, whole or not at all; the same seal gives the same bytes.

    Raises:
        UsageError: the place can't be written to.
    """
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "sealed": seal.sealed,
        "files": [asdict(file) for file in seal.files],
        "source": dict(seal.source),
        "passes": seal.passes,
        "exported_with": seal.exported_with,
        "versions": dict(seal.versions),
        "bounds": dict(seal.bounds),
        "verdict": {"passed": seal.verdict.passed, **stored(seal.verdict)},
    }
    save(json.dumps(content, indent=2, allow_nan=False) + "\n", seal.path)


def read(path: Path) -> Seal:
    """Read a manifest, and believe nothing that it says of other folders.

    Raises:
        UsageError: there is no such file, or it can't be read.
        ModelError: it is no manifest, of a version that is not known here, or damaged.
        Refused: it names a file outside of its folder.
    """
    try:
        with path.open(encoding="utf-8") as file:
            content = json.loads(file.read(_LONGEST))
        if (content["format"], content["version"]) != (_FORMAT, _VERSION):
            raise ValueError(f"it is {content['format']} {content['version']}")  # noqa: TRY301 - one place says it
        return _seal(path, content)
    except FileNotFoundError as error:
        raise UsageError(f"there is no seal {path}", fix="make one: deploykit seal model.onnx") from error
    except OSError as error:
        raise UsageError(f"can't read the seal {path}: {error.strerror}", fix="name a file of yours") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"{path} is no seal, or is damaged: {why}",
            fix="copy it again from where it was made, or seal the model again: deploykit seal model.onnx",
        ) from error


def _seal(path: Path, content: Mapping[str, Any]) -> Seal:
    files = tuple(_file(path, entry) for entry in content["files"])
    roles = [file.role for file in files]
    if roles != ["artifact", *["weights"] * (len(files) - 2), "golden"]:
        raise ValueError(f"it seals {', '.join(roles) or 'nothing'}, and not one artifact and one golden")
    if len({file.name for file in files}) != len(files):
        raise ValueError("it names a file twice")
    verdict = read_verdict(content["verdict"])
    if not verdict.passed:
        raise ValueError("its verdict is not that the model passed")
    return Seal(
        path,
        _text(content["sealed"]),
        files,
        {name: _text(content["source"][name]) for name in ("name", "sha256")},
        _text(content["passes"]),
        _text(content["exported_with"]),
        {name: _text(version) for name, version in content["versions"].items()},
        verdict,
        _bounds(content.get("bounds", {})),  # which older seals do not have
    )


def bounds_given(bounds: Bounds) -> Bounds:
    """Keep of bounds what says something, as JSON has it."""
    said = {name: value for name, value in bounds.items() if value is not None and value is not False}
    plain = {
        name: [str(one) for one in value] if isinstance(value, Sequence) else value for name, value in said.items()
    }
    return cast("Bounds", {name: value for name, value in plain.items() if value != []})


_BOUNDS: Mapping[str, type | tuple[type, ...]] = {
    "min_agreement": (int, float),
    "min_sqnr": (int, float),
    "allow_undecided": bool,
    "atol": list,
    "rtol": list,
}


def _bounds(content: Mapping[str, Any]) -> Bounds:
    for name, value in content.items():
        if not isinstance(value, _BOUNDS.get(name, ())):
            raise TypeError(f"{name} {value!r:.40} is no bound")
    found = cast("Bounds", dict(content))
    try:
        Demand.of(found)
    except UsageError as error:
        raise ValueError(error.message) from error
    return found


def _file(path: Path, entry: Mapping[str, Any]) -> SealedFile:
    file = SealedFile(entry["role"], entry["name"], entry["bytes"], entry["sha256"])
    if file.role not in ROLES or type(file.bytes) is not int or not _SHA256.fullmatch(file.sha256):
        raise ValueError(f"it does not say what {file.name} is")
    if _leaves(file.name):
        raise Refused(
            f"{path} names a file outside of its own folder: {file.name}",
            fix="do not use it; a seal made by deploykit names only files that lie beside it",
        )
    return file


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"it has {value!r:.40} where a text belongs")
    return value


def _leaves(name: str) -> bool:
    """Whether a name is anything but a path below a folder."""
    place = PurePosixPath(name)
    return not place.parts or ".." in place.parts or place.is_absolute() or "\0" in name
