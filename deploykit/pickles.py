"""What a pickle would import, found by reading its opcodes: nothing of the file runs.

The answer says what to ask and what to tell. It is no sandbox: who loads a state_dict still passes
``weights_only=True``.
"""

import json
import pickletools
import struct
import tarfile
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from deploykit.errors import ModelError

ZIP_START = b"PK\x03\x04"
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
"""The first pickle of a file that torch.save wrote before torch 1.6."""

UNKNOWN = "unknown"

_DAMAGE = (ValueError, OverflowError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)
"""What reading damaged opcodes, archives and JSON raises (RuntimeError: encrypted, unsupported, nested too deep)."""

_MOST = 10_000_000
"""Objects on the stack, and bytes of a configuration: more is an attack on memory, not a model."""

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
    return isinstance(top, _Made) and top.by not in ALLOWED | _CONTAINERS


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Made:
    """The object that a call of ``by`` would give."""

    by: str


_MARK = object()
_PLAIN = object()
"""Any value that is neither a text, an integer, an import nor the result of a call."""


@dataclass(frozen=True)
class _Pickled:
    names: frozenset[str]
    top: object


@dataclass
class _Machine:
    """The pickle machine, with a stack of what is known about each object in place of the object."""

    protocol: int = 0
    frame_end: int = 0
    stack: list[object] = field(default_factory=list)
    memo: dict[int, object] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def top(self) -> object:
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("an opcode needs more than the stack holds")
        return self.stack[-1]

    def pop(self, count: int) -> list[object]:
        taken = []
        for _ in range(count):
            taken.append(self.top())
            self.stack.pop()
        return taken[::-1]

    def pop_to_mark(self) -> list[object]:
        taken = []
        while self.stack and self.stack[-1] is not _MARK:
            taken.append(self.stack.pop())
        if not self.stack:
            raise ValueError("an opcode needs a mark that is not there")
        self.stack.pop()
        return taken[::-1]

    def take(self, opcode: pickletools.OpcodeInfo) -> list[object]:
        """Pop what an opcode consumes, in the order in which it was pushed."""
        kinds = [kind.name for kind in opcode.stack_before]
        if "mark" not in kinds:
            return self.pop(len(kinds))
        above = self.pop_to_mark()
        return [*self.pop(kinds.index("mark")), *above]

    def imported(self, module: object, name: object) -> _Global:
        if not (isinstance(module, str) and isinstance(name, str)):
            return self.noted(UNKNOWN)
        if self.protocol < 3:  # noqa: PLR2004 (up to protocol 2 a pickle uses Python 2's names)
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        return self.noted(f"{module}.{name}")

    def noted(self, name: str) -> _Global:
        self.names.add(name)
        return _Global(name)


def _called(taken: list[object]) -> _Made:
    called = taken[0] if taken else None
    return _Made(called.name if isinstance(called, _Global) else UNKNOWN)


_Rule = Callable[[_Machine, Any, list[object]], object]
_RULES: dict[str, _Rule] = {
    "GLOBAL": lambda machine, arg, _: machine.imported(*arg.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _, taken: machine.imported(*taken),
    "INST": lambda machine, arg, _: _Made(machine.imported(*arg.split(" ", 1)).name),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), lambda machine, arg, _: machine.noted(f"extension:{arg}")),
    **dict.fromkeys(("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ"), lambda _machine, _arg, taken: _called(taken)),
    **dict.fromkeys(
        ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD", "READONLY_BUFFER", "STOP"),
        lambda _machine, _arg, taken: taken[0],
    ),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, arg, _: machine.memo[arg]),
    "MARK": lambda _machine, _arg, _taken: _MARK,
}
"""What an opcode leaves on the stack; any other one leaves its argument, or something plain."""


def _step(machine: _Machine, opcode: pickletools.OpcodeInfo, arg: Any, position: int) -> None:
    match opcode.name:
        case "PROTO":
            machine.protocol = arg
        case "FRAME":
            machine.frame_end = position + 9 + arg
        case "PUT" | "BINPUT" | "LONG_BINPUT":
            machine.memo[arg] = machine.top()
        case "MEMOIZE":
            machine.memo[len(machine.memo)] = machine.top()
        case "DUP":
            machine.stack.append(machine.top())
        case "POP" if machine.stack:
            machine.stack.pop()
        case _:
            _push(machine, opcode, arg)


