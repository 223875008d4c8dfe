"""What every source of samples is: arrays by name whose first axis counts the samples, read a few at a time."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from deploykit.errors import UsageError
from deploykit.tensors import DTYPES, Array, Tensors

UNKNOWN = -1
"""The size of a first axis whose end is only found by reading: lines of a .csv, items of a function."""

Take = Callable[[int], Tensors]
"""Gives the next so many samples of every array, fewer where they end; what has no axes comes whole each time."""

_CHUNK = 1 << 20
"""Bytes taken from a file at a time."""


@dataclass(frozen=True)
class Column:
    """An array of a source, as is known before it is read."""

    name: str
    place: str
    """The file or function that holds it, as the user named it."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool = False
    start: int = 0
    """Bytes before the first sample, where the array lies in a file as it is."""

    def __str__(self) -> str:
        """Name it in a message: ``x in inputs.npz``."""
        return f"{self.name} in {self.place}"

    @property
    def sizes(self) -> str:
        """The shape as a message shows it: ``[?, 3]``."""
        return f"[{', '.join('?' if size == UNKNOWN else str(size) for size in self.shape)}]"


class Source(ABC):
    """Arrays by name, which are read as a stream."""

    place: str
    columns: Mapping[str, Column]
    notes: tuple[str, ...] = ()
    """What was assumed of the samples, in plain words."""

    @abstractmethod
    def stream(self, names: Sequence[str]) -> AbstractContextManager[Take]:
        """Open some of the arrays at their first sample."""

    def naming(self, names: Sequence[str]) -> str:
        """Say how the arrays are given the names of a model's inputs."""
        return f"name the arrays as the model's inputs are: {', '.join(names)}"


class Rows(Source):
    """A source whose arrays lie in files as they are in memory, one sample after another."""

    @abstractmethod
    def rows(self, column: Column) -> AbstractContextManager[IO[bytes]]:
        """Open an array at its first sample."""

    @contextmanager
    def stream(self, names: Sequence[str]) -> Iterator[Take]:
        """Open some of the arrays at their first sample."""
        chosen = {name: self.columns[name] for name in names}
        with ExitStack() as stack:
            streams = {name: stack.enter_context(self.rows(column)) for name, column in chosen.items()}
            whole = {name: read_rows(streams[name], one, 1) for name, one in chosen.items() if not one.shape}
            left = {name: column.shape[0] for name, column in chosen.items() if column.shape}

            def take(count: int) -> Tensors:
                taken: Tensors = {name: array.copy() for name, array in whole.items()}
                for name, rest in left.items():
                    taken[name] = read_rows(streams[name], chosen[name], min(count, rest))
                    left[name] = max(0, rest - count)
                return {name: taken[name] for name in chosen}

            yield take


def read_rows(stream: IO[bytes], column: Column, count: int) -> Array:
    """Read the next ``count`` samples (or the one number of an array without axes) in native byte order.

    Raises:
        EOFError: the array ends before.
    """
    shape = (count, *column.shape[1:]) if column.shape else ()
    buffer = bytearray(column.dtype.itemsize * math.prod(shape))
    view = memoryview(buffer)
    done = 0
    while done < len(buffer):
        piece = stream.read(min(_CHUNK, len(buffer) - done))
        if not piece:
            raise EOFError(f"{column.name} ends after {done} of {len(buffer)} bytes")
        view[done : done + len(piece)] = piece
        done += len(piece)
    array = np.frombuffer(buffer, dtype=column.dtype).reshape(shape)
    return array.astype(column.dtype.newbyteorder("="), copy=False)


def rechunked(pieces: Iterator[Tensors]) -> Take:
    """Cut and join pieces of any number of samples into those asked for; arrays without axes stay whole."""
    piece: Tensors = {}
    at = left = 0

    def take(count: int) -> Tensors:
        nonlocal piece, at, left
        parts: list[Tensors] = []
        while count > 0:
            if not left:
                piece = next(pieces, {})
                if not piece:
                    break
                at, left = 0, samples_of(piece)
            got = min(count, left)
            parts.append({name: array[at : at + got] if array.ndim else array for name, array in piece.items()})
            at, left, count = at + got, left - got, count - got
        return {name: _joined([part[name] for part in parts]) for name in parts[0]} if parts else {}

    return take


def samples_of(tensors: Tensors) -> int:
    """Count the samples of some arrays: along the first axis, or one where none has axes."""
    return next((len(array) for array in tensors.values() if array.ndim), 1 if tensors else 0)


def _joined(arrays: Sequence[Array]) -> Array:
    return np.concatenate(arrays) if arrays[0].ndim else arrays[0].copy()


def dtype_name(column: Column) -> str:
    """Give the element type as a model's signature has it: ``float32``, ``string``.

    Raises:
        UsageError: the array holds Python objects, is in Fortran order, or of a type that no model takes.
    """
    name = "string" if column.dtype.kind == "U" else column.dtype.newbyteorder("=").name
    if column.dtype.hasobject:
        raise UsageError(
            f"{column} holds Python objects, and reading them would run code from the file",
            fix=f"save numbers, as in  {column.name} = np.stack({column.name}).astype(np.float32)",
        )
    if name not in DTYPES:
        raise UsageError(
            f"{column} is {column.dtype}, which no model takes",
            fix=f"one of {', '.join(dtype for dtype in DTYPES if dtype not in {'bfloat16', 'string'})}",
        )
    if column.fortran:
        raise UsageError(
            f"{column} is in Fortran order, so that its samples can't be read one by one",
            fix=f"save np.ascontiguousarray({column.name})",
        )
    return name


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Give numpy's type of an element type of a signature."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(np.str_ if name == "string" else name)


def rounded(column: Column, array: Array, dtype: np.dtype[Any]) -> Array:
    """Turn finite numbers into another type, in which they may round but not overflow.

    Raises:
        UsageError: a value is too large for the type.
    """
    with np.errstate(over="ignore"):
        converted = array.astype(dtype, copy=False)
    if is_inexact(dtype) and not np.isfinite(converted).all():
        raise UsageError(
            f"{column} has values too large for {dtype.name}", fix="scale the data as the model was trained on it"
        )
    return converted


def is_inexact(dtype: np.dtype[Any]) -> bool:
    """Say whether a type has NaN and infinities; numpy knows bfloat16 as raw bytes."""
    return dtype.kind in "fc" or dtype.name == "bfloat16"
