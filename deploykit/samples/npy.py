"""``.npy`` files, one array each, read as a stream: headers first, rows as they are asked for, never a pickle."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from deploykit.errors import UsageError
from deploykit.samples.columns import Column, Rows


class Npy(Rows):
    """One ``.npy`` file, or several by the names of their arrays."""

    def __init__(self, place: Path, files: Mapping[str, Path]) -> None:
        """Read the headers.

        Raises:
            UsageError: a file is no array, or is cut off.
        """
        self.place = str(place)
        self._files = files
        self.columns = {name: _column(name, path) for name, path in files.items()}

    @contextmanager
    def rows(self, column: Column) -> Iterator[IO[bytes]]:
        """Open an array at its first sample."""
        with self._files[column.name].open("rb") as file:
            file.seek(column.start)
            yield file


def _column(name: str, path: Path) -> Column:
    with path.open("rb") as file:
        return header(file, name, str(path), path.stat().st_size)


def header(stream: IO[bytes], name: str, place: str, size: int) -> Column:
    """Read the header of an array, of which there are ``size`` bytes with the header.

    Raises:
        UsageError: there is none, or not as many bytes as it says.
    """
    try:
        version = np.lib.format.read_magic(stream)
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = parse(stream)
    except ValueError as error:
        raise UsageError(
            f"{name} in {place} is no array: {str(error).splitlines()[0]}", fix="write it with numpy.save or savez"
        ) from error
    start = stream.tell()
    if not dtype.hasobject and size - start != dtype.itemsize * math.prod(shape):
        raise UsageError(
            f"{name} in {place} is damaged: {size - start} bytes for {dtype}{list(shape)}",
            fix="save or copy the file again",
        )
    return Column(name, place, dtype, shape, fortran and len(shape) > 1, start)
