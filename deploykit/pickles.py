"""What a pickle would import, found by reading its opcodes: nothing of the file runs.

The answer says what to ask and what to tell. It is no sandbox: who loads a state_dict still passes
``weights_only=True``.
"""

import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from deploykit.errors import ModelError
from deploykit.opcodes import Made, Pickled, Stream, walk

ZIP_START = b"PK\x03\x04"
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
"""The first pickle of a file that torch.save wrote before torch 1.6."""

AGAIN = "fetch or save the file again, and compare its size with the original's"

_DAMAGE = (ValueError, OverflowError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)
"""What reading damaged opcodes, archives and JSON raises (RuntimeError: encrypted, unsupported, nested too deep)."""

_LARGEST = 10_000_000
"""Bytes of a configuration: more is an attack on memory, not a model."""

_TYPES = ("BFloat16", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
_STORAGES = (*_TYPES, "Bool", "ComplexDouble", "ComplexFloat")
_REBUILDERS = (
    *("device_tensor_from_cpu_tensor", "device_tensor_from_numpy", "meta_tensor_no_storage", "nested_tensor"),
    *("parameter", "parameter_with_state", "qtensor", "sparse_tensor", "tensor", "tensor_v2", "tensor_v3"),
    "wrapper_subclass",
)
_DTYPES = (
    *("bfloat16", "bits16", "bits1x8", "bits2x4", "bits4x2", "bits8", "bool", "complex128", "complex32", "complex64"),
    *("float16", "float32", "float4_e2m1fn_x2", "float64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2"),
    *("float8_e5m2fnuz", "float8_e8m0fnu", "qint32", "qint8", "quint2x4", "quint4x2", "quint8"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64)),
    *("per_channel_affine", "per_channel_affine_float_qparams", "per_channel_symmetric"),
    *("per_tensor_affine", "per_tensor_symmetric"),
)
ALLOWED = frozenset(
    {
        *("_codecs.encode", "builtins.bytearray", "builtins.complex", "builtins.set"),
        *("collections.Counter", "collections.OrderedDict"),
        *("torch.Size", "torch.Tensor", "torch.device", "torch.nn.parameter.Parameter"),
        *("torch.serialization._get_layout", "torch._tensor._rebuild_from_type_v2"),
        *("torch.storage.TypedStorage", "torch.storage.UntypedStorage"),
        *(f"torch._utils._rebuild_{what}" for what in _REBUILDERS),
        *(f"torch.{name}" for name in _DTYPES),
        *(f"torch.{at}{kind}Tensor" for at in ("", "cuda.", "sparse.", "cuda.sparse.") for kind in _TYPES),
        *(f"torch.{at}BoolTensor" for at in ("", "cuda.")),
        *(f"torch.{at}{kind}Storage" for at in ("", "cuda.") for kind in _STORAGES),
        *(f"torch.{kind}Storage" for kind in ("QInt32", "QInt8", "QUInt2x4", "QUInt4x2", "QUInt8")),
    }
)
"""What ``torch.load(weights_only=True)`` takes in torch 2.13 without being told to."""

_CONTAINERS = frozenset({"builtins.dict", "builtins.list", "builtins.tuple", "collections.defaultdict"})


def pickle_globals(path: Path) -> tuple[str, ...]:
    """List the dotted names of all that unpickling a file would import, sorted.

    A name that the opcodes don't spell out is ``unknown``, a registered extension is ``extension:N``, and
    compiled code in a .pt2 archive is ``native:ENTRY``.

    Raises:
        ModelError: the file is not a pickle, a torch.save file or a .pt2 archive, or it is damaged.
    """
    return tuple(sorted({name for pickled in _pickles(path) for name in pickled.names}))


def unsafe_globals(path: Path) -> tuple[str, ...]:
    """List those of ``pickle_globals`` that ``torch.load(weights_only=True)`` does not take by default.

    Raises:
        ModelError: as ``pickle_globals``.
    """
    return tuple(name for name in pickle_globals(path) if name not in ALLOWED)


