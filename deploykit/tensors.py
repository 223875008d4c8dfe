"""Tensors by name, what they look like, and the text form ``x:float32[batch,3,224,224]``."""

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from deploykit.errors import UsageError, nearest

Array = npt.NDArray[Any]
Tensors = dict[str, Array]
Dim = int | str
"""A size, or the name of a dynamic axis."""

DTYPES = (
    *("float32", "float64", "float16", "bfloat16"),
    *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool", "complex64", "string"),
)

_EPOCH = (1980, 1, 1, 0, 0, 0)
_TEXT = re.compile(r"^(?:(?P<name>.*\S):)?(?P<dtype>\w+)\[(?P<dims>[^\[\]]*)\]$")
_AXIS = re.compile(r"^[A-Za-z_]\w*$")


@dataclass(frozen=True)
class TensorSpec:
    """Name, element type and dimensions of a tensor; a dimension with a name is dynamic."""

    name: str
    dtype: str
    dims: tuple[Dim, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``name:dtype[dim,dim,...]``.

        Raises:
            UsageError: the text is not of this form, with an example of one that is.
        """
        match = _TEXT.match(text.strip())
        if match is None or match["name"] is None:
            raise UsageError(
                f"'{text}' does not describe a tensor",
                fix="write name:dtype[dims], as in  --input 'x:float32[batch,3,224,224]'",
            )
        if match["dtype"] not in DTYPES:
            raise UsageError(
                f"'{text}' has no known element type: '{match['dtype']}'{nearest(match['dtype'], DTYPES)}",
                fix=f"one of {', '.join(DTYPES)}",
            )
        dims = tuple(_dim(part.strip(), text) for part in match["dims"].split(",")) if match["dims"].strip() else ()
        return cls(match["name"], match["dtype"], dims)

    def __str__(self) -> str:
        """Give the text form, which ``parse`` reads back."""
        return f"{self.name}:{self.dtype}[{','.join(map(str, self.dims))}]"

    def sized(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Give the shape with every dynamic axis at its size.

        Raises:
            KeyError: a dynamic axis has no size.
        """
        return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in self.dims)

    def mismatch(self, array: Array) -> str | None:
        """Say how an array does not fit, or None where it does."""
        if str(array.dtype) != self.dtype:
            return f"is {array.dtype}, not {self.dtype}"
        if array.ndim != len(self.dims):
            return f"has {array.ndim} axes, not {len(self.dims)}: {list(array.shape)} against {self}"
        for axis, (size, dim) in enumerate(zip(array.shape, self.dims, strict=True)):
            if isinstance(dim, int) and size != dim:
                return f"has {size} on axis {axis}, not {dim}: {list(array.shape)} against {self}"
        return None


@dataclass(frozen=True)
class Signature:
    """What goes into a model and what comes out, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the dynamic axes of the inputs, in order of appearance."""
        return dynamic_axes(self.inputs)


def dynamic_axes(specs: Iterable[TensorSpec]) -> tuple[str, ...]:
    """List the names of the dynamic axes, each once, in order of appearance."""
    return tuple(dict.fromkeys(dim for spec in specs for dim in spec.dims if isinstance(dim, str)))


def _dim(part: str, text: str) -> Dim:
    if part.isdigit() and int(part) > 0:
        return int(part)
    if _AXIS.match(part):
        return part
    raise UsageError(
        f"'{text}' has a dimension that is neither a size nor a name: '{part}'",
        fix="a positive number is a fixed size, a word such as batch is a dynamic axis",
    )


def write_npz(
    path: Path, arrays: Mapping[str, Array] | Iterable[tuple[str, Array]], texts: Mapping[str, str] | None = None
) -> None:
    """Write arrays, and texts, as an .npz file that numpy reads; the same content gives the same bytes.

    ``numpy.savez`` can't name an array ``file``, and writes the time into the archive.
    """
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, text in (texts or {}).items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text)
        for name, array in arrays.items() if isinstance(arrays, Mapping) else arrays:
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array, order="C"), allow_pickle=False)


class Npz(Mapping[str, Array]):
    """Arrays in an .npz file, each read when it is asked for: none is kept."""

    def __init__(self, path: Path, prefix: str = "", entries: Iterable[str] | None = None) -> None:
        """Take the file, what stands before the names of the arrays that are meant, and its entries where known.

        Raises:
            OSError: it can't be read.
            zipfile.BadZipFile: it is no such file.
        """
        self._path, self._prefix = path, prefix
        if entries is None:
            with zipfile.ZipFile(path) as archive:
                entries = archive.namelist()
        names = (name.removesuffix(".npy") for name in entries if name.endswith(".npy") and name.startswith(prefix))
        self._names = tuple(name.removeprefix(prefix) for name in names)

    def __getitem__(self, name: str) -> Array:
        """Read an array."""
        if name not in self._names:
            raise KeyError(name)
        with zipfile.ZipFile(self._path) as archive, archive.open(f"{self._prefix}{name}.npy") as entry:
            array: Array = np.lib.format.read_array(entry, allow_pickle=False)
            entry.read(1)  # the checksum is looked at when the end is met
            return array

    def __iter__(self) -> Iterator[str]:
        """Give the names, in the order of the file."""
        return iter(self._names)

    def __len__(self) -> int:
        """Count the arrays."""
        return len(self._names)
