"""``.safetensors`` files, read as a stream without their package.

The format is eight bytes with the length of a JSON header, the header, and the arrays in little-endian order:
https://huggingface.co/docs/safetensors/index#format
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from deploykit.errors import UsageError
from deploykit.samples.columns import Column, Rows, numpy_dtype

_REAL = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "C64": "complex64", "BOOL": "bool"}
_WHOLE = {
    f"{letter}{bits}": f"{word}{bits}" for letter, word in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}
_TYPES = {**_REAL, **_WHOLE}
_LONGEST = 100_000_000
"""Bytes of a header, at most, by the specification."""


class Safetensors(Rows):
    """Arrays by name in one ``.safetensors`` file."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            UsageError: the file is of another format, damaged or cut off.
        """
        self.place = str(path)
        self._path = path
        try:
            entries, start = _header(path)
            self.columns = {name: _column(name, path, entry, start) for name, entry in entries.items()}
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{path} is no .safetensors file, or is damaged", details=(str(error),), fix="save or copy it again"
            ) from error
        if not self.columns:
            raise UsageError(f"{path} holds no array", fix="save at least one")

    @contextmanager
    def rows(self, column: Column) -> Iterator[IO[bytes]]:
        """Open an array at its first sample."""
        with self._path.open("rb") as file:
            file.seek(column.start)
            yield file


def is_safetensors(start: bytes) -> bool:
    """Say whether a file that starts so is of this format; nine bytes settle it."""
    return start[8:9] == b"{" and 1 < int.from_bytes(start[:8], "little") <= _LONGEST


def _header(path: Path) -> tuple[Mapping[str, Any], int]:
    with path.open("rb") as file:
        if not is_safetensors(file.read(9)):
            raise ValueError("it does not start with the length of a header")
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        found = json.loads(file.read(length))
    return {name: entry for name, entry in found.items() if name != "__metadata__"}, 8 + length


def _column(name: str, path: Path, entry: Mapping[str, Any], start: int) -> Column:
    if entry["dtype"] not in _TYPES:
        raise UsageError(
            f"{name} in {path} is {entry['dtype']}, which no model takes", fix=f"one of {', '.join(_TYPES)}"
        )
    dtype = numpy_dtype(_TYPES[entry["dtype"]]).newbyteorder("<")
    shape = tuple(int(size) for size in entry["shape"])
    first, last = entry["data_offsets"]
    size, there = dtype.itemsize * math.prod(shape), path.stat().st_size - start
    if min(first, *shape, 0) < 0 or last - first != size or last > there:
        raise UsageError(
            f"{name} in {path} is damaged: bytes {first} to {last} of {there} for {entry['dtype']}{list(shape)}",
            fix="save or copy the file again",
        )
    return Column(name, str(path), dtype, shape, start=start + first)
