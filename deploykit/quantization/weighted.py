"""Nodes with weights: which of them a target can compute in integers, and why not the others."""

from collections.abc import Callable, Collection
from typing import Any

from deploykit.quantization.targets import LAYERS, WEIGHTED, Target
from deploykit.tensors import Array

# onnx_ir is imported where it is used, so its types are Any in this package.
Node = Any
Value = Any
Model = Any


def constant(value: Value) -> Any:
    """Give the constant tensor behind a value, or None."""
    import onnx_ir

    return None if value is None else onnx_ir.convenience.get_const_tensor(value)


def kept(model: Model, name: str, array: Array) -> Value:
    """Add a constant to a graph; one of that name that is the same already is given again, for weights are shared."""
    import onnx_ir

    known = model.graph.initializers
    while name in known:
        if _is_same(known[name].const_value.numpy(), array):
            return known[name]
        name += "_too"
    value = onnx_ir.Value(name=name, const_value=onnx_ir.tensor(array, name=name))
    value.shape, value.dtype = value.const_value.shape, value.const_value.dtype
    model.graph.register_initializer(value)
    return value


def _is_same(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def is_turned(node: Node) -> bool:
    """Tell whether the weight of a product is [outputs, inputs]: a Gemm may have it so."""
    return node.op_type == "Gemm" and bool(attribute(node, "transB", 0))


def is_float(value: Value) -> bool:
    """Tell whether a value is float32, or of a type that the model does not say."""
    import onnx_ir

    return value is not None and value.dtype in (onnx_ir.DataType.FLOAT, None)


def hindrance(node: Node, target: Target) -> str:
    """Say why a node with weights can't be computed in integers; nothing where it can."""
    why = next((words for words, applies in _HINDRANCES if applies(node, target)), "")
    return why.format(target=target.name, op=node.op_type)


def sorted_out(
    model: Model, why_not: Callable[[Node], str], excluded: Collection[str]
) -> tuple[list[Node], dict[str, str]]:
    """Part the nodes with weights into those that are rounded and, by name, why others are not.

    Args:
        model: the graph.
        why_not: says why a node can't be; nothing where it can.
        excluded: names of nodes that are in neither.
    """
    found, left = list[Node](), dict[str, str]()
    for node in model.graph:
        if node.op_type not in LAYERS or node.domain not in ("", "ai.onnx"):
            continue
        why = why_not(node)
        if why:
            left[node.name] = why
        elif node.name not in excluded:
            found.append(node)
    return found, left


def product_hindrance(node: Node, target: Target, least: int) -> str:
    """Say why a MatMul or Gemm can't be rounded by its weight alone, of so many values at least."""
    if constant(node.inputs[1]) is None:
        return "its weight is computed"
    return hindrance(node, target) or ("" if constant(node.inputs[1]).size >= least else "it is too small to gain")


def put_in_place(model: Model, node: Node, nodes: list[Node], main: Node) -> None:
    """Put nodes in the place of a product, and of an LSTM; its bias is added, and one of them has its metadata."""
    import onnx_ir

    if node.op_type == "Gemm" and bias_of(node) is not None:
        nodes = [*nodes, onnx_ir.node("Add", [nodes[-1].outputs[0], node.inputs[2]])]
    main.metadata_props.update(node.metadata_props)
    onnx_ir.convenience.replace_nodes_and_values(
        model.graph, node, [node], nodes, node.outputs, nodes[-1].outputs[: len(node.outputs)]
    )


def bias_of(node: Node) -> int | None:
    """Give the place of a node's bias, or None."""
    place = WEIGHTED[node.op_type].bias
    return place if len(node.inputs) > place and node.inputs[place] is not None else None


def _weight_of(node: Node) -> Any:
    return constant(node.inputs[WEIGHTED[node.op_type].weight])


_HINDRANCES: tuple[tuple[str, Callable[[Node, Target], bool]], ...] = (
    ("{target} has no kernel in integers for {op}", lambda node, target: node.op_type not in target.weighted),
    (
        "it is not in float32",
        lambda node, _: not all(map(is_float, (node.inputs[0], node.inputs[1], node.outputs[0]))),
    ),
    (
        "its weight is computed",
        lambda node, target: _weight_of(node) is None and not (node.op_type == "MatMul" and target.two_activations),
    ),
    ("its first operand is constant", lambda node, _: constant(node.inputs[0]) is not None),
    (
        "its alpha, beta or transA is another than usual",
        lambda node, _: node.op_type == "Gemm" and not _is_plain(node),
    ),
    (
        "its weight has more than two axes",
        lambda node, _: node.op_type == "MatMul" and _weight_of(node) is not None and len(_weight_of(node).shape) > 2,  # noqa: PLR2004
    ),
    (
        "its bias is computed",
        lambda node, _: (place := bias_of(node)) is not None and constant(node.inputs[place]) is None,
    ),
)
"""Why a node with weights stays in float: words, and whether they apply."""


def _is_plain(node: Node) -> bool:
    return (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0), attribute(node, "transA", 0)) == (1, 1, 0)


def attribute(node: Node, name: str, usual: Any) -> Any:
    """Give an attribute of a node, or what it usually is."""
    return node.attributes[name].value if name in node.attributes else usual
