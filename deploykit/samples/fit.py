"""Whether the arrays of a source are what a model takes: names, types, ranks and sizes, before anything is read."""

from collections.abc import Mapping, Sequence

import numpy as np

from deploykit.errors import UsageError, nearest
from deploykit.samples.columns import Column, Source, dtype_name
from deploykit.tensors import TensorSpec


def chosen_columns(found: Source, specs: Sequence[TensorSpec]) -> dict[str, Column]:
    """Find an array for each input by its name; one array fits one input whatever its name.

    Raises:
        UsageError: an input has none.
    """
    columns = found.columns
    if len(columns) == len(specs) == 1:
        return {specs[0].name: next(iter(columns.values()))}
    for spec in specs:
        if spec.name not in columns:
            raise UsageError(
                f"{found.place} has no array '{spec.name}'{nearest(spec.name, columns)}",
                details=(
                    f"the model takes: {', '.join(map(str, specs))}",
                    f"the file has:    {', '.join(columns)}",
                ),
                fix=found.naming([spec.name for spec in specs]),
            )
    return {spec.name: columns[spec.name] for spec in specs}


def check_column(column: Column, spec: TensorSpec) -> None:
    """Make sure that an array can be fed to an input.

    Raises:
        UsageError: it is of another type, rank or size.
    """
    found = dtype_name(column)
    if not _converts(found, spec.dtype):
        known = "np.float32" if spec.dtype == "bfloat16" else f"np.{'str_' if spec.dtype == 'string' else spec.dtype}"
        raise UsageError(
            f"{column} is {found}, and the input {spec} takes {spec.dtype}",
            fix=f"{column.name} = {column.name}.astype({known}), where no value is lost by it",
        )
    if len(column.shape) != len(spec.dims):
        raise UsageError(
            f"{column} has {len(column.shape)} axes, not {len(spec.dims)}: {column.sizes} against {spec}",
            fix="the first axis counts the samples, the others are those of the input",
        )
    for axis, (size, dim) in enumerate(zip(column.shape[1:], spec.dims[1:], strict=True), start=1):
        if isinstance(dim, int) and size != dim:
            raise UsageError(
                f"{column} has {size} on axis {axis}, not {dim}: {column.sizes} against {spec}",
                fix="prepare the data as the model takes it: transpose, resize, crop or pad",
            )


def check_axes(found: Source, specs: Sequence[TensorSpec], chosen: Mapping[str, Column]) -> None:
    """Make sure that axes of one name have one size.

    Raises:
        UsageError: they do not.
    """
    seen: dict[str, tuple[str, int]] = {}
    for spec in specs:
        for dim, size in list(zip(spec.dims, chosen[spec.name].shape, strict=True))[1:]:
            if isinstance(dim, str) and seen.setdefault(dim, (spec.name, size))[1] != size:
                raise UsageError(
                    f"the arrays of {found.place} differ in the axis '{dim}': "
                    f"{seen[dim][1]} in {seen[dim][0]}, {size} in {spec.name}",
                    fix=f"pad or cut them to one size of '{dim}'",
                )


def _converts(found: str, wanted: str) -> bool:
    """Say whether values of one type become another with nothing lost, or float64 becomes float32."""
    if found == wanted or (found, wanted) == ("float64", "float32"):
        return True
    if wanted == "bfloat16":  # numpy can't save one, so that float32 is all a user can have
        return found in {"float32", "float64"}
    if found == "bfloat16":
        return wanted in {"float32", "float64"}
    if "string" in {found, wanted} or (found in {"int64", "uint64"} and wanted.startswith(("float", "complex"))):
        return False
    return np.can_cast(found, wanted, "safe")
