"""Read a model as quantization needs it: every node has a name of its own, and shapes and types are known.

What has no kernel in integers as it is written, but does as another operator, is written as that. All who look at a
model for quantization read it here, so that names mean the same to all of them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from deploykit.quantization.targets import Target
from deploykit.quantization.weighted import Model, Node, attribute, constant, kept

_OPSET = 13
"""The oldest in which QuantizeLinear has a scale for each channel."""
_IMAGE = 4
"""Axes of a batch of images."""


def read(path: Path, target: Target | None = None) -> Model:
    """Load a model to quantize it; for a target with other operators where that has kernels for them.

    Raises:
        ModelError: it can't be raised to opset 13.
    """
    from onnx_ir.passes.common import InlinePass, ShapeInferencePass

    from deploykit.onnx_io import load, set_versions

    model = load(path)
    if model.functions:
        model = InlinePass()(model).model
    if model.opset_imports.get("", 0) < _OPSET:
        set_versions(model, ir=max(model.ir_version, 7), opset=_OPSET)
    if any(value.shape is None or value.dtype is None for node in model.graph for value in node.outputs if value.name):
        model = ShapeInferencePass()(model).model
    _name(model)
    rewritten = frozenset[str]() if target is None else target.rewritten
    for node in list(model.graph):
        if node.op_type in rewritten and node.domain in ("", "ai.onnx"):
            _REWRITES[node.op_type](model, node)
    return model


def _name(model: Model) -> None:
    """Give every node a name of its own: the report, the search and the user call them by it."""
    own = {node.name for node in model.graph if node.name}
    known = set[str]()
    for number, node in enumerate(model.graph):
        if not node.name or node.name in known:
            name = f"{node.name or node.op_type}_{number}"
            node.name = name if name not in own | known else f"{name}_of_its_own"
        known.add(node.name)


def _mean_to_pool(model: Model, node: Node) -> None:
    """Mean over height and width → GlobalAveragePool, and Flatten where the axes go."""
    import onnx_ir

    value = node.inputs[0]
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    listed = attribute(node, "axes", []) if axes is None else axes.numpy().reshape(-1).tolist()
    if value.shape is None or len(value.shape) != _IMAGE or {axis % _IMAGE for axis in listed} != {2, 3}:
        return
    pool = onnx_ir.node("GlobalAveragePool", [value], name=node.name)
    nodes = [pool]
    if not attribute(node, "keepdims", 1):
        pool.outputs[0].name = f"{node.outputs[0].name}_pooled"
        nodes.append(onnx_ir.node("Flatten", [pool.outputs[0]], {"axis": 1}, name=f"{node.name}_flat"))
    _replace(model, node, nodes)


def _spread_to_conv(model: Model, node: Node) -> None:
    """ConvTranspose whose steps are as wide as its kernel → Conv of one pixel, and DepthToSpace.

    ``y[c, i*k+di, j*k+dj] = sum over n of x[n, i, j] * w[n, c, di, dj]``: no two pixels meet in one.
    """
    import onnx_ir

    weight = constant(node.inputs[1])
    if weight is None or not _is_spread(node, weight.shape):
        return
    array, size = weight.numpy(), weight.shape[2]
    kernel = np.ascontiguousarray(array.transpose(1, 2, 3, 0).reshape(-1, array.shape[0], 1, 1))
    inputs = [node.inputs[0], kept(model, f"{node.name}_weight", kernel)]
    if len(node.inputs) > 2 and node.inputs[2] is not None:  # noqa: PLR2004
        inputs.append(kept(model, f"{node.name}_bias", np.repeat(constant(node.inputs[2]).numpy(), size * size)))
    conv = onnx_ir.node("Conv", inputs, name=node.name)
    conv.outputs[0].name = f"{node.outputs[0].name}_deep"
    about = {"blocksize": size, "mode": "CRD"}
    _replace(model, node, [conv, onnx_ir.node("DepthToSpace", [conv.outputs[0]], about, name=f"{node.name}_spread")])


def _is_spread(node: Node, shape: tuple[int, ...]) -> bool:
    bias = node.inputs[2] if len(node.inputs) > 2 else None  # noqa: PLR2004
    plain = {"group": 1, "auto_pad": "NOTSET", "pads": [0] * 4, "output_padding": [0, 0], "dilations": [1, 1]}
    return (
        len(shape) == _IMAGE
        and shape[2] == shape[3]
        and list(attribute(node, "strides", [1, 1])) == list(shape[2:])
        and "output_shape" not in node.attributes
        and all(_listed(attribute(node, name, usual)) == usual for name, usual in plain.items())
        and (bias is None or constant(bias) is not None)
    )


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _replace(model: Model, node: Node, nodes: list[Node]) -> None:
    import onnx_ir

    for one in nodes:
        one.metadata_props.update(node.metadata_props)
        one.outputs[0].dtype = node.outputs[0].dtype
    nodes[-1].outputs[0].shape = node.outputs[0].shape
    onnx_ir.convenience.replace_nodes_and_values(model.graph, node, [node], nodes, node.outputs, nodes[-1].outputs)


_REWRITES: dict[str, Callable[[Model, Node], None]] = {"ReduceMean": _mean_to_pool, "ConvTranspose": _spread_to_conv}
"""Operators in other words."""