def holds_module(path: Path) -> bool:
    """Say whether the whole file is one object of a class, as a pickled nn.Module is, and not a checkpoint.

    Raises:
        ModelError: as ``pickle_globals``.
    """
    top = _main(_pickles(path)).top
    return isinstance(top, Made) and top.by not in ALLOWED | _CONTAINERS


def _stream(stream: Stream) -> list[Pickled]:
    """Walk one pickle after the other: five in an old torch.save file (raw tensors follow), else all there are."""
    found = [walk(stream)]
    if found[0].top == MAGIC_NUMBER:
        return [*found, *(walk(stream) for _ in range(4))]
    while stream.left():
        found.append(walk(stream))
    return found


def _main(pickles: list[Pickled]) -> Pickled:
    return pickles[3] if pickles[0].top == MAGIC_NUMBER else pickles[0]


def _pickles(path: Path) -> list[Pickled]:
    with path.open("rb") as file:
        zipped = file.read(4) == ZIP_START
        file.seek(0)
        try:
            found = _zipped(path) if zipped else _stream(Stream(file, path.stat().st_size))
        except _DAMAGE as error:
            raise ModelError(
                f"{path} can't be read to its end as a pickle: {error}",
                fix="fetch or save the file again: it is cut off, damaged, or no pickle",
            ) from error
    if not found:
        raise ModelError(f"{path} holds no pickle", fix="give a file that torch.save wrote")
    return found


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive for reading.

    Raises:
        ModelError: its directory is missing, or what is read of it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (*_DAMAGE, OSError) as error:
        raise ModelError(f"{path} is cut off or damaged: {error}", fix=AGAIN) from error


def _zipped(path: Path) -> list[Pickled]:
    with opened_zip(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.file_size]
        found = _checkpoint(archive)
        if not is_export(archive.namelist()):
            return found
        native = frozenset(f"native:{name}" for name in archive.namelist() if "/data/aotinductor/" in f"/{name}")
        by_config = {path for entry in entries for path in _pickled_weights(archive, entry)}
        nested = [pickled for entry in entries for pickled in _nested(archive, entry, by_config)]
        return [*found, Pickled(native, None), *nested]


def is_export(names: list[str]) -> bool:
    """Say whether these are the entries of a torch.export archive: ``ROOT/archive_format``, or the older layout."""
    return any(_last(name) in {"archive_format", "serialized_exported_program.json"} for name in names)


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ValueError(f"{entry.filename} is compressed in a way that torch does not read")
    return archive.open(entry)


def _checkpoint(archive: zipfile.ZipFile) -> list[Pickled]:
    """Walk every data.pkl, those of the same name too: readers differ in which one they take."""
    found = []
    for entry in archive.infolist():
        if _last(entry.filename) == "data.pkl":
            with _content(archive, entry) as file:
                found += _stream(Stream(file, entry.file_size))
    return found


def _pickled_weights(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[str]:
    """Name the weights that a .pt2 archive keeps as pickles: torch.export.load runs them, whatever they import."""
    if not entry.filename.endswith("_config.json"):
        return
    with _content(archive, entry) as file:
        read = json.loads(file.read(_LARGEST))
    payloads = read.get("config") if isinstance(read, dict) else None
    for payload in payloads.values() if isinstance(payloads, dict) else ():
        if isinstance(payload, dict) and payload.get("use_pickle"):
            yield _last(str(payload.get("path_name")))


def _nested(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, by_config: set[str]) -> list[Pickled]:
    name = _last(entry.filename)
    older = name in {"serialized_state_dict.json", "serialized_constants.json"}
    opaque = name.startswith("opaque_obj")
    if not (older or opaque or name.endswith(".pt") or name in by_config):
        return []
    with _content(archive, entry) as file:
        head = file.read(tarfile.BLOCKSIZE)
        file.seek(0)
        if is_tar(head):
            raise ValueError(f"{entry.filename} is a tar archive")
        if not head.startswith(ZIP_START) or opaque:
            return _stream(Stream(file, entry.file_size))
        with zipfile.ZipFile(file) as inner:
            return _checkpoint(inner)


def is_tar(head: bytes) -> bool:
    """Say whether the first 512 bytes of a file are the header of a tar archive: torch tries that first."""
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
