"""How the columns of a table become the inputs of a model: one each, or all as the features of a single input."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import UsageError
from deploykit.samples.columns import UNKNOWN, Column, numpy_dtype
from deploykit.tensors import TensorSpec

_MATRIX = 2
"""Axes of samples with features."""


@dataclass(frozen=True)
class Field:
    """An array that is made of columns of a table."""

    name: str
    columns: tuple[str, ...]
    dtype: np.dtype[Any]
    vector: bool
    """Whether each sample is a vector of the columns, not the one number."""

    def column(self, place: Path, count: int = UNKNOWN) -> Column:
        """Describe it as an array of a source."""
        shape = (count, len(self.columns)) if self.vector else (count,)
        return Column(self.name, str(place), self.dtype, shape)


def arranged(place: Path, header: Sequence[str], inputs: Sequence[TensorSpec] | None) -> list[Field]:
    """Decide which columns make which input.

    A single input of samples with features takes all columns where they are as many as its features, or where none
    has its name. Else a column goes to the input of its name; one column fits one input whatever its name. Where the
    inputs are not known, all columns are the float32 features of one input, named after the file.

    Raises:
        UsageError: the header is none, names a column twice, or has not as many columns as the input has features.
    """
    _check_header(place, header, inputs)
    if inputs is None:
        return [Field(place.stem, tuple(header), np.dtype(np.float32), vector=True)]
    if len(inputs) == 1:
        spec = inputs[0]
        if len(spec.dims) == _MATRIX and (spec.dims[1] == len(header) or spec.name not in header):
            return [_features(place, header, spec)]
        if len(header) == 1:
            return [_single(header[0], spec)]
    by_name = {spec.name: spec for spec in inputs}
    return [_single(name, by_name[name]) if name in by_name else _unread(name) for name in header]


def _check_header(place: Path, header: Sequence[str], inputs: Sequence[TensorSpec] | None) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UsageError(f"{place} names a column twice: {', '.join(twice[:3])}", fix="give each column its own name")
    named = {spec.name for spec in inputs or ()} & set(header)
    if header and not named and all(map(_is_number, header)):
        raise UsageError(
            f"the first line of {place} is no header, but numbers: {', '.join(header[:4])}",
            fix="write the names of the columns as the first line",
        )
    if len(header) == 1 and (separator := next((mark for mark in ";\t|" if mark in header[0]), None)):
        raise UsageError(
            f"the columns of {place} are separated by {separator!r}, not by commas", fix="save it with commas"
        )


def _features(place: Path, header: Sequence[str], spec: TensorSpec) -> Field:
    wanted = spec.dims[1]
    if isinstance(wanted, int) and wanted != len(header):
        shown = ", ".join(header[:8]) + (", ..." if len(header) > 8 else "")  # noqa: PLR2004 (a line's worth)
        raise UsageError(
            f"{place} has {len(header)} columns, and {spec} takes {wanted} features",
            details=(f"the columns are: {shown}",),
            fix="keep the columns that are features, in the order of the training; labels go into a file of their own",
        )
    return Field(spec.name, tuple(header), numpy_dtype(spec.dtype), vector=True)


def _single(name: str, spec: TensorSpec) -> Field:
    return Field(name, (name,), numpy_dtype(spec.dtype), vector=len(spec.dims) == _MATRIX)


def _unread(name: str) -> Field:
    return Field(name, (name,), np.dtype(np.str_), vector=False)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
