"""What a model file or folder is, told by its content: a suffix is only a name."""

import itertools
import json
import re
import tarfile
from pathlib import Path
from typing import BinaryIO

from deploykit.artifact import Format
from deploykit.errors import DeploykitError, ModelError, UsageError, nearest
from deploykit.pickles import AGAIN, ZIP_START, holds_module, is_export, is_tar, opened_zip, unsafe_globals
from deploykit.protobuf import Field, fit, start_of, top_level, varint

TAKEN = (
    "ONNX (.onnx), torch.export (.pt2), TorchScript, torch.save (.pt, .pth), safetensors, SavedModel, "
    "Keras (.keras, .h5), frozen GraphDef (.pb), TFLite, TensorRT engine"
)

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ONNX = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_GRAPH_DEF = {1: 2, 2: 2, 3: 0, 4: 2, 5: 2}
"""Wire type of each field, by number: onnx.proto's ModelProto, TensorFlow's graph.proto."""

_OTHERS = (
    (0, b"version https://git-lfs", "is a git-lfs pointer, and the model itself was not fetched", "git lfs pull"),
    (0, b"PK\x05\x06", "is an empty zip archive", AGAIN),
    (0, b"\x93NUMPY", "is a numpy array, not a model", "give it with --data"),
    (0, b"\x1f\x8b", "is compressed with gzip", "unpack it first: gunzip, or tar xf"),
    (0, b"GGUF", "is a GGUF file, made for llama.cpp", "give the model that it was made from"),
    (4, b"ORTM", "is in onnxruntime's own ORT format", "give the ONNX file that it was made from"),
)
"""Offset, the bytes there, what that is, and what to do."""


def sniff(path: Path) -> Format:
    """Look into a file or folder and say what it is.

    Raises:
        UsageError: there is nothing there, it can't be read, or it is a folder of something else.
        ModelError: it is empty, damaged, or of no known format.
    """
    try:
        if path.is_dir():
            return _folder(path)
        if not path.exists():
            raise _missing(path)
        if not path.is_file():
            raise UsageError(f"{path} is neither a file nor a folder", fix="give a model file")
        with path.open("rb") as file:
            return _file(path, file, path.stat().st_size)
    except OSError as error:
        fix = f"chmod u+r {path}, or ask its owner" if isinstance(error, PermissionError) else f"ls -l {path}"
        raise UsageError(f"{path} can't be read: {error.strerror or error}", fix=fix) from error


def _missing(path: Path) -> UsageError:
    if path.is_symlink():
        return UsageError(f"{path} is a link to {path.readlink()}, which is not there", fix="give the file itself")
    if not path.parent.is_dir():
        return UsageError(f"there is no folder {path.parent}, and so no {path}", fix=f"ls {path.parent.parent}")
    beside = sorted(other.name for other in path.parent.iterdir())
    return UsageError(f"there is no {path}{nearest(path.name, beside)}", fix=f"ls {path.parent}")


def _folder(path: Path) -> Format:
    for graph in (path / "saved_model.pb", path / "saved_model.pbtxt"):
        if graph.is_file():
            with graph.open("rb") as file:
                _refuse(graph, file.read(64))
            return Format.SAVED_MODEL
    inside = sorted(path.iterdir())
    models = [file for file in inside[:100] if _is_model(file)][:5]
    names = ", ".join(file.name for file in inside[:8]) + (", ..." if len(inside) > 8 else "")  # noqa: PLR2004 (a line's worth)
    raise UsageError(
        f"{path} is a folder without a saved_model.pb, and so no SavedModel",
        details=[f"it holds: {names}" if inside else "it is empty"],
        fix=[f"give {model}" for model in models] or "give a model file",
    )


def _is_model(path: Path) -> bool:
    try:
        return (path / "saved_model.pb").is_file() if path.is_dir() else bool(sniff(path))
    except (DeploykitError, OSError):
        return False


