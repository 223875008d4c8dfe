"""Give what tf2onnx wrote the names and axes that the user knows, and no more than it needs."""

from collections.abc import Iterator
from typing import Any

from deploykit.child.tensorflow.model import Order

NHWC_TO_NCHW = (0, 3, 1, 2)


def rename_ports(proto: Any, inputs: list[str], outputs: list[str]) -> None:
    """Rename the inputs and outputs of an ONNX model, in order; another tensor of the same name makes way."""
    graph = proto.graph
    old = [value.name for value in (*graph.input, *graph.output)]
    names = dict(zip(old, (*inputs, *outputs), strict=True))
    taken = set(names.values())
    known = set(_names(graph)) | taken
    for name in sorted(set(_names(graph)) - set(names)):
        if name in taken:
            names[name] = next(one for number in range(len(known) + 1) if (one := f"{name}_{number}") not in known)
            known.add(names[name])
    _rename(graph, names)


def describe_inputs(proto: Any, order: Order) -> None:
    """Name the dynamic axes of the inputs; the made-up names of the axes of outputs go."""
    specs = {spec.name: spec for spec in order.inputs}
    for value in proto.graph.input:
        dims = specs[value.name].dims
        if value.name in order.nchw:
            dims = tuple(dims[axis] for axis in NHWC_TO_NCHW)
        shape = value.type.tensor_type.shape
        shape.Clear()
        for dim in dims:
            one = shape.dim.add()
            if isinstance(dim, int):
                one.dim_value = dim
            else:
                one.dim_param = dim
    for value in proto.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")


def drop_unused_domains(proto: Any) -> None:
    """Import the operator sets only that the model uses: tf2onnx always imports ai.onnx.ml too."""
    used = {"", *(node.domain for node in _nodes(proto.graph))}
    kept = [one for one in proto.opset_import if one.domain in used]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)


def _rename(graph: Any, names: dict[str, str]) -> None:
    for one in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        if one.name in names:
            one.name = names[one.name]
    for node in graph.node:
        for ports in (node.input, node.output):
            for index, name in enumerate(ports):
                if name in names:
                    ports[index] = names[name]
        for inner in _inner(node):
            _rename(inner, names)


def _names(graph: Any) -> Iterator[str]:
    yield from (one.name for one in (*graph.input, *graph.initializer))
    for node in graph.node:
        yield from node.output
        for inner in _inner(node):
            yield from _names(inner)


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for inner in _inner(node):
            yield from _nodes(inner)


def _inner(node: Any) -> Iterator[Any]:
    return (one.g for one in node.attribute if one.HasField("g"))
