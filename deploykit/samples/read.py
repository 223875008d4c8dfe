"""Read the user's samples from ``.npz`` files, a batch at a time."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from deploykit.errors import UsageError, nearest
from deploykit.samples.npz import Member, dtype_name, opened, read_rows
from deploykit.tensors import Array, Tensors, TensorSpec

SAMPLES = "batch"
"""The name given to the first axis of every array of a file."""


def npz_specs(path: Path) -> tuple[TensorSpec, ...]:
    """Describe the arrays of an ``.npz`` from their headers; the first axis of each is ``batch``.

    Raises:
        UsageError: the file can't be read, or holds an array that no model takes (Python objects, dates).
    """
    with opened(path) as archive:
        return tuple(_spec(member) for member in archive.members.values())


def _spec(member: Member) -> TensorSpec:
    return TensorSpec(member.name, dtype_name(member), (SAMPLES, *member.shape[1:]) if member.shape else ())


def read_npz(path: Path, inputs: Sequence[TensorSpec] | None, *, limit: int, batch: int) -> Iterator[Tensors]:
    """Read samples by input name, ``batch`` at a time and ``limit`` at most; one batch is held, never the file.

    The headers are checked at once, the numbers as they are read. The first axis of every array counts the
    samples; an array without axes goes to every batch as it is. Arrays that are no input (labels) are left
    unread. One array fits one input whatever its name. Values become the input's type where nothing is lost,
    and float64 becomes float32. Where the model fixes its batch at k, every batch has k samples and a rest
    of fewer is left out. With ``inputs=None`` every array is read as it is.

    Raises:
        UsageError: the file can't be read, or an array is missing, of the wrong type, rank or size, or not finite.
    """
    if limit < 1 or batch < 1:
        raise UsageError(
            f"no sample would be read: at most {limit} samples, {batch} at a time",
            fix="ask for 1 or more of both",
        )
    specs = npz_specs(path) if inputs is None else tuple(inputs)
    with opened(path) as archive:
        chosen = _choose(path, archive.members, specs)
    for name, member in chosen.items():
        _check_member(path, member, next(spec for spec in specs if spec.name == name))
    _check_axes(path, specs, chosen)
    step = _step(path, specs, batch)
    count = min(limit, _count(path, specs, chosen))
    stop = count if step == batch else count - count % step
    if stop == 0:
        raise UsageError(
            f"the model takes {step} samples at a time, and only {count} of {path} are to be read",
            fix=f"give {step} samples or more",
        )
    return _batches(path, specs, chosen, range(0, stop, step), stop)


def _batches(
    path: Path, specs: Sequence[TensorSpec], chosen: Mapping[str, Member], starts: range, stop: int
) -> Iterator[Tensors]:
    with opened(path) as archive, ExitStack() as stack:
        streams = {name: stack.enter_context(archive.stream(member)) for name, member in chosen.items()}
        whole = {spec.name: _read(path, chosen[spec.name], streams[spec.name], spec, 0, 1) for spec in _fixed(specs)}
        for start in starts:
            count = min(starts.step, stop - start)
            yield {
                spec.name: whole[spec.name].copy()
                if spec.name in whole
                else _read(path, chosen[spec.name], streams[spec.name], spec, start, count)
                for spec in specs
            }


def _read(path: Path, member: Member, stream: IO[bytes], spec: TensorSpec, start: int, count: int) -> Array:
    array = read_rows(stream, member, count)
    _check_finite(path, member, array, start)
    if member.dtype.kind == "U":
        return array
    with np.errstate(over="ignore"):
        converted = array.astype(_numpy(spec.dtype), copy=False)
    if converted.dtype.kind == "f" and not np.isfinite(converted).all():
        raise UsageError(
            f"{member.name} in {path} has values too large for {spec.dtype}",
            fix="scale the data as the model was trained on it",
        )
    return converted


def _fixed(specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    return [spec for spec in specs if not spec.dims]


def _choose(path: Path, members: Mapping[str, Member], specs: Sequence[TensorSpec]) -> dict[str, Member]:
    if len(members) == len(specs) == 1:
        return {specs[0].name: next(iter(members.values()))}
    for spec in specs:
        if spec.name not in members:
            raise UsageError(
                f"{path} has no array '{spec.name}'{nearest(spec.name, members)}",
                details=(
                    f"the model takes: {', '.join(map(str, specs))}",
                    f"the file has:    {', '.join(members)}",
                ),
                fix=f"np.savez('{path.name}', {', '.join(f'{spec.name}=...' for spec in specs)})",
            )
    return {spec.name: members[spec.name] for spec in specs}


def _check_member(path: Path, member: Member, spec: TensorSpec) -> None:
    found = dtype_name(member)
    if not _converts(found, spec.dtype):
        known = "np.float32" if spec.dtype == "bfloat16" else f"np.{'str_' if spec.dtype == 'string' else spec.dtype}"
        raise UsageError(
            f"{member.name} in {path} is {found}, and the input {spec} takes {spec.dtype}",
            fix=f"{member.name} = {member.name}.astype({known}), where no value is lost by it",
        )
    if len(member.shape) != len(spec.dims):
        raise UsageError(
            f"{member.name} in {path} has {len(member.shape)} axes, not {len(spec.dims)}: "
            f"{list(member.shape)} against {spec}",
            fix="the first axis counts the samples, the others are those of the input",
        )
    for axis, (size, dim) in enumerate(zip(member.shape[1:], spec.dims[1:], strict=True), start=1):
        if isinstance(dim, int) and size != dim:
            raise UsageError(
                f"{member.name} in {path} has {size} on axis {axis}, not {dim}: {list(member.shape)} against {spec}",
                fix="prepare the data as the model takes it: transpose, resize, crop or pad",
            )


def _converts(found: str, wanted: str) -> bool:
    """Say whether values of one type become another with nothing lost, or float64 becomes float32."""
    if found == wanted or (found, wanted) == ("float64", "float32"):
        return True
    if wanted == "bfloat16":  # numpy can't save one, so that float32 is all a user can have
        return found in {"float32", "float64"}
    if "string" in {found, wanted} or (found in {"int64", "uint64"} and wanted.startswith(("float", "complex"))):
        return False
    return np.can_cast(found, wanted, "safe")


def _check_axes(path: Path, specs: Sequence[TensorSpec], chosen: Mapping[str, Member]) -> None:
    seen: dict[str, tuple[str, int]] = {}
    for spec in specs:
        for dim, size in list(zip(spec.dims, chosen[spec.name].shape, strict=True))[1:]:
            if isinstance(dim, str) and seen.setdefault(dim, (spec.name, size))[1] != size:
                raise UsageError(
                    f"the arrays of {path} differ in the axis '{dim}': "
                    f"{seen[dim][1]} in {seen[dim][0]}, {size} in {spec.name}",
                    fix=f"pad or cut them to one size of '{dim}'",
                )


def _step(path: Path, specs: Sequence[TensorSpec], batch: int) -> int:
    firsts = {spec.dims[0] for spec in specs if spec.dims}
    fixed = {dim for dim in firsts if isinstance(dim, int)}
    if fixed and len(firsts) > 1:
        raise UsageError(
            f"{path} can't feed this model: the first axes of its inputs are not the same number of samples",
            details=tuple(str(spec) for spec in specs),
            fix="leave the file out, and the inputs are synthesized",
        )
    return fixed.pop() if fixed else batch


def _count(path: Path, specs: Sequence[TensorSpec], chosen: Mapping[str, Member]) -> int:
    counts = {spec.name: chosen[spec.name].shape[0] for spec in specs if spec.dims}
    if len(set(counts.values())) > 1:
        raise UsageError(
            f"the arrays of {path} have different numbers of samples: "
            f"{', '.join(f'{name} {count}' for name, count in counts.items())}",
            fix="the first axis of every array counts the same samples",
        )
    count = next(iter(counts.values()), 1)
    if count < 1:
        raise UsageError(f"{path} has no sample: {next(iter(counts))} has 0 on its first axis", fix="save at least one")
    return count


def _check_finite(path: Path, member: Member, array: Array, start: int) -> None:
    if array.dtype.kind not in "fc":
        return
    wrong = ~np.isfinite(array)
    if wrong.any():
        index = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), array.shape))
        place = [index[0] + start, *index[1:]] if index else []
        raise UsageError(
            f"{member.name} in {path} is not finite: {array[index]} at {place}",
            fix=f"clean the data, as in  keep = np.isfinite({member.name}).reshape(len({member.name}), -1).all(1)",
        )


def _numpy(dtype: str) -> np.dtype[np.generic]:
    if dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)
