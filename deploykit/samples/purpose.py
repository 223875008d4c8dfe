"""What an input of an ONNX graph is for, as its uses tell, and its name where they do not."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.samples.roles import (
    Choice,
    Ids,
    Lengths,
    Mask,
    Normal,
    Positions,
    Positive,
    Role,
    Scaled,
    Table,
    Whole,
    Within,
)
from deploykit.samples.trace import Use, constant, number, size_of, uses
from deploykit.tensors import Array, Dim, TensorSpec

if TYPE_CHECKING:
    import onnx_ir as ir

_INDEXED = {
    "Gather": "axis",
    "GatherElements": "axis",
    "ScatterElements": "axis",
    "GatherBlockQuantized": "gather_axis",
}
_FUSED = {"EmbedLayerNormalization": {0: 2, 1: 4}}
"""Operators with tables inside: which input is looked up in which."""

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_SEQUENCE_LENS = 4
_WORDS = re.compile(r"[^a-z]+")
_LENGTH_WORDS = frozenset({"length", "lengths", "len", "lens", "seqlen", "seqlens"})
_MODES = {"keep_prob": 1.0, "keep_probability": 1.0, "training": 0.0, "is_training": 0.0, "training_mode": 0.0}
"""Switches of training, at what they are in use."""

_UNKNOWN = Choice((1.0, 0.0))
"""What is made up for whole numbers of which neither graph nor name tells anything."""

_PIXELS = (255.0, 256.0, 127.5, 128.0)
_SOUND = (32767.0, 32768.0)
_DEAD = -1e3
"""What is added to a score under this is meant to switch it off."""


def role_of(model: "ir.Model", spec: TensorSpec, inputs: Sequence[TensorSpec]) -> Role:
    """Say what an input is for.

    In this order: what indexes a table is ids (or positions, where its name says so); lengths; masks; bytes and
    numbers that the graph scales; and what is left is 0 and 1 if whole, of the unit normal distribution if not.
    """
    value = next((value for value in model.graph.inputs if value.name == spec.name), None)
    trail = list(uses(model, value)) if value is not None else []
    words = tuple(_WORDS.split(spec.name.lower()))
    mode = _MODES.get("_".join(word for word in words if word))
    if mode is not None:
        return Choice((mode,))
    if spec.dtype.startswith(("int", "uint")):
        return _integer(spec, words, trail, inputs)
    if spec.dtype == "bool":
        return _mask(spec, trail) or Choice((1.0, 0.0))
    return _ids(trail) or _mask(spec, trail) or _quantized(trail) or _scaled(trail) or Normal()


def tables(model: "ir.Model", spec: TensorSpec) -> tuple[Table, ...]:
    """List the tables of a known number of rows that an input indexes."""
    value = next((value for value in model.graph.inputs if value.name == spec.name), None)
    found = _ids(list(uses(model, value))) if value is not None else None
    return tuple(table for table in found.tables if isinstance(table.rows, int)) if found else ()


def unexplained(model: "ir.Model", inputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """List the inputs of whole numbers that nothing is known of: 0 and 1 are all that is made up for them."""
    return tuple(spec.name for spec in inputs if role_of(model, spec, inputs) is _UNKNOWN)


def _integer(spec: TensorSpec, words: tuple[str, ...], trail: list[Use], inputs: Sequence[TensorSpec]) -> Role:
    found = _ids(trail)
    if any(word.startswith("position") for word in words) or {"pos", "ids"} <= set(words):
        return Positions(found)
    if found:
        return found
    if len(spec.dims) == 1 and (_LENGTH_WORDS & set(words) or any(_is_sequence_lens(use) for use in trail)):
        return Lengths(_steps(spec, inputs))
    compared = _compared(trail)
    return _mask(spec, trail) or _scaled(trail) or _whole(spec) or (Choice(compared) if compared else _UNKNOWN)


def _is_sequence_lens(use: Use) -> bool:
    return use.node.op_type in _RECURRENT and use.index == _SEQUENCE_LENS


def _steps(spec: TensorSpec, inputs: Sequence[TensorSpec]) -> Dim:
    """Find the axis that lengths count: of another input's first two, the one that is not the batch."""
    for other in inputs:
        if other.name != spec.name and len(other.dims) > 1:
            return other.dims[0] if other.dims[1] == spec.dims[0] != other.dims[0] else other.dims[1]
    return 1


def _ids(trail: list[Use]) -> Ids | None:
    found = dict.fromkeys(table for table in map(_table, trail) if table is not None)
    return Ids(tuple(found)) if found else None


def _table(use: Use) -> Table | None:
    node, kind = use.node, use.node.op_type
    data, rows = None, None
    if kind in _INDEXED and use.index == 1:
        axis = node.attributes.get(_INDEXED[kind])
        data = node.inputs[0]
        rows = size_of(data, axis.as_int() if axis else 0)
    elif kind == "GatherND" and use.index == 1:
        data, rows = node.inputs[0], _least_rows(node)
    elif kind == "OneHot" and use.index == 0:
        data, rows = node.inputs[1], _whole_number(node.inputs[1])
    elif use.index in _FUSED.get(kind, {}):
        data = node.inputs[_FUSED[kind][use.index]]
        rows = size_of(data, 0)
    if data is None or rows is None or use.flipped:
        return None
    return Table(data.name or kind, rows, int(use.shift.min()), int(use.shift.max()))


