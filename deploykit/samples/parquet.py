"""``.parquet`` files, read a batch of rows at a time with pyarrow."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import UsageError, needs
from deploykit.samples.columns import Column, Source, Take, rechunked, rounded
from deploykit.samples.table import Field, arranged
from deploykit.tensors import Array, Tensors, TensorSpec

_ROWS = 256
"""Rows that are decoded at a time."""


class Parquet(Source):
    """The columns of a ``.parquet`` file as inputs; a column of lists is a vector for each sample."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec] | None) -> None:
        """Read the schema.

        Raises:
            MissingPackage: pyarrow is not installed.
            UsageError: the file is damaged, or its columns do not suit the inputs.
        """
        self.place = str(path)
        self._path = path
        with _parquet(path) as file:
            schema = file.schema_arrow
            if inputs is not None and all(spec.name in schema.names for spec in inputs):
                fields = [_own(one, next((spec for spec in inputs if spec.name == one.name), None)) for one in schema]
            else:
                fields = arranged(path, schema.names, inputs)
            rows = file.metadata.num_rows
            self._fields: Mapping[str, Field] = {field.name: field for field in fields}
            self.columns: Mapping[str, Column] = {
                field.name: self._described(file, field, field.column(path, rows)) for field in fields
            }

    @contextmanager
    def stream(self, names: Sequence[str]) -> Iterator[Take]:
        """Open some of the inputs at the first row."""
        fields = [self._fields[name] for name in names]
        with _parquet(self._path) as file:
            yield rechunked(self._pieces(file, fields))

    def _pieces(self, file: Any, fields: Sequence[Field]) -> Iterator[Tensors]:
        first = 0
        wanted = list(dict.fromkeys(name for field in fields for name in field.columns))
        for piece in file.iter_batches(batch_size=_ROWS, columns=wanted):
            yield {field.name: self._array(field, piece, first) for field in fields}
            first += piece.num_rows

    def _array(self, field: Field, piece: Any, first: int) -> Array:
        column = self.columns[field.name]
        parts = [self._numbers(name, piece.column(name), first) for name in field.columns]
        array = np.stack(parts, axis=1) if field.vector and parts[0].ndim == 1 else parts[0]
        if array.shape[1:] != column.shape[1:]:
            raise UsageError(
                f"{column} has lists of {array.shape[1]} numbers after lists of {column.shape[1]}",
                fix="pad or cut them to one length",
            )
        return _converted(column, array)

    def _numbers(self, name: str, values: Any, first: int) -> Array:
        if values.null_count:
            row = first + int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
            raise UsageError(f"{name} in {self.place} is empty in row {row}", fix="leave such rows out, or fill them")
        flat = values.flatten() if _is_list(values.type) else values
        if flat.null_count:
            raise UsageError(f"{name} in {self.place} has empty places in its lists", fix="fill them")
        array = flat.to_numpy(zero_copy_only=False)
        array = array.astype(np.str_) if array.dtype.hasobject and _is_text(flat.type) else array
        if not _is_list(values.type):
            return np.asarray(array)
        lengths = np.asarray(values.value_lengths().to_numpy(zero_copy_only=False))
        if (lengths != lengths[0]).any():
            row = int(np.argmax(lengths != lengths[0]))
            raise UsageError(
                f"{name} in {self.place} has lists of different lengths: {lengths[row]} numbers in row {first + row}, "
                f"{lengths[0]} in row {first}",
                fix="pad or cut them to one length",
            )
        return np.asarray(array).reshape(len(lengths), int(lengths[0]))

    def _described(self, file: Any, field: Field, column: Column) -> Column:
        """Settle the type, and the length of lists, which the first row tells."""
        kind = file.schema_arrow.field(field.columns[0]).type
        if _is_list(kind) and len(field.columns) == 1:
            one = next(file.iter_batches(batch_size=1, columns=list(field.columns)), None)
            width = len(one.column(0)[0].as_py() or ()) if one is not None else 0
            return replace(column, shape=(column.shape[0], width), dtype=_settled(field, kind.value_type))
        return replace(column, dtype=_settled(field, kind))


def _own(one: Any, spec: TensorSpec | None) -> Field:
    """Give a column to the input of its name; lists need no further axis, single numbers may."""
    (field,) = arranged(Path(one.name), [one.name], [spec or TensorSpec(one.name, "string", ("rows",))])
    return field


def _settled(field: Field, kind: Any) -> np.dtype[Any]:
    """Give the type of the input where a number of the file can become it, else the file's own."""
    if _is_text(kind):
        return np.dtype(np.str_)
    found = np.dtype(kind.to_pandas_dtype())
    numeric = found.kind in "iub" or (found.kind == "f" and field.dtype.kind not in "iub")
    return field.dtype if numeric and field.dtype.kind != "U" else found


def _converted(column: Column, array: Array) -> Array:
    """Turn whole numbers into the input's type where they keep their value; reals may round."""
    if array.dtype.kind == "f":
        return rounded(column, array, column.dtype) if np.isfinite(array).all() else array
    converted = array.astype(column.dtype, copy=False)
    if array.dtype.kind in "iu" and (converted.astype(array.dtype) != array).any():
        raise UsageError(
            f"{column} has values that {column.dtype.name} can't hold", fix="give the numbers that the model takes"
        )
    return converted


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    with needs("pyarrow"):
        import pyarrow as pa
        from pyarrow import parquet
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise UsageError(
            f"{path} can't be read as .parquet: {str(error).splitlines()[0]}", fix="save or copy it again"
        ) from error
