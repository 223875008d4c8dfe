"""What has to be known of an ONNX file before an engine is built of it, read without its weights."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from deploykit.errors import ModelError
from deploykit.onnx_io.precision import told_by
from deploykit.onnx_io.skeleton import skeleton
from deploykit.tensors import Dim, Signature, TensorSpec
from deploykit.validation.divergence.graph import origin_of

_LINEAGE = "deploykit."


@dataclass(frozen=True)
class Node:
    """A node of the graph or of one of its subgraphs and functions."""

    name: str
    """Its own, or that of its first output where it has none."""
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata_props: dict[str, str]

    given: bool = True
    """Whether the name is its own."""

    @property
    def builder_name(self) -> str:
        """Give the name that TensorRT has for it."""
        return self.name if self.given else f"node_of_{self.name}"

    @property
    def module(self) -> str:
        """Give the source's module that it was exported from; nothing where the file does not say."""
        module, _, line = origin_of(self)
        return "  ".join(part for part in (module, line) if part and not part.startswith("_empty_nn_module_stack"))


@dataclass(frozen=True)
class Graph:
    """An ONNX file without its large weights."""

    path: Path
    proto: Any = field(repr=False)
    """An ``onnx.ModelProto``; large tensors of it have no numbers."""

    @classmethod
    def read(cls, path: Path) -> "Graph":
        """Read a file.

        Raises:
            UsageError: it can't be read.
            ModelError: it is damaged.
        """
        return cls(path, skeleton(path))

    @property
    def lineage(self) -> dict[str, str]:
        """Say where it comes from: the metadata under ``deploykit.``, without that prefix."""
        pairs = ((one.key, one.value) for one in self.proto.metadata_props)
        return {key.removeprefix(_LINEAGE): value for key, value in pairs if key.startswith(_LINEAGE)}

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, in the order of the file; those of functions at last."""
        return (*self.own, *(node for one in self.proto.functions for node in _nodes(one.node)))

    @cached_property
    def own(self) -> tuple[Node, ...]:
        """The nodes of the graph and its subgraphs: only there does a name stand for one tensor."""
        return tuple(_nodes(self.proto.graph.node))

    @cached_property
    def functions(self) -> frozenset[tuple[str, str]]:
        """Domain and name of the functions that the file brings along."""
        return frozenset((one.domain, one.name) for one in self.proto.functions)

    @cached_property
    def tensors(self) -> dict[str, Any]:
        """The weights and constants by name, ``onnx.TensorProto``."""
        found = {one.name: one for one in self.proto.graph.initializer}
        for node in self.proto.graph.node:
            if node.op_type == "Constant":
                found.update((node.output[0], one.t) for one in node.attribute if one.name == "value")
        return found

    @property
    def precision(self) -> str:
        """Say what it computes in, as ``onnx_io.precision_of`` does."""
        import onnx

        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            kind = onnx.TensorProto.DataType.Name(tensor.data_type)
            sizes[kind] = sizes.get(kind, 0) + math.prod(tensor.dims)
        return told_by(((node.operator, 4) for node in self.nodes), self.lineage.get("precision"), sizes)

    @property
    def signature(self) -> Signature:
        """Say what goes in and what comes out.

        Raises:
            ModelError: it is no tensor of a known rank.
        """
        weights = {one.name for one in self.proto.graph.initializer}
        inputs = [value for value in self.proto.graph.input if value.name not in weights]
        return Signature(tuple(map(_spec, inputs)), tuple(map(_spec, self.proto.graph.output)))


def _nodes(protos: Iterable[Any]) -> Iterator[Node]:
    for one in protos:
        said = {entry.key: entry.value for entry in one.metadata_props}
        name = one.name or next(iter(one.output), "")
        yield Node(name, one.op_type, one.domain, tuple(one.input), tuple(one.output), said, bool(one.name))
        for attribute in one.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def _spec(value: Any) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise ModelError(
            f"'{value.name}' is no tensor of a known number of axes, and an engine takes and gives such",
            fix="export the model with tensors only, and with their shapes",
        )
    dims = tuple(_dim(value.name, axis, dim) for axis, dim in enumerate(tensor.shape.dim))
    return TensorSpec(value.name, type_name(onnx, tensor.elem_type), dims)


def _dim(name: str, axis: int, dim: Any) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return dim.dim_param or "".join(one if one.isalnum() else "_" for one in f"{name}_{axis}")


def type_name(onnx: Any, number: int) -> str:
    """Name an element type of ONNX as numpy does: ``float32``."""
    name = str(onnx.TensorProto.DataType.Name(number)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
