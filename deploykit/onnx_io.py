"""ONNX files: load them with their weights left on disk, save them whole, check them, and read what they say."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from deploykit.errors import ModelError, UsageError
from deploykit.tensors import Dim, Signature, TensorSpec

# onnx and onnx_ir are imported where they are used, so their types are Any here.
Model = Any
Value = Any
Tensor = Any
Proto = Any

ONE_FILE = 1_900_000_000
"""Bytes of weights from which they go into a file of their own: a protobuf file ends at 2 GiB."""
INLINE = 1024
"""Bytes up to which a tensor stays in the model file: shape inference must see the small ones."""
ALIGNMENT = 64
"""Bytes that the offset of an external tensor is a multiple of: a cache line, and the widest vector."""
LINEAGE = "deploykit."
UNRANKED = "..."
"""The one dimension of a tensor whose number of axes the model does not say."""

_BLOCK = 1 << 24
_STANDARD = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training")
# The element types that an older IR version does not have: onnx.proto, its comments on Version.
_TYPES_SINCE = {
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 9),
    "UINT4": 10,
    "INT4": 10,
    "FLOAT4E2M1": 11,
    "FLOAT8E8M0": 12,
    "UINT2": 13,
    "INT2": 13,
}


def load(path: str | Path) -> Model:
    """Read an ONNX file into an ``onnx_ir.Model``; weights in external files stay there, memory-mapped.

    Raises:
        UsageError: there is no such file.
        ModelError: it is damaged, or an external file is missing, cut short or outside of the model's folder.
    """
    import onnx_ir

    path = Path(path)
    proto = _parse(path)
    if proto.graph.sparse_initializer:
        raise ModelError(
            f"{path} has sparse initializers, which would be lost: {proto.graph.sparse_initializer[0].values.name}",
            fix="export it again with dense weights",
        )
    _check_types(proto, path)
    folder = path.parent.absolute()
    try:
        for tensor in _external(proto):
            _check_external(tensor, folder, path)
        model = onnx_ir.serde.deserialize_model(proto)
    except onnx_ir.serde.SerdeError as error:
        raise _damaged(path, str(_root(error))) from error
    onnx_ir.external_data.set_base_dir(model.graph, str(folder))
    _inline_attributes(model, folder)
    return model


def external_files(path: str | Path) -> tuple[Path, ...]:
    """List the files beside a model that hold its weights, without reading them.

    Raises:
        UsageError: there is no such file.
        ModelError: it is damaged.
    """
    path = Path(path)
    return _files(path, _parse(path))


def signature(model: Model) -> Signature:
    """Say what goes into a model and what comes out.

    An unnamed dynamic axis gets the name ``<tensor>_<axis>``; a tensor of unknown rank has the one dimension ``...``.
    An initializer that is also a graph input is a default value and not an input.

    Raises:
        ModelError: an input or output is no tensor (a sequence, a map), or has no element type.
    """
    weights = model.graph.initializers
    return Signature(
        tuple(_spec(value, "input") for value in model.graph.inputs if value.name not in weights),
        tuple(_spec(value, "output") for value in model.graph.outputs),
    )


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
        external = sum(value.const_value.nbytes for value in _weights(model) if not _is_text(value)) >= ONE_FILE
    try:
        return _save_external(model, path) if external else _save_inline(model, path)
    except OSError as error:
        raise UsageError(
            f"can't write {path}: {error.strerror or error}", fix="free some space, or name another place with -o"
        ) from error


def check(path: str | Path) -> None:
    """Hold a file, with its external data, against the ONNX specification; shapes and types too where it can be done.

    Raises:
        ModelError: the file is invalid; the node is named.
    """
    import onnx

    path = Path(path)
    proto = _parse(path)
    size = sum(file.stat().st_size for file in (path, *_files(path, proto)) if file.exists())
    own = {function.domain for function in proto.functions}
    custom = {entry.domain for entry in proto.opset_import} - own - set(_STANDARD)
    del proto  # the checker reads the file once more
    try:
        onnx.checker.check_model(str(path), full_check=size < ONE_FILE and not custom)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ModelError(
            f"{path} is not a valid ONNX model: {_place(str(error))}",
            details=[line.strip() for line in str(error).strip().splitlines()[:4]],
            fix="export it again; if deploykit wrote this file, this is a bug worth reporting",
        ) from error


def lineage(model: Model) -> dict[str, str]:
    """Read where a model comes from: its metadata under ``deploykit.``, without that prefix."""
    return {key.removeprefix(LINEAGE): value for key, value in model.metadata_props.items() if key.startswith(LINEAGE)}


def set_lineage(model: Model, **entries: str) -> None:
    """Add to where a model comes from; a name that is there already gets the new value."""
    model.metadata_props.update({f"{LINEAGE}{key}": value for key, value in entries.items()})


def set_versions(model: Model, *, ir: int, opset: int | None = None) -> None:
    """Set the IR version of a model, and convert it to another ``ai.onnx`` opset; in place.

    Raises:
        ModelError: the model needs a newer IR version, or onnx can't convert it; it is then unchanged.
    """
    for since, what in _needs_ir(model):
        if ir < since:
            raise ModelError(
                f"the model can't have IR version {ir}: {what} came with IR version {since}",
                fix=f"ask for IR version {since} or newer",
            )
    if opset is not None and opset != model.opset_imports.get("", 0):
        _convert(model, opset)
    model.ir_version = ir


# Reading


def _parse(path: Path) -> Proto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}", fix="name an ONNX file that can be read") from error
    except DecodeError as error:
        raise _damaged(path, str(error)) from error
    if not proto.HasField("graph") or proto.ir_version < 1:
        raise _damaged(path, "it has no graph" if proto.ir_version else "it has no IR version")
    return proto


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path} can't be read as ONNX: it is another format, damaged or cut short",
        details=(why,),
        fix="copy or export it again, and compare its size with the original",
    )


def _root(error: BaseException) -> BaseException:
    return _root(error.__cause__) if error.__cause__ else error


def _weights(model: Model) -> Iterator[Value]:
    """Every initializer, those of subgraphs too."""
    for graph in model.graphs():
        yield from (value for value in graph.initializers.values() if value.const_value is not None)


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


def _external(proto: Proto) -> Iterator[Tensor]:
    import onnx_ir

    for tensor in _tensors(proto):
        if tensor.data_location == tensor.EXTERNAL:
            yield onnx_ir.serde.deserialize_tensor(tensor, "")


def _check_types(proto: Proto, path: Path) -> None:
    for tensor in _tensors(proto):
        known = tensor.data_type in tensor.DataType.values() and tensor.data_type != tensor.UNDEFINED
        if not known or (tensor.data_type == tensor.STRING and tensor.data_location == tensor.EXTERNAL):
            raise _damaged(path, f"the tensor '{tensor.name}' has an element type that it can't have")


def _files(path: Path, proto: Proto) -> tuple[Path, ...]:
    import onnx_ir

    try:
        return tuple(dict.fromkeys(path.parent / str(tensor.location) for tensor in _external(proto)))
    except onnx_ir.serde.SerdeError as error:
        raise _damaged(path, str(_root(error))) from error


def _check_external(tensor: Tensor, folder: Path, path: Path) -> None:
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


def _inline_attributes(model: Model, folder: Path) -> None:
    """Take external tensors of attributes into memory: no runtime reads them from a file, and they are small."""
    import onnx_ir

    for graph in (model.graph, *model.functions.values()):
        for node in onnx_ir.traversal.RecursiveGraphIterator(graph):
            for name, attribute in list(node.attributes.items()):
                if isinstance(attribute.value, onnx_ir.ExternalTensor):
                    attribute.value.base_dir = str(folder)
                    node.attributes[name] = onnx_ir.AttrTensor(name, _in_memory(attribute.value))


def _in_memory(tensor: Tensor) -> Tensor:
    import onnx_ir

    return onnx_ir.Tensor(
        tensor.numpy(), dtype=tensor.dtype, name=tensor.name, doc_string=tensor.doc_string, shape=tensor.shape
    )


def _spec(value: Value, role: str) -> TensorSpec:
    import onnx_ir

    if value.dtype is None or not isinstance(value.type, onnx_ir.TensorType):
        raise ModelError(
            f"the {role} '{value.name}' is {value.type or 'of no known type'}, and deploykit compares tensors",
            fix="export it with tensors only (scikit-learn: options={'zipmap': False})",
        )
    dtype = "string" if value.dtype == onnx_ir.DataType.STRING else str(value.dtype.numpy())
    if value.shape is None:
        return TensorSpec(value.name, dtype, (UNRANKED,))
    return TensorSpec(value.name, dtype, tuple(_dim(value.name, axis, dim) for axis, dim in enumerate(value.shape)))


def _dim(name: str, axis: int, dim: Any) -> Dim:
    size = dim if isinstance(dim, int) else dim.value
    if size is None or (isinstance(size, int) and size < 0):
        return re.sub(r"\W", "_", f"{name}_{axis}")
    return size


# Writing


def _save_inline(model: Model, path: Path) -> tuple[Path, ...]:
    # A ModelProto with its serialized form would hold all weights twice more, so the weights are left out of it and
    # written to their place in the graph (ModelProto.graph is field 7, GraphProto.initializer 5, raw_data 9).
    streamed = {value.name: value.const_value for value in _own_weights(model)}
    proto = _serialized(model, [(value, _stand_in(value, "-", 0)) for value in _own_weights(model)])
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
    moved = [value for value in _weights(model) if not _is_text(value) and value.const_value.nbytes > INLINE]
    if not moved:
        return _save_inline(model, path)
    offsets, whole, end = [], hashlib.sha256(), 0
    with _part(path.with_suffix(".data")) as file:
        for value in moved:
            offsets.append(end + -end % ALIGNMENT)
            for block in (bytes(-end % ALIGNMENT), *_blocks(value.const_value)):
                file.write(block)
                whole.update(block)
            end = offsets[-1] + value.const_value.nbytes
    weights = path.with_name(f"{path.stem}.{whole.hexdigest()[:8]}.data")
    _put(file, weights)
    stand_ins = [(value, _stand_in(value, weights.name, offset)) for value, offset in zip(moved, offsets, strict=True)]
    proto = _serialized(model, stand_ins)
    with _part(path) as file:
        file.write(proto.SerializeToString(deterministic=True))
    _put(file, path)
    return weights, path


def _own_weights(model: Model) -> list[Value]:
    """Initializers of the main graph that are kept as bytes."""
    return [value for value in _weights(model) if value.graph is model.graph and not _is_text(value)]


def _is_text(value: Value) -> bool:
    import onnx_ir

    return bool(value.const_value.dtype == onnx_ir.DataType.STRING)


def _stand_in(value: Value, location: str, offset: int) -> Tensor:
    """Describe a tensor, so that it can be serialized without its content."""
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


def _serialized(model: Model, stand_ins: list[tuple[Value, Tensor]]) -> Proto:
    """Serialize a model with other tensors in place of its own, which it has back afterwards."""
    import onnx_ir

    replaced = {id(value) for value, _ in stand_ins}
    # An external tensor left as it is would still name the file that the model was read from.
    left = [
        (value, _in_memory(value.const_value))
        for value in _weights(model)
        if id(value) not in replaced and isinstance(value.const_value, onnx_ir.ExternalTensor)
    ]
    before = [(value, value.const_value) for value, _ in (*stand_ins, *left)]
    try:
        for value, tensor in (*stand_ins, *left):
            value.const_value = tensor
        return onnx_ir.serde.serialize_model(model)
    except onnx_ir.serde.SerdeError as error:
        raise ModelError(
            f"the model can't be written as ONNX: {_root(error)}",
            fix="the file that it came from is damaged: copy or export it again",
        ) from error
    finally:
        for value, tensor in before:
            value.const_value = tensor


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
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# Checking and converting


_NODE = re.compile(r"[Nn]ame: (?P<name>\S*) OpType: (?P<op>\S+)|op_type:(?P<op2>\w+), node name: (?P<name2>[^)]*)")


def _place(message: str) -> str:
    """Say which node a message of the checker is about, or give its first line."""
    found = _NODE.search(message)
    if found is None:
        return message.strip().splitlines()[0]
    return f"node '{found['name'] or found['name2'] or ''}' ({found['op'] or found['op2']})"


def _needs_ir(model: Model) -> Iterator[tuple[int, str]]:
    if model.functions:
        yield 8, "functions"
    if any(value not in model.graph.inputs for value in model.graph.initializers.values()):
        yield 4, "weights that are no inputs"
    for value in (*model.graph.inputs, *_weights(model)):
        if value.dtype is not None and value.dtype.name in _TYPES_SINCE:
            yield _TYPES_SINCE[value.dtype.name], f"{value.name}'s type {value.dtype.name}"


def _convert(model: Model, opset: int) -> None:
    import onnx
    import onnx_ir.passes.common

    # onnx converts serialized models only, which end at 2 GiB: large weights are described to it as inputs.
    weights = {value.name: value for value in _own_weights(model) if value.const_value.nbytes > INLINE}
    proto = _serialized(model, [(value, _stand_in(value, "-", 0)) for value in weights.values()])
    if proto.functions:  # onnx's converter drops them
        inlined = onnx_ir.passes.common.InlinePass()(onnx_ir.serde.deserialize_model(proto)).model
        proto = onnx_ir.serde.serialize_model(inlined)
    large = _swap_out(proto.graph, set(weights))
    try:
        converted = onnx.version_converter.convert_version(proto, opset)
        onnx.checker.check_model(converted)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise _unconverted(model, opset, str(error)) from error
    _swap_in(converted.graph, large, model)
    if lost := _lost_name(model, converted.graph):
        raise _unconverted(model, opset, lost)
    graph = onnx_ir.serde.deserialize_model(converted).graph
    for name, value in weights.items():
        graph.initializers[name].const_value = value.const_value
    model.graph = graph
    model.functions.clear()


def _swap_out(graph: Proto, names: set[str]) -> list[Proto]:
    import onnx

    large = [tensor for tensor in graph.initializer if tensor.name in names]
    small = [tensor for tensor in graph.initializer if tensor.name not in names]
    del graph.initializer[:]
    graph.initializer.extend(small)
    known = {value.name for value in graph.input}
    graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in large
        if tensor.name not in known
    )
    return large


def _swap_in(graph: Proto, large: list[Proto], model: Model) -> None:
    """Make inputs that stood for large weights initializers again, in the order of the model."""
    inputs = {value.name for value in model.graph.inputs}
    kept = [value for value in graph.input if value.name in inputs]
    del graph.input[:]
    graph.input.extend(kept)
    place = {name: number for number, name in enumerate(model.graph.initializers)}
    weights = sorted((*graph.initializer, *large), key=lambda tensor: place.get(tensor.name, len(place)))
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _lost_name(model: Model, graph: Proto) -> str | None:
    """Say which name a conversion lost, or None."""
    kinds = (
        ("input", model.graph.inputs, graph.input),
        ("output", model.graph.outputs, graph.output),
        ("initializer", model.graph.initializers.values(), graph.initializer),
    )
    for kind, before, after in kinds:
        lost = {value.name for value in before} - {value.name for value in after}
        if lost:
            return f"the {kind} '{min(lost)}' would be lost"
    return None


def _unconverted(model: Model, opset: int, why: str) -> ModelError:
    return ModelError(
        f"onnx can't convert the model from opset {model.opset_imports.get('', 0)} to {opset}",
        details=[line.strip().rpartition("failed: ")[2] for line in why.strip().splitlines()[:3]],
        fix=f"convert the source again with --opset {opset}, or keep the opset",
    )
