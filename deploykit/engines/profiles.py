"""Optimization profiles: between which shapes an engine works, and for which one it is tuned."""

import math
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from deploykit.errors import ModelError, UsageError, nearest
from deploykit.sidecar import Shapes
from deploykit.tensors import TensorSpec

_FORM = (
    "--shape 'x:1x3x224x224,8x3x224x224,32x3x224x224' (smallest, usual, largest), one shape for all three, or sizes of"
    " the batch: 1,8,32"
)
_SHAPE = re.compile(r"(?:(?P<name>.+):)?(?P<sizes>\d+(?:x\d+)*)")
_SIZES = re.compile(r"\d+(?:\s*,\s*\d+)*")
_THREE = 3
_MOST = (1 << 31) - 1
"""Elements of one tensor: TensorRT counts them so."""


@dataclass(frozen=True)
class Profiles:
    """The one profile of an engine: for each input with a dynamic axis its shapes."""

    shapes: Mapping[str, Shapes]
    said: tuple[str, ...]
    """Each in words, and where it is from."""


def profiles_of(inputs: Sequence[TensorSpec], texts: Sequence[str], golden: Path) -> Profiles:
    """Take what the user says of the inputs, and derive the rest from the calls of the golden.

    An axis with a name goes from 1 to the largest size that the golden has, and is tuned for the commonest, of several
    the first; one whose size follows from another, as in ``2*time``, begins with the smallest.

    Raises:
        UsageError: a shape can't be read, or does not fit its input.
    """
    batch, texts = _batch(inputs, texts)
    asked = _asked(inputs, texts)
    open_ = [spec for spec in inputs if any(isinstance(dim, str) for dim in spec.dims)]
    sizes = _sizes(open_, golden) if any(spec.name not in asked for spec in open_) else {}
    made, said = dict[str, Shapes](), list[str]()
    for spec in open_:
        own = asked.get(spec.name)
        shapes = own or _derived(spec, {**sizes, **batch})
        made[spec.name] = shapes
        said_so = own or batch.keys() & set(spec.dims)
        origin = "as --shape says" if said_so else f"from the signature and {golden.name}"
        said.append(f"{spec.name} {_text(shapes[0])} to {_text(shapes[2])}, tuned for {_text(shapes[1])}, {origin}")
    _check_axes(open_, made)
    _check_volumes(made)
    return Profiles(made, tuple(said))


