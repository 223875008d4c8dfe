"""Run one node alone, on operands that are known."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deploykit.tensors import Array

Node = Any

CHANCE = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
)
"""Operators that do not give the same each time."""


def run_alone(node: Node, known: Sequence[Array | None], opset: int) -> list[Array] | None:
    """Give what onnxruntime makes of the operands; None where it can't, or where chance has a part in it."""
    import onnxruntime

    from deploykit.rewrites.inference import name_of_kind

    if node.op_type in CHANCE or any(name_of_kind(one) for one in node.attributes.values()):
        return None
    model = _model(node, known, opset)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = session.run(None, {f"v{at}": one for at, one in enumerate(known) if one is not None})
    except Exception:  # noqa: BLE001 - onnxruntime's errors have no class of their own, and the node just stays
        return None
    return [np.asarray(one) for one in found] if all(isinstance(one, np.ndarray) for one in found) else None


def _model(node: Node, known: Sequence[Array | None], opset: int) -> Any:
    import onnx
    import onnx_ir

    inputs = ["" if one is None else f"v{at}" for at, one in enumerate(known)]
    proto = onnx.NodeProto(op_type=node.op_type, input=inputs, output=[f"o{at}" for at in range(len(node.outputs))])
    for one in node.attributes.values():
        onnx_ir.serde.serialize_attribute_into(proto.attribute.add(), one)
    graph = onnx.GraphProto(node=[proto], name="alone")
    for at, one in enumerate(known):
        if one is not None:
            kind = onnx.helper.np_dtype_to_tensor_dtype(one.dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(f"v{at}", kind, one.shape))
    graph.output.extend(onnx.ValueInfoProto(name=f"o{at}") for at in range(len(node.outputs)))
    imports = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
