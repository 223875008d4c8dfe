"""Describe what goes into a graph and what comes out as its source has it."""

from typing import Any

from deploykit.onnx_io.parse import Model
from deploykit.tensors import Signature, TensorSpec


def describe(model: Model, signature: Signature) -> None:
    """Name the dynamic axes of a graph's inputs and outputs, where the exporter has invented names or none.

    Args:
        model: the graph, which is changed.
        signature: what the source takes and gives; an axis of an output has a name where it was seen to change.
    """
    import onnx_ir

    for value, spec in zip(model.graph.inputs, signature.inputs, strict=False):
        _describe_value(value, spec)
    for value, spec in zip(model.graph.outputs, signature.outputs, strict=False):
        before = value.shape
        _describe_value(value, spec)
        # The source was seen to give another size than the exporter has baked into the description.
        if before is not None and _baked(before, spec):
            value.shape = onnx_ir.Shape(spec.dims)
            _forget_shapes(model)


def _describe_value(value: Any, spec: TensorSpec) -> None:
    import onnx_ir

    if value.shape is None:
        value.shape = onnx_ir.Shape(spec.dims)
    elif len(value.shape) == len(spec.dims):
        value.shape = onnx_ir.Shape(
            [have if isinstance(have, int) else want for have, want in zip(value.shape, spec.dims, strict=True)]
        )


def _baked(shape: Any, spec: TensorSpec) -> bool:
    return len(shape) == len(spec.dims) and any(
        isinstance(have, int) and isinstance(want, str) for have, want in zip(shape, spec.dims, strict=True)
    )


def _forget_shapes(model: Model) -> None:
    """Drop what the exporter says of the shapes within the graph: the same sizes are baked in there."""
    ports = {*model.graph.inputs, *model.graph.outputs}
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value not in ports:
                value.shape = None
