"""A SavedModel folder: one of its signatures, by TensorFlow 2's loader, or by TensorFlow 1's for what is older."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.saved_model import loader_impl

from deploykit.child.said import said
from deploykit.child.tensorflow.graph.cutting import cut, inlined, pruned
from deploykit.child.tensorflow.graph.freezing import freeze_function
from deploykit.child.tensorflow.graph.graph_def import FedGraph
from deploykit.child.tensorflow.graph.model import GraphModel
from deploykit.child.tensorflow.graph.session import fetched, new_session
from deploykit.child.tensorflow.model import Frozen, Port, Source, operation
from deploykit.errors import ModelError, UsageError, nearest
from deploykit.tensors import Tensors

_DEFAULT = "serving_default"
_SERVE = "serve"
_INTERNAL = "__saved_model"
_TABLES = re.compile(r"HashTable|LookupTable|InitializeTable|AnonymousMutable.*Table")
_AFTER_TEXT = "export a signature that takes the tensors after the text processing"


def load_saved_model(source: Source) -> GraphModel:
    """Load a signature of a SavedModel.

    Raises:
        ModelError: the folder is no SavedModel, is damaged, or its signature takes what is no tensor of numbers.
        UsageError: it has no signature of the name given, or several and none is given.
    """
    meta, notes = _meta_graph(source.path)
    key = _signature(source, meta, notes)
    ports = _Ports.read(meta.signature_def[key], key, notes)
    tags = list(meta.meta_info_def.tags)
    if not meta.HasField("object_graph_def"):
        return _by_old_loader(
            source.path, tags, ports, [*notes, "loaded with TensorFlow 1's loader: TensorFlow 1 wrote it"]
        )
    try:
        loaded = tf.saved_model.load(source.path, tags=tags or None)
        function = loaded.signatures[key]
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the new loader trips over, the old one may read
        note = f"loaded with TensorFlow 1's loader: TensorFlow 2's fails with {said(error)}"
        return _by_old_loader(source.path, tags, ports, [*notes, note], error)
    return _Signature(loaded, function, ports, notes)


def _meta_graph(path: str) -> tuple[Any, list[str]]:
    """Give what the folder is to serve with."""
    try:
        saved = loader_impl.parse_saved_model(path)
    except (OSError, ValueError) as error:
        there = [one.name for one in sorted(Path(path).glob("saved_model.*"))]
        why = f"its {there[0]} is truncated or damaged" if there else "it has no saved_model.pb"
        raise ModelError(
            f"{path} is no SavedModel: {why}",
            fix="copy the folder again, or export the model again",
        ) from error
    graphs = list(saved.meta_graphs)
    if not graphs:
        raise ModelError(f"{path} is a SavedModel without a graph", fix="export the model again")
    serving = sorted(
        (one for one in graphs if _SERVE in one.meta_info_def.tags), key=lambda one: len(one.meta_info_def.tags)
    )
    chosen = (serving or graphs)[0]
    if len(graphs) == 1 or serving:
        return chosen, []
    return chosen, [f"of the {len(graphs)} graphs in it the one tagged {', '.join(chosen.meta_info_def.tags)} is taken"]


def _signature(source: Source, meta: Any, notes: list[str]) -> str:
    real = {
        key: signature
        for key, signature in sorted(meta.signature_def.items())
        if not key.startswith(_INTERNAL) and signature.inputs and signature.outputs
    }
    listed = [f"{key}: {', '.join(sorted(signature.inputs, key=_natural))}" for key, signature in real.items()]
    if source.signature is not None and source.signature not in real:
        raise UsageError(
            f"{source.path} has no signature '{source.signature}'{nearest(source.signature, real)}",
            fix=f"one of: {', '.join(real) or 'none'}",
            details=listed,
        )
    if not real:
        raise ModelError(
            f"{source.path} has no signature that takes and gives tensors",
            fix="export it with one: tf.saved_model.save(model, folder, signatures=function), or model.export(folder)",
        )
    if source.signature is None and _DEFAULT not in real:
        if len(real) > 1:
            raise UsageError(
                f"{source.path} has {len(real)} signatures, and none is called {_DEFAULT}",
                fix=f"name the one: --signature {next(iter(real))}",
                details=listed,
            )
        notes.append(f"its only signature is taken: {next(iter(real))}")
        return next(iter(real))
    return source.signature or _DEFAULT


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort ``output_2`` before ``output_10``."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


@dataclass(frozen=True)
class _Ports:
    """What a signature takes and gives, by its keys."""

    inputs: Mapping[str, Port]
    outputs: tuple[str, ...]
    tensors: Mapping[str, str]
    """The tensor of each input in the folder's own graph."""
    answers: Mapping[str, str]
    """The tensor of each output there."""

    @classmethod
    def read(cls, signature: Any, key: str, notes: list[str]) -> "_Ports":
        """Read them from the file, and check that they are tensors of numbers.

        Raises:
            ModelError: an input is none, or no output is.
        """
        inputs = {name: _port(name, signature.inputs[name], key) for name in sorted(signature.inputs, key=_natural)}
        known = {name: signature.outputs[name] for name in sorted(signature.outputs, key=_natural)}
        outputs = {
            name: one.name for name, one in known.items() if one.name and one.dtype != tf.string.as_datatype_enum
        }
        if not outputs:
            raise ModelError(
                f"the signature '{key}' gives no tensor of numbers", fix="export a signature that gives tensors"
            )
        if left := [name for name in known if name not in outputs]:
            notes.append(f"left out, for they are no tensors of numbers: the outputs {', '.join(left)}")
        tensors = {name: signature.inputs[name].name for name in inputs}
        return cls(inputs, tuple(outputs), tensors, outputs)

    def titles(self, outputs: Iterable[str]) -> list[str]:
        """Give the outputs' names: none is an input's."""
        return [f"{name}_out" if name in self.inputs else name for name in outputs]


