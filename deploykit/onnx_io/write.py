"""Write ONNX files whole or not at all, with no more than one of their weights in memory."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO

from deploykit.artifact import fsync
from deploykit.errors import ModelError, UsageError
from deploykit.onnx_io.parse import Model, Proto, Tensor
from deploykit.onnx_io.weights import INLINE, ONE_FILE, own_weights, serialized, serialized_without, stand_in, weights

ALIGNMENT = 64
"""Bytes that the offset of an external tensor is a multiple of: a cache line, and the widest vector."""

_BLOCK = 1 << 24


def save(model: Model, path: str | Path, *, external: bool | None = None) -> tuple[Path, ...]:
    """Write a model, and give the files written; the model file comes last and is put in place by one rename.

    With ``external`` (of itself from 1.9 GB of weights on) the tensors over 1 kB go into ``<stem>.<hash>.data`` beside
    it, named after their content, so that the old model stays whole until the new one takes its name. Beyond the model
    itself, memory is needed for one tensor at a time. The model is as it was afterwards.

    Raises:
        UsageError: the place can't be written to, or the disk is full.
        ModelError: the model is invalid, or an external tensor can't be read any more.
    """
    path = Path(path)
    if external is None:
        external = sum(value.const_value.nbytes for value in weights(model)) >= ONE_FILE
    try:
        return _save_external(model, path) if external else _save_inline(model, path)
    except OSError as error:
        raise UsageError(
            f"can't write {path}: {error.strerror or error}", fix="free some space, or name another place with -o"
        ) from error


def _save_inline(model: Model, path: Path) -> tuple[Path, ...]:
    # A ModelProto with its serialized form would hold all weights twice more, so the weights are left out of it and
    # written to their place in the graph (ModelProto.graph is field 7, GraphProto.initializer 5, raw_data 9).
    own = own_weights(model)
    streamed = {value.name: value.const_value for value in own}
    proto = serialized_without(model, own)
    parts = [(_initializer(header, streamed), streamed.get(header.name)) for header in proto.graph.initializer]
    del proto.graph.initializer[:]
    graph = proto.graph.SerializeToString(deterministic=True)
    size = len(graph) + sum(len(head) + (0 if tensor is None else tensor.nbytes) for head, tensor in parts)
    proto.ClearField("graph")
    with _part(path) as file:
        file.write(proto.SerializeToString(deterministic=True) + b"\x3a" + _varint(size) + graph)
        for head, tensor in parts:
            file.write(head)
            for block in _blocks(tensor):
                file.write(block)
    _put(file, path)
    return (path,)


def _save_external(model: Model, path: Path) -> tuple[Path, ...]:
    moved = [value for value in weights(model) if value.const_value.nbytes > INLINE]
    if not moved:
        return _save_inline(model, path)
    offsets, whole, end = [], hashlib.sha256(), 0
    with _part(path.with_suffix(".data")) as file:
        for value in moved:
            offsets.append(end + -end % ALIGNMENT)
            for block in chain((bytes(-end % ALIGNMENT),), _blocks(value.const_value)):
                file.write(block)
                whole.update(block)
            end = offsets[-1] + value.const_value.nbytes
    beside = path.with_name(f"{path.stem}.{whole.hexdigest()[:8]}.data")
    _put(file, beside)
    stand_ins = {value: stand_in(value, beside.name, offset) for value, offset in zip(moved, offsets, strict=True)}
    proto = serialized(model, stand_ins)
    with _part(path) as file:
        file.write(proto.SerializeToString(deterministic=True))
    _put(file, path)
    return beside, path


def _initializer(header: Proto, streamed: dict[str, Tensor]) -> bytes:
    """Give the bytes of a graph's initializer up to its content."""
    if header.name not in streamed:
        text = header.SerializeToString(deterministic=True)
        return b"\x2a" + _varint(len(text)) + text
    header.ClearField("external_data")
    header.ClearField("data_location")
    size = streamed[header.name].nbytes
    text = header.SerializeToString(deterministic=True) + b"\x4a" + _varint(size)
    return b"\x2a" + _varint(len(text) + size) + text


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes((low,)) if not rest else bytes((low | 0x80,)) + _varint(rest)


def _blocks(tensor: Tensor | None) -> Iterator[bytes]:
    """Give the content of a tensor as ONNX keeps it, without holding more than is needed."""
    import onnx_ir

    if not isinstance(tensor, onnx_ir.ExternalTensor):
        yield tensor.tobytes() if tensor is not None else b""
        return
    left = tensor.nbytes
    with Path(tensor.path).open("rb") as file:
        file.seek(tensor.offset or 0)
        while left:
            block = file.read(min(left, _BLOCK))
            if not block:
                raise ModelError(
                    f"{tensor.path} became shorter while it was read: {tensor.name} is not whole",
                    fix="convert the model again, while nothing else writes to that file",
                )
            left -= len(block)
            yield block


@contextmanager
def _part(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside its place; after the block it is on the disk, and where the block fails it is gone."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _put(file: IO[bytes], path: Path) -> None:
    Path(file.name).replace(path)
    fsync(path.parent)
