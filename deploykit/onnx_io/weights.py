"""The weights of a model in memory, and the model serialized without them: a protobuf message ends at 2 GiB."""

from collections.abc import Iterable, Iterator, Mapping

from deploykit.errors import ModelError
from deploykit.onnx_io.parse import Model, Proto, Tensor, Value, root_cause

ONE_FILE = 1_900_000_000
"""Bytes of weights from which they go into a file of their own: a protobuf file ends at 2 GiB."""
INLINE = 1024
"""Bytes up to which a tensor stays in the model file: shape inference must see the small ones."""


def weights(model: Model) -> Iterator[Value]:
    """Give every initializer that is kept as bytes, those of subgraphs too; texts are kept otherwise."""
    import onnx_ir

    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype != onnx_ir.DataType.STRING:
                yield value


def own_weights(model: Model) -> list[Value]:
    """List the weights of the main graph."""
    return [value for value in weights(model) if value.graph is model.graph]


def serialized_without(model: Model, values: Iterable[Value]) -> Proto:
    """Serialize a model with these of its weights described, as external tensors, but not contained.

    Raises:
        ModelError: the model is invalid, or an external tensor can't be read any more.
    """
    return serialized(model, {value: stand_in(value, "-", 0) for value in values})


def serialized(model: Model, stand_ins: Mapping[Value, Tensor]) -> Proto:
    """Serialize a model with other tensors in place of its own, which it has back afterwards.

    Raises:
        ModelError: the model is invalid, or an external tensor can't be read any more.
    """
    import onnx_ir

    # An external tensor left as it is would still name the file that the model was read from.
    left = {
        value: in_memory(value.const_value)
        for value in weights(model)
        if value not in stand_ins and isinstance(value.const_value, onnx_ir.ExternalTensor)
    }
    swapped = {**stand_ins, **left}
    before = {value: value.const_value for value in swapped}
    try:
        for value, tensor in swapped.items():
            value.const_value = tensor
        return _undescribed(onnx_ir.serde.serialize_model(model))
    except onnx_ir.serde.SerdeError as error:
        raise ModelError(
            f"the model can't be written as ONNX: {root_cause(error)}",
            fix="the file that it came from is damaged: copy or export it again",
        ) from error
    finally:
        for value, tensor in before.items():
            value.const_value = tensor


def _undescribed(proto: Proto) -> Proto:
    """Drop what onnx-ir says of initializers beside them, type and shape once more: files would grow by it."""
    known = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.value_info if value.name not in known]
    if len(kept) < len(proto.graph.value_info):
        del proto.graph.value_info[:]
        proto.graph.value_info.extend(kept)
    return proto


def stand_in(value: Value, location: str, offset: int) -> Tensor:
    """Describe a weight as if it lay at an offset, in bytes, of a file: serialized so, it has no content."""
    import onnx_ir

    tensor = value.const_value
    return onnx_ir.ExternalTensor(
        location,
        offset,
        tensor.nbytes,
        tensor.dtype,
        shape=onnx_ir.Shape(tensor.shape),
        name=value.name,
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def in_memory(tensor: Tensor) -> Tensor:
    """Read a tensor out of its file."""
    import onnx_ir

    return onnx_ir.Tensor(
        tensor.numpy(), dtype=tensor.dtype, name=tensor.name, doc_string=tensor.doc_string, shape=tensor.shape
    )
