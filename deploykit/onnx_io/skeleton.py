"""An ONNX file without its large weights: what is read of gigabytes is the graph, and the rest is stepped over."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from deploykit.errors import UsageError
from deploykit.onnx_io.parse import Proto, damaged
from deploykit.protobuf import varint

LARGEST = 1 << 14
"""Bytes of a tensor that stays whole."""

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _FUNCTION = "model", "graph", "node", "attribute", "tensor", "function"
_INSIDE = {
    _MODEL: {7: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR},
    _FUNCTION: {7: _NODE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH},
    _TENSOR: dict.fromkeys((4, 5, 6, 7, 9, 10, 11), ""),
}
"""The messages within each, by the number of their field; of a tensor, the fields that hold its numbers. onnx.proto."""


def skeleton(path: Path) -> Proto:
    """Read a ``ModelProto`` in which large tensors have a name, a type and a shape, and no numbers.

    Raises:
        UsageError: the file can't be read.
        ModelError: it is no ONNX file, or damaged.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        with path.open("rb") as file:
            kept = b"".join(_kept(file, 0, path.stat().st_size, _MODEL))
        proto = onnx.ModelProto.FromString(kept)
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}", fix="name an ONNX file that can be read") from error
    except (DecodeError, ValueError) as error:
        raise damaged(path, str(error)) from error
    if not proto.HasField("graph") or proto.ir_version < 1:
        raise damaged(path, "it has no graph" if proto.ir_version else "it has no IR version")
    return proto


def _kept(file: BinaryIO, at: int, end: int, kind: str) -> Iterator[bytes]:
    """Give the fields of a message, each as it is, or without what is large in it.

    Raises:
        ValueError: this is no protobuf.
    """
    while at < end:
        start = at
        tag, at = _number(file, at, end)
        number, wire = tag >> 3, tag & 7
        length, at = _length(file, at, end, wire)
        inside = _INSIDE[kind].get(number) if wire == 2 and length > LARGEST else None  # noqa: PLR2004 - of that length
        if inside is None:
            yield _read(file, start, at + length)
        elif inside:
            rest = b"".join(_kept(file, at, at + length, inside))
            yield _varint(tag) + _varint(len(rest)) + rest
        at += length


def _length(file: BinaryIO, at: int, end: int, wire: int) -> tuple[int, int]:
    if wire == 2:  # noqa: PLR2004 - protobuf's number for a length and that many bytes
        length, at = _number(file, at, end)
    else:
        length = {0: _number(file, at, end)[1] - at, 1: 8, 5: 4}.get(wire, -1)
    if length < 0 or at + length > end:
        raise ValueError("it is cut short, or no protobuf")
    return length, at


def _number(file: BinaryIO, at: int, end: int) -> tuple[int, int]:
    chunk = _read(file, at, min(at + 10, end))
    value, used = varint(chunk, 0)
    if used > len(chunk):
        raise ValueError("it is cut short")
    return value, at + used


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    # Not mapped: the pages that are only stepped over would count as memory of this process.
    file.seek(start)
    return file.read(end - start)


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits to a byte
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*made, value))
