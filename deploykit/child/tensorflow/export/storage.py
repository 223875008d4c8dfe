"""Write large weights beside the ONNX file, once, before tf2onnx makes the model of them that it copies twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import onnx

INLINE_LIMIT = 100_000_000
"""Bytes of weights that stay in the ONNX file: it ends at 2 GiB, and all of it is copied several times."""

_SMALL = 1 << 16


def move_out(graph: Any, target: Path) -> None:
    """Write the weights of a tf2onnx graph into ``<target>.data``, if they are large; the graph refers to them then.

    tf2onnx has an ExternalTensorStorage for this, which calls a function that NumPy 2 has no more.
    """
    tensors = [node.get_attr("value").t for node in _constants(graph)]
    if sum(len(one.raw_data) for one in tensors) <= INLINE_LIMIT:
        return
    beside = target.with_name(f"{target.name}.data")
    with beside.open("wb") as file:
        for tensor in tensors:
            if len(tensor.raw_data) > _SMALL:
                _move(tensor, file, beside.name)


def _constants(graph: Any) -> Iterator[Any]:
    for node in graph.get_nodes():
        if node.is_const():
            yield node
        for body in (node.get_body_graphs() or {}).values():
            yield from _constants(body)


def _move(tensor: Any, file: BinaryIO, location: str) -> None:
    start = file.tell()
    length = file.write(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(start)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
