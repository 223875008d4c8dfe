"""The sizes at which dynamic axes are tried: planned around an example, or those that the user asks for."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from deploykit.errors import UsageError, nearest
from deploykit.tensors import TensorSpec, dynamic_axes

SAMPLES = 8
"""Samples that are taken at least."""

Sizes = Mapping[str, tuple[int, ...]]
"""Sizes of axes by name. Where several axes have some, the first of each go together, then the second of each."""

PLANNED: Sizes = MappingProxyType({})
"""Where the user asks for no sizes."""


def plans(
    axes: Sequence[str], example: Mapping[str, int], *, batch_axis: str | None = "batch", asked: Sizes = PLANNED
) -> list[dict[str, int]]:
    """Choose sizes for the dynamic axes, the example's first, then others around it: eight cases, or a few more.

    Each axis is tried at an odd size, half the example's (every second axis, so that two do not stay alike), double,
    1 and 2; the batch at 1, 2, 3 and 5. At least eight samples have the example's sizes but for the batch, so that
    enough are left where a model refuses all others: cases are repeated until there are.

    Sizes that are asked for take the place of those of their axis: each comes with the other axes at the example's
    size, and only then do these vary. A single one is tried beside the example's, or beside 1: an axis that was seen
    at one size only is not known to be dynamic.

    Args:
        axes: names of the dynamic axes.
        example: a size for each of them.
        batch_axis: which of them counts samples.
        asked: the sizes that the user asks for.

    Raises:
        KeyError: the example has no size for an axis.
    """
    first = {axis: example[axis] for axis in axes}
    columns = {axis: (*sizes, *_beside(sizes, first[axis])) for axis, sizes in asked.items()}
    calls = [{**first, **call} for call in _together(columns)] or [first]
    least = {**first, **{axis: min(sizes) for axis, sizes in columns.items()}}
    varied = _around([axis for axis in axes if axis != batch_axis and axis not in asked], first)
    if batch_axis is None or batch_axis not in first or batch_axis in asked:
        return _filled([*calls, *({**least, **sizes} for sizes in varied if sizes)], calls, batch_axis)
    others = [({}, 1), ({}, 5), *zip(varied, itertools.cycle((3, 2, 1)))]
    return _filled([*calls, *({**least, **sizes, batch_axis: batch} for sizes, batch in others)], calls, batch_axis)


def _around(axes: Sequence[str], example: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Give other settings of some axes: odd sizes, half, double, and small ones with the neighbours as they are."""
    yield {axis: _odd(example[axis], place) for place, axis in enumerate(axes)}
    yield {axis: example[axis] if place % 2 else max(1, example[axis] // 2) for place, axis in enumerate(axes)}
    yield {axis: 2 * example[axis] for axis in axes}
    # Of two pixels a norm makes large numbers out of rounding errors; of a line of them it does not.
    for size, first in itertools.product((1, 2), range(min(2, len(axes)))):
        yield {axis: size if place % 2 == first else example[axis] for place, axis in enumerate(axes)}


def _odd(size: int, place: int) -> int:
    """Give an odd size near three quarters of one, another at each place; not the size itself, its half or 1."""
    near = ((3 * size // 4) | 1) + 2 * place
    return (size | 1) + 2 * place + 2 if near in {1, size, size // 2} else near


def _filled(
    cases: Sequence[dict[str, int]], calls: Sequence[dict[str, int]], batch: str | None
) -> list[dict[str, int]]:
    """Leave out what is there twice, and repeat the calls until there are enough samples of their sizes."""
    filled = list({tuple(case.items()): case for case in cases}.values())
    rows = batch or ""
    alike = [{**call, rows: 0} for call in calls]
    count = sum(case.get(rows, 1) for case in filled if {**case, rows: 0} in alike)
    for call in itertools.cycle(calls):
        if count >= SAMPLES:
            break
        filled.append(dict(call))
        count += call.get(rows, 1)
    return filled


def _beside(sizes: Sequence[int], example: int) -> tuple[int, ...]:
    """Give what is tried with a size that is alone."""
    if len(set(sizes)) > 1:
        return ()
    return (example if example != sizes[0] else 2 if example == 1 else 1,)


def _together(asked: Sizes) -> list[dict[str, int]]:
    """Put sizes of several axes together into calls, the shorter lists beginning again."""
    count = max(map(len, asked.values()), default=0)
    return [{axis: sizes[call % len(sizes)] for axis, sizes in asked.items()} for call in range(count)]


_SHAPE = re.compile(r"(?:(?P<name>.+):)?(?P<sizes>\d+(?:x\d+)*)")
_FORMS = (
    "name an axis and its sizes: --shapes 'batch=1,8,32'",
    "or an input and its shapes: --shapes 'x:1x3x224x224,8x3x224x224'",
)


def asked_sizes(texts: Sequence[str], inputs: Sequence[TensorSpec]) -> dict[str, tuple[int, ...]]:
    """Read the sizes that the user asks for: ``batch=1,8,32`` or ``x:1x3x224x224,8x3x224x224``, more after a ``;``.

    Args:
        texts: what the user wrote.
        inputs: of the model, with their dynamic axes.

    Raises:
        UsageError: it can't be read, an axis or input is not there or is fixed, or an axis has sizes twice.
    """
    found: dict[str, tuple[int, ...]] = {}
    for part in parts(texts):
        axis, equals, sizes = part.partition("=")
        read = _of_axis(axis.strip(), sizes, part, inputs) if equals else _of_inputs(part, inputs)
        for name, column in read:
            if found.setdefault(name, column) != column:
                raise UsageError(
                    f"--shapes asks for '{name}' twice: {_listed(found[name])}, and {_listed(column)}",
                    fix=f"say it once: --shapes '{name}={_listed(dict.fromkeys((*found[name], *column)))}'",
                )
    return found


def parts(texts: Sequence[str]) -> list[str]:
    """Split what the user wrote into its parts, each of which is of one of the two forms.

    Raises:
        UsageError: a part is of neither, or a size is no number from 1 on.
    """
    found = [part.strip() for text in texts for part in text.split(";")]
    for part in found:
        axis, equals, sizes = part.partition("=")
        if not axis.strip() or not (equals or ":" in part):
            raise UsageError(f"--shapes '{part}' can't be read", fix=_FORMS)
        if equals:
            _numbers(sizes.split(","), part)
        else:
            list(_shapes(part))
    return found


def _of_axis(axis: str, sizes: str, part: str, inputs: Sequence[TensorSpec]) -> Iterator[tuple[str, tuple[int, ...]]]:
    axes = dynamic_axes(inputs)
    if axis not in axes:
        raise UsageError(
            f"--shapes '{part}': no axis '{axis}' is dynamic{nearest(axis, axes)}",
            fix=f"the dynamic axes are {', '.join(axes)}" if axes else "leave it out: every axis has a fixed size",
            details=[*map(str, inputs)],
        )
    yield axis, tuple(dict.fromkeys(_numbers(sizes.split(","), part)))


def _of_inputs(part: str, inputs: Sequence[TensorSpec]) -> Iterator[tuple[str, tuple[int, ...]]]:
    by_name = {spec.name: spec for spec in inputs}
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for name, shape in _shapes(part):
        if name not in by_name:
            raise UsageError(
                f"--shapes '{part}': there is no input '{name}'{nearest(name, by_name)}",
                fix=f"the inputs are {', '.join(map(str, inputs))}",
            )
        _check_fits(by_name[name], shape, part)
        shapes.setdefault(name, []).append(shape)
    for name, several in shapes.items():
        for axis, column in zip(by_name[name].dims, zip(*several, strict=True), strict=True):
            if isinstance(axis, str):
                yield axis, column


def _check_fits(spec: TensorSpec, shape: tuple[int, ...], part: str) -> None:
    pairs = list(zip(spec.dims, shape, strict=False))
    if len(spec.dims) != len(shape) or any(isinstance(dim, int) and dim != size for dim, size in pairs):
        raise UsageError(
            f"--shapes '{part}': {'x'.join(map(str, shape))} is no shape of {spec}",
            fix="give a size for each of its axes, and of those that are fixed their own",
        )


def _shapes(part: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Give every shape of ``x:1x3,8x3,y:1x4``, with the input that was named last."""
    last = ""
    for text in part.split(","):
        match = _SHAPE.fullmatch(text.strip())
        last = match["name"] or last if match else ""
        if match is None or not last:
            raise UsageError(f"--shapes '{part}' can't be read at '{text.strip()}'", fix=_FORMS)
        yield last, _numbers(match["sizes"].split("x"), part)


def _numbers(texts: Iterable[str], part: str) -> tuple[int, ...]:
    for text in map(str.strip, texts):
        if not (text.isascii() and text.isdigit()) or int(text) < 1:
            raise UsageError(f"--shapes '{part}': '{text}' is no size", fix="give whole numbers from 1 on")
    return tuple(int(text) for text in texts)


def _listed(sizes: Iterable[int]) -> str:
    return ",".join(map(str, sizes))


def batch_sizes(asked: Sizes, inputs: Sequence[TensorSpec], limit: int) -> tuple[int, ...]:
    """Give the sizes of the batches that the user's own samples are cut into; none where none are asked for.

    A single one comes after a first batch of another size: a batch of one size only is not known to be dynamic.

    Args:
        asked: what ``asked_sizes`` gave.
        inputs: of the model.
        limit: at most so many samples are taken.

    Raises:
        UsageError: sizes are asked for of what the samples have a size of already, or the samples are too few.
    """
    batch = next((spec.dims[0] for spec in inputs if spec.dims), None)
    for axis in asked:
        if axis != batch:
            raise UsageError(
                f"--shapes asks for sizes of '{axis}', and with --data they are those of the samples",
                fix=f"leave '{axis}' out of --shapes, or --data out, so that the inputs are made up",
            )
    own = asked[batch] if isinstance(batch, str) and asked else ()
    sizes = (*_beside(own, 1), *own) if own else ()
    if sum(sizes) > limit:
        raise UsageError(
            f"batches of {_listed(sizes)} are {sum(sizes)} samples, and at most {limit} are taken",
            fix=f"--samples {sum(sizes)}",
        )
    return sizes
