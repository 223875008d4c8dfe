"""A Keras model as a source: its inputs and outputs by the names that its author gave them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deploykit.child.said import said
from deploykit.child.tensorflow.graph.freezing import freeze_function
from deploykit.child.tensorflow.graph.model import GraphModel
from deploykit.child.tensorflow.keras.call import call_of, distinct
from deploykit.child.tensorflow.keras.files import open_keras
from deploykit.child.tensorflow.keras.steps import steps_as_samples
from deploykit.child.tensorflow.model import Frozen, Source
from deploykit.errors import ModelError, UsageError
from deploykit.tensors import Tensors, TensorSpec


def load_keras(source: Source) -> GraphModel:
    """Load a ``.keras`` archive, or an HDF5 file of Keras.

    Raises:
        ModelError: the file is damaged, no Keras file, or can't be loaded.
        UsageError: it holds weights only and no factory is named, or it needs classes of the user's.
        Refused: it holds code that the user has not agreed to run.
    """
    opened = open_keras(source)
    return KerasModel(opened.model, (*opened.notes, *_without_state(opened.model)))


class KerasModel(GraphModel):
    """A loaded Keras model."""

    def __init__(self, model: Any, notes: tuple[str, ...] = ()) -> None:
        """Take the model, and what there is to say of its loading."""
        self.model = model
        self.notes = notes
        self._call = call_of(model)
        self.inputs = self._call.ports

    def run(self, tensors: Tensors) -> Tensors:
        """Call the model itself."""
        given = {port.name: tf.convert_to_tensor(tensors[port.name]) for port in self.inputs}
        return {name: np.asarray(value) for name, value in self._outputs(given).items()}

    def freeze(self, inputs: tuple[TensorSpec, ...]) -> Frozen:
        """Trace the model, with its variables as constants.

        Raises:
            ModelError: it can't be traced with these inputs, or keeps state that no constant can be.
        """
        names: list[str] = []

        def call(*tensors: Any) -> list[Any]:
            given = {spec.name: tensor for spec, tensor in zip(inputs, tensors, strict=True)}
            outputs = self._outputs(given)
            names[:] = outputs
            return [tf.identity(tensor) for tensor in outputs.values()]

        signature = [_traced(number, spec) for number, spec in enumerate(inputs)]
        try:
            with steps_as_samples():
                function = tf.function(call, input_signature=signature, jit_compile=False).get_concrete_function()
        except Exception as error:
            shapes = ", ".join(map(str, inputs))
            raise ModelError(
                f"the model can't be traced with {shapes}: {said(error)}",
                fix="give other sizes, fixed ones where the model needs them: --input 'x:float32[batch,224,224,3]'",
            ) from error
        return _frozen(function, [spec.name for spec in inputs], names)

    def fix(self, values: Tensors) -> None:
        """Refuse: a Keras model's inputs are its own.

        Raises:
            UsageError: always.
        """
        name = next(iter(values), "")
        raise UsageError(
            f"'{name}' can't be held at a value: the inputs of a Keras model are its own",
            fix="leave the value away, or save a model without this input",
        )

    def _outputs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        args, kwargs = self._call.arguments(given)
        value = self.model(*args, **kwargs, **self._call.context)
        return distinct(self._call.named(value), [port.name for port in self.inputs])


def _without_state(model: Any) -> tuple[str, ...]:
    """Let recurrent layers begin anew at every call: an ONNX graph keeps nothing from call to call."""
    keeping = [layer for layer in model._flatten_layers() if getattr(layer, "stateful", False)]  # noqa: SLF001
    for layer in keeping:
        layer.stateful = False
    return (f"'{keeping[0].name}' is stateful: here its state is zero at the start of every call",) if keeping else ()


def _traced(number: int, spec: TensorSpec) -> Any:
    shape = [dim if isinstance(dim, int) else None for dim in spec.dims]
    word = re.sub(r"[^A-Za-z0-9_.\\/-]", "_", spec.name)
    name = word if re.match(r"[A-Za-z0-9.]", word) else f"input_{number}{word}"
    return tf.TensorSpec(shape, spec.dtype, name=name)


def _frozen(function: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Frozen:
    given, captured = function.inputs[: len(inputs)], function.inputs[len(inputs) :]
    variables = {id(placeholder) for placeholder in _placeholders(function)}
    state = [tensor.name for tensor in captured if tensor.dtype == tf.resource and id(tensor) not in variables]
    if state:
        raise ModelError(
            f"the model looks values up in a table ({', '.join(state)}), which can't be part of an ONNX graph",
            fix="leave the lookup out of the model, and give it the numbers that the table gives",
        )
    graph_def, weights = freeze_function(function)
    return Frozen(
        graph_def,
        {name: tensor.name for name, tensor in zip(inputs, given, strict=True)},
        {name: tensor.name for name, tensor in zip(outputs, function.outputs, strict=True)},
        weights,
    )


def _placeholders(function: Any) -> Iterator[Any]:
    """List the placeholders of the variables that a traced function reads."""
    handles = {id(variable.handle) for variable in function.graph.variables}
    return (placeholder for handle, placeholder in function.graph.captures if id(handle) in handles)
