"""Read ONNX files: load them with their weights left on disk, say what goes in and out, and check them."""

import gc
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploykit.errors import ModelError
from deploykit.onnx_io.parse import Model, Value, check_tensors, damaged, files_of_weights, parse, root_cause
from deploykit.onnx_io.weights import ONE_FILE, in_memory
from deploykit.tensors import Array, Dim, Signature, TensorSpec

UNRANKED = "..."
"""The one dimension of a tensor whose number of axes the model does not say."""

_STANDARD = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training")
"""Domains whose operators onnx can check."""

_NODE = re.compile(r"[Nn]ame: (?P<name>\S*) OpType: (?P<op>\S+)|op_type:(?P<op2>\w+), node name: (?P<name2>[^)]*)")


def load(path: str | Path) -> Model:
    """Read an ONNX file into an ``onnx_ir.Model``; weights in external files stay there, memory-mapped.

    Raises:
        UsageError: there is no such file.
        ModelError: it is damaged, or an external file is missing, cut short or outside of the model's folder.
    """
    import onnx_ir

    path = Path(path)
    proto = parse(path)
    if proto.graph.sparse_initializer:
        raise ModelError(
            f"{path} has sparse initializers, which would be lost: {proto.graph.sparse_initializer[0].values.name}",
            fix="export it again with dense weights",
        )
    try:
        check_tensors(path, proto)
        model = onnx_ir.serde.deserialize_model(proto)
    except onnx_ir.serde.SerdeError as error:
        raise damaged(path, root_cause(error)) from error
    folder = str(path.parent.absolute())
    onnx_ir.external_data.set_base_dir(model.graph, folder)
    _inline_attributes(model, folder)
    return model


def external_files(path: str | Path) -> tuple[Path, ...]:
    """List the files beside a model that hold its weights, without reading them.

    Raises:
        UsageError: there is no such file.
        ModelError: it is damaged.
    """
    path = Path(path)
    return files_of_weights(path, parse(path))


def every_node(model: Model) -> Iterator[Any]:
    """Give the nodes of a model, with those of its subgraphs and functions."""
    return (node for graph in (model.graph, *model.functions.values()) for node in graph.all_nodes())


def size_of(path: Path, model: Model) -> int:
    """Give the bytes of a file that a model was read from, and of those that its weights are in."""
    import onnx_ir

    # To parse the file once more for that would take long.
    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    beside = {Path(one.path) for one in tensors if isinstance(one, onnx_ir.ExternalTensor)}
    return sum(file.stat().st_size for file in {path, *beside})


def table_hashes(model: Model) -> dict[str, str]:
    """Hash every weight that rows are looked up in, by its name: ``float32[9x4]:<sha256> float16[9x4]:<sha256>``.

    Beside the digest of a float32 table stands that of its rounding to float16, by which a float16 file is known.
    """
    looked_up = (
        node.inputs[place]
        for node in model.graph
        for place in _TABLES.get(node.op_type, ())
        if place < len(node.inputs) and node.inputs[place] is not None
    )
    tables = {value.name: value.const_value for value in looked_up if value.name in model.graph.initializers}
    return {
        name: " ".join(f"{kind}:{digest}" for kind, digest in _digests(table.numpy()).items())
        for name, table in tables.items()
        if table is not None and len(table.shape) > 1
    }


_TABLES = {"Gather": (0,), "Slice": (0,), "EmbedLayerNormalization": (2, 3, 4)}
"""The inputs of an operator that are tables; the second is what onnxruntime fuses three of the first into."""
_SMALLEST, _LARGEST = 6e-8, 65504.0
"""Of float16: converters clip to the one, and push what is under the other up to it or down to zero."""


def _digests(table: Array) -> dict[str, str]:
    import numpy as np

    kinds = {str(table.dtype): table}
    if table.dtype in (np.float32, np.float16):
        near = np.clip(table, -_LARGEST, _LARGEST).astype(np.float16)
        kinds["float16"] = np.where(np.abs(near) <= _SMALLEST, np.float16(0), near)
    size = "x".join(map(str, table.shape))
    bytes_of = {kind: np.ascontiguousarray(array).view(np.uint8).data for kind, array in kinds.items()}
    return {f"{kind}[{size}]": hashlib.sha256(content).hexdigest() for kind, content in bytes_of.items()}


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


def check(path: str | Path) -> None:
    """Hold a file, with its external data, against the ONNX specification; shapes and types too where it can be done.

    Raises:
        ModelError: the file is invalid; the node is named.
    """
    import onnx

    path = Path(path)
    proto = parse(path)
    size = sum(file.stat().st_size for file in (path, *files_of_weights(path, proto)) if file.exists())
    own = {function.domain for function in proto.functions}
    custom = {entry.domain for entry in proto.opset_import} - own - set(_STANDARD)
    del proto  # the checker reads the file once more
    gc.collect()  # and a model that was read from one file is cyclic, and would keep its weights until then
    try:
        onnx.checker.check_model(str(path), full_check=size < ONE_FILE and not custom)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ModelError(
            f"{path} is not a valid ONNX model: {_place(str(error))}",
            details=[line.strip() for line in str(error).strip().splitlines()[:4]],
            fix="export it again; if deploykit wrote this file, this is a bug worth reporting",
        ) from error


def _place(message: str) -> str:
    """Say which node a message of the checker is about, or give its first line."""
    found = _NODE.search(message)
    if found is None:
        return message.strip().splitlines()[0]
    return f"node '{found['name'] or found['name2'] or ''}' ({found['op'] or found['op2']})"


def _inline_attributes(model: Model, folder: str) -> None:
    """Take external tensors of attributes into memory: no runtime reads them from a file, and they are small."""
    import onnx_ir

    for graph in (model.graph, *model.functions.values()):
        for node in onnx_ir.traversal.RecursiveGraphIterator(graph):
            for name, attribute in list(node.attributes.items()):
                if isinstance(attribute.value, onnx_ir.ExternalTensor):
                    attribute.value.base_dir = folder
                    node.attributes[name] = onnx_ir.AttrTensor(name, in_memory(attribute.value))


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
