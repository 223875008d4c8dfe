"""The ``.npz`` container, read as a stream: headers first, rows as they are asked for, never a pickle."""

import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from deploykit.errors import UsageError
from deploykit.samples.columns import Column, Rows, Take
from deploykit.samples.npy import header


class Npz(Rows):
    """Arrays by name in one ``.npz`` file."""

    def __init__(self, path: Path) -> None:
        """Read the headers.

        Raises:
            UsageError: the file is of another format, truncated or damaged.
        """
        self.place = str(path)
        self._path = path
        with _readable(path), zipfile.ZipFile(path) as file:
            found = [item for item in file.infolist() if item.filename.endswith(".npy")]
            if not found:
                raise UsageError(
                    f"{path} holds no array: it is a zip of {', '.join(file.namelist()[:3]) or 'nothing'}",
                    fix="write it with np.savez('inputs.npz', x=x)",
                )
            columns = [_column(path, file, item) for item in found]
        self.columns = {column.name: column for column in columns}

    @contextmanager
    def rows(self, column: Column) -> Iterator[IO[bytes]]:
        """Open an array at its first sample."""
        with zipfile.ZipFile(self._path) as file, file.open(f"{column.name}.npy") as stream:
            stream.read(column.start)
            yield stream

    @contextmanager
    def stream(self, names: Sequence[str]) -> Iterator[Take]:
        """Open some of the arrays at their first sample."""
        with _readable(self._path), super().stream(names) as take:
            yield take

    def naming(self, names: Sequence[str]) -> str:
        """Say how the arrays are given the names of a model's inputs."""
        return f"np.savez('{self._path.name}', {', '.join(f'{name}=...' for name in names)})"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        with path.open("rb") as file:
            start = file.read(2)
        if start != b"PK":
            raise UsageError(f"{path} is not an .npz file", fix="write it with np.savez('inputs.npz', x=x)") from error
        raise UsageError(
            f"{path} is damaged or truncated", details=(str(error),), fix="save or copy it again"
        ) from error


def _column(path: Path, file: zipfile.ZipFile, item: zipfile.ZipInfo) -> Column:
    name = item.filename.removesuffix(".npy")
    if item.flag_bits & 1:
        raise UsageError(f"{name} in {path} is encrypted", fix="write it with np.savez")
    with file.open(item) as stream:
        return header(stream, name, str(path), item.file_size)
