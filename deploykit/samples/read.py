"""Read the user's samples as a model takes them, a batch at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import numpy as np

from deploykit.errors import UsageError
from deploykit.samples.columns import (
    UNKNOWN,
    Column,
    Source,
    dtype_name,
    is_inexact,
    numpy_dtype,
    rounded,
    samples_of,
)
from deploykit.samples.fit import check_axes, check_column, chosen_columns
from deploykit.samples.preprocessing import Preprocessing
from deploykit.samples.source import opened
from deploykit.tensors import Array, Tensors, TensorSpec

SAMPLES = "batch"
"""The name given to the first axis of every array of a source."""


def specs_of(source: Path | str) -> tuple[TensorSpec, ...]:
    """Describe the arrays of a source from their headers; the first axis of each is ``batch``.

    Raises:
        UsageError: it can't be read, holds an array that no model takes (Python objects, dates), or images.
        MissingPackage: a package that the format needs is not installed.
    """
    return _specs(opened(source, None))


def notes_of(
    source: Path | str, inputs: Sequence[TensorSpec], *, image: Preprocessing | None = None
) -> tuple[str, ...]:
    """Say in plain words what is assumed of the samples, where nothing was said: how images are prepared.

    Raises:
        UsageError: as ``read`` does.
        MissingPackage: a package that the format needs is not installed.
    """
    return opened(source, inputs, image).notes


def read(
    source: Path | str,
    inputs: Sequence[TensorSpec] | None,
    *,
    limit: int,
    batch: int | Sequence[int],
    image: Preprocessing | None = None,
) -> Iterator[Tensors]:
    """Read samples by input name, ``batch`` at a time and ``limit`` at most; one batch is held, never the file.

    The headers are checked at once, the numbers as they are read. The first axis of every array counts the
    samples; an array without axes goes to every batch as it is. Arrays that are no input (labels) are left
    unread. One array fits one input whatever its name. Values become the input's type where nothing is lost,
    and float64 becomes float32. Where the model fixes its batch at k, every batch has k samples and a rest
    of fewer is left out. With ``inputs=None`` every array is read as it is.

    Args:
        source: a file or folder, or ``module:function`` or ``file.py:function``, which yields dictionaries of arrays,
            one sample each without the batch axis.
        inputs: what the model takes.
        limit: the first so many samples.
        batch: samples in each batch; of several numbers each is for one batch, and the last for all that follow.
        image: what is done to images; without it they are brought to the input's size and 0..1 (see ``notes_of``).

    Raises:
        UsageError: it can't be read, or an array is missing, of the wrong type, rank or size, or not finite.
        MissingPackage: a package that the format needs is not installed.
    """
    return batches(opened(source, inputs, image), inputs, limit=limit, batch=batch)


def batches(
    found: Source, inputs: Sequence[TensorSpec] | None, *, limit: int, batch: int | Sequence[int]
) -> Iterator[Tensors]:
    """Read an open source as ``read`` does.

    Raises:
        UsageError: as there.
    """
    sizes = (batch,) if isinstance(batch, int) else tuple(batch)
    if limit < 1 or min(sizes, default=0) < 1:
        raise UsageError(
            f"no sample would be read: at most {limit} samples, {batch} at a time",
            fix="ask for 1 or more of both",
        )
    specs = _specs(found) if inputs is None else tuple(inputs)
    chosen = chosen_columns(found, specs)
    for spec in specs:
        check_column(chosen[spec.name], spec)
    check_axes(found, specs, chosen)
    fixed = _fixed_batch(found, specs)
    count = _count(found, specs, chosen)
    most = limit if count == UNKNOWN else min(limit, count)
    if fixed is not None and most < fixed:
        raise _too_few(found, fixed, most)
    return _batches(
        found, specs, chosen, _Steps(most - most % (fixed or 1), (fixed,) if fixed else sizes, fixed is not None)
    )


def _specs(found: Source) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(one.name, dtype_name(one), (SAMPLES, *one.shape[1:]) if one.shape else ())
        for one in found.columns.values()
    )


@dataclass(frozen=True)
class _Steps:
    most: int
    sizes: tuple[int, ...]
    exact: bool
    """Whether a batch of fewer samples can't be used."""


def _batches(
    found: Source, specs: Sequence[TensorSpec], chosen: Mapping[str, Column], steps: _Steps
) -> Iterator[Tensors]:
    done = left_over = 0
    sizes = chain(steps.sizes, repeat(steps.sizes[-1]))
    with found.stream([chosen[spec.name].name for spec in specs]) as take:
        while done < steps.most:
            size = next(sizes)
            taken = take(min(size, steps.most - done))
            count = samples_of(taken)
            if count < (size if steps.exact else 1):
                left_over = count
                break
            yield {spec.name: _ready(chosen[spec.name], taken[chosen[spec.name].name], spec, done) for spec in specs}
            done += count
    if done == 0 and left_over:
        raise _too_few(found, steps.sizes[0], left_over)
    if done == 0:
        raise _no_sample(found)


def _ready(column: Column, array: Array, spec: TensorSpec, start: int) -> Array:
    _check_finite(column, array, start)
    if array.dtype.kind == "U":
        return array
    return rounded(column, array, numpy_dtype(spec.dtype))


def _fixed_batch(found: Source, specs: Sequence[TensorSpec]) -> int | None:
    firsts = {spec.dims[0] for spec in specs if spec.dims}
    fixed = {dim for dim in firsts if isinstance(dim, int)}
    if fixed and len(firsts) > 1:
        raise UsageError(
            f"{found.place} can't feed this model: the first axes of its inputs are not the same number of samples",
            details=tuple(str(spec) for spec in specs),
            fix="leave the file out, and the inputs are synthesized",
        )
    return fixed.pop() if fixed else None


def _count(found: Source, specs: Sequence[TensorSpec], chosen: Mapping[str, Column]) -> int:
    counts = {spec.name: chosen[spec.name].shape[0] for spec in specs if spec.dims}
    if len(set(counts.values())) > 1:
        raise UsageError(
            f"the arrays of {found.place} have different numbers of samples: "
            f"{', '.join(f'{name} {count}' for name, count in counts.items())}",
            fix="the first axis of every array counts the same samples",
        )
    count = next(iter(counts.values()), 1)
    if count == 0:
        raise _no_sample(found)
    return count


def _too_few(found: Source, step: int, count: int) -> UsageError:
    return UsageError(
        f"the model takes {step} samples at a time, and only {count} of {found.place} are to be read",
        fix=f"give {step} samples or more",
    )


def _no_sample(found: Source) -> UsageError:
    return UsageError(f"{found.place} has no sample", fix="save at least one")


def _check_finite(column: Column, array: Array, start: int) -> None:
    if not is_inexact(array.dtype):
        return
    wrong = ~np.isfinite(array)
    if wrong.any():
        index = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), array.shape))
        place = [index[0] + start, *index[1:]] if index else []
        raise UsageError(
            f"{column} is not finite: {array[index]} at {place}",
            fix=f"clean the data, as in  keep = np.isfinite({column.name}).reshape(len({column.name}), -1).all(1)",
        )
