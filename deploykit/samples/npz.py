"""The ``.npz`` container, read as a stream: headers first, rows as they are asked for, never a pickle."""

import io
import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from deploykit.errors import UsageError
from deploykit.tensors import DTYPES, Array

_CHUNK = 1 << 20
"""Bytes taken from the archive at a time."""


@dataclass(frozen=True)
class Member:
    """An array of an archive, as its header tells."""

    name: str
    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int
    """Bytes of the header, before the first row."""


@dataclass(frozen=True)
class Archive:
    """An open ``.npz``."""

    file: zipfile.ZipFile
    members: Mapping[str, Member]

    @contextmanager
    def stream(self, member: Member) -> Iterator[IO[bytes]]:
        """Open an array at its first row."""
        with self.file.open(f"{member.name}.npy") as stream:
            stream.read(member.start)
            yield stream


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open an ``.npz`` and read the headers of its arrays.

    Raises:
        UsageError: it is missing, unreadable, of another format, truncated or damaged.
    """
    try:
        with _zip(path) as file:
            yield Archive(file, _members(path, file))
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise UsageError(
            f"{path} is damaged or truncated",
            details=(str(error),),
            fix="save or copy it again",
        ) from error


def read_rows(stream: IO[bytes], member: Member, count: int) -> Array:
    """Read the next ``count`` samples (or the one number of an array without axes) in native byte order.

    Raises:
        EOFError: the array ends before.
    """
    shape = (count, *member.shape[1:]) if member.shape else ()
    buffer = bytearray(member.dtype.itemsize * math.prod(shape))
    view = memoryview(buffer)
    done = 0
    while done < len(buffer):
        piece = stream.read(min(_CHUNK, len(buffer) - done))
        if not piece:
            raise EOFError(f"{member.name} ends after {done} of {len(buffer)} bytes")
        view[done : done + len(piece)] = piece
        done += len(piece)
    array = np.frombuffer(buffer, dtype=member.dtype).reshape(shape)
    return array.astype(member.dtype.newbyteorder("="), copy=False)


def dtype_name(member: Member) -> str:
    """Give the element type as a model's signature has it: ``float32``, ``string``.

    Raises:
        UsageError: the array holds Python objects, is in Fortran order, or of a type that no model takes.
    """
    name = "string" if member.dtype.kind == "U" else member.dtype.newbyteorder("=").name
    if member.dtype.hasobject:
        raise UsageError(
            f"{member.name} in {member.path} holds Python objects, and reading them would run code from the file",
            fix=f"save numbers, as in  {member.name} = np.stack({member.name}).astype(np.float32)",
        )
    if name not in DTYPES:
        raise UsageError(
            f"{member.name} in {member.path} is {member.dtype}, which no model takes",
            fix=f"one of {', '.join(dtype for dtype in DTYPES if dtype not in {'bfloat16', 'string'})}",
        )
    if member.fortran:
        raise UsageError(
            f"{member.name} in {member.path} is in Fortran order, so that its samples can't be read one by one",
            fix=f"save np.ascontiguousarray({member.name})",
        )
    return name


def _zip(path: Path) -> zipfile.ZipFile:
    """Open the container, or say what the file is instead."""
    if path.is_dir():
        raise UsageError(f"{path} is a directory, not an .npz file", fix="name a file written by np.savez")
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except FileNotFoundError as error:
        raise UsageError(f"there is no {path}", fix="name an .npz file written by np.savez") from error
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", fix="make it readable") from error
    if not start:
        raise UsageError(f"{path} is empty", fix="write it again with np.savez")
    if start == b"\x93NUMPY":
        raise UsageError(
            f"{path} is a single .npy array, not an .npz",
            fix=f"np.savez('{path.stem}.npz', x=np.load('{path.name}'))",
        )
    if not start.startswith(b"PK"):
        raise UsageError(f"{path} is not an .npz file", fix="write it with np.savez('inputs.npz', x=x)")
    return zipfile.ZipFile(path)


def _members(path: Path, file: zipfile.ZipFile) -> dict[str, Member]:
    found = [item for item in file.infolist() if item.filename.endswith(".npy")]
    if not found:
        raise UsageError(
            f"{path} holds no array: it is a zip of {', '.join(file.namelist()[:3]) or 'nothing'}",
            fix="write it with np.savez('inputs.npz', x=x)",
        )
    members = (_member(path, file, item) for item in found)
    return {member.name: member for member in members}


def _member(path: Path, file: zipfile.ZipFile, item: zipfile.ZipInfo) -> Member:
    name = item.filename.removesuffix(".npy")
    if item.flag_bits & 1:
        raise UsageError(f"{name} in {path} is encrypted", fix="write it with np.savez")
    with file.open(item) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = parse(stream)
        except ValueError as error:
            raise UsageError(
                f"{name} in {path} is no array: {str(error).splitlines()[0]}",
                fix="write it with np.savez",
            ) from error
        start = stream.seek(0, io.SEEK_CUR)
    size = item.file_size - start
    if not dtype.hasobject and size != dtype.itemsize * math.prod(shape):
        raise UsageError(
            f"{name} in {path} is damaged: {size} bytes for {dtype}{list(shape)}",
            fix="save or copy the file again",
        )
    return Member(name, path, dtype, shape, fortran, start)
