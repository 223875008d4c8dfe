"""Write what onnxruntime gets wrong, or ONNX no longer has, in another way."""

from typing import Any

import numpy as np
from tf2onnx import utils

_WITH_SCALES = 3
_PAD_VALUE = 2
_NEVER_BELOW_ZERO = {"Relu", "Sigmoid", "Softmax", "Exp", "Abs"}


def guard_padded_pools(graph: Any) -> None:
    """Write the zeros that pad the input of a MaxPool as minus zeros.

    onnxruntime (seen in 1.31) moves a Pad into the MaxPool after it, where padding counts as minus infinity: where all
    else is negative, as before the first activation of ResNet50V2, the zero was the maximum. It leaves a minus zero be.
    """
    for node in list(graph.get_nodes()):
        if node.type != "MaxPool" or node.inputs[0] is None or node.inputs[0].type != "Pad":
            continue
        pad = node.inputs[0]
        if pad.get_attr_value("mode", b"constant") != b"constant" or pad.inputs[0].type in _NEVER_BELOW_ZERO:
            continue
        dtype = utils.map_onnx_to_numpy_type(graph.get_dtype(pad.input[0]))
        value = pad.inputs[2] if len(pad.input) > _PAD_VALUE else None
        given = value.get_tensor_value(as_list=False) if value is not None else None
        if np.issubdtype(dtype, np.floating) and (given is None or not given.any()):
            minus_zero = graph.make_const(utils.make_name("minus_zero"), np.array(-0.0, dtype)).output[0]
            graph.replace_inputs(pad, [*pad.input[:_PAD_VALUE], minus_zero, *pad.input[_PAD_VALUE + 1 :]])


def modern_resizes(graph: Any) -> None:
    """Write a mode of Resize that ONNX dropped with opset 13, and tf2onnx still uses, as the one that does the same.

    Both take the pixel at ``floor((x + 0.5) / scale)``.
    """
    for node in graph.get_nodes():
        if node.get_attr_value("coordinate_transformation_mode") == b"tf_half_pixel_for_nn":
            node.set_attr("coordinate_transformation_mode", "half_pixel")
            node.set_attr("nearest_mode", "round_prefer_ceil")


def whole_sizes(graph: Any) -> None:
    """Make sure that a resizing by a factor gives the size that was meant.

    ONNX rounds the product of size and factor down, in float32 or, where it infers shapes, in float64: 11 times 13/11
    is 12 in the one, 12 times 20/12 is 19 in the other.
    """
    for node in graph.get_nodes():
        scales = node.inputs[2] if node.type == "Resize" and len(node.input) == _WITH_SCALES else None
        sizes = graph.get_shape(node.input[0]) if scales is not None and scales.is_const() else None
        if sizes is None or scales is None:
            continue
        factors = scales.get_tensor_value(as_list=False).copy()
        for axis, size in enumerate(sizes):
            while size > 0 and size * float(factors[axis]) < np.rint(size * float(factors[axis])):
                factors[axis] = np.nextafter(factors[axis], np.float32(np.inf))
        changed = graph.make_const(utils.make_name("scales"), factors).output[0]
        graph.replace_inputs(node, [*node.input[:2], changed])