def _batch(inputs: Sequence[TensorSpec], texts: Sequence[str]) -> tuple[dict[str, Sequence[int]], Sequence[str]]:
    """Take sizes of the batch, ``1,8,32``, apart from shapes: for the first axis of all inputs."""
    sizes = [text for text in texts if _SIZES.fullmatch(text.strip())]
    if not sizes:
        return {}, texts
    first = {spec.dims[0] for spec in inputs if spec.dims and isinstance(spec.dims[0], str)}
    numbers = [_number(part) for part in sizes[0].split(",")]
    if len(sizes) > 1 or len(first) != 1:
        raise UsageError(f"--shape {sizes[-1]} says no sizes of a batch that all inputs share", fix=_FORM)
    if len(numbers) not in (1, _THREE) or numbers[0] < 1 or numbers != sorted(numbers):
        raise UsageError(f"--shape {sizes[0]}: the sizes of a batch are one, or three that grow from 1 on", fix=_FORM)
    least, usual, most = numbers[0], numbers[len(numbers) // 2], numbers[-1]
    return {str(first.pop()): (least, usual, usual, most)}, [text for text in texts if text not in sizes]


def _asked(inputs: Sequence[TensorSpec], texts: Sequence[str]) -> dict[str, Shapes]:
    by_name = {spec.name: spec for spec in inputs}
    listed: dict[str, list[tuple[int, ...]]] = {}
    for text in texts:
        last = ""
        for part in map(str.strip, text.replace(";", ",").split(",")):
            match = _SHAPE.fullmatch(part)
            last = match["name"] or last if match else ""
            if match is None or not last:
                raise UsageError(f"--shape '{text}' can't be read at '{part}'", fix=_FORM)
            if last not in by_name:
                raise UsageError(
                    f"--shape names '{last}', and there is no such input{nearest(last, by_name)}",
                    fix=f"the inputs are {', '.join(map(str, inputs))}",
                )
            listed.setdefault(last, []).append(tuple(map(_number, match["sizes"].split("x"))))
    return {name: _three(by_name[name], shapes) for name, shapes in listed.items()}


def _number(text: str) -> int:
    size = int(text) if len(text.strip()) <= len(str(_MOST)) else _MOST + 1
    if size > _MOST:
        raise UsageError(f"--shape: {text:.24} is more than TensorRT counts to, {_MOST}", fix=_FORM)
    return size


def _three(spec: TensorSpec, shapes: Sequence[tuple[int, ...]]) -> Shapes:
    if len(shapes) not in (1, _THREE):
        raise UsageError(f"--shape gives {len(shapes)} shapes of '{spec.name}': one or three are taken", fix=_FORM)
    for shape in shapes:
        pairs = list(zip(spec.dims, shape, strict=False))
        if len(shape) != len(spec.dims) or any(isinstance(dim, int) and dim != size for dim, size in pairs):
            raise UsageError(
                f"--shape: {_text(shape)} is no shape of {spec}",
                fix="give a size for each of its axes, and of those that are fixed their own",
            )
    least, usual, most = (shapes[0], shapes[0], shapes[0]) if len(shapes) == 1 else shapes
    if not all(0 < low <= middle <= high for low, middle, high in zip(least, usual, most, strict=True)):
        raise UsageError(
            f"--shape: the shapes of '{spec.name}' do not grow: {', '.join(map(_text, shapes))}",
            fix="the smallest first, then the usual, then the largest, each axis from 1 on",
        )
    return least, usual, most


def _check_axes(inputs: Sequence[TensorSpec], shapes: Mapping[str, Shapes]) -> None:
    """Make sure that an axis that several inputs share has one size."""
    known: dict[str, tuple[str, tuple[int, ...]]] = {}
    for spec in inputs:
        for dim, column in zip(spec.dims, zip(*shapes[spec.name], strict=True), strict=True):
            other, sizes = known.setdefault(str(dim), (spec.name, column))
            if isinstance(dim, str) and sizes != column:
                raise UsageError(
                    f"'{dim}' is {_listed(sizes)} in '{other}' and {_listed(column)} in '{spec.name}'",
                    fix="give the inputs that share an axis the same sizes: --shape 'x:1x3,8x3,32x3,mask:1x4,8x4,32x4'",
                )


def _check_volumes(shapes: Mapping[str, Shapes]) -> None:
    for name, (_, _, most) in shapes.items():
        if math.prod(most) > _MOST:
            raise UsageError(
                f"--shape: '{name}' of {_text(most)} has {math.prod(most)} elements, and TensorRT counts to {_MOST}",
                fix="give the largest shape that is in use",
            )


def _derived(spec: TensorSpec, sizes: Mapping[str, Sequence[int]]) -> Shapes:
    least, usual, most = ([dim if isinstance(dim, int) else 0 for dim in spec.dims] for _ in range(_THREE))
    for axis, dim in enumerate(spec.dims):
        if isinstance(dim, str):
            found = sizes[dim]
            least[axis] = 1 if dim.isidentifier() and not isinstance(found, tuple) else min(found)
            usual[axis] = Counter(found).most_common(1)[0][0]
            most[axis] = max(found)
    return tuple(least), tuple(usual), tuple(most)


def _sizes(inputs: Sequence[TensorSpec], golden: Path) -> dict[str, list[int]]:
    """Give the sizes of every dynamic axis, one for each call of the golden."""
    first = {
        dim: (spec, axis) for spec in reversed(inputs) for axis, dim in enumerate(spec.dims) if isinstance(dim, str)
    }
    calls = _calls(golden)
    try:
        found = {
            dim: [call[spec.name][axis] for call in calls if spec.name in call] for dim, (spec, axis) in first.items()
        }
    except IndexError as error:
        raise _damaged(golden, error) from error
    missing = next((name for name, sizes in found.items() if not sizes), None)
    if missing is not None:
        raise UsageError(f"{golden.name} has no call that gives '{missing}' a size", fix=_FORM)
    return found


def takes_any(profiles: Mapping[str, Shapes], golden: Path) -> bool:
    """Say whether a call of the golden is within the profile, so that the engine can be judged by it.

    Raises:
        ModelError: the golden is damaged.
    """
    return any(
        all(_takes(shapes, call[name]) for name, shapes in profiles.items() if name in call) for call in _calls(golden)
    )


def _takes(shapes: Shapes, given: tuple[int, ...]) -> bool:
    least, _, most = shapes
    return len(given) == len(least) and all(map(lambda low, size, high: low <= size <= high, least, given, most))


def _calls(golden: Path) -> list[dict[str, tuple[int, ...]]]:
    """Give the shapes of the inputs of each call; of the arrays only headers are read."""
    calls = dict[int, dict[str, tuple[int, ...]]]()
    try:
        with zipfile.ZipFile(golden) as archive:
            for entry in archive.namelist():
                match = _INPUT.fullmatch(entry)
                if match is not None:
                    with archive.open(entry) as array:
                        calls.setdefault(int(match["number"]), {})[match["name"]] = _shape(array)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise _damaged(golden, error) from error
    return [calls[number] for number in sorted(calls)]


def _damaged(golden: Path, error: Exception) -> ModelError:
    return ModelError(f"{golden} is no golden, or is damaged: {error}", fix="make it again: deploykit convert")


_INPUT = re.compile(r"inputs/(?P<number>[0-9]{1,9})/(?P<name>.+)\.npy", re.DOTALL)


def _shape(array: IO[bytes]) -> tuple[int, ...]:
    version = np.lib.format.read_magic(array)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape: tuple[int, ...] = read(array)[0]
    return shape


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
