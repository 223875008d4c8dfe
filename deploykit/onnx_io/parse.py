"""An ONNX file as protobuf: parsed with its weights left where they are, and the files that these are in."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deploykit.errors import ModelError, UsageError

# onnx and onnx_ir are imported where they are used, so their types are Any in this package.
Proto = Any
Tensor = Any
Value = Any
Model = Any


def parse(path: Path) -> Proto:
    """Read a ``ModelProto`` that has a graph and an IR version; external weights are not read.

    Raises:
        UsageError: the file can't be read.
        ModelError: it is no ONNX file, or damaged.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}", fix="name an ONNX file that can be read") from error
    except DecodeError as error:
        raise damaged(path, str(error)) from error
    if not proto.HasField("graph") or proto.ir_version < 1:
        raise damaged(path, "it has no graph" if proto.ir_version else "it has no IR version")
    return proto


def damaged(path: Path, why: str) -> ModelError:
    """Say that a file is no whole ONNX file, and why."""
    return ModelError(
        f"{path} can't be read as ONNX: it is another format, damaged or cut short",
        details=(why,),
        fix="copy or export it again, and compare its size with the original",
    )


def root_cause(error: BaseException) -> str:
    """Give what the first of a chain of errors says: onnx-ir wraps one for each level of the model."""
    return root_cause(error.__cause__) if error.__cause__ else str(error)


def files_of_weights(path: Path, proto: Proto) -> tuple[Path, ...]:
    """List the files beside a model that hold its weights, each once, whether they are there or not.

    Raises:
        ModelError: a tensor does not say where it is.
    """
    import onnx_ir

    try:
        return tuple(dict.fromkeys(path.parent / str(tensor.location) for tensor in _external(proto)))
    except onnx_ir.serde.SerdeError as error:
        raise damaged(path, root_cause(error)) from error


def check_tensors(path: Path, proto: Proto) -> None:
    """Make sure that every tensor has a type, and that those in other files are there, whole, and nowhere else.

    Raises:
        ModelError: one has no type; or its file is missing, cut short, has several names, or is outside of the folder.
        SerdeError: onnx-ir can't read the description of one.
    """
    for tensor in _tensors(proto):
        known = tensor.data_type in tensor.DataType.values() and tensor.data_type != tensor.UNDEFINED
        if not known or (tensor.data_type == tensor.STRING and tensor.data_location == tensor.EXTERNAL):
            raise damaged(path, f"the tensor '{tensor.name}' has an element type that it can't have")
    for tensor in _external(proto):
        _check_external(path, tensor)


def _check_external(path: Path, tensor: Tensor) -> None:
    folder = path.parent.absolute()
    file = folder / str(tensor.location)
    if _leaves(file, folder):
        raise ModelError(
            f"{path} wants its weights from outside of its own folder: {tensor.name} from {tensor.location}",
            fix="a model you trust: put that file beside it and save it again; another: do not use it",
        )
    if not file.is_file():
        raise ModelError(
            f"{path} has its weights in another file, which is missing: {file}", fix=f"put {file.name} beside {path}"
        )
    if file.stat().st_nlink > 1:  # onnx-ir does not map such a file, as it may be any file of the user's
        raise ModelError(
            f"the weights of {path} are in a file with several hard links: {file}",
            fix=f"make it a copy: cp {file.name} copy && mv copy {file.name}",
        )
    length = tensor.nbytes if tensor.length is None else tensor.length
    if length != tensor.nbytes or (tensor.offset or 0) + length > file.stat().st_size:
        raise ModelError(
            f"{file} does not hold the {tensor.nbytes} bytes of {tensor.name} that {path} expects there",
            fix=f"copy {file.name} again: it is cut short, or belongs to another model",
        )


def _leaves(file: Path, folder: Path) -> bool:
    """Whether a path gets out of a folder, by its text (``..``, ``/``, ``C:``) or by a link."""
    text = os.path.normpath(file)
    inside = Path(text).is_relative_to(os.path.normpath(folder)) and not re.search(r"[\\:]", file.name)
    return not inside or not file.resolve().is_relative_to(folder.resolve())


def _external(proto: Proto) -> Iterator[Tensor]:
    import onnx_ir

    for tensor in _tensors(proto):
        if tensor.data_location == tensor.EXTERNAL:
            yield onnx_ir.serde.deserialize_tensor(tensor, "")


def _tensors(proto: Proto) -> Iterator[Proto]:
    """Every TensorProto, wherever in the model it is."""
    yield from proto.graph.initializer
    for owner in (proto.graph, *proto.functions):
        yield from _attribute_tensors(owner.node)


def _attribute_tensors(nodes: Iterable[Proto]) -> Iterator[Proto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from ([attribute.t] if attribute.HasField("t") else [])
        yield from attribute.tensors
        for graph in (attribute.g, *attribute.graphs):
            yield from graph.initializer
            yield from _attribute_tensors(graph.node)
