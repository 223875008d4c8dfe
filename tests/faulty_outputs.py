"""Faults to plant in the outputs of ONNX models: names, order, dtypes, shapes, and numbers that are near enough."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from deploykit.tensors import Array
from tests.faulty_weights import Fault


def outputs(model: Any) -> Iterator[Fault]:
    for number, value in enumerate(model.graph.outputs):
        for act in (_renamed, _missing, _repeated, _as_double, _one_more_axis, _zeroed, _first_row_for_all, _shifted):
            yield Fault(f"{value.name} {act.__name__}", partial(_on_output, act, number))
    if len(model.graph.outputs) > 1:
        yield Fault("swapped values", partial(_on_output, _swapped, 0))
        yield Fault("swapped order", partial(_on_output, _reordered, 0))


def _on_output(act: Callable[[Any, int], None], number: int, model: Any, _: float) -> None:
    act(model, number)


def _renamed(model: Any, number: int) -> None:
    model.graph.outputs[number].name = "other"


def _missing(model: Any, number: int) -> None:
    del model.graph.outputs[number]


def _repeated(model: Any, number: int) -> None:
    copy = _through(model, number, "Identity", [])
    copy.name = f"{copy.name}_again"
    model.graph.outputs.append(copy)


def _through(model: Any, number: int, kind: str, more: list[Any], attributes: list[Any] | None = None) -> Any:
    import onnx_ir as ir

    value = model.graph.outputs[number]
    made = ir.Node("", kind, [value, *more], attributes or [], num_outputs=1)
    model.graph.append(made)
    made.outputs[0].name, made.outputs[0].dtype, made.outputs[0].shape = value.name, value.dtype, value.shape
    return made.outputs[0]


def _replaced(model: Any, number: int, kind: str, more: list[Any], attributes: list[Any] | None = None) -> Any:
    """Let an output go through one more node; it keeps its name."""
    old = model.graph.outputs[number]
    new = _through(model, number, kind, more, attributes)
    old.name = f"{old.name}_before"
    model.graph.outputs[number] = new
    return new


def _constant(model: Any, name: str, array: Array) -> Any:
    import onnx_ir as ir

    value = ir.Value(name=name, const_value=ir.tensor(array))
    model.graph.register_initializer(value)
    return value


def _as_double(model: Any, number: int) -> None:
    import onnx_ir as ir

    new = _replaced(model, number, "Cast", [], [ir.AttrInt64("to", int(ir.DataType.DOUBLE))])
    new.dtype = ir.DataType.DOUBLE


def _one_more_axis(model: Any, number: int) -> None:
    new = _replaced(model, number, "Unsqueeze", [_constant(model, "last", np.array([-1]))])
    new.shape = None


def _zeroed(model: Any, number: int) -> None:
    dtype = model.graph.outputs[number].dtype.numpy()
    _replaced(model, number, "Mul", [_constant(model, "nothing", np.zeros((), dtype))])


def _shifted(model: Any, number: int) -> None:
    dtype = model.graph.outputs[number].dtype.numpy()
    step = 1 if dtype.kind == "i" else 1e-3
    _replaced(model, number, "Add", [_constant(model, "step", np.asarray(step, dtype))])


def _first_row_for_all(model: Any, number: int) -> None:
    """Give the first row only, which broadcasts against all others."""
    import onnx_ir as ir

    rank = len(model.graph.outputs[number].shape)
    row = _constant(model, "row", np.array([0]))
    new = _replaced(model, number, "Gather", [row], [ir.AttrInt64("axis", 0)])
    new.shape = ir.Shape([f"axis_{axis}" for axis in range(rank)])


def _swapped(model: Any, _: int) -> None:
    first, second = model.graph.outputs[:2]
    names = first.name, second.name
    first.name = "passing"
    second.name, first.name = names
    _reordered(model, 0)


def _reordered(model: Any, _: int) -> None:
    model.graph.outputs[0], model.graph.outputs[1] = model.graph.outputs[1], model.graph.outputs[0]
