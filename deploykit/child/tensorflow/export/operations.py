"""Translations of TensorFlow's operations that tf2onnx 1.17 lacks or has wrong; importing this registers them."""

from typing import Any

import numpy as np
import onnx

from deploykit.child.tensorflow.export.formula import Formula, registered, upstream

_DIAGONAL = upstream("MatrixDiagV3")
_BITWISE = 18
_INTS = {onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.INT8, onnx.TensorProto.INT16}


@registered("Erfc")
def _erfc(of: Formula) -> None:
    of.becomes("Sub", of.const(1), of("Erf", of.inputs[0]))


@registered("Expm1")
def _expm1(of: Formula) -> None:
    """Near zero exp(x) - 1 loses its digits: 2t / (1 - t) with t = tanh(x / 2) does not."""
    x = of.inputs[0]
    t = of("Tanh", of("Mul", x, of.const(0.5)))
    near = of("Div", of("Add", t, t), of("Sub", of.const(1), t))
    far = of("Sub", of("Exp", x), of.const(1))
    of.becomes("Where", of("Less", of("Abs", x), of.const(0.5)), near, far)


@registered("Log1p")
def _log1p(of: Formula) -> None:
    """Near zero log(1 + x) loses its digits; the error of u = 1 + x is the same in log(u) and in u - 1 (Kahan)."""
    x = of.inputs[0]
    u = of("Add", x, of.const(1))
    log = of("Log", u)
    rounded = of("Sub", u, of.const(1))
    zero = of("Equal", rounded, of.const(0))
    near = of("Div", of("Mul", x, log), of("Where", zero, of.const(1), rounded))
    middle = of("Less", of("Abs", x), of.const(0.5))
    of.becomes("Where", zero, x, of("Where", middle, near, log))


@registered("Xlogy")
def _xlogy(of: Formula) -> None:
    x, y = of.inputs
    of.becomes("Where", of("Equal", x, of.const(0)), of.const(0), of("Mul", x, of("Log", y)))


@registered("Xdivy")
def _xdivy(of: Formula) -> None:
    x, y = of.inputs
    of.becomes("Where", of("Equal", x, of.const(0)), of.const(0), of("Div", x, y))


@registered("FloorMod")
def _floor_mod(of: Formula) -> None:
    """Upstream takes a - trunc(a / b) * b for integers, which has the sign of a; ONNX's Mod that of b, as here."""
    a, b = of.inputs
    if of.dtype in _INTS:
        of.becomes("Mod", a, b)
    else:
        of.becomes("Sub", a, of("Mul", of("Floor", of("Div", a, b)), b))


@registered("FloorDiv")
def _floor_div(of: Formula) -> None:
    """Upstream takes ONNX's Div for integers, which rounds towards zero and not down."""
    a, b = of.inputs
    if of.dtype in _INTS:
        of.becomes("Div", of("Sub", a, of("Mod", a, b)), b)
    else:
        of.becomes("Floor", of("Div", a, b))


@registered("Bitcast")
def _bitcast(of: Formula) -> None:
    """Only the sign bit can be had, which is all that Keras asks for, in argmax and argmin."""
    x = of.inputs[0]
    users = of.graph.find_output_consumers(of.node.output[0])
    if of.dtype != onnx.TensorProto.FLOAT or not all(map(_takes_sign, users)):
        raise ValueError("ONNX can't give a number's bits")
    negative_zero = of("And", of("Equal", x, of.const(0)), of("Less", of("Reciprocal", x), of.const(0)))
    sign = of("Or", of("Less", x, of.const(0)), negative_zero)
    of.becomes("Where", sign, of.const(-(2**31), np.int32), of.const(0, np.int32))


def _takes_sign(node: Any) -> bool:
    if node.type != "BitwiseAnd":
        return False
    return any(one.is_const() and np.all(one.get_tensor_value(as_list=False) == -(2**31)) for one in node.inputs)


@registered("BitwiseAnd")
def _bitwise_and(of: Formula) -> None:
    """ONNX has it since opset 18; a sign bit, as it is written above, is all that is left of itself."""
    for name, source in zip(of.inputs, of.node.inputs, strict=True):
        if _takes_sign(of.node) and source.type == "Where" and _is_sign(source):
            of.becomes("Identity", name)
            return
    if of.graph.opset < _BITWISE:
        raise ValueError(f"it needs opset {_BITWISE}")
    of.becomes("BitwiseAnd", *of.inputs)


def _is_sign(node: Any) -> bool:
    values = [one.get_tensor_value() if one.is_const() else None for one in node.inputs[1:]]
    return values == [-(2**31), 0]


@registered("MatrixDiagV3")
def _diagonal(of: Formula) -> None:
    """Upstream loses the batch. What Keras and ``tf.linalg.diag`` ask for is the main diagonal, with zeros around."""
    given = [of.value(index) for index in range(1, 5)]
    if [None if one is None else one.item() for one in given if one is None or one.size == 1] != [0, -1, -1, 0]:
        _DIAGONAL(of.graph, of.node)
        return
    x = of.inputs[0]
    size = of("Squeeze", of("Slice", of("Shape", x), *(of.const([one], np.int64) for one in (-1, 2**31 - 1, 0))))
    places = of("Range", of.const(0, np.int64), size, of.const(1, np.int64))
    on = of("Equal", places, of("Unsqueeze", places, of.const([1], np.int64)))
    of.becomes("Where", on, of("Unsqueeze", x, of.const([-1], np.int64)), of.const(0))


@registered("Bucketize")
def _bucketize(of: Formula) -> None:
    boundaries = np.asarray(of.node.get_attr("boundaries").floats, np.float32)
    x = of("Unsqueeze", of("Cast", of.inputs[0], to=onnx.TensorProto.FLOAT), of.const([-1], np.int64))
    below = of("GreaterOrEqual", x, of.const(boundaries, np.float32))
    counted = of("Cast", below, to=onnx.TensorProto.INT32)
    of.becomes("ReduceSum", counted, of.const([-1], np.int64), keepdims=0)


@registered("LowerBound")
def _lower_bound(of: Formula) -> None:
    _bound(of, "Less")


@registered("UpperBound")
def _upper_bound(of: Formula) -> None:
    _bound(of, "LessOrEqual")


def _bound(of: Formula, compare: str) -> None:
    ordered, values = of.inputs
    below = of(
        compare, of("Unsqueeze", ordered, of.const([1], np.int64)), of("Unsqueeze", values, of.const([2], np.int64))
    )
    counted = of("Cast", below, to=of.node.output_dtypes[0])
    of.becomes("ReduceSum", counted, of.const([-1], np.int64), keepdims=0)