def _file(path: Path, file: BinaryIO, size: int) -> Format:
    head = file.read(4096)
    _refuse(path, head)
    if is_tar(head):
        raise _tar(path)
    found = _by_magic(path, head) or _safetensors(path, file, size) or _protobuf(path, file, size)
    found = found or _hdf5_behind_user_block(file, size) or _old_pickle(path)
    if not found:
        raise _unknown(path, head)
    return found


def _refuse(path: Path, head: bytes) -> None:
    if not head:
        raise ModelError(f"{path} is empty", fix=AGAIN)
    for at, magic, what, fix in _OTHERS:
        if head[at:].startswith(magic):
            raise ModelError(f"{path} {what}", fix=fix)


def _by_magic(path: Path, head: bytes) -> Format | None:
    if head.startswith(ZIP_START) or head in (b"PK", b"PK\x03"):
        return _zip(path)
    if head.startswith(_HDF5):
        return Format.KERAS_H5
    if head[:4] in (b"ftrt", b"vtrt"):  # TensorRT and TensorRT-RTX
        return Format.ENGINE
    if head[4:8] == b"TFL3":
        return Format.TFLITE
    return _pickle(path) if re.match(rb"\x80[\x02-\x05]", head) else None


def _pickle(path: Path) -> Format:
    return Format.TORCH_PICKLE if unsafe_globals(path) or holds_module(path) else Format.STATE_DICT


def _old_pickle(path: Path) -> Format | None:
    """Take what reads as a pickle from its first byte to its last: protocols 0 and 1 have no magic."""
    try:
        return _pickle(path)
    except ModelError:
        return None


def _zip(path: Path) -> Format:
    with opened_zip(path) as archive:
        names = archive.namelist()
    below = {name.split("/", 1)[-1] for name in names}
    if is_export(names):
        return _export(path, below)
    if "constants.pkl" in below and any(name.startswith(("code/", "bytecode.pkl")) for name in below):
        return Format.TORCHSCRIPT
    if "data.pkl" in below:
        return _pickle(path)
    if {"config.json", "metadata.json"} <= set(names) and any(name.startswith("model.weights.") for name in names):
        return Format.KERAS
    if "golden.json" in names:
        return Format.GOLDEN
    raise _other_zip(path, names)


def _export(path: Path, below: set[str]) -> Format:
    if any(name == "serialized_exported_program.json" or re.match(r"models/.*\.json$", name) for name in below):
        return Format.TORCH_EXPORT
    raise ModelError(
        f"{path} is a .pt2 archive without a program: compiled code, or weights alone",
        fix="give the file that torch.export.save wrote",
    )


def _other_zip(path: Path, names: list[str]) -> ModelError:
    if names and all(name.endswith(".npy") for name in names):
        return ModelError(f"{path} is an npz of arrays, not a model", fix=f"give it with --data {path}")
    return ModelError(
        f"{path} is a zip archive, but of no model format",
        details=[f"it holds: {', '.join(names[:8])}"],
        fix="unpack it, and give the model inside",
    )


def _tar(path: Path) -> ModelError:
    try:
        with tarfile.open(path, "r:") as archive:
            first = [member.name for member, _ in zip(archive, range(8), strict=False)]
    except tarfile.TarError:
        first = []
    if {"pickle", "storages"} <= set(first):
        return ModelError(
            f"{path} is a tar file as torch.save wrote before version 0.1.10, and only running its pickle reads it",
            fix="if you trust the file, load it with torch.load and save its state_dict again",
        )
    return ModelError(
        f"{path} is a tar archive",
        details=[f"it holds: {', '.join(first)}"],
        fix="unpack it, and give the model inside",
    )