def _port(name: str, declared: Any, key: str) -> Port:
    kind = declared.WhichOneof("encoding")
    if kind != "name":
        what = "sparse" if kind == "coo_sparse" else "composite (ragged or sparse)"
        raise ModelError(
            f"the input '{name}' of signature '{key}' is a {what} tensor, which ONNX does not have",
            fix="export a signature that takes dense tensors",
        )
    dtype = tf.as_dtype(declared.dtype)
    if dtype in {tf.string, tf.resource, tf.variant}:
        raise ModelError(
            f"the input '{name}' of signature '{key}' is of type {dtype.name}, which no ONNX operator takes here",
            fix=_AFTER_TEXT,
        )
    shape = tf.TensorShape(declared.tensor_shape)
    return Port(name, dtype.name, None if shape.rank is None else tuple(shape.as_list()))


class _Signature(FedGraph):
    """A signature as TensorFlow 2 loads it."""

    def __init__(self, loaded: Any, function: Any, ports: _Ports, notes: list[str]) -> None:
        graph_def = function.graph.as_graph_def()
        _check_tables(graph_def)
        self._loaded = loaded  # its variables live as long as it does
        self._function = function
        keys = list(function._arg_keywords)  # noqa: SLF001 - signatures only tell the order of their inputs so
        fed = {key: tensor.name for key, tensor in zip(keys, function.inputs, strict=False)}
        given = sorted(function.structured_outputs)  # as TensorFlow flattens them
        answers = {key: tensor.name for key, tensor in zip(given, function.outputs, strict=True)}
        places = _as_traced(graph_def)
        inputs = _in_order({key: fed[key] for key in ports.inputs}, places)
        self._fed = {key: fed[key] for key in inputs}
        self._order = _in_order({key: answers[key] for key in ports.outputs}, places)
        self._answers = dict(zip(ports.titles(self._order), (answers[key] for key in self._order), strict=True))
        self.notes = tuple(notes)
        super().__init__(tuple(ports.inputs[key] for key in inputs))

    def run(self, tensors: Tensors) -> Tensors:
        """Call the signature."""
        given = {**{port.name: tensors[port.name] for port in self.inputs}, **self._held}
        answers = self._function(**{name: tf.convert_to_tensor(array) for name, array in given.items()})
        return {title: np.asarray(answers[key]) for title, key in zip(self._answers, self._order, strict=True)}

    def _whole(self) -> Frozen:
        graph_def, weights = freeze_function(self._function)
        return Frozen(graph_def, self._fed, self._answers, weights)


