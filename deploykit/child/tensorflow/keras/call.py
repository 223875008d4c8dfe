"""How a Keras model is called, and what its inputs and outputs are called: by the names that its author gave them."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from deploykit.child.tensorflow.model import Port

_NO_INPUTS = {"training", "mask", "initial_state"}


@dataclass(frozen=True)
class Call:
    """How a model is called, and what its outputs are called."""

    ports: tuple[Port, ...]
    structure: Any
    """The arguments: a port's number in the place of each tensor."""
    positional: bool
    """Whether the structure is one argument, or a mapping of arguments by name."""
    context: Mapping[str, Any]
    """What is passed at every call."""
    outputs: Sequence[str] | None = None
    """Names of the outputs as Keras flattens them; None: they are named after where they are."""

    def arguments(self, given: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Nest named tensors into what the model's call takes."""
        tensors = [given[port.name] for port in self.ports]
        packed = keras.tree.map_structure(lambda number: tensors[number], self.structure)
        return ((packed,), {}) if self.positional else ((), packed)

    def named(self, value: Any) -> list[tuple[str, Any]]:
        """Name the tensors in what the model gives; two may go by one name."""
        if self.outputs is None:
            found = list(_walk(value, ""))
            return [(_title(path, alone=len(found) == 1), tensor) for path, tensor in found]
        return list(zip(self.outputs, keras.tree.flatten(value), strict=True))


def call_of(model: Any) -> Call:
    """Find out how a model is called: by its layers where it has a graph of them, else by its own ``call``."""
    return _functional(model) or _by_arguments(model)


def _functional(model: Any) -> Call | None:
    """Take the inputs and outputs of a functional or a built sequential model from its layers."""
    try:
        tensors, results = model.inputs, model.outputs
    except AttributeError:
        return None
    if not tensors or not results:
        return None
    structure = tensors[0] if isinstance(model, keras.Sequential) else model.input
    paths = keras.tree.flatten_with_path(structure)
    names = [_input_name(path, tensor) for path, tensor in paths]
    ports = tuple(
        Port(name, _dtype(tensor.dtype), _shape(model, tensor)) for name, (_, tensor) in zip(names, paths, strict=True)
    )
    numbers = keras.tree.pack_sequence_as(structure, list(range(len(ports)))) if len(paths[0][0]) else 0
    return Call(ports, numbers, positional=True, context={"training": False}, outputs=_output_names(model, results))


def _shape(model: Any, tensor: Any) -> tuple[int | None, ...]:
    # A Sequential that was given no input has the batch that it was first called with: an accident, no decision.
    free = isinstance(model, keras.Sequential) and len(tensor.shape) > 1
    return (None, *tensor.shape[1:]) if free else tuple(tensor.shape)


def _input_name(path: Sequence[Any], tensor: Any) -> str:
    keys = [str(key) for key in path]
    if any(isinstance(key, str) for key in path):
        return ".".join(keys)
    return str(tensor._keras_history.operation.name)  # noqa: SLF001 - tensor.name may be an invented one


def _output_names(model: Any, results: Sequence[Any]) -> list[str]:
    structure = results[0] if isinstance(model, keras.Sequential) else model.output
    paths = keras.tree.flatten_with_path(structure)
    return [
        ".".join(map(str, path)) if any(isinstance(key, str) for key in path) else tensor._keras_history.operation.name  # noqa: SLF001
        for path, tensor in paths
    ]


def _by_arguments(model: Any) -> Call:
    """Take the inputs of a subclassed model from the arguments of its call, and their shapes from its file."""
    parameters = inspect.signature(model.call).parameters
    shapes = {**(getattr(model, "_build_shapes_dict", None) or {})}
    wanted = [
        name
        for name, parameter in parameters.items()
        if name not in _NO_INPUTS
        and parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
        and (parameter.default is parameter.empty or f"{name}_shape" in shapes)
    ]
    if wanted and "input_shape" in shapes:
        shapes = {f"{wanted[0]}_shape": shapes["input_shape"], **shapes}
    ports: list[Port] = []
    structure = {name: _ports_of(name, shapes.get(f"{name}_shape"), ports, alone=len(wanted) == 1) for name in wanted}
    context = {"training": False} if "training" in parameters else {}
    return Call(tuple(ports), structure, positional=False, context=context)


def _ports_of(name: str, shape: Any, ports: list[Port], *, alone: bool) -> Any:
    """Add the inputs of one argument to ``ports``; give the argument with their numbers."""
    if isinstance(shape, dict):
        return {
            key: _ports_of(key if alone else f"{name}.{key}", part, ports, alone=False) for key, part in shape.items()
        }
    if isinstance(shape, (list, tuple)) and any(isinstance(part, (list, tuple)) for part in shape):
        return [_ports_of(f"{name}.{number}", part, ports, alone=False) for number, part in enumerate(shape)]
    # The first axis is the batch, whose size is the one that the model happened to be called with first.
    sizes = None if shape is None else (*(None for _ in shape[:1]), *shape[1:])
    ports.append(Port(name, "float32", sizes, assumed=True))
    return len(ports) - 1


def _dtype(dtype: Any) -> str:
    return "string" if dtype == "string" else str(keras.backend.standardize_dtype(dtype))


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if tf.is_tensor(value):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _walk(part, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (tuple, list)):
        keys = getattr(value, "_fields", range(len(value)))
        for key, part in zip(keys, value, strict=True):
            yield from _walk(part, f"{path}.{key}" if path else str(key))


def _title(path: str, *, alone: bool) -> str:
    if not path or (alone and path == "0"):
        return "output"
    return f"output_{path}" if path.split(".", maxsplit=1)[0].isdigit() else path


def distinct(named: list[tuple[str, Any]], inputs: Sequence[str]) -> dict[str, Any]:
    """Keep the outputs apart: from each other by a number, from the inputs by ``_out``."""
    taken = [f"{name}_out" if name in inputs else name for name, _ in named]
    flat: dict[str, Any] = {}
    for name, (_, tensor) in zip(taken, named, strict=True):
        number, free = 0, name
        while free in flat or (number and free in taken):
            number += 1
            free = f"{name}_{number}"
        flat[free] = tensor
    return flat