def _safetensors(path: Path, file: BinaryIO, size: int) -> Format | None:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 1 < length <= 100_000_000 or file.read(1) != b"{":  # noqa: PLR2004 (limits of the specification)
        return None
    file.seek(8)
    missing = 8 + length - size
    if missing <= 0:
        try:
            header = json.loads(file.read(length))
            missing += max(
                (one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"), default=0
            )
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path} is safetensors with a damaged header: {error}", fix=AGAIN) from error
    if missing > 0:
        raise _cut_off(path, "safetensors", missing)
    return Format.SAFETENSORS


def _cut_off(path: Path, what: str, missing: int) -> ModelError:
    return ModelError(f"{path} ({what}) is cut off: {missing} bytes missing", fix=AGAIN)


def _hdf5_behind_user_block(file: BinaryIO, size: int) -> Format | None:
    at = 512
    while at < size:
        file.seek(at)
        if file.read(len(_HDF5)) == _HDF5:
            return Format.KERAS_H5
        at *= 2
    return None


def _protobuf(path: Path, file: BinaryIO, size: int) -> Format | None:
    try:
        fields = list(itertools.islice(top_level(file, size), 1_000_000))
    except ValueError:
        return None
    kinds = {one.number: one.wire for one in fields}
    if fit(fields, _ONNX) and kinds.get(1) == 0:
        return _onnx(path, file, fields)
    if fit(fields, _GRAPH_DEF) and kinds.get(1) == 2 and _is_node(file, fields):  # noqa: PLR2004 (as above)
        if fields[-1].missing:
            raise _cut_off(path, "TensorFlow GraphDef", fields[-1].missing)
        return Format.GRAPH_DEF
    return None


def _onnx(path: Path, file: BinaryIO, fields: list[Field]) -> Format | None:
    numbers = {one.number for one in fields}
    if numbers == {1, 2} and start_of(file, fields, 2) == b"\n":
        raise UsageError(
            f"{path} is the graph of a SavedModel, one file of several", fix=f"give its folder: {path.parent}"
        )
    if fields[-1].missing and len(fields) > 1:
        raise _cut_off(path, "ONNX", fields[-1].missing)
    if 7 in numbers:  # noqa: PLR2004 (ModelProto.graph)
        return Format.ONNX
    if numbers & {2, 8}:
        raise ModelError(f"{path} looks like ONNX, but holds no graph: it is cut off or damaged", fix=AGAIN)
    return None


def _is_node(file: BinaryIO, fields: list[Field]) -> bool:
    """Say whether the first node is a NodeDef: a name (field 1), then an op (field 2), a word."""
    chunk = start_of(file, fields, 1, 4096)
    if not chunk.startswith(b"\n"):
        return False
    length, at = varint(chunk, 1)
    return bool(re.match(rb"\x12.[A-Z_]\w+", chunk[at + length :], re.DOTALL))


def _unknown(path: Path, head: bytes) -> ModelError:
    text = head.decode("utf-8", "ignore") if not re.search(rb"[\x00-\x08\x0e-\x1f]", head) else ""
    start = text.lstrip("\ufeff \t\r\n").lower()
    if not start:
        return ModelError(f"{path} is of no format that deploykit takes", fix=f"give one of: {TAKEN}")
    if start.startswith(("<!doctype html", "<html")):
        return ModelError(
            f"{path} is a web page: a download gave this page in the model's place",
            fix="fetch the file itself, by its raw or resolve link",
        )
    if start.startswith("{") and '"deploykit engine"' in start[:200]:
        return ModelError(f"{path} is the sidecar of an engine", fix=f"give the engine: {path.with_suffix('')}")
    if start.startswith(("{", "[")):
        return ModelError(f"{path} is JSON, not a model", fix="give the file that holds the weights")
    if re.search(r"^(import|from|def|class) \w", text, re.MULTILINE):
        return ModelError(
            f"{path} is Python source, not a model", fix="give the weights, and the class with --factory module:Class"
        )
    return ModelError(f"{path} is a text file, not a model", fix=f"give one of: {TAKEN}")
