"""Functions that are spelled out, in the form that onnxruntime and TensorRT fuse best."""

import math
from typing import Any

import numpy as np

from deploykit.rewrites.evaluation import attribute, axes_of
from deploykit.rewrites.rewrite import rewrite
from deploykit.rewrites.scope import Scope

Node = Any
Value = Any

_HAS_GELU = 20
_HAS_LAYER_NORM = 17


@rewrite("gelus", "Mul")
def gelus(node: Node, scope: Scope) -> bool:
    """x * (0.5 * (1 + erf(x / sqrt 2))) -> gelu(x), before opset 20 -> 0.5 * (x * (1 + erf(x / sqrt 2))).

    Hendrycks and Gimpel 2016, arXiv:1606.08415. onnxruntime fuses the second form, and not the first (1.31,
    gelu_fusion.cc); halving is exact in both.
    """  # noqa: D403
    for x, grown in _factors(node, scope):
        if _is_grown(grown, x, scope):
            return _to_gelu(node, x, grown, scope)
    return False


def _factors(node: Node, scope: Scope) -> list[tuple[Value, Value]]:
    """Give the pairs (x, 1 + erf) whose product, with one half, a node may be: in whatever order it is computed."""
    found = []
    for at in (0, 1):
        inner = scope.made_by(node.inputs[1 - at], "Mul")
        if inner is None or not scope.sole(inner.outputs[0]):
            continue
        one, other = inner.inputs
        if _is_number(node.inputs[at], 0.5, scope):
            found += [(one, other), (other, one)]
        halved = [factor for factor, half in ((one, other), (other, one)) if _is_number(half, 0.5, scope)]
        found += [pair for factor in halved for pair in ((node.inputs[at], factor), (factor, node.inputs[at]))]
    return found


def _is_grown(value: Value, x: Value, scope: Scope) -> bool:
    """Whether a value is 1 + erf(x / sqrt 2)."""
    add = scope.made_by(value, "Add")
    pairs = [] if add is None else [tuple(add.inputs), tuple(add.inputs)[::-1]]
    erf = next((scope.made_by(one, "Erf") for one, other in pairs if _is_number(other, 1.0, scope)), None)
    inner = None if erf is None else scope.made_by(erf.inputs[0], "Div", "Mul")
    if inner is None or x not in inner.inputs:
        return False
    other = inner.inputs[1] if inner.inputs[0] is x else inner.inputs[0]
    if inner.op_type == "Div":
        return inner.inputs[0] is x and _is_number(other, math.sqrt(2), scope)
    return _is_number(other, math.sqrt(0.5), scope)


def _is_number(value: Value, number: float, scope: Scope) -> bool:
    known = scope.constant(value)
    near = 1e-3 if known is not None and known.dtype == np.float16 else 1e-6
    return (
        known is not None and known.size == 1 and known.ndim <= 1 and math.isclose(known.item(), number, rel_tol=near)
    )


def _to_gelu(node: Node, x: Value, grown: Value, scope: Scope) -> bool:
    if scope.opset >= _HAS_GELU:
        return scope.replace(node.outputs[0], scope.add(node, "Gelu", [x]))
    if _halves(node, scope):
        return False  # it has that form
    inner = next(one for value in node.inputs if (one := scope.made_by(value, "Mul")) and _halves(one, scope))
    half = next(one for one in inner.inputs if _is_number(one, 0.5, scope))
    product = scope.add(node, "Mul", [x, grown])
    return scope.replace(node.outputs[0], scope.add(node, "Mul", [product, half]))


def _halves(node: Node, scope: Scope) -> bool:
    return any(_is_number(one, 0.5, scope) for one in node.inputs)


@rewrite("layer-norms", "Add")
def layer_norms(node: Node, scope: Scope) -> bool:
    """(x - mean) / sqrt(variance + e) * w + b over the last axis -> layer_normalization(x, w, b).

    Ba et al. 2016, arXiv:1607.06450.
    """
    if scope.opset < _HAS_LAYER_NORM:
        return False
    scaled, bias = _with_weight(node, "Mul", scope)
    divided, weight = _with_weight(scaled, "Div", scope)
    found = None if divided is None else _normalized(divided, scope)
    if found is None or scope.facts.dtype(weight).name != "FLOAT" or not scope.facts.same_shape(weight, bias):
        return False
    x, epsilon = found
    shape = scope.shape(x)
    if shape is None or shape[-1:] != scope.shape(weight):
        return False
    made = scope.add(node, "LayerNormalization", [x, weight, bias], {"axis": -1, "epsilon": epsilon})
    return scope.replace(node.outputs[0], made)


def _with_weight(node: Node | None, op: str, scope: Scope) -> tuple[Node | None, Value]:
    """Give the node behind one operand, and the other, which is a weight along the last axis."""
    if node is None:
        return None, None
    for at in (0, 1):
        known = scope.constant(node.inputs[at])
        inner = scope.made_by(node.inputs[1 - at], op)
        if known is not None and known.ndim == 1 and inner is not None and scope.sole(inner.outputs[0]):
            return inner, node.inputs[at]
    return None, None


def _normalized(divide: Node, scope: Scope) -> tuple[Value, float] | None:
    """Give what a division makes of mean 0 and variance 1, and what it adds to the variance."""
    centred, deviation = scope.made_by(divide.inputs[0], "Sub"), scope.made_by(divide.inputs[1], "Sqrt")
    padded = None if deviation is None else scope.made_by(deviation.inputs[0], "Add")
    if centred is None or padded is None:
        return None
    x = centred.inputs[0]
    for at in (0, 1):
        epsilon, variance = scope.constant(padded.inputs[at]), scope.made_by(padded.inputs[1 - at], "ReduceMean")
        if epsilon is None or epsilon.size != 1 or variance is None or not _over_last(variance, scope):
            continue
        mean = scope.made_by(centred.inputs[1], "ReduceMean")
        squared = _is_square(variance.inputs[0], centred.outputs[0], scope)
        if squared and mean is not None and mean.inputs[0] is x and _over_last(mean, scope):
            return x, float(epsilon.item())
    return None


def _over_last(node: Node, scope: Scope) -> bool:
    axes = axes_of(node, [None if value is None else scope.constant(value) for value in node.inputs])
    rank = scope.facts.rank(node.inputs[0])
    return axes is not None and rank is not None and axes in ([-1], [rank - 1]) and attribute(node, "keepdims", 1) == 1


def _is_square(value: Value, of: Value, scope: Scope) -> bool:
    node = scope.made_by(value, "Pow", "Mul")
    if node is None or node.inputs[0] is not of:
        return False
    return node.inputs[1] is of if node.op_type == "Mul" else _is_number(node.inputs[1], 2.0, scope)


REWRITES = (gelus, layer_norms)
