"""Frozen graphs, cut to what is asked of them: only what the outputs need, of the sizes and values that are given."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.grappler import tf_optimizer

from deploykit.child.tensorflow.graph.dropout import switch_off_dropout
from deploykit.child.tensorflow.graph.freezing import become_constant, become_placeholder
from deploykit.child.tensorflow.model import Frozen, Port, operation
from deploykit.errors import UsageError, nearest
from deploykit.tensors import Tensors, TensorSpec


def pruned(graph_def: Any, outputs: Iterable[str], kept: Iterable[str] = ()) -> Any:
    """Give a graph with what the outputs need and nothing else; ``kept`` are tensors that stay even so."""
    wanted = dict.fromkeys(operation(tensor) for tensor in (*outputs, *kept))
    return tf.compat.v1.graph_util.extract_sub_graph(graph_def, list(wanted))


def cut(frozen: Frozen, dtypes: Mapping[str, int]) -> Frozen:
    """Give the graph with a placeholder in the place of each input that is none, but a tensor amid the graph.

    Args:
        frozen: a graph with its inputs.
        dtypes: the element type of each input, as TensorFlow numbers it.
    """
    graph_def = copied(frozen.graph_def)
    nodes = {node.name: node for node in graph_def.node}
    inputs = dict(frozen.inputs)
    for name, tensor in frozen.inputs.items():
        if nodes[operation(tensor)].op == "Placeholder":
            continue
        own = f"{name}/as_input"
        while own in nodes:
            own += "_"
        short = tensor.removesuffix(":0")
        for node in graph_def.node:
            node.input[:] = [own if source in {short, f"{short}:0"} else source for source in node.input]
        placeholder = graph_def.node.add(name=own, op="Placeholder")
        placeholder.attr["dtype"].type = dtypes[name]
        placeholder.attr["shape"].shape.unknown_rank = True
        inputs[name] = f"{own}:0"
    standing = {frozen.inputs[name]: tensor for name, tensor in inputs.items()}
    outputs = {name: standing.get(tensor, tensor) for name, tensor in frozen.outputs.items()}
    return replace(frozen, graph_def=graph_def, inputs=inputs, outputs=outputs)


def apart(frozen: Frozen) -> Frozen:
    """Give the graph with its large weights beside it: as constants, each session would copy them several times."""
    graph_def = copied(frozen.graph_def)
    weights = dict(frozen.weights)
    for node in graph_def.node:
        tensor = node.attr["value"].tensor if node.op == "Const" else None
        if tensor is not None and len(tensor.tensor_content) > _LARGE and tf.as_dtype(tensor.dtype).is_floating:
            weights[node.name] = tf.make_ndarray(tensor)
            become_placeholder(node, weights[node.name])
    return replace(frozen, graph_def=graph_def, weights=weights)


_LARGE = 1 << 16
"""Bytes of a weight."""


def inlined(frozen: Frozen) -> Frozen:
    """Give the graph with the bodies of functions in the place of their calls; loops and branches stay."""
    calls = any(node.op in {"StatefulPartitionedCall", "PartitionedCall"} for node in frozen.graph_def.node)
    return _optimized(frozen, "function") if calls else frozen


def _optimized(frozen: Frozen, *optimizers: str) -> Frozen:
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(frozen.graph_def, name="")
        meta_graph = tf.compat.v1.train.export_meta_graph(graph=graph)
    ends = meta_graph.collection_def["train_op"].node_list.value  # where grappler reads what is fetched
    ends.extend([*frozen.inputs.values(), *frozen.outputs.values()])
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.optimizers.extend(optimizers)
    config.graph_options.rewrite_options.min_graph_nodes = -1
    graph_def = tf_optimizer.OptimizeGraph(config, meta_graph)
    return replace(frozen, graph_def=pruned(graph_def, frozen.outputs.values(), frozen.inputs.values()))


def sized(frozen: Frozen, inputs: Iterable[TensorSpec]) -> Frozen:
    """Give the graph with its placeholders of these sizes, free where an axis has a name."""
    graph_def = copied(frozen.graph_def)
    asked = {operation(frozen.inputs[spec.name]): spec for spec in inputs if spec.name in frozen.inputs}
    for node in graph_def.node:
        node.attr.pop("_output_shapes", None)  # written for the sizes that the placeholders had
        node.attr.pop("_class", None)  # says what is on one device, and would keep what nothing else needs
        if node.name in asked:
            sizes = [dim if isinstance(dim, int) else None for dim in asked[node.name].dims]
            node.attr["shape"].shape.CopyFrom(tf.TensorShape(sizes).as_proto())
    return replace(frozen, graph_def=graph_def)


def held(frozen: Frozen, values: Tensors) -> Frozen:
    """Give the graph with some inputs as constants, and without the dropout and branches that these switch off."""
    if not values:
        return frozen
    graph_def = copied(frozen.graph_def)
    by_node = {operation(frozen.inputs[name]): value for name, value in values.items()}
    for node in graph_def.node:
        if node.name in by_node:
            become_constant(node, node.name, by_node[node.name])
    switch_off_dropout(graph_def)
    inputs = {name: tensor for name, tensor in frozen.inputs.items() if name not in values}
    left = replace(frozen, graph_def=pruned(graph_def, frozen.outputs.values(), inputs.values()), inputs=inputs)
    # A Switch whose way is settled is no branch; only grappler's loop optimizer, after folding, takes it away.
    branches = any(node.op == "Switch" for node in left.graph_def.node)
    return _optimized(left, "constfold", "loop") if branches else left


def copied(graph_def: Any) -> Any:
    """Give a graph of its own, to be changed."""
    copy = tf.compat.v1.GraphDef()
    copy.CopyFrom(graph_def)
    return copy


def as_asked(ports: Iterable[Port], values: Tensors) -> Tensors:
    """Give the values of inputs in the element types that the source has for them.

    Raises:
        UsageError: there is no such input, or it can't hold the value.
    """
    dtypes = {port.name: port.dtype for port in ports}
    cast = {}
    for name, value in values.items():
        if name not in dtypes:
            raise UsageError(
                f"the model has no input '{name}'{nearest(name, dtypes)}", fix=f"one of {', '.join(dtypes)}"
            )
        given = np.asarray(value)
        with np.errstate(all="ignore"):
            cast[name] = given.astype(tf.as_dtype(dtypes[name]).as_numpy_dtype)
        exact = np.array_equal(cast[name].astype(given.dtype), given)
        if not exact and not (given.dtype.kind == "f" and cast[name].dtype.kind == "f"):
            raise UsageError(
                f"the input '{name}' is {dtypes[name]}, which can't hold {given.tolist()}",
                fix=f"give a value of {dtypes[name]}: --input {name}=...",
            )
    return cast
