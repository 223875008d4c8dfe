"""Inputs made up from a graph, such that a damaged model can't pass for a sound one, and what they cover."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deploykit.samples.purpose import role_of, tables
from deploykit.samples.roles import Draw, Mask, Table
from deploykit.tensors import Array, Tensors, TensorSpec

if TYPE_CHECKING:
    import onnx_ir as ir

MOST_ROWS = 4096
"""Rows of a table up to which each is looked up; of a larger one the coverage says how many were."""


def synthesize(
    model: "ir.Model", inputs: Sequence[TensorSpec], plan: Sequence[Mapping[str, int]], *, seed: int = 0
) -> list[Tensors]:
    """Make inputs that suit the graph, one set for each entry of the plan.

    Ids cover the rows of the tables they index, masks are ragged, positions rise, lengths fit, pixels are 0 to
    255, floats are of the distribution that the graph's first arithmetic expects, or else the unit normal.
    Integers of which the graph tells nothing are the numbers they are compared with, or else 0 and 1, on purpose
    conservative: a larger number may be out of a range that can't be seen.

    Args:
        model: the graph; its weights are not read but for small constants.
        inputs: the inputs by their names in the graph.
        plan: for each case the size of every dynamic axis.
        seed: the same seed gives the same bytes for an input, whatever the others are. Not negative.

    Raises:
        KeyError: an entry of the plan has no size for a dynamic axis.
    """
    columns = {spec.name: _column(model, spec, inputs, plan, seed) for spec in inputs}
    return [{name: column[case] for name, column in columns.items()} for case in range(len(plan))]


def covering(
    model: "ir.Model", inputs: Sequence[TensorSpec], plan: Sequence[Mapping[str, int]], batch_axis: str
) -> list[dict[str, int]]:
    """Add a case with a batch so large that every row of the tables is looked up, where there are not too many.

    Where numbers go in that take next to nothing, it has 32 samples at least: each more is another that may open a
    unit which is shut for all of those before.

    Args:
        model: the graph.
        inputs: the inputs by their names in the graph.
        plan: for each case the size of every dynamic axis.
        batch_axis: which axis counts samples.
    """
    needed = CROWD if _takes_little(inputs, {**plan[0], batch_axis: CROWD}) else 0
    for spec in inputs:
        one = math.prod(spec.sized({**plan[0], batch_axis: 1}))
        dealt = sum(math.prod(spec.sized(case)) for case in plan)
        rows = max((table.rows for table in tables(model, spec) if isinstance(table.rows, int)), default=0)
        if batch_axis in spec.dims and dealt < rows <= MOST_ROWS:
            needed = max(needed, math.ceil((rows - dealt) / one))
    return [*map(dict, plan), *([{**plan[0], batch_axis: needed}] if needed else [])]


CROWD = 32
"""Samples of the case that is added where they are small."""
_LITTLE = 2 << 20
"""Bytes that they may take together."""


def _takes_little(inputs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> bool:
    numbers = any(spec.dtype.startswith("float") for spec in inputs)
    return numbers and sum(4 * math.prod(spec.sized(sizes)) for spec in inputs) <= _LITTLE


def coverage(model: "ir.Model", inputs: Sequence[TensorSpec], cases: Sequence[Tensors]) -> tuple[str, ...]:
    """Say in plain lines what the cases touch: rows of tables, live tokens of masks, ranges of the rest."""
    lines: list[str] = []
    for spec in inputs:
        arrays = [case[spec.name] for case in cases if spec.name in case]
        found = tables(model, spec)
        lines.extend(_read(table, _touched(arrays)) for table in found)
        if not found and arrays:
            lines.append(f"{spec.name}: {_extent(model, spec, inputs, arrays)}")
    return tuple(dict.fromkeys(lines))


def unread_tables(
    model: "ir.Model", inputs: Sequence[TensorSpec], cases: Sequence[Mapping[str, Array]]
) -> tuple[str, ...]:
    """Say in plain lines of which tables the cases leave rows unread."""
    lines: list[str] = []
    for spec in inputs:
        touched = _touched(case[spec.name] for case in cases) if tables(model, spec) else 0
        lines.extend(_read(table, touched) for table in tables(model, spec) if touched != table.rows)
    return tuple(dict.fromkeys(lines))


def _read(table: Table, touched: int) -> str:
    return f"{table.name}: {touched} of {table.rows} rows touched"


def _column(
    model: "ir.Model", spec: TensorSpec, inputs: Sequence[TensorSpec], plan: Sequence[Mapping[str, int]], seed: int
) -> list[Array]:
    draw = Draw(seed, spec.name, [spec.sized(sizes) for sizes in plan], plan)
    role = role_of(model, spec, inputs)
    return [_typed(role.one(draw, case, shape), spec.dtype) for case, shape in enumerate(draw.shapes)]


def _typed(values: Array, dtype: str) -> Array:
    if dtype == "string":
        return np.asarray([f"text {abs(int(value * 10))}" for value in values.flat], object).reshape(values.shape)
    if dtype == "bfloat16":
        import ml_dtypes

        return values.astype(ml_dtypes.bfloat16)
    return np.asarray(values).astype(dtype)


def _touched(arrays: Iterable[Array]) -> int:
    """Count the different ids, which are as many rows, or fewer where what is added to them differs by place."""
    ids = [np.unique(array.astype(np.int64)) for array in arrays]
    return len(np.unique(np.concatenate([np.zeros(0, np.int64), *ids])))


def _extent(model: "ir.Model", spec: TensorSpec, inputs: Sequence[TensorSpec], arrays: list[Array]) -> str:
    count = sum(array.size for array in arrays)
    if spec.dtype == "string" or spec.dtype.startswith("complex"):
        return f"{count} values"
    role = role_of(model, spec, inputs)
    if isinstance(role, Mask):
        live = sum(int((array.astype(bool) != role.dead_is_one).sum()) for array in arrays)
        return f"{live} of {count} live"
    sized = [array for array in arrays if array.size]
    low, high = (min(float(a.min()) for a in sized), max(float(a.max()) for a in sized)) if sized else (0.0, 0.0)
    return f"{count} values from {low:g} to {high:g}"
