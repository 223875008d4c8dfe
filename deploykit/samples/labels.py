"""Labels of samples: the class of each, as a whole number."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from deploykit.errors import UsageError, nearest
from deploykit.samples.columns import Column, Source
from deploykit.samples.read import batches
from deploykit.samples.source import opened
from deploykit.tensors import Array, TensorSpec

_BATCH = 4096
_LABELS = TensorSpec("labels", "int64", ("samples",))


def labels(source: Path | str, *, limit: int | None = None) -> Array:
    """Read one whole number per sample, as int64, in the order of the samples.

    Args:
        source: ``y.npy``, ``file.npz:name``, ``table.csv:column``; the name may be left out where there is one array.
        limit: the first so many; None: all.

    Raises:
        UsageError: it can't be read, or does not hold one whole number per sample.
        MissingPackage: a package that the format needs is not installed.
    """
    path, name = _split(source)
    found = opened(path, [replace(_LABELS, name=name or _LABELS.name)])
    column = _column(found, name)
    if column.dtype.kind not in "iub" or column.shape[1:] not in ((), (1,)) or not column.shape:
        raise UsageError(
            f"{column} is {column.dtype}{column.sizes}, and labels are one whole number for each sample",
            fix=f"save the number of the class, as in  np.save('y.npy', {column.name}.argmax(-1))",
        )
    spec = TensorSpec(column.name, "int64", ("samples", *column.shape[1:]))
    parts = list(batches(found, [spec], limit=sys.maxsize if limit is None else limit, batch=_BATCH))
    return np.concatenate([part[column.name] for part in parts]).reshape(-1)


def _split(source: Path | str) -> tuple[Path, str | None]:
    path, (place, _, name) = Path(source), str(source).rpartition(":")
    if not path.exists() and place and name:
        path = Path(place)
    else:
        name = ""
    if path.is_dir() or path.suffix == ".py":
        raise UsageError(f"labels are not read from {path}", fix="give y.npy, file.npz:name or table.csv:column")
    return path, name or None


def _column(found: Source, name: str | None) -> Column:
    columns = found.columns
    if name is not None and name in columns:
        return columns[name]
    if name is None and len(columns) == 1:
        return next(iter(columns.values()))
    missing = f"has no '{name}'{nearest(name, columns)}" if name else "holds several arrays"
    shown = ", ".join(columns)
    raise UsageError(
        f"{found.place} {missing}", details=(f"it has: {shown}",), fix=f"say which: {found.place}:{next(iter(columns))}"
    )
