"""Units that no input of a golden switches on: a fault in the weights of a ReLU that stays at zero is not seen."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, Session, backend_for
from deploykit.errors import ModelError
from deploykit.tensors import Array

_BY_CHANNEL = frozenset(
    {"Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "MaxPool"}
)
"""Operators whose results have their units on axis 1."""
_BY_FEATURE = frozenset({"MatMul", "Gemm", "LayerNormalization"})
"""Operators whose results have their units on the last axis."""
_LIKE_FIRST = frozenset({"Add", "Sub", "Mul", "Div", "Identity", "Cast", "Relu", "Clip", "Dropout", "Concat"})
"""Operators whose results have their units where their first input that is no weight has them."""
_RECTIFIERS = frozenset({"Relu", "Clip"})
_IMAGE = 4
"""Axes from which on a tensor of unknown origin has its units on axis 1."""
_AXES_AS_INPUT = 18
"""The opset since which ReduceMax takes its axes as an input."""
_QUOTED = re.compile(r"'([^']*)'")
_SHOWN = 5


@dataclass(frozen=True)
class Idle:
    """A layer of rectified units, and how many of them were never over zero."""

    layer: str
    never: int
    units: int

    def __str__(self) -> str:
        """Say it in words: ``3 of 64 of conv1``."""
        return f"{self.never} of {self.units} of {self.layer}"


def never_active(path: Path, cases: Iterable[Mapping[str, Array]]) -> tuple[Idle, ...]:
    """Run an ONNX file and count, for each ReLU and each Clip at zero, the units that are never over zero.

    A unit is a channel of what a convolution gives, a feature of what a matrix product gives. Of the activations only
    their largest value per unit leaves the runtime, so memory does not grow with the cases.

    Args:
        path: the file; a copy with more outputs comes beside it for a while, so that its weights can stay where they
            are.
        cases: inputs by name, a call each.

    Returns:
        All layers of rectified units, that with the most idle ones first; none where the file does not run.
    """
    copy = path.with_name(f"{path.stem}.units.onnx")
    try:
        watched = _watched(path, copy)
        if not watched:
            return ()
        with backend_for(Format.ONNX).load(Artifact(copy, Format.ONNX), Asked()) as session:
            largest = _largest(session, watched, cases)
    except ModelError:  # what is wrong with the file, the proof says
        return ()
    finally:
        copy.unlink(missing_ok=True)
    found = [Idle(watched[name], int((top <= 0).sum()), top.size) for name, top in largest.items()]
    return tuple(sorted(found, key=lambda idle: -idle.never))


def summary(path: Path, cases: Iterable[Mapping[str, Array]]) -> tuple[str, ...]:
    """Say in one line how many units of a model no input switches on, and where most of them are; none if all are."""
    layers = never_active(path, cases)
    idle = [layer for layer in layers if layer.never]
    if not idle:
        return ()
    count, units = sum(layer.never for layer in idle), sum(layer.units for layer in layers)
    more = len(idle) - _SHOWN
    shown = ", ".join(map(str, idle[:_SHOWN])) + (f" and {more} more layer{'s' * (more > 1)}" if more > 0 else "")
    return (f"coverage: {count} of {units} ReLU units never active: {shown}",)


def _largest(session: Session, watched: Iterable[str], cases: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for case in cases:
        answer = next(iter(session.run_all([case])))
        if isinstance(answer, ModelError):
            continue
        for name in watched:
            top = answer[name].reshape(-1)
            before = found.get(name, top)
            if before.shape == top.shape:  # else the axis is not one of units
                found[name] = np.fmax(before, top)
    return found


def _watched(path: Path, copy: Path) -> dict[str, str]:
    """Write a copy that also gives the largest value of every unit; give the layers by the names of these outputs."""
    import onnx_ir
    from onnx_ir.passes.common import ShapeInferencePass

    from deploykit.onnx_io import external_files, load, save

    model = load(path)
    if any(output.shape is None for node in model.graph for output in node.outputs):
        logging.getLogger("onnx_ir").setLevel(logging.CRITICAL)  # what it can't infer it would tell the user, at length
        ShapeInferencePass()(model)
    rectified = [node for node in model.graph if _is_rectifier(node) and _rank(node.outputs[0]) > 1]
    watched = {_watch(model, node, number): _layer(node) for number, node in enumerate(rectified)}
    if watched and external_files(path):
        onnx_ir.save(model, copy)
    elif watched:
        save(model, copy)
    return watched


def _is_rectifier(node: Any) -> bool:
    import onnx_ir

    if node.op_type not in _RECTIFIERS or node.outputs[0].dtype != onnx_ir.DataType.FLOAT:
        return False
    return node.op_type == "Relu" or _least(node) == 0


def _least(node: Any) -> float | None:
    import onnx_ir

    if "min" in node.attributes:
        return float(node.attributes["min"].as_float())
    tensor = onnx_ir.convenience.get_const_tensor(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
    return None if tensor is None or tensor.size != 1 else float(tensor.numpy().reshape(-1)[0])


def _watch(model: Any, node: Any, number: int) -> str:
    """Give a graph the largest value of every unit of a node as one more output."""
    import onnx_ir

    value = node.outputs[0]
    rank, own = _rank(value), _units_axis(value, _rank(value))
    axes = [axis for axis in range(rank) if axis != own]
    if model.opset_imports[""] < _AXES_AS_INPUT:
        inputs, attributes = [value], [onnx_ir.AttrInt64s("axes", axes)]
    else:
        listed = onnx_ir.Value(name=f"watched_axes_{number}", const_value=onnx_ir.tensor(np.array(axes, np.int64)))
        model.graph.register_initializer(listed)
        inputs, attributes = [value, listed], []
    reduced = onnx_ir.Node("", "ReduceMax", inputs, [*attributes, onnx_ir.AttrInt64("keepdims", 0)], num_outputs=1)
    model.graph.append(reduced)
    top = reduced.outputs[0]
    top.name, top.dtype, top.shape = f"watched_{number}", value.dtype, onnx_ir.Shape([None])
    model.graph.outputs.append(top)
    return str(top.name)


def _units_axis(value: Any, rank: int) -> int:
    """Say on which axis of a tensor its units are, from the operator that it comes from."""
    turns: list[list[int]] = []
    while (node := value.producer()) is not None and node.op_type not in _BY_CHANNEL | _BY_FEATURE:
        if node.op_type == "Transpose" and "perm" in node.attributes:
            turns.append(list(node.attributes["perm"].as_ints()))
        elif node.op_type not in _LIKE_FIRST:
            break
        before = next(_of_same_rank(node, rank), None)
        if before is None:
            break
        value = before
    kind = node.op_type if node is not None else ""
    axis = 1 if kind in _BY_CHANNEL or (rank >= _IMAGE and kind not in _BY_FEATURE) else rank - 1
    for turn in reversed(turns):
        axis = turn.index(axis)
    return axis


def _of_same_rank(node: Any, rank: int) -> Iterator[Any]:
    return (value for value in node.inputs if value is not None and value.producer() and _rank(value) == rank)


def _layer(node: Any) -> str:
    """Name the units after the layer whose weights they are, else after where they are in the source or the graph."""
    before = node.inputs[0].producer()
    if before is not None and before.op_type in _BY_CHANNEL | _BY_FEATURE and len(before.inputs) > 1:
        module, dot, kind = str(before.inputs[1].name).rpartition(".")
        if dot and kind == "weight":
            return module
    scopes = _QUOTED.findall(node.metadata_props.get("pkg.torch.onnx.name_scopes", ""))
    if len(scopes) > 1 and scopes[-2]:  # the modules that it is in, from the whole net down, and itself
        return str(scopes[-2])
    return node.name or node.outputs[0].name


def _rank(value: Any) -> int:
    return len(value.shape) if value.shape is not None else 0
