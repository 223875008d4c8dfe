"""Trace Keras's TimeDistributed over a free number of steps in a form that can be translated."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops


@contextmanager
def steps_as_samples() -> Iterator[None]:
    """Have TimeDistributed call its layer once, with the steps of all samples as so many samples.

    Keras writes a vectorized loop where the number of steps is free, of which tf2onnx makes another model. In inference
    a layer treats each sample by itself, so that both are the same. The model that answers for the golden is Keras's.
    """
    original = keras.layers.TimeDistributed.call

    def call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if inputs.shape[1] is not None:
            return original(self, inputs, training=training, mask=mask)
        options: dict[str, Any] = {}
        if self.layer._call_has_mask_arg and mask is not None:  # noqa: SLF001 - as the layer itself asks
            options["mask"] = _merged(mask)
        if self.layer._call_has_training_arg:  # noqa: SLF001
            options["training"] = training
        sizes = ops.shape(inputs)[:2]
        answers = self.layer.call(_merged(inputs), **options)
        return keras.tree.map_structure(lambda one: ops.reshape(one, (*sizes, *ops.shape(one)[1:])), answers)

    keras.layers.TimeDistributed.call = call
    try:
        yield
    finally:
        keras.layers.TimeDistributed.call = original


def _merged(tensor: Any) -> Any:
    return ops.reshape(tensor, (-1, *ops.shape(tensor)[2:]))
