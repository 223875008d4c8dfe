"""Where a graph begins and ends: its placeholders, what nothing takes, and what shape goes in."""

import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from deploykit.errors import ModelError, UsageError, nearest

_NO_OUTPUTS = re.compile(r"^(Const|NoOp|Assert|Abort|Placeholder.*|Print.*|.*Summary.*|Save.*|Restore.*|Assign.*)$")
"""Operations that give no answer, though nothing takes what they give."""

_FIRST_ONLY = ("FusedBatchNorm", "LSTMBlockCell", "BlockLSTM")
"""Operations of which the first answer is the one, and the others are for training."""


def tensor_of(graph: Any, name: str, path: str) -> Any:
    """Find a tensor by the name of its operation, or its own: ``conv``, ``conv:0``.

    Raises:
        UsageError: there is none.
    """
    word, _, index = name.partition(":")
    try:
        return graph.get_operation_by_name(word).outputs[int(index or 0)]
    except (KeyError, IndexError, ValueError) as error:
        known = [one.name for one in graph.get_operations()]
        ends = [one.op.name for one in (*placeholders(graph), *sinks(graph))]
        raise UsageError(
            f"{path} has no tensor '{name}'{nearest(word, known)}",
            fix=f"name an operation of it, such as {', '.join(ends[:_SHOWN])}",
        ) from error


_SHOWN = 8


def placeholders(graph: Any) -> list[Any]:
    """List what has to be fed."""
    return [one.outputs[0] for one in graph.get_operations() if one.type == "Placeholder"]


def sinks(graph: Any) -> list[Any]:
    """Find what comes of the placeholders and is taken by nothing."""
    reached = _fed(placeholders(graph))
    ends = []
    for one in graph.get_operations():
        taken = any(tensor.consumers() for tensor in one.outputs)
        if one.name in reached and not taken and not _NO_OUTPUTS.match(one.type) and not _is_pivot(one):
            ends += one.outputs[:1] if one.type.startswith(_FIRST_ONLY) else one.outputs
    return [one for one in ends if one.dtype.is_floating or one.dtype.is_integer or one.dtype.is_bool]


def _is_pivot(one: Any) -> bool:
    """Tell whether an operation is of a branch's inner workings, or guards an assertion."""
    of_switch = one.type == "Identity" and one.inputs[0].op.type == "Switch"
    return of_switch or "/AssertGuard/" in one.name


def _fed(starts: list[Any]) -> set[str]:
    seen: set[str] = set()
    waiting = [one.op for one in starts]
    while waiting:
        for tensor in waiting.pop().outputs:
            new = [one for one in tensor.consumers() if one.name not in seen]
            seen.update(one.name for one in new)
            waiting.extend(new)
    return seen


def needed(starts: list[Any], ends: list[Any], path: str, *, named: bool) -> list[Any]:
    """Give those of the inputs that the outputs depend on."""
    wanted = {one.name for one in starts}
    seen: set[str] = set()
    waiting = list(ends)
    while waiting:
        tensor = waiting.pop()
        if tensor.name in seen:
            continue
        seen.add(tensor.name)
        if tensor.name not in wanted:
            controls = (one.outputs[0] for one in tensor.op.control_inputs if one.outputs)
            waiting.extend([*tensor.op.inputs, *controls])
    more = [one.op.name for one in placeholders(ends[0].graph) if one.name in seen - wanted]
    if more:
        raise UsageError(f"the outputs of {path} need {', '.join(more)} too", fix="name them: --inputs, or further in")
    left = [one for one in starts if one.name not in seen]
    if named and left:
        raise UsageError(f"no output of {path} depends on '{name_of(left[0])}'", fix="leave it out of --inputs")
    if len(left) == len(starts):
        raise ModelError(
            f"the outputs of {path} depend on no placeholder", fix="name what goes in: --inputs OPERATION --outputs ..."
        )
    return [one for one in starts if one.name in seen]


def check_text(starts: list[Any], path: str) -> None:
    """Refuse an input of text.

    Raises:
        ModelError: there is one; with the first tensor of numbers behind it.
    """
    for tensor in starts:
        if tensor.dtype == tf.string:
            after = next((f"  --inputs {name_of(one)}" for one in _numbers_after(tensor)), "")
            raise ModelError(
                f"the input '{name_of(tensor)}' of {path} takes text or bytes, for which ONNX has no operators",
                fix=f"give what comes after the decoding as the input:{after}" if after else "freeze it without",
            )


def _numbers_after(tensor: Any) -> Iterator[Any]:
    waiting, seen = [tensor], set()
    while waiting:
        for op in waiting.pop(0).consumers():
            for one in (one for one in op.outputs if one.name not in seen):
                seen.add(one.name)
                waiting.append(one)
                if one.dtype.is_floating or one.dtype == tf.uint8:
                    yield one


def name_of(tensor: Any) -> str:
    """Give the name of a tensor's operation, with the tensor's number where it is not the first."""
    return tensor.op.name if tensor.value_index == 0 else f"{tensor.op.name}_{tensor.value_index}"


def shape_of(tensor: Any) -> tuple[int | None, ...] | None:
    """Give the shape of an input, or where the graph does not say it, the shape that its weights need."""
    if tensor.shape.rank is not None:
        return tuple(tensor.shape.as_list())
    return next((shape for shape in map(_taken_by, *_takers(tensor)) if shape), None)


def _takers(tensor: Any) -> tuple[list[Any], list[Any]]:
    """Give the operations that take a tensor, looking through what leaves its shape, and what each takes."""
    ops, sources = [], []
    for op in tensor.consumers():
        if op.type in {"Identity", "Cast", "BiasAdd"}:
            further = _takers(op.outputs[0])
            ops += further[0]
            sources += further[1]
        else:
            ops.append(op)
            sources.append(tensor)
    return ops, sources


def _taken_by(op: Any, tensor: Any) -> tuple[int | None, ...] | None:
    """Tell the shape that an operation needs its first input to have, by the shape of its weights."""
    if op.type not in _WEIGHTED or op.inputs[0] is not tensor or op.inputs[1].shape.rank is None:
        return None
    weights = op.inputs[1].shape.as_list()
    if op.type == "MatMul":
        size = weights[1 if op.get_attr("transpose_b") else 0]
        return (size, None) if op.get_attr("transpose_a") else (None, size)
    free = (None,) * (len(weights) - 2)
    if op.get_attr("data_format").startswith(b"NC"):
        return (None, weights[-2], *free)
    return (None, *free, weights[-2])


_WEIGHTED = {"MatMul", "Conv2D", "DepthwiseConv2dNative", "Conv3D"}
