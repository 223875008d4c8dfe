"""Open whatever the user names as samples: a file, told by its content, a folder, or a function."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from deploykit.errors import UsageError, nearest
from deploykit.samples.columns import Source
from deploykit.samples.csv_file import Csv
from deploykit.samples.folder import folder
from deploykit.samples.images import SUFFIXES, Images
from deploykit.samples.items import yielded
from deploykit.samples.npy import Npy
from deploykit.samples.npz import Npz
from deploykit.samples.parquet import Parquet
from deploykit.samples.preprocessing import Preprocessing
from deploykit.samples.safetensors import Safetensors, is_safetensors
from deploykit.tensors import TensorSpec

TAKEN = ".npz, .npy, .csv, .parquet, .safetensors, an image, a folder of such, or file.py:function"

Inputs = Sequence[TensorSpec] | None

_FUNCTION = re.compile(r"^(.+\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*$")
_HEAD = 16
"""Bytes that tell a format."""


def opened(source: Path | str, inputs: Inputs, image: Preprocessing | None = None) -> Source:
    """Open samples and read their headers; where images or a table are read depends on the model's inputs.

    Raises:
        UsageError: there is nothing of that name, or it can't be read, is of no known format, or damaged.
        MissingPackage: a package that the format needs is not installed.
    """
    path = Path(source)
    try:
        if not path.exists() and _FUNCTION.match(str(source)):
            found: Source = yielded(str(source), inputs)
        elif path.is_dir():
            found = folder(path, inputs, image)
        else:
            found = _file(path, inputs, image)
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror or error}", fix="check the path and its permissions"
        ) from error
    if image is not None and not isinstance(found, Images):
        raise UsageError(f"--image is for images, and {path} holds none", fix="leave --image out")
    return found


def _file(path: Path, inputs: Inputs, image: Preprocessing | None) -> Source:
    if not path.exists():
        raise _missing(path)
    if not path.is_file():
        raise UsageError(f"{path} is neither a file nor a folder", fix=f"give {TAKEN}")
    with path.open("rb") as file:
        start = file.read(_HEAD)
    if not start:
        raise UsageError(f"{path} is empty", fix="write it again")
    if path.suffix.lower() in SUFFIXES:
        return Images(path, [path], inputs, image)
    return _reader(path, start)(path, inputs)


def _reader(path: Path, start: bytes) -> Callable[[Path, Inputs], Source]:
    """Choose by content; a suffix only where the content is text, or damaged."""
    if start.startswith(b"PK"):
        return _npz
    if start.startswith(b"\x93NUMPY"):
        return _npy
    if start.startswith(b"PAR1"):
        return Parquet
    if is_safetensors(start):
        return _safetensors
    by_suffix = {".csv": Csv, ".npz": _npz, ".npy": _npy, ".parquet": Parquet, ".safetensors": _safetensors}
    if path.suffix.lower() not in by_suffix:
        raise UsageError(f"{path} holds no samples of a format that is known", fix=f"give {TAKEN}")
    return by_suffix[path.suffix.lower()]


def _npz(path: Path, _: Inputs) -> Source:
    return Npz(path)


def _npy(path: Path, inputs: Inputs) -> Source:
    return Npy(path, {inputs[0].name if inputs is not None and len(inputs) == 1 else path.stem: path})


def _safetensors(path: Path, _: Inputs) -> Source:
    return Safetensors(path)


def _missing(path: Path) -> UsageError:
    if not path.parent.is_dir():
        return UsageError(f"there is no folder {path.parent}, and so no {path}", fix=f"give {TAKEN}")
    beside = sorted(other.name for other in path.parent.iterdir())
    return UsageError(f"there is no {path}{nearest(path.name, beside)}", fix=f"give {TAKEN}")
