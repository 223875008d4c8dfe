"""From the pixels of an image to what a model takes: resize, crop, scale, normalize, as torchvision does it.

``--image "resize=256,crop=224,mean=0.485:0.456:0.406,std=0.229:0.224:0.225"`` is what torchvision writes as
``Compose([Resize(256), CenterCrop(224), ToTensor(), Normalize(mean, std)])`` and applies to a PIL image, bit for bit:
https://docs.pytorch.org/vision/stable/transforms.html
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from deploykit.errors import UsageError, nearest
from deploykit.tensors import Array

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]
"""Height and width."""

EXAMPLE = "resize=256,crop=224,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,layout=nchw,scale=255"


@dataclass(frozen=True)
class Preprocessing:
    """What is done to each image, in this order."""

    resize: int | Size | None = None
    """The shorter side, the other in proportion; or height and width. Bilinear, antialiased."""
    crop: int | Size | None = None
    """A square, or height and width, cut from the middle; an image that is smaller gets black borders."""
    order: str | None = None
    """``rgb`` unless ``bgr`` is said; mean and std are in this order too."""
    scale: float | None = None
    """What pixels are divided by: 255 for real inputs, nothing for uint8."""
    mean: tuple[float, ...] = ()
    """What is subtracted after that, one number or one for each channel."""
    std: tuple[float, ...] = ()
    """What the rest is divided by."""
    layout: str | None = None
    """``nchw`` or ``nhwc``; told from the model's input if nothing is said."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``key=value,key=value``; lists are joined with ``:``, sizes are ``224`` or ``224x320``.

        Raises:
            UsageError: a key is not known or comes twice, or a value is not of its form.
        """
        given: dict[str, str] = {}
        known = [field.name for field in fields(cls)]
        for part in filter(None, (part.strip() for part in text.split(","))):
            key, equals, value = (one.strip() for one in part.partition("="))
            if not equals or key not in known:
                said = f"has no option '{key}'{nearest(key, known)}" if equals else f"has '{part}' without a value"
                raise UsageError(f"--image {said}", fix=f"write it as in  --image '{EXAMPLE}'")
            if key in given:
                raise UsageError(f"--image says {key} twice", fix="say it once")
            given[key] = value
        return cls(**{key: _READ[key](key, value) for key, value in given.items()})

    def pixels(self, image: "Image") -> Array:
        """Give the pixels as ``height, width, channels`` in uint8, resized and cropped."""
        from PIL import Image as Images

        height, width = self.resized((image.height, image.width))
        if (height, width) != (image.height, image.width):
            image = image.resize((width, height), Images.Resampling.BILINEAR)
        pixels = np.asarray(image)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels  # noqa: PLR2004 (grey has no axis for channels)
        pixels = pixels if self.crop is None else _cropped(pixels, _pair(self.crop))
        # Transparency stays the last, and grey has no order.
        return pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]] if self.order == "bgr" and pixels.shape[-1] > 1 else pixels

    def resized(self, size: Size) -> Size:
        """Give the size of an image after the resize."""
        if self.resize is None or isinstance(self.resize, tuple):
            return self.resize or size
        height, width = size
        if height <= width:
            return self.resize, max(1, int(self.resize * width / height))
        return max(1, int(self.resize * height / width)), self.resize

    def normalized(self, pixels: Array) -> Array:
        """Scale and normalize pixels in float32; channels are the last axis."""
        values: Array = pixels.astype(np.float32) / np.float32(255 if self.scale is None else self.scale)
        if self.mean:
            values -= np.array(self.mean, np.float32)
        if self.std:
            values /= np.array(self.std, np.float32)
        return values


def _cropped(pixels: Array, crop: Size) -> Array:
    """Cut the middle out, as torchvision's ``center_crop`` rounds it."""
    missing = [max(wanted - have, 0) for wanted, have in zip(crop, pixels.shape, strict=False)]
    pixels = np.pad(pixels, [(lack // 2, (lack + 1) // 2) for lack in missing] + [(0, 0)])
    top, left = (round((have - wanted) / 2) for wanted, have in zip(crop, pixels.shape, strict=False))
    return pixels[top : top + crop[0], left : left + crop[1]]


def _pair(size: int | Size) -> Size:
    return size if isinstance(size, tuple) else (size, size)


def _size(key: str, value: str) -> int | Size:
    parts = value.split("x")
    if not all(part.isdigit() and 0 < int(part) <= _LARGEST for part in parts) or len(parts) > 2:  # noqa: PLR2004 (h, w)
        raise UsageError(f"--image {key}={value} is no size", fix=f"write {key}=224, or height x width: {key}=224x320")
    return (int(parts[0]), int(parts[1])) if len(parts) > 1 else int(parts[0])


_LARGEST = 1 << 15
"""Pixels along a side; more is a slip of the pen, and would fill the memory."""


def _numbers(key: str, value: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in value.split(":"))
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)) or (key != "mean" and not all(found)):
        form = "numbers" if key == "mean" else "numbers other than 0"
        raise UsageError(
            f"--image {key}={value} is not made of {form}", fix=f"write {key}=0.5, or {key}=0.485:0.456:0.406"
        )
    return found


def _number(key: str, value: str) -> float:
    found = _numbers(key, value)
    if len(found) != 1 or found[0] < 0:
        raise UsageError(f"--image {key}={value} is not one positive number", fix=f"write {key}=255")
    return found[0]


def _word(key: str, value: str) -> str:
    known = {"layout": ("nchw", "nhwc"), "order": ("rgb", "bgr")}[key]
    if value.lower() not in known:
        raise UsageError(f"--image {key}={value} is not known", fix=f"{key}={' or '.join(known)}")
    return value.lower()


_READ: dict[str, Callable[[str, str], Any]] = {
    "resize": _size,
    "crop": _size,
    "scale": _number,
    "mean": _numbers,
    "std": _numbers,
    "layout": _word,
    "order": _word,
}
