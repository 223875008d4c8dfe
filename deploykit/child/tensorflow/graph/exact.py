"""A frozen graph in float64 arithmetic, and one moved by one unit in the last place: two ways to the noise floor."""

import functools
import re
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import function_def_to_graph, kernels, op_def_registry

from deploykit.child.said import said
from deploykit.child.tensorflow.graph.cutting import copied, pruned
from deploykit.child.tensorflow.graph.expressions import EXPRESSED, expression
from deploykit.child.tensorflow.model import Frozen
from deploykit.errors import ModelError
from deploykit.tensors import Array, Tensors

_REAL = {types_pb2.DT_FLOAT, types_pb2.DT_HALF, types_pb2.DT_BFLOAT16}
_DOUBLE = types_pb2.DT_DOUBLE
_WIDER = {**dict.fromkeys(_REAL, _DOUBLE), types_pb2.DT_COMPLEX64: types_pb2.DT_COMPLEX128}
_REAL_NAMES = {"float16", "bfloat16", "float32", "float64"}

_BY_BITS = re.compile(r"Quant|Random|Multinomial|Normal$|NormalV2$|Bitcast|DecodeRaw|Rng")
"""Operations whose numbers depend on the element type itself: in float64 they would be others, and no more exact."""

_LIMIT = 2**31 - 1
"""Bytes that a protobuf message can have."""


def in_float64(frozen: Frozen) -> Frozen:
    """Give the same graph in float64, with the same weights.

    What has no float64 kernel is expressed by what has one. Attributes that are numbers, such as an epsilon, keep
    the value that the source computes with.

    Raises:
        ModelError: some part of it can't be had in float64.
    """
    graph_def = copied(pruned(frozen.graph_def, frozen.outputs.values(), frozen.inputs.values()))
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    for node in (node for body in bodies for node in body):
        if _BY_BITS.search(node.op):
            raise _no_float64(node.op, node.name)
        _widen(node.attr)
    for function in graph_def.library.function:
        _widen_declaration(function)
    _carry_flows(graph_def)
    _express(graph_def)
    _check(graph_def)
    return replace(frozen, graph_def=graph_def, weights={name: _wide(one) for name, one in frozen.weights.items()})


_ALIGNMENT = 64
"""Bytes: an array that begins at a multiple of this is fed to a session as it lies, any other is copied at each run."""


def _wide(array: Array) -> Array:
    room = np.empty(array.size * 8 + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    wide = room[start : start + array.size * 8].view(np.float64).reshape(array.shape)
    np.copyto(wide, array)
    return wide


def _no_float64(op: str, name: str) -> ModelError:
    return ModelError(
        f"{op} ({name}) can't be computed in float64", fix="none is needed: the noise floor is found another way"
    )


def _widen(attributes: Any) -> None:
    for name in list(attributes):
        attribute = attributes[name]
        if attribute.type in _WIDER:
            attribute.type = _WIDER[attribute.type]
        elif attribute.HasField("tensor") and attribute.tensor.dtype in _WIDER:
            wider = tf.as_dtype(_WIDER[attribute.tensor.dtype]).as_numpy_dtype
            exact = tf.make_ndarray(attribute.tensor).astype(wider)
            attribute.tensor.CopyFrom(tf.make_tensor_proto(exact))
        elif attribute.HasField("list"):
            attribute.list.type[:] = [_WIDER.get(kind, kind) for kind in attribute.list.type]
        for function in (attribute.func, *attribute.list.func):
            _widen(function.attr)


def _widen_declaration(function: Any) -> None:
    for argument in (*function.signature.input_arg, *function.signature.output_arg):
        argument.type = _WIDER.get(argument.type, argument.type)
    for attributes in (function.attr, *(one.attr for one in function.arg_attr.values())):
        _widen(attributes)


def _carry_flows(graph_def: Any) -> None:
    """Keep the flow of a TensorArray, an empty float32 that only orders its reads and writes, what it must be."""
    casts, moved = [], {}
    for node in (node for node in graph_def.node if node.op.startswith("TensorArray")):
        definition = op_def_registry.get(node.op)
        for index, argument in enumerate(definition.input_arg):
            if argument.type == types_pb2.DT_FLOAT:
                casts.append(_cast(f"{node.name}/flow_in_float32", node.input[index], _DOUBLE, types_pb2.DT_FLOAT))
                node.input[index] = casts[-1].name
        for index, argument in enumerate(definition.output_arg):
            if argument.type == types_pb2.DT_FLOAT:
                source = f"{node.name}:{index}" if index else node.name
                casts.append(_cast(f"{node.name}/flow_float64", source, types_pb2.DT_FLOAT, _DOUBLE))
                moved[source] = casts[-1].name
    for node in (*graph_def.node, *(cast for cast in casts if cast.name.endswith("flow_in_float32"))):
        for index, source in enumerate(node.input):
            node.input[index] = moved.get(source, source)
    graph_def.node.extend(casts)


def _cast(name: str, source: str, before: int, after: int) -> Any:
    node = tf.compat.v1.NodeDef(name=name, op="Cast", input=[source])
    node.attr["SrcT"].type, node.attr["DstT"].type = before, after
    return node


def _express(graph_def: Any) -> None:
    """Put a call of an equal function in the place of each operation that has no float64 kernel."""
    made: dict[bytes, Any] = {}
    for node in graph_def.node:
        _call_instead(node, made)
    for function in graph_def.library.function:
        replaced = {node.name for node in function.node_def if _call_instead(node, made)}
        _rename(function, replaced)
    graph_def.library.function.extend(made.values())


def _call_instead(node: Any, made: dict[bytes, Any]) -> bool:
    if node.op not in EXPRESSED:
        return False
    definition = op_def_registry.get(node.op)
    attributes = _attributes(node, definition)
    call = expression(node.op, attributes)
    if call is None:
        return False
    kinds = [argument.type or _kind(node, argument.type_attr) for argument in definition.input_arg]
    key = repr((node.op, sorted(attributes.items()), kinds)).encode()
    if key not in made:
        # Traced with names for the sizes, so that one function does for every shape.
        specs = [tf.TensorSpec(None, tf.as_dtype(kind)) for kind in kinds]
        made[key] = tf.function(call, autograph=False).get_concrete_function(*specs).function_def
    name, inputs = node.name, list(node.input)
    node.Clear()
    node.name, node.op = name, "PartitionedCall"
    node.input.extend(inputs)
    node.attr["Tin"].list.type.extend(kinds)
    node.attr["Tout"].list.type.extend([_DOUBLE])
    node.attr["f"].func.name = made[key].signature.name
    return True


def _rename(function: Any, replaced: set[str]) -> None:
    """Call the answers of the operations that were replaced what a call's answers are called."""

    def renamed(source: str) -> str:
        name, colon, _ = source.partition(":")
        return f"{name}:output:0" if colon and name in replaced else source

    for node in function.node_def:
        node.input[:] = [renamed(source) for source in node.input]
    for key in list(function.ret):
        function.ret[key] = renamed(function.ret[key])


def _kind(node: Any, name: str) -> int:
    return int(node.attr[name].type)


def _attributes(node: Any, definition: Any) -> dict[str, Any]:
    """Give what an operation is told, but for element types, with what is left out at its default."""
    given = {}
    for attribute in definition.attr:
        value = node.attr.get(attribute.name, attribute.default_value)
        match value.WhichOneof("value"):
            case "s":
                given[attribute.name] = value.s.decode()
            case "b" | "i" | "f" as kind:
                given[attribute.name] = getattr(value, kind)
            case "list" if attribute.type == "list(int)":
                given[attribute.name] = list(value.list.i)
    return given


def _check(graph_def: Any) -> None:
    """Make sure that nothing is left in less than float64, and that all of it can run."""
    if graph_def.ByteSize() > _LIMIT:
        raise ModelError(
            "the weights in float64 are larger than a GraphDef can be",
            fix="none is needed: the noise floor is found another way",
        )
    for node in (*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)):
        definition = op_def_registry.get(node.op)
        if definition is not None and not _runs_in_float64(node, definition):
            raise _no_float64(node.op, node.name)
    try:
        with tf.Graph().as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
            for function in graph_def.library.function:
                function_def_to_graph.function_def_to_graph(function)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise ModelError(
            f"the graph can't be had in float64: {said(error)}",
            fix="none is needed: the noise floor is found another way",
        ) from error


