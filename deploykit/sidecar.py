"""The sidecar of an engine, ``model.engine.json``: what it was built from, for what, and what its layers compute in.

An engine says nothing of itself that may be read: its format is not documented. So all that is to be known later lies
beside it, tied to it by sha256, with the golden that it is judged by. Names are those of files in the same folder.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deploykit.artifact import sha256
from deploykit.errors import ModelError, UsageError
from deploykit.tensors import Signature, TensorSpec

_FORMAT = "deploykit engine"
_VERSION = 1
_LONGEST = 1 << 26
"""Characters that are read; an engine of a thousand layers has less than a million."""

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""The smallest, the usual and the largest shape of an input."""


@dataclass(frozen=True)
class Part:
    """A file that an engine came from, or that is beside it."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Sidecar:
    """What is known of an engine."""

    engine: Part
    onnx: Part
    golden: Part
    backend: str
    """``tensorrt`` or ``tensorrt-rtx``."""
    versions: Mapping[str, str]
    """Of TensorRT and deploykit."""
    targets: tuple[str, ...]
    """``sm89`` and the like; of none it was built for the device that was there, or for all that it can be."""
    precision: str
    """What the ONNX file computes in, by which the engine is judged."""
    signature: Signature
    profiles: Mapping[str, Shapes]
    """Of each input with a dynamic axis."""
    options: Mapping[str, Any]
    layers: Mapping[str, Mapping[str, int]]
    """Of each operator that multiplies: how many nodes compute in which type."""
    nodes: Mapping[str, str]
    """What each of these nodes computes in, as the builder said; ``unknown`` where it did not."""
    lineage: Mapping[str, str]
    """Of the ONNX file."""
    proof: Mapping[str, Any]
    """``state``: proved or unproved, ``why``, and the ``device`` that it ran on."""

    def write(self, path: Path) -> None:
        """Write it; the same engine gives the same bytes."""
        content = {"format": _FORMAT, "version": _VERSION, **asdict(self)}
        path.write_text(json.dumps(content, indent=1) + "\n")


def sidecar_path(engine: Path) -> Path:
    """Say where the sidecar of ``model.engine`` lies: ``model.engine.json`` beside it."""
    return engine.with_name(f"{engine.name}.json")


def read_sidecar(engine: Path) -> Sidecar:
    """Read the sidecar of an engine, and make sure that it is of this very file.

    Raises:
        UsageError: there is none, or it is of another engine.
        ModelError: it is damaged.
    """
    path = sidecar_path(engine)
    try:
        with path.open(encoding="utf-8") as file:
            content = json.loads(file.read(_LONGEST))
        found = _sidecar(content)
    except FileNotFoundError:
        raise UsageError(
            f"the sidecar of {engine} is missing: {path.name} is not beside it, and an engine says nothing of itself",
            fix=["copy it there", "or build the engine again: deploykit build model.onnx"],
        ) from None
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}", fix="name a file of yours") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{path} is no sidecar of an engine, or is damaged: {_why(error)}",
            fix="copy it again from where it was made, or build the engine again",
        ) from error
    digest = sha256(engine)
    if found.engine.sha256 != digest:
        raise UsageError(
            f"{path.name} is of another engine than {engine}: the sha256 is another",
            fix="put back the two files that were written together, or build the engine again",
            details=[f"wanted {found.engine.sha256}", f"found  {digest}"],
        )
    return replace(found, engine=Part(engine.name, digest))  # the two may have been renamed


def _why(error: Exception) -> str:
    """Say in words what is wrong with it."""
    if isinstance(error, _Damaged):
        return str(error)
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON from line {error.lineno} on"
    if isinstance(error, KeyError):
        return f"it says nothing of '{error.args[0]}'"
    return "a value in it is of another kind than it should be"


class _Damaged(ValueError):
    """Says in words what is wrong."""


def golden_of(engine: Path, known: Sidecar) -> Path:
    """Find the golden of an engine beside it.

    Raises:
        UsageError: it is missing, or another.
    """
    path = engine.parent / known.golden.name
    if path.is_file() and sha256(path) == known.golden.sha256:
        return path
    what = "is another than it was built with: its sha256 differs" if path.is_file() else "is missing"
    raise UsageError(f"the golden of {engine}, {path.name}, {what}", fix="put back the file that was written with it")


def _sidecar(content: Mapping[str, Any]) -> Sidecar:
    if (content["format"], content["version"]) != (_FORMAT, _VERSION):
        raise _Damaged(f"it is {content['format']} {content['version']}")
    signature = content["signature"]
    return Sidecar(
        _part(content["engine"]),
        _part(content["onnx"]),
        _part(content["golden"]),
        str(content["backend"]),
        _texts(content["versions"]),
        tuple(map(str, content["targets"])),
        str(content["precision"]),
        Signature(_specs(signature["inputs"]), _specs(signature["outputs"])),
        {str(name): _shapes(shapes) for name, shapes in content["profiles"].items()},
        dict(content["options"]),
        {str(name): {str(one): int(count) for one, count in row.items()} for name, row in content["layers"].items()},
        _texts(content["nodes"]),
        _texts(content["lineage"]),
        dict(content["proof"]),
    )


def _part(content: Mapping[str, Any]) -> Part:
    name = str(content["name"])
    if not name or Path(name).name != name:
        raise _Damaged(f"'{name}' is no file of this folder")
    return Part(name, str(content["sha256"]))


def _texts(content: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(text) for name, text in content.items()}


def _specs(content: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            str(one["name"]), str(one["dtype"]), tuple(dim if isinstance(dim, int) else str(dim) for dim in dims)
        )
        for one in content
        for dims in [one["dims"]]
    )


def _shapes(content: Sequence[Sequence[int]]) -> Shapes:
    least, usual, most = (tuple(int(size) for size in shape) for shape in content)
    return least, usual, most


_WORDS = {"Conv": "convolutions", "ConvTranspose": "transposed convolutions"}


def told_layers(precision: str, layers: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """Say what became of the precision that was asked for: ``asked int8: 53 of 53 convolutions in int8``."""
    counts: dict[str, dict[str, int]] = {}
    for operator, row in layers.items():
        own = counts.setdefault(_WORDS.get(operator, "products of matrices"), {})
        for kind, count in row.items():
            own[kind] = own.get(kind, 0) + count
    return tuple(f"asked {precision}: {_said(precision, word, row)}" for word, row in counts.items())


def _said(precision: str, word: str, row: Mapping[str, int]) -> str:
    others = ", ".join(f"{count} in {kind}" for kind, count in sorted(row.items()) if kind != precision)
    own = f"{row.get(precision, 0)} of {sum(row.values())} {word} in {precision}"
    return f"{own}, {others.replace('in unknown', 'of which the builder does not say it')}" if others else own
