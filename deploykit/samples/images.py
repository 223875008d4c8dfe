"""Images as the samples of a model with one input, decoded one by one with Pillow."""

import itertools
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploykit.errors import UsageError, needs
from deploykit.samples.columns import Column, Source, Take, numpy_dtype, rounded
from deploykit.samples.preprocessing import EXAMPLE, Preprocessing
from deploykit.tensors import Array, Dim, Tensors, TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for each number of channels."""


class Images(Source):
    """Image files, in the order given, as one array."""

    def __init__(
        self, place: Path, files: Sequence[Path], inputs: Sequence[TensorSpec] | None, image: Preprocessing | None
    ) -> None:
        """Settle what is done to the images, and try it on the first.

        Raises:
            MissingPackage: Pillow is not installed.
            UsageError: the model takes no images, or what is to be done to them does not suit its input.
        """
        with needs("PIL"):
            self.place = str(place)
            self._files = files
        self._spec = _only(place, inputs)
        self._shape = _shape(self._spec, image)
        self._image = image if image is not None else _assumed(self._shape)
        _check_suits(self._spec, self._shape, self._image)
        self.notes = () if image is not None else (_said(self._spec, self._image),)
        self._first = self._prepared(files[0])
        dtype = numpy_dtype(self._spec.dtype)
        self.columns = {self._spec.name: Column(self._spec.name, str(place), dtype, (len(files), *self._first.shape))}

    @contextmanager
    def stream(self, names: Sequence[str]) -> Iterator[Take]:
        """Open the images at the first."""
        files = iter(self._files)

        def take(count: int) -> Tensors:
            arrays = [self._alike(file) for file in itertools.islice(files, count)]
            return {name: np.stack(arrays) for name in names} if arrays else {}

        yield take

    def _alike(self, file: Path) -> Array:
        array = self._prepared(file)
        if array.shape != self._first.shape:
            raise UsageError(
                f"{self.place} has images of different sizes: {self._files[0].name} gives {list(self._first.shape)}, "
                f"{file.name} gives {list(array.shape)}",
                fix=f"bring them to one size, as in  --image '{EXAMPLE}'",
            )
        return array

    def _prepared(self, file: Path) -> Array:
        pixels = self._image.pixels(_decoded(file, _MODES[self._shape.channels]))
        if self._spec.dtype != "uint8":
            column = Column(self._spec.name, str(file), np.dtype(np.float32), ())
            pixels = rounded(column, self._image.normalized(pixels), numpy_dtype(self._spec.dtype))
        return np.ascontiguousarray(self._shape.arranged(pixels))


@dataclass(frozen=True)
class _Shape:
    """What the model's input says of the images."""

    layout: str
    """``nchw``, ``nhwc``, or ``nhw`` where there is no axis for channels."""
    channels: int
    height: Dim
    width: Dim

    def arranged(self, pixels: Array) -> Array:
        """Bring pixels, channels last, into the layout."""
        if self.layout == "nchw":
            return pixels.transpose(2, 0, 1)
        return pixels[..., 0] if self.layout == "nhw" else pixels


def _only(place: Path, inputs: Sequence[TensorSpec] | None) -> TensorSpec:
    if inputs is None:
        raise UsageError(
            f"{place} holds images, and they do not say what the model takes",
            fix="describe the input, as in  --input 'x:float32[batch,3,224,224]'",
        )
    if len(inputs) != 1:
        raise UsageError(
            f"{place} holds images, and the model takes {len(inputs)} inputs: {', '.join(map(str, inputs))}",
            fix="save all inputs as arrays, in one .npz",
        )
    return inputs[0]


def _shape(spec: TensorSpec, image: Preprocessing | None) -> _Shape:
    """Read the layout off the input: the axis that is as small as channels are."""
    said = image.layout if image is not None else None
    if len(spec.dims) == 3:  # noqa: PLR2004 (samples, height, width)
        return _Shape("nhw", 1, *spec.dims[1:])
    if len(spec.dims) != 4:  # noqa: PLR2004 (samples, channels, height, width)
        raise UsageError(
            f"the model takes no images: its input is {spec}", fix="give the samples as arrays, in an .npz"
        )
    first, last = spec.dims[1], spec.dims[3]
    # Four channels are rarer than an image four pixels high.
    likely = next((few for few in ((1, 3), (4,)) if first in few or last in few), ())
    layout = said or ("nhwc" if last in likely and first not in likely else "nchw")
    channels = last if layout == "nhwc" else first
    if isinstance(channels, int) and channels not in _MODES:
        raise UsageError(
            f"{spec} has {channels} channels in layout {layout}, and images have 1, 3 or 4",
            fix="say the layout, as in  --image layout=nhwc  or give the samples as arrays, in an .npz",
        )
    height, width = spec.dims[1:3] if layout == "nhwc" else spec.dims[2:]
    return _Shape(layout, channels if isinstance(channels, int) else 3, height, width)


def _assumed(shape: _Shape) -> Preprocessing:
    if isinstance(shape.height, int) and isinstance(shape.width, int):
        return Preprocessing(resize=(shape.height, shape.width))
    return Preprocessing()


def _said(spec: TensorSpec, image: Preprocessing) -> str:
    size = "x".join(map(str, image.resize)) if isinstance(image.resize, tuple) else ""
    done = [f"resized to {size}" if size else "kept at their size"]
    done.append("left as they are, 0 to 255" if spec.dtype == "uint8" else "scaled to 0..1")
    return f"images were {' and '.join(done)}; give --image to say otherwise, as in  --image '{EXAMPLE}'"


def _check_suits(spec: TensorSpec, shape: _Shape, image: Preprocessing) -> None:
    real = spec.dtype in {"float16", "bfloat16", "float32", "float64"}
    if not real and spec.dtype != "uint8":
        raise UsageError(f"{spec} takes {spec.dtype}, and images are uint8 or real", fix="give arrays, in an .npz")
    if not real and (image.mean or image.std or image.scale not in (None, 1)):
        raise UsageError(f"{spec} takes pixels as they are", fix="leave mean, std and scale out of --image")
    for key in ("mean", "std"):
        if len(getattr(image, key)) not in (0, 1, shape.channels):
            raise UsageError(
                f"--image {key} has {len(getattr(image, key))} numbers, and {spec} has {shape.channels} channels",
                fix=f"give one number, or {shape.channels}, separated by ':'",
            )
    if image.layout and shape.layout == "nhw":
        raise UsageError(f"{spec} has no axis for channels", fix=f"leave layout={image.layout} out of --image")


def _decoded(file: Path, mode: str) -> "Image":
    """Decode an image and convert it as torchvision's loader does: as it is stored, whatever EXIF says of its top."""
    from PIL import Image as Images

    try:
        with Images.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise UsageError(
                    f"{file} has more than 8 bits in a channel", fix="give such images as arrays, in an .npz"
                )
            return image.convert(mode)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Images.DecompressionBombError) as error:
        raise UsageError(
            f"{file} can't be read as an image", details=(str(error),), fix="save or copy it again, or take it out"
        ) from error