def _check_tables(graph_def: Any) -> None:
    nodes = (*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def))
    for node in nodes:
        if _TABLES.search(node.op):
            raise ModelError(f"the signature looks values up in a table: {node.op} ({node.name})", fix=_AFTER_TEXT)


def _as_traced(graph_def: Any) -> dict[str, int]:
    """Give the place of each operation among the arguments, or answers, of the function that was saved.

    A signature sorts both by name; the call that it consists of keeps the order of the function.
    """
    calls = [node for node in graph_def.node if node.op in {"StatefulPartitionedCall", "PartitionedCall"}]
    if len(calls) != 1:
        return {}
    places = {source: index for index, source in enumerate(calls[0].input)}
    for node in graph_def.node:
        name, _, index = node.input[0].partition(":") if node.input else ("", "", "")
        if node.op == "Identity" and name == calls[0].name:
            places[node.name] = int(index or 0)
    return places


def _in_order(tensors: Mapping[str, str], places: Mapping[str, int]) -> list[str]:
    """Sort keys as the function had them; what it had sorted by name, as TensorFlow does it, by number too."""
    order = sorted(tensors, key=lambda key: (places.get(operation(tensors[key]), len(places)), _natural(key)))
    return sorted(order, key=_natural) if order == sorted(order) else order


def _by_old_loader(
    path: str, tags: list[str], ports: _Ports, notes: list[str], before: Exception | None = None
) -> GraphModel:
    session = new_session(tf.Graph())
    try:
        tf.compat.v1.saved_model.load(session, tags, path)
    except MemoryError:
        raise
    except Exception as error:
        missing = not (Path(path) / "variables" / "variables.index").exists()
        why = "its weights are missing: there is no variables/variables.index" if missing else said(before or error)
        raise ModelError(
            f"{path} can't be loaded: {why}",
            fix="copy the whole folder again, with its variables, or export the model again",
            details=[f"with TensorFlow 1's loader: {said(error)}"],
        ) from error
    return _Session(session, ports, notes)


class _Session(FedGraph):
    """A signature as TensorFlow 1 loads it: tensors of a session."""

    def __init__(self, session: Any, ports: _Ports, notes: list[str]) -> None:
        self._session = session
        self._dtypes = {name: tf.as_dtype(port.dtype).as_datatype_enum for name, port in ports.inputs.items()}
        answers = dict(zip(ports.titles(ports.answers), ports.answers.values(), strict=True))
        self._given = Frozen(session.graph.as_graph_def(), ports.tensors, answers)
        _check_tables(pruned(self._given.graph_def, answers.values()))
        self.notes = tuple(notes)
        super().__init__(tuple(ports.inputs.values()))

    def run(self, tensors: Tensors) -> Tensors:
        """Run the session."""
        return fetched(self._session, self._given.inputs, self._given.outputs, {**tensors, **self._held})

    def _whole(self) -> Frozen:
        ends = list(dict.fromkeys(operation(name) for name in self._given.outputs.values()))
        constant = tf.compat.v1.graph_util.convert_variables_to_constants(self._session, self._given.graph_def, ends)
        within = cut(Frozen(constant, self._given.inputs, self._given.outputs), self._dtypes)
        return inlined(within)
