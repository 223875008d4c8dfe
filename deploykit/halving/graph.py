"""A graph made ready to be halved: no functions, constants among the weights, the type of each tensor known."""

import logging
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from deploykit.halving.schema import NONE, Ports, gives_sequence, is_float, ports_of
from deploykit.rounding import Half

_QUOTED = re.compile(r"'([^']*)'")


@dataclass(frozen=True)
class Graph:
    """A model, and its nodes by number; a file that is read twice has the same numbers."""

    model: Any
    half: Half

    @cached_property
    def nodes(self) -> list[Any]:
        """The nodes of the main graph, in order."""
        return list(self.model.graph)

    @cached_property
    def ports(self) -> list[Ports]:
        """What of each node may be halved; nothing of one that holds a graph."""
        opsets = self.model.opset_imports
        return [
            NONE if holds_graph(node) else ports_of(node, opsets.get(node.domain, 1), self.half) for node in self.nodes
        ]

    @cached_property
    def number(self) -> dict[Any, int]:
        """The number of each node."""
        return {node: number for number, node in enumerate(self.nodes)}

    def inputs(self, number: int) -> list[tuple[int | None, Any]]:
        """Give every float32 tensor that a node reads, and at which place; those that its bodies read have none."""
        node = self.nodes[number]
        own: list[tuple[int | None, Any]] = [
            (place, value) for place, value in enumerate(node.inputs) if is_float(value)
        ]
        return [*own, *((None, value) for value in captured(node, self.model.graph) if is_float(value))]

    def name(self, number: int) -> str:
        """Say which node it is, with its operator."""
        return f"{self.module(number)} ({self.nodes[number].op_type})"

    def module(self, number: int) -> str:
        """Give the module that a node is of, where that is known, or its own name."""
        node = self.nodes[number]
        scopes = _QUOTED.findall(node.metadata_props.get("pkg.torch.onnx.name_scopes", ""))
        module = scopes[-2] if len(scopes) > 1 else ""
        return str(module or node.name or node.outputs[0].name)


def read(path: Path, half: Half) -> Graph:
    """Load a model and make it ready.

    Raises:
        ModelError: it can't be read.
    """
    from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass

    from deploykit.onnx_io import load

    model = load(path)
    if model.functions:
        model = InlinePass()(model).model
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _infer_types(model)
    _tell_sequences(model)
    return Graph(model, half)


def _infer_types(model: Any) -> None:
    """Find the type of every tensor; what onnx does not know gives what its first input is."""
    from onnx_ir.passes.common import ShapeInferencePass

    logging.getLogger("onnx_ir").setLevel(logging.CRITICAL)  # what it can't infer it would tell the user, at length
    for value in model.graph.initializers.values():
        if value.dtype is None:
            value.dtype = value.const_value.dtype
    while True:
        if any(output.dtype is None or output.shape is None for node in model.graph for output in node.outputs):
            ShapeInferencePass()(model)
        unknown = next(
            (
                node
                for node in model.graph
                if node.outputs[0].dtype is None and node.inputs and node.inputs[0] is not None and node.inputs[0].dtype
            ),
            None,
        )
        if unknown is None:
            return
        for output in unknown.outputs:
            output.dtype = output.dtype or unknown.inputs[0].dtype


def _tell_sequences(model: Any) -> None:
    """Give sequences their type: onnx_ir keeps only that of their elements from what onnx infers."""
    import onnx_ir

    for node in model.graph.all_nodes():
        for place, output in enumerate(node.outputs):
            is_tensor = output.type is not None and isinstance(output.type, onnx_ir.TensorType)
            if is_tensor and gives_sequence(node, place, model.opset_imports.get(node.domain, 1)):
                output.type = onnx_ir.SequenceType(output.type)


def holds_graph(node: Any) -> bool:
    """Tell whether a node has bodies, as If, Loop and Scan have."""
    return any(attribute.type.name in ("GRAPH", "GRAPHS") for attribute in node.attributes.values())


def bodies(node: Any) -> list[Any]:
    """Give the graphs that a node holds, and those within them."""
    own = [
        body
        for attribute in node.attributes.values()
        if attribute.type.name in ("GRAPH", "GRAPHS")
        for body in (attribute.value if attribute.type.name == "GRAPHS" else (attribute.value,))
    ]
    return [graph for body in own for graph in (body, *(inner for one in body for inner in bodies(one)))]


def captured(node: Any, graph: Any) -> list[Any]:
    """Give the tensors of a graph that the bodies of one of its nodes read."""
    read = [value for body in bodies(node) for one in body for value in one.inputs]
    read += [value for body in bodies(node) for value in body.outputs]
    return list(dict.fromkeys(value for value in read if value is not None and owner(value) is graph))


def owner(value: Any) -> Any:
    """Give the graph that a value belongs to."""
    node = value.producer()
    return node.graph if node is not None else value.graph