def _least_rows(node: Any) -> Dim | None:
    """Give the fewest rows of the axes that GatherND indexes together, since any of its ids may go to any of them."""
    batch = node.attributes.get("batch_dims")
    first = batch.as_int() if batch else 0
    width = size_of(node.inputs[1], -1)
    sizes = [size_of(node.inputs[0], first + axis) for axis in range(width if isinstance(width, int) else 1)]
    known = [size for size in sizes if isinstance(size, int)]
    return min(known) if known else sizes[0]


def _whole_number(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def _mask(spec: TensorSpec, trail: list[Use]) -> Mask | None:
    """Say whether an input is a mask, and whether its ones are the dead ones."""
    name = spec.name.lower()
    dead = next((found for found in map(_dead, trail) if found is not None), None)
    if dead is not None:
        return Mask(dead_is_one=dead)
    padding = "padding_mask" in name or "pad_mask" in name
    if "mask" in name:
        return Mask(dead_is_one=padding)
    return Mask() if spec.dims and any(_is_switch(use, spec) for use in trail) else None


def _dead(use: Use) -> bool | None:
    """Say whether a one of the input switches a score off (True) or leaves it on; None where the use does neither."""
    dead = None
    if use.node.op_type == "Where" and use.index == 0:
        off = [_is_off(branch) for branch in use.node.inputs[1:]]
        dead = None if off[0] == off[1] else off[0]
    elif use.node.op_type == "Mul" and _is_off(use.other):
        dead = True
    return None if dead is None else dead != use.flipped


def _is_off(value: Any) -> bool:
    found = number(value)
    return found is not None and found <= _DEAD


def _is_switch(use: Use, spec: TensorSpec) -> bool:
    kind = use.node.op_type
    to = use.node.attributes.get("to")
    if kind == "Cast" and spec.dtype != "bool" and to is not None:
        return bool(to.as_int() == _onnx_bool())
    logical = kind in {"Not", "And", "Or"} or (kind == "Where" and use.index == 0)
    return logical or (kind == "Equal" and spec.dtype.startswith(("int", "uint")) and number(use.other) == 0)


def _onnx_bool() -> int:
    import onnx_ir as ir

    return int(ir.DataType.BOOL)


def _whole(spec: TensorSpec) -> Whole | None:
    ranges = {"uint8": Whole(0, 255), "int8": Whole(-128, 127)}
    return ranges.get(spec.dtype)


def _compared(trail: list[Use]) -> tuple[float, ...]:
    """List the numbers that an input is compared with: others may take a way through the graph that fits no case."""
    found = (number(use.other) for use in trail if use.node.op_type == "Equal")
    return tuple(dict.fromkeys(value for value in found if value is not None))


def _scaled(trail: list[Use]) -> Role | None:
    return next((role for role in map(_arithmetic, trail) if role is not None), None)


def _quantized(trail: list[Use]) -> Role | None:
    """Read off the range of the numbers that go into QuantizeLinear at once: what is over it is cut off there."""
    use = next((use for use in trail if use.node.op_type == "QuantizeLinear" and use.index == 0), None)
    if use is None or use.shift.any():
        return None
    scale, point = number(use.node.inputs[1]), use.node.inputs[2] if len(use.node.inputs) > 2 else None  # noqa: PLR2004
    zero = constant(point) if point is not None else np.zeros((), np.uint8)
    if scale is None or zero is None or zero.size != 1 or zero.dtype.kind not in "iu":
        return None
    steps = np.iinfo(zero.dtype)
    low, high = ((limit - float(zero.reshape(-1)[0])) * scale for limit in (steps.min, steps.max))
    return Within(low, high)


def _arithmetic(use: Use) -> Role | None:
    """Read the distribution off the first arithmetic on an input."""
    kind = use.node.op_type
    if kind == "BatchNormalization" and use.index == 0:
        return _normalized(use.node)
    exponent = number(use.other) if kind == "Pow" and use.index == 0 else 1.0
    if (
        kind in {"Log", "Sqrt", "Reciprocal"}
        or (kind == "Div" and use.index == 1)
        or exponent not in {0.0, 1.0, 2.0, 3.0, 4.0}
    ):
        return Positive()
    if kind not in {"Mul", "Div"}:
        return None
    factor = constant(use.other)
    if factor is None or factor.dtype.kind not in "iuf" or not factor.all():
        return None
    return _from_scale(use.shift, np.abs(1 / factor.astype(np.float64) if kind == "Mul" else factor))


def _from_scale(shift: Array, scale: Array) -> Role | None:
    typical = float(scale.mean())
    if np.isclose(typical, _PIXELS, rtol=1e-3).any():
        return Whole(0, 255)
    if np.isclose(typical, _SOUND, rtol=1e-3).any():
        return Whole(-32767, 32767)
    return Scaled(-shift, scale) if shift.any() else None


def _normalized(node: Any) -> Role | None:
    mean, variance = constant(node.inputs[3]), constant(node.inputs[4])
    rank = len(node.inputs[0].shape) if node.inputs[0].shape is not None else 0
    if mean is None or variance is None or rank < 2:  # noqa: PLR2004
        return None
    shape = (-1, *[1] * (rank - 2))
    return Scaled(mean.astype(np.float64).reshape(shape), np.sqrt(variance.astype(np.float64)).reshape(shape))
