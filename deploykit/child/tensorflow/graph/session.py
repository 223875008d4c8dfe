"""A frozen graph: run in a session, and cut to what is asked of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf

from deploykit.child.said import said
from deploykit.child.tensorflow.model import Frozen, Run
from deploykit.errors import ModelError
from deploykit.tensors import Array, Tensors


@contextmanager
def running(frozen: Frozen) -> Iterator[Run]:
    """Run a frozen graph: arrays in by input name, arrays out by output name in order.

    Raises:
        ModelError: TensorFlow does not take the graph.
    """
    session = opened(frozen.graph_def)
    there = {node.name for node in frozen.graph_def.node}
    weights = {f"{name}:0": array for name, array in frozen.weights.items() if name in there}
    try:
        yield lambda tensors: fetched(session, frozen.inputs, frozen.outputs, tensors, weights)
    finally:
        session.close()


def opened(graph_def: Any) -> Any:
    """Give a session on a graph, with as many threads as this process was told to use; whoever asks closes it.

    Raises:
        ModelError: TensorFlow does not take the graph.
    """
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise ModelError(
            f"TensorFlow {tf.__version__} does not take this graph: {said(error)}",
            fix="convert it with the TensorFlow that wrote it, or export a SavedModel from it",
        ) from error
    return new_session(graph)


def new_session(graph: Any) -> Any:
    """Give a session on a tf.Graph, with as many threads as this process was told to use."""
    threads = tf.config.threading
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=threads.get_intra_op_parallelism_threads(),
        inter_op_parallelism_threads=threads.get_inter_op_parallelism_threads(),
        device_count={"GPU": 0},
    )
    return tf.compat.v1.Session(graph=graph, config=config)


def fetched(
    session: Any,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    tensors: Tensors,
    weights: Mapping[str, Array] = MappingProxyType({}),
) -> Tensors:
    """Run a session: what is fed and fetched, by the names that the user knows, and weights by their tensors'."""
    fed = {tensor: tensors[name] for name, tensor in inputs.items()}
    answers = session.run(list(outputs.values()), {**fed, **weights})
    return {name: np.asarray(answer) for name, answer in zip(outputs, answers, strict=True)}
