"""Settle what goes into a source: its inputs as declared, and what the user says of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deploykit.child.tensorflow.model import Port
from deploykit.errors import ModelError, UsageError, nearest
from deploykit.tensors import DTYPES, Dim, Tensors, TensorSpec

_IMAGE_AXES = 4
_TO_NHWC = (0, 2, 3, 1)
_TO_NCHW = (0, 3, 1, 2)


def settle(ports: Sequence[Port], asked: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Describe every input of a source: axis 0 is ``batch`` where it is free, other free axes are named after it.

    Args:
        ports: the inputs as the source declares them.
        asked: what the user says of some: sizes for free axes, names for them.

    Raises:
        UsageError: the source has no such input, or it is of another type or shape.
        ModelError: an input is no tensor of numbers.
    """
    given = {spec.name: spec for spec in asked}
    names = [port.name for port in ports]
    for spec in asked:
        if spec.name not in names:
            raise UsageError(
                f"the model has no input '{spec.name}'{nearest(spec.name, names)}",
                fix=f"its inputs are: {', '.join(map(_text, ports))}",
            )
    return tuple(_agreed(port, given[port.name]) if port.name in given else _declared(port) for port in ports)


def _declared(port: Port) -> TensorSpec:
    _check_dtype(port)
    if port.shape is None:
        raise UsageError(
            f"the model does not say what shape its input '{port.name}' has",
            fix=f"say it:  --input '{port.name}:{port.dtype}[batch,...]'",
        )
    dims = tuple(_axis(port, number) if size is None else size for number, size in enumerate(port.shape))
    return TensorSpec(port.name, port.dtype, dims)


def _check_dtype(port: Port) -> None:
    if port.dtype == "string":
        raise ModelError(
            f"the input '{port.name}' takes text, and ONNX has no operators for what is done with it",
            fix="export a model, or a signature, that takes the tensors behind the text processing",
        )
    if port.dtype not in DTYPES or port.dtype == "bfloat16":
        raise ModelError(
            f"the input '{port.name}' is of type {port.dtype}, which is no tensor that onnxruntime takes",
            fix="export a model, or a signature, that takes tensors of numbers",
        )


def _axis(port: Port, number: int) -> str:
    if number == 0:
        return "batch"
    word = re.sub(r"\W", "_", port.name)
    return f"{word if re.match(r'[A-Za-z_]', word) else f'input_{word}'}_{number}"


def _agreed(port: Port, asked: TensorSpec) -> TensorSpec:
    _check_dtype(port)
    if (asked.dtype != port.dtype and not port.assumed) or (
        port.shape is not None and len(port.shape) != len(asked.dims)
    ):
        raise UsageError(f"the model takes {_text(port)}, not {asked}", fix=f"--input '{_text(port)}'")
    for size, dim in zip(port.shape or (), asked.dims, strict=False):
        if size is not None and size != dim:
            why = f"its size {size} is fixed in the model" if isinstance(dim, str) else f"{dim} where it has {size}"
            raise UsageError(
                f"the model takes {_text(port)}, not {asked}: {why}",
                fix=f"--input '{_text(port)}', or save the model with that axis free",
            )
    return asked


def _text(port: Port) -> str:
    if port.shape is None:
        return f"{port.name}:{port.dtype}[...]"
    dims: tuple[Dim, ...] = tuple(
        _axis(port, number) if size is None else size for number, size in enumerate(port.shape)
    )
    return str(TensorSpec(port.name, port.dtype, dims))


def constants(ports: Sequence[Port], fixed: Mapping[str, str]) -> Tensors:
    """Read the values at which the user holds inputs: ``{"keep_prob": "1.0"}``.

    Raises:
        UsageError: there is no such input, or it takes no single number.
    """
    known = {port.name: port for port in ports}
    values: Tensors = {}
    for name, text in fixed.items():
        if name not in known:
            raise UsageError(
                f"the model has no input '{name}'{nearest(name, known)}",
                fix=f"its inputs are: {', '.join(map(_text, ports))}",
            )
        values[name] = _number(known[name], text)
    return values


def _number(port: Port, text: str) -> Any:
    words = {"true": 1, "false": 0}
    try:
        value = words[text.lower()] if text.lower() in words else float(text)
        found = np.asarray(value).astype(port.dtype)
    except (ValueError, TypeError, OverflowError):
        raise UsageError(
            f"'{text}' is no value for the input '{port.name}', which is {port.dtype}",
            fix=f"give one number, as in  --input {port.name}=1",
        ) from None
    if port.shape:
        if None in port.shape:
            raise UsageError(
                f"the input {_text(port)} has free axes, and can't be held at one value",
                fix=f"describe it instead:  --input '{_text(port)}'",
            )
        found = np.full([size or 1 for size in port.shape], found)
    return found


def images(specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """List the inputs of four axes, which are images.

    Raises:
        UsageError: there are none.
    """
    found = tuple(spec.name for spec in specs if len(spec.dims) == _IMAGE_AXES)
    if not found:
        raise UsageError(
            f"--layout nchw is for inputs of four axes, and there are none: {', '.join(map(str, specs))}",
            fix="leave --layout out",
        )
    return found


def channels_first(spec: TensorSpec) -> TensorSpec:
    """Describe an image of the source as the ONNX file takes it, channels first."""
    return replace(spec, dims=tuple(spec.dims[axis] for axis in _TO_NCHW))


def channels_last(spec: TensorSpec) -> TensorSpec:
    """Describe an image of the ONNX file as the source takes it, channels last."""
    return replace(spec, dims=tuple(spec.dims[axis] for axis in _TO_NHWC))


def turned(tensors: Tensors, nchw: Sequence[str]) -> Tensors:
    """Turn images from channels first, as the ONNX file takes them, to channels last."""
    return {
        name: np.ascontiguousarray(array.transpose(_TO_NHWC)) if name in nchw else array
        for name, array in tensors.items()
    }
