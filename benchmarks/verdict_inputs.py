"""What goes into the nets of the benchmark of verdicts, drawn as it comes in use and not as deploykit draws it.

Images and spectra are smooth, series walk, columns have the units of their sensors, masks are ragged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.verdict_nets import MEANS, STDS
from deploykit.tensors import Array, Tensors

Sizes = Mapping[str, int]
Draw = Callable[[np.random.Generator, Sizes], Tensors]
"""Gives the inputs of one call, for a size of each dynamic axis."""


@dataclass(frozen=True)
class Kind:
    """A net of ``verdict_nets``, and what goes into it."""

    name: str
    inputs: tuple[str, ...]
    """As deploykit's ``--input`` takes them."""
    draw: Draw
    sizes: tuple[Sizes, ...]
    """Sizes of the dynamic axes beside the batch that come in use, the ordinary ones first."""


def smooth(rng: np.random.Generator, shape: Sequence[int], axes: Sequence[int]) -> Array:
    """Give coarse structure, a finer one on it, an offset for each sample, and some noise; of unit size over all."""
    found = 0.3 * rng.standard_normal(shape) + 0.3 * rng.standard_normal((shape[0], *[1] * (len(shape) - 1)))
    for coarse, size in ((8, 0.7), (4, 0.5)):
        small = [-(-length // coarse) + 1 if axis in axes else length for axis, length in enumerate(shape)]
        part = rng.standard_normal(small)
        for axis in axes:
            part = _stretched(part, axis, shape[axis], coarse)
        found = found + size * part
    return found.astype(np.float32)


def _stretched(array: Array, axis: int, length: int, factor: int) -> Array:
    """Interpolate linearly along an axis."""
    places = np.arange(length) / factor
    low = places.astype(int)
    share = (places - low).reshape([-1 if one == axis else 1 for one in range(array.ndim)])
    return np.asarray(np.take(array, low, axis) * (1 - share) + np.take(array, low + 1, axis) * share)


def _images(name: str, channels: int, size: int) -> Draw:
    def draw(rng: np.random.Generator, sizes: Sizes) -> Tensors:
        shape = (sizes["batch"], channels, sizes.get("height", size), sizes.get("width", size))
        return {name: smooth(rng, shape, (2, 3))}

    return draw


def _text(rng: np.random.Generator, sizes: Sizes) -> Tensors:
    shape = (sizes["batch"], sizes["seq"])
    lengths = rng.integers(1, shape[1] + 1, (shape[0], 1))
    lengths[0] = shape[1]
    places = np.arange(shape[1])
    second = places >= rng.integers(1, shape[1] + 1, (shape[0], 1))
    ids = _dealt(rng, 300, shape)
    return {
        "input_ids": ids,
        "attention_mask": (places < lengths).astype(np.int64),
        "token_type_ids": second.astype(np.int64),
    }


def _characters(rng: np.random.Generator, sizes: Sizes) -> Tensors:
    return {"ids": _dealt(rng, 80, (sizes["batch"], sizes["time"]))}


def _dealt(rng: np.random.Generator, rows: int, shape: tuple[int, ...]) -> Array:
    """Give ids of which each comes about equally often."""
    count = int(np.prod(shape))
    turns = [rng.permutation(rows) for _ in range(-(-count // rows))]
    return np.concatenate(turns)[:count].reshape(shape).astype(np.int64)


def _series(rng: np.random.Generator, sizes: Sizes) -> Tensors:
    steps = rng.standard_normal((sizes["batch"], sizes["time"], 6))
    for number in range(1, sizes["time"]):
        steps[:, number] = 0.9 * steps[:, number - 1] + 0.44 * steps[:, number]
    return {"x": steps.astype(np.float32)}


def _columns(rng: np.random.Generator, sizes: Sizes) -> Tensors:
    shared = rng.standard_normal((sizes["batch"], 1))
    columns = 0.5 * shared + 0.87 * rng.standard_normal((sizes["batch"], 8))
    raw = np.asarray(MEANS) + np.asarray(STDS) * columns
    ids = {name: _dealt(rng, rows, (sizes["batch"],)) for name, rows in (("place", 50), ("kind", 12))}
    return {"columns": raw.astype(np.float32), **ids}


def _spectra(rng: np.random.Generator, sizes: Sizes) -> Tensors:
    return {"mel": smooth(rng, (sizes["batch"], 40, sizes["time"]), (1, 2))}


def _noise(rng: np.random.Generator, sizes: Sizes) -> Tensors:
    return {"noise": rng.standard_normal((sizes["batch"], 32)).astype(np.float32)}


_FIXED: tuple[Sizes, ...] = ({},)
_PLANE: tuple[Sizes, ...] = ({"height": 32, "width": 32}, {"height": 32, "width": 48}, {"height": 45, "width": 21})
_TIMES: tuple[Sizes, ...] = ({"time": 20}, {"time": 33}, {"time": 7}, {"time": 1})
_WORDS: tuple[Sizes, ...] = ({"seq": 16}, {"seq": 64}, {"seq": 5}, {"seq": 1})
_BERT = tuple(f"{name}:int64[batch,seq]" for name in ("input_ids", "attention_mask", "token_type_ids"))

KINDS = {
    kind.name: kind
    for kind in (
        Kind("resnet", ("image:float32[batch,3,32,32]",), _images("image", 3, 32), _FIXED),
        Kind("mobile", ("image:float32[batch,3,48,48]",), _images("image", 3, 48), _FIXED),
        Kind("unet", ("image:float32[batch,3,height,width]",), _images("image", 3, 32), _PLANE),
        Kind("vit", ("image:float32[batch,3,32,32]",), _images("image", 3, 32), _FIXED),
        Kind("bert", _BERT, _text, _WORDS),
        Kind("lstm", ("ids:int64[batch,time]",), _characters, _TIMES),
        Kind("gru", ("x:float32[batch,time,6]",), _series, _TIMES),
        Kind(
            *("mlp", ("columns:float32[batch,8]", "place:int64[batch]", "kind:int64[batch]")),
            *(_columns, _FIXED),
        ),
        Kind("detector", ("image:float32[batch,3,32,32]",), _images("image", 3, 32), _FIXED),
        Kind(
            *("speech", ("mel:float32[batch,40,time]",), _spectra),
            ({"time": 40}, {"time": 64}, {"time": 25}, {"time": 6}),
        ),
        Kind("decoder", ("noise:float32[batch,32]",), _noise, _FIXED),
        Kind("autoencoder", ("image:float32[batch,1,28,28]",), _images("image", 1, 28), _FIXED),
    )
}