def _runs_in_float64(node: Any, definition: Any) -> bool:
    if not node.op.startswith("TensorArray") and any(one.type in _WIDER for one in definition.output_arg):
        return False
    registered = _registered(node.op)
    return not registered or any(_fits(kernel, node, definition) for kernel in registered)


@functools.cache
def _registered(op: str) -> tuple[Any, ...]:
    return tuple(one for one in kernels.get_registered_kernels_for_op(op).kernel if one.device_type == "CPU")


def _fits(kernel: Any, node: Any, definition: Any) -> bool:
    defaults = {attribute.name: attribute.default_value.type for attribute in definition.attr}
    return all(
        (node.attr[one.name].type if one.name in node.attr else defaults[one.name]) in one.allowed_values.list.type
        for one in kernel.constraint
    )


def moved(frozen: Frozen, seed: int) -> Frozen:
    """Give the graph with every real weight at a neighbouring number of its dtype, up or down by chance.

    Weights have axes; a number without any is part of a formula, such as the limit of a range, and stays.
    """
    graph_def = copied(frozen.graph_def)
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    for node in (node for body in bodies for node in body):
        tensor = node.attr["value"].tensor if node.op == "Const" else None
        if tensor is not None and tensor.dtype in {*_REAL, _DOUBLE} and tensor.tensor_shape.dim:
            near = _neighbours(tf.make_ndarray(tensor), seed + zlib.crc32(node.name.encode()))
            tensor.CopyFrom(tf.make_tensor_proto(near))
    weights = {name: _neighbours(array, seed + zlib.crc32(name.encode())) for name, array in frozen.weights.items()}
    return replace(frozen, graph_def=graph_def, weights=weights)


def moved_inputs(tensors: Tensors, seed: int) -> Tensors:
    """Give arrays with every real value at a neighbouring number of its dtype, up or down by chance."""
    return {name: _neighbours(array, seed + zlib.crc32(name.encode())) for name, array in tensors.items()}


def _neighbours(array: Array, seed: int) -> Array:
    """Move what is real and finite and stays so; zeros stay."""
    if str(array.dtype) not in _REAL_NAMES:
        return array
    up = np.random.default_rng(seed % 2**31).random(array.shape) < 0.5  # noqa: PLR2004
    with np.errstate(all="ignore"):
        near = np.nextafter(array, np.where(up, np.inf, -np.inf).astype(array.dtype))
        return np.where((array == 0) | ~np.isfinite(array) | ~np.isfinite(near), array, near)
