"""A frozen GraphDef: its inputs and outputs are found, or named by the user, and it is run as it is."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.python.framework import op_def_registry

from deploykit.child.tensorflow.graph.cutting import as_asked, cut, held, pruned, sized
from deploykit.child.tensorflow.graph.dropout import steering
from deploykit.child.tensorflow.graph.ends import check_text, name_of, needed, placeholders, shape_of, sinks, tensor_of
from deploykit.child.tensorflow.graph.model import GraphModel
from deploykit.child.tensorflow.graph.session import fetched, opened
from deploykit.child.tensorflow.model import Frozen, Port, Source, operation
from deploykit.errors import ModelError
from deploykit.tensors import Tensors, TensorSpec

_REFREEZE = "freeze it with its checkpoint: tf.compat.v1.graph_util.convert_variables_to_constants"

_VARIABLES = {"Variable", "VariableV2", "VarHandleOp", "ReadVariableOp", "AutoReloadVariable", "TemporaryVariable"}


def load_graph_def(source: Source) -> GraphModel:
    """Load a frozen GraphDef.

    Raises:
        ModelError: the file is no GraphDef, is not frozen, or holds what this TensorFlow does not know.
        UsageError: it has no operation of the name that the user gives.
    """
    graph_def = _parsed(source.path)
    named = {operation(name) for name in (*source.graph_outputs, *source.graph_inputs)}
    if source.graph_outputs and named <= {node.name for node in graph_def.node}:
        graph_def = pruned(graph_def, named)  # what is behind these need not be known or frozen
    _check_frozen(graph_def, source.path)
    _check_known(graph_def, source.path)
    return FrozenGraph(source.path, graph_def, source.graph_inputs, source.graph_outputs)


def _parsed(path: str) -> Any:
    content = Path(path).read_bytes()
    graph_def = _message(tf.compat.v1.GraphDef(), content)
    if graph_def is not None and graph_def.node and all(node.op for node in graph_def.node):
        return graph_def
    saved, meta = _message(saved_model_pb2.SavedModel(), content), _message(meta_graph_pb2.MetaGraphDef(), content)
    if saved is not None and saved.meta_graphs:
        raise ModelError(
            f"{path} is the graph of a SavedModel, without its weights", fix="give the folder that it is in instead"
        )
    if meta is not None and meta.graph_def.node:
        raise ModelError(f"{path} is a meta graph, without the weights of its checkpoint", fix=_REFREEZE)
    raise ModelError(
        f"{path} is no GraphDef: it is truncated, damaged or something else",
        fix="copy it again, or freeze the model again",
    )


def _message(message: Any, content: bytes) -> Any:
    try:
        message.ParseFromString(content)
    except DecodeError:
        return None
    return message


def _check_frozen(graph_def: Any, path: str) -> None:
    left = [node.name for node in graph_def.node if node.op in _VARIABLES]
    if left:
        raise ModelError(
            f"{path} is not frozen: its weights are variables ({len(left)} of them, such as {left[0]}) "
            "and not in the file",
            fix=_REFREEZE,
        )


def _check_known(graph_def: Any, path: str) -> None:
    functions = {function.signature.name for function in graph_def.library.function}
    unknown = {node.op: node.name for node in graph_def.node if not op_def_registry.get(node.op)}
    for op in functions:
        unknown.pop(op, None)
    if unknown:
        raise ModelError(
            f"{path} has operations that TensorFlow {tf.__version__} does not know: {', '.join(sorted(unknown))}",
            fix="convert it with the TensorFlow that has them, or name --outputs that do without them",
            details=[f"{op}: {name}" for op, name in sorted(unknown.items())],
        )


class FedGraph(GraphModel):
    """A graph whose inputs are placeholders, each of which can be held at a value."""

    def __init__(self, inputs: tuple[Port, ...]) -> None:
        """Take the inputs."""
        self.inputs = inputs
        self._held: Tensors = {}

    @abstractmethod
    def _whole(self) -> Frozen:
        """Give the graph with its weights as constants, all inputs placeholders of it."""

    def freeze(self, inputs: tuple[TensorSpec, ...]) -> Frozen:
        """Give what the outputs need of the graph, with its placeholders of these sizes.

        Raises:
            ModelError: its weights can't be made constants.
        """
        return held(sized(self._whole(), inputs), self._held)

    def fix(self, values: Tensors) -> None:
        """Hold some inputs at a value for good.

        Raises:
            UsageError: an input is of another type.
        """
        self._held.update(as_asked(self.inputs, values))
        self.inputs = tuple(port for port in self.inputs if port.name not in values)

    def random_inputs(self) -> tuple[str, ...]:
        """List the inputs without axes that steer what is drawn at random."""
        scalars = {port.name for port in self.inputs if not port.shape}
        return tuple(name for name in steering(self.freeze(())) if name in scalars)


class FrozenGraph(FedGraph):
    """A graph with its weights in it, run in one session that stays open."""

    def __init__(self, path: str, graph_def: Any, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> None:
        """Find its inputs and outputs; those that are given are taken instead.

        Raises:
            ModelError: it has none, or takes text.
            UsageError: it has no operation of the name that is given, or needs more than these.
        """
        self._session = opened(graph_def)
        graph = self._session.graph
        starts = [tensor_of(graph, name, path) for name in inputs] or placeholders(graph)
        ends = [tensor_of(graph, name, path) for name in outputs] or sinks(graph)
        if not ends:
            raise ModelError(f"no operation of {path} is plainly its output", fix="name it: --outputs OPERATION")
        starts = needed(starts, ends, path, named=bool(inputs))
        check_text(starts, path)
        super().__init__(tuple(Port(name_of(one), one.dtype.name, shape_of(one)) for one in starts))
        taken = {port.name for port in self.inputs}
        self._dtypes = {name_of(one): one.dtype.as_datatype_enum for one in starts}
        self._given = Frozen(
            graph_def,
            {name_of(one): one.name for one in starts},
            {name_of(one) + "_out" * (name_of(one) in taken): one.name for one in ends},
        )

    def run(self, tensors: Tensors) -> Tensors:
        """Run the graph as it is in the file."""
        return fetched(self._session, self._given.inputs, self._given.outputs, {**tensors, **self._held})

    def _whole(self) -> Frozen:
        within = cut(self._given, self._dtypes)
        needed = pruned(within.graph_def, within.outputs.values(), within.inputs.values())
        return replace(within, graph_def=needed)
