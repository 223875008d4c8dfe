"""``.csv`` files with a header, read line by line."""

import csv
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import UsageError
from deploykit.samples.columns import Column, Source, Take, is_inexact, rounded
from deploykit.samples.table import Field, arranged
from deploykit.tensors import Array, Tensors, TensorSpec

Line = tuple[int, list[str]]
"""Where a record ends in the file, and its cells."""


class Csv(Source):
    """The columns of a ``.csv`` file as inputs."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec] | None) -> None:
        """Read the header.

        Raises:
            UsageError: there is none, or it does not suit the inputs.
        """
        self.place = str(path)
        self._path = path
        with _lines(path) as lines:
            _, header = next(lines, (0, []))
        if not header:
            raise UsageError(f"{path} has no header", fix="write the names of the columns as the first line")
        names = [name.strip() for name in header]
        fields = arranged(path, names, inputs)
        self._at = {name: place for place, name in enumerate(names)}
        self._fields: Mapping[str, Field] = {field.name: field for field in fields}
        self.columns: Mapping[str, Column] = {field.name: field.column(path) for field in fields}

    @contextmanager
    def stream(self, names: Sequence[str]) -> Iterator[Take]:
        """Open some of the inputs at the first line after the header."""
        fields = [self._fields[name] for name in names]
        with _lines(self._path) as lines:
            next(lines, None)

            def take(count: int) -> Tensors:
                # Each line becomes numbers at once: the text of a batch is many times as large.
                rows = [[self._cells(field, line) for field in fields] for line in itertools.islice(lines, count)]
                columns = zip(*rows, strict=True) if rows else ([] for _ in fields)
                return {one.name: self._joined(one, parts) for one, parts in zip(fields, columns, strict=True)}

            yield take

    def naming(self, names: Sequence[str]) -> str:
        """Say how the columns are given the names of a model's inputs."""
        return f"name the columns in its first line as the model's inputs are: {','.join(names)}"

    def _cells(self, field: Field, line: Line) -> Array:
        number, row = line
        if len(row) != len(self._at):
            raise UsageError(
                f"line {number} of {self.place} has {len(row)} cells, and the header names {len(self._at)} columns",
                fix="write as many cells in every line; one with a comma in it goes in double quotes",
            )
        parse, dtype = _parser(field.dtype)
        try:
            values = [parse(row[self._at[name]]) for name in field.columns]
            return np.array(values if field.vector else values[0], dtype)
        except (ValueError, OverflowError):
            wrong = next(name for name in field.columns if not _parses(row[self._at[name]], parse, dtype))
            raise self._no_number(wrong, row[self._at[wrong]], number, field) from None

    def _no_number(self, column: str, cell: str, number: int, field: Field) -> UsageError:
        kind = "a number" if is_inexact(field.dtype) else field.dtype.name
        what = f"'{cell[:40]}', which is not {kind}" if cell.strip() else "empty"
        return UsageError(
            f"column {column} in line {number} of {self.place} is {what}",
            fix="leave such lines out, or write the number that the model was trained on in their place",
        )

    def _joined(self, field: Field, parts: Sequence[Array]) -> Array:
        if not parts:
            return np.zeros((0, len(field.columns)) if field.vector else (0,), field.dtype)
        array = np.stack(parts)
        finite = not is_inexact(field.dtype) or np.isfinite(array).all()
        return rounded(self.columns[field.name], array, field.dtype) if finite and array.dtype.kind != "U" else array


def _parser(dtype: np.dtype[Any]) -> tuple[Callable[[str], Any], np.dtype[Any]]:
    """Give what reads a cell, and the type that holds it until its size is known to fit."""
    if dtype.kind == "U":
        return str, dtype
    if dtype.kind in "iu":
        return lambda cell: int(_plain(cell)), dtype
    if dtype.kind == "b":
        return _bool, dtype
    if dtype.kind == "c":
        return lambda cell: complex(_plain(cell)), np.dtype(np.complex128)
    return lambda cell: float(_plain(cell)), np.dtype(np.float64)


def _parses(cell: str, parse: Callable[[str], Any], dtype: np.dtype[Any]) -> bool:
    try:
        np.array(parse(cell), dtype)
    except (ValueError, OverflowError):
        return False
    return True


def _plain(cell: str) -> str:
    if "_" in cell:  # Python reads 1_000 as a number, and nobody else does
        raise ValueError(cell)
    return cell


def _bool(cell: str) -> bool:
    words = {"1": True, "true": True, "0": False, "false": False}
    if cell.strip().lower() not in words:
        raise ValueError(cell)
    return words[cell.strip().lower()]


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[Line]]:
    """Open the file at its first record; lines without any text are no records."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            yield ((reader.line_num, row) for row in reader if row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} can't be read as .csv: {error}", fix="save it again as comma-separated values in UTF-8"
        ) from error
