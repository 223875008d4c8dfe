"""Translate a TensorFlow graph with tf2onnx, and say plainly what has no translation."""

import functools
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import tensorflow as tf
import tf2onnx
from tf2onnx import optimizer, tf_loader, tfonnx

import deploykit.child.tensorflow.export.operations
import deploykit.child.tensorflow.export.operations_images  # noqa: F401 - both register translations with tf2onnx
from deploykit.child.tensorflow.export.failures import explained
from deploykit.child.tensorflow.export.folding import FoldingOptimizer
from deploykit.child.tensorflow.export.layout import LayoutOptimizer
from deploykit.child.tensorflow.export.ports import Ported
from deploykit.child.tensorflow.export.recurrent import rewrite_recurrent
from deploykit.child.tensorflow.export.recurrent_nodes import show
from deploykit.child.tensorflow.export.runtime import guard_padded_pools, modern_resizes, whole_sizes
from deploykit.child.tensorflow.export.storage import move_out
from deploykit.errors import ModelError
from deploykit.tensors import Array

_REWRITE = (
    "replace it in the model with operations that ONNX has, or end the graph before it and compute the rest outside"
)

_SHAPE_LIKE = 4096
"""Bytes of a constant that may be a shape, an axis or the like, on which the shape of a result depends."""


def translated(ported: Ported, opset: int, target: Path) -> Any:
    """Give the ONNX model of a graph, with the tensor names of TensorFlow; large weights are written beside the target.

    Raises:
        ModelError: an operation has no translation.
    """
    with explained("the model", "the operation {} at '{}'", _REWRITE), _light_inference():
        # Grappler, TensorFlow's own optimizer, reads the graph of the context.
        with tf.Graph().as_default():
            graph_def = tf_loader.tf_optimize(ported.inputs, ported.outputs, ported.graph_def)
        tf_loader.clear_functions()
        with tf.Graph().as_default() as graph:  # and functions are to be added to this one, not to the whole process
            tf.import_graph_def(graph_def, name="")
            main, bodies = tfonnx.graphs_from_tf(graph, ported.inputs, ported.outputs)
        for one in (main, *bodies):
            one.set_config(None, opset, None)
        while ported.weights:
            _put_back(main, *ported.weights.popitem())
        bodies = rewrite_recurrent(main, bodies)
        # tf2onnx writes all nodes into their protobuf messages, weights and all, after each stage of its optimizer: two
        # thirds of the time of a conversion. The messages are read when the model is made, which writes them again.
        main.update_proto = _nothing
        main = tfonnx.process_graphs(main, bodies, None, ported.nchw, [], False, None, None, None)
        show(main)
        _all_translated(main)
        main = _optimized(main)
        guard_padded_pools(main)
        modern_resizes(main)
        whole_sizes(main)
        move_out(main, target)
        del main.update_proto
        return main.make_model("")


def _optimized(graph: Any) -> Any:
    """Apply tf2onnx's optimizers until nothing changes, but others to Transposes and to what follows a convolution."""
    stages = dict(optimizer._get_optimizers())  # noqa: SLF001
    stages["optimize_transpose"] = LayoutOptimizer
    stages["fold_into_convolutions"] = FoldingOptimizer
    return optimizer.optimize_graph(graph, catch_errors=False, optimizers=stages)


def _nothing(*_: Any) -> None:
    return None


@contextmanager
def _light_inference() -> Iterator[None]:
    """Keep tf2onnx from giving onnx all weights of a node each time that it asks for the shape of what it computes."""
    whole = tf2onnx.graph.infer_onnx_shape_dtype

    @functools.wraps(whole)
    def light(node: Any, opset: int, shapes: Any, dtypes: Any, initializers: Any = None) -> Any:
        small = [one for one in initializers or () if len(one.raw_data) <= _SHAPE_LIKE]
        return whole(node, opset, shapes, dtypes, small)

    tf2onnx.graph.infer_onnx_shape_dtype = light
    try:
        yield
    finally:
        tf2onnx.graph.infer_onnx_shape_dtype = whole


def _put_back(graph: Any, name: str, value: Array) -> None:
    """Make the placeholder of a weight a constant."""
    placeholder = graph.get_node_by_name(name)
    if placeholder is None:
        return
    output = placeholder.output[0]
    dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    graph.remove_node(name)
    node = graph.make_node(
        "Const",
        [],
        name=name,
        outputs=[output],
        attr={"value": onnx.TensorProto(name=output, data_type=dtype, dims=value.shape)},
        skip_conversion=False,
        shapes=[list(value.shape)],
        dtypes=[dtype],
        infer_shape_dtype=False,
    )
    node.get_attr("value").t.raw_data = value.tobytes()  # here, for make_node keeps two copies of it


def _all_translated(graph: Any) -> None:
    """Make sure that no operation of TensorFlow is left: tf2onnx only logs these.

    Raises:
        ModelError: there are some; all are listed.
    """
    left: dict[str, list[str]] = defaultdict(list)
    graph.delete_unused_nodes(graph.outputs)
    for node in _nodes(graph):
        if (
            node.domain == ""
            and not node.is_const()
            and not node.is_graph_input()
            and not onnx.defs.has(node.type, graph.opset)
        ):
            left[node.type].append(node.name)
    if not left:
        return
    raise ModelError(
        f"{'an operation' if len(left) == 1 else f'{len(left)} operations'} of the model can't be written as ONNX: "
        + ", ".join(sorted(left)),
        fix=_REWRITE,
        details=[f"{name}: {len(nodes)} of them, such as '{nodes[0]}'" for name, nodes in sorted(left.items())],
    )


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.get_nodes():
        yield node
        for body in (node.get_body_graphs() or {}).values():
            yield from _nodes(body)