def _push(machine: _Machine, opcode: pickletools.OpcodeInfo, arg: Any) -> None:
    if len(machine.stack) > _MOST or len(machine.memo) > _MOST:
        raise ValueError("more objects than a model has")
    taken = machine.take(opcode)
    rule = _RULES.get(opcode.name)
    if rule:
        machine.stack.append(rule(machine, arg, taken))
    elif opcode.stack_after:
        machine.stack.append(arg if isinstance(arg, str | int) and opcode.name != "PERSID" else _PLAIN)


@dataclass(frozen=True)
class _Bounded:
    """A stream that never asks for more than there is: a pickle may claim lengths of exabytes."""

    file: IO[bytes]
    size: int

    def tell(self) -> int:
        return self.file.tell()

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, self.left()))

    def readline(self) -> bytes:
        return self.file.readline(1 << 24)

    def left(self) -> int:
        return max(self.size - self.file.tell(), 0)


def _one(stream: _Bounded) -> _Pickled:
    machine = _Machine()
    position = 0
    try:
        for opcode, arg, at in pickletools.genops(stream):  # type: ignore[arg-type]  # it asks for no more than these
            position = at or 0
            _step(machine, opcode, arg, position)
    except KeyError as error:
        raise ValueError(f"no object is kept as number {error}") from error
    if position + 1 < machine.frame_end:
        # Python's two unpicklers go on at different places after such a frame.
        raise ValueError("a frame runs past the end of the pickle")
    return _Pickled(frozenset(machine.names), machine.top())


def _stream(stream: _Bounded) -> list[_Pickled]:
    """Walk one pickle after the other: five in an old torch.save file (raw tensors follow), else all there are."""
    found = [_one(stream)]
    if found[0].top == MAGIC_NUMBER:
        return [*found, *(_one(stream) for _ in range(4))]
    while stream.left():
        found.append(_one(stream))
    return found


def _main(pickles: list[_Pickled]) -> _Pickled:
    return pickles[3] if pickles[0].top == MAGIC_NUMBER else pickles[0]


def _pickles(path: Path) -> list[_Pickled]:
    with path.open("rb") as file:
        zipped = file.read(4) == ZIP_START
        file.seek(0)
        try:
            found = _zipped(path) if zipped else _stream(_Bounded(file, path.stat().st_size))
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
        raise ModelError(
            f"{path} is cut off or damaged: {error}",
            fix="fetch or save the file again, and compare its size with the original's",
        ) from error


def _zipped(path: Path) -> list[_Pickled]:
    with opened_zip(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.file_size]
        found = _checkpoint(archive)
        if not is_export(archive.namelist()):
            return found
        native = frozenset(f"native:{name}" for name in archive.namelist() if "/data/aotinductor/" in f"/{name}")
        by_config = {path for entry in entries for path in _pickled_weights(archive, entry)}
        nested = [pickled for entry in entries for pickled in _nested(archive, entry, by_config)]
        return [*found, _Pickled(native, _PLAIN), *nested]


def is_export(names: list[str]) -> bool:
    """Say whether these are the entries of a torch.export archive: ``ROOT/archive_format``, or the older layout."""
    return any(_last(name) in {"archive_format", "serialized_exported_program.json"} for name in names)


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ValueError(f"{entry.filename} is compressed in a way that torch does not read")
    return archive.open(entry)


def _checkpoint(archive: zipfile.ZipFile) -> list[_Pickled]:
    """Walk every data.pkl, those of the same name too: readers differ in which one they take."""
    found = []
    for entry in archive.infolist():
        if _last(entry.filename) == "data.pkl":
            with _content(archive, entry) as file:
                found += _stream(_Bounded(file, entry.file_size))
    return found


def _pickled_weights(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[str]:
    """Name the weights that a .pt2 archive keeps as pickles: torch.export.load runs them, whatever they import."""
    if not entry.filename.endswith("_config.json"):
        return
    with _content(archive, entry) as file:
        read = json.loads(file.read(_MOST))
    payloads = read.get("config") if isinstance(read, dict) else None
    for payload in payloads.values() if isinstance(payloads, dict) else ():
        if isinstance(payload, dict) and payload.get("use_pickle"):
            yield _last(str(payload.get("path_name")))


def _nested(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, by_config: set[str]) -> list[_Pickled]:
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
            return _stream(_Bounded(file, entry.file_size))
        with zipfile.ZipFile(file) as inner:
            return _checkpoint(inner)


def is_tar(head: bytes) -> bool:
    """Say whether the first 512 bytes of a file are the header of a tar archive: torch tries that first."""
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
