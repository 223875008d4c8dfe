"""How channels go through operators with weights of their own."""

import numpy as np

from deploykit.pruning.slots import Rule, Slots
from deploykit.rewrites.evaluation import attribute
from deploykit.rewrites.facts import Node, Value


def conv(node: Node, slots: Slots) -> None:
    """Conv, and ConvTranspose, whose weight has what comes in first."""
    value, weight, output = node.inputs[0], node.inputs[1], node.outputs[0]
    turned, groups = node.op_type == "ConvTranspose", attribute(node, "group", 1)
    shape = slots.shape(weight)
    slots.link((value, 0), (output, 0))
    if shape is None:
        return
    into, out = (0, 1) if turned else (1, 0)
    if groups == 1:
        slots.link((value, 1), (weight, into))
        slots.link((output, 1), (weight, out))
    else:
        _grouped(node, groups, shape[1], slots)
    if len(node.inputs) > 2 and node.inputs[2] is not None:  # noqa: PLR2004
        slots.link((output, 1), (node.inputs[2], 0))


def _grouped(node: Node, groups: int, inner: int, slots: Slots) -> None:
    """Whole groups go where there are many, as of a depthwise convolution; else the same channels of each group."""
    value, weight, output = node.inputs[0], node.inputs[1], node.outputs[0]
    first, second = ((value, 1), (output, 1)) if node.op_type == "ConvTranspose" else ((output, 1), (value, 1))
    if not (slots.size(first) and slots.size(second)):
        return
    along = np.arange(slots.size(first))  # the first axis of the weight is that of all groups
    slots.link(first, (weight, 0))
    each = len(along) // groups
    if groups > inner:
        slots.link(first, first, along, along // each * each)
        beside = np.arange(slots.size(second)) // (slots.size(second) // groups)
        slots.link(first, second, beside * each, np.arange(len(beside)))
    else:
        slots.link(first, first, along, along % each)
        slots.link(second, (weight, 1), np.arange(slots.size(second)), np.arange(slots.size(second)) % inner)


def gemm(node: Node, slots: Slots) -> None:
    """Rows, what is summed over, and columns."""
    left, right, output = node.inputs[0], node.inputs[1], node.outputs[0]
    rows, columns = attribute(node, "transA", 0), 1 - attribute(node, "transB", 0)
    slots.link((left, rows), (output, 0))
    slots.link((right, columns), (output, 1))
    slots.link((left, 1 - rows), (right, 1 - columns))
    if len(node.inputs) > 2 and node.inputs[2] is not None:  # noqa: PLR2004
        _bias(node.inputs[2], output, slots)


def _bias(bias: Value, output: Value, slots: Slots) -> None:
    shape = slots.shape(bias) or ()
    for at in range(len(shape)):
        slots.link((bias, at), (output, at + 2 - len(shape)))


def matmul(node: Node, slots: Slots) -> None:
    """As Gemm, with axes before, which are matched from the last on."""
    left, right, output = node.inputs[0], node.inputs[1], node.outputs[0]
    ranks = [len(slots.shape(value) or ()) for value in (left, right, output)]
    if min(ranks) < 2:  # noqa: PLR2004
        return
    slots.link((left, ranks[0] - 2), (output, ranks[2] - 2))
    slots.link((right, ranks[1] - 1), (output, ranks[2] - 1))
    slots.link((left, ranks[0] - 1), (right, ranks[1] - 2))
    for value, rank in ((left, ranks[0]), (right, ranks[1])):
        for back in range(3, rank + 1):
            slots.link((value, rank - back), (output, ranks[2] - back))


def channelwise(node: Node, slots: Slots) -> None:
    """BatchNormalization and InstanceNormalization: numbers for each channel."""
    slots.link((node.inputs[0], 0), (node.outputs[0], 0))
    for value in (node.outputs[0], *node.inputs[1:]):
        slots.link((node.inputs[0], 1), (value, 0 if value is not node.outputs[0] else 1))
    for at in range(2, len(slots.shape(node.inputs[0]) or ())):
        if node.op_type == "BatchNormalization":
            slots.link((node.inputs[0], at), (node.outputs[0], at))


def group_norm(node: Node, slots: Slots) -> None:
    """GroupNormalization: a whole group goes, for without a part of it its statistics would be others."""
    value, groups = node.inputs[0], attribute(node, "num_groups", 1)
    count = slots.size((value, 1))
    slots.link((value, 0), (node.outputs[0], 0))
    if groups == 1 or not count or any((slots.shape(one) or (0,))[0] != count for one in node.inputs[1:]):
        return
    along = np.arange(count)
    each = count // groups
    slots.link((value, 1), (value, 1), along, along // each * each)
    for other in (node.outputs[0], *node.inputs[1:]):
        slots.link((value, 1), (other, 1 if other is node.outputs[0] else 0))


def recurrent(node: Node, slots: Slots) -> None:
    """LSTM, GRU and RNN: a unit has a row in each gate, and a column of what it remembers; of both directions."""
    value, weight, again = node.inputs[:3]
    shape = slots.shape(again)
    if shape is None or attribute(node, "layout", 0) or not shape[2]:
        return
    hidden, gates = shape[2], shape[1] // shape[2]
    slots.link((value, 2), (weight, 2))
    slots.link((value, 1), (node.outputs[0], 2))
    unit = np.arange(hidden)
    for axis, blocks in (((weight, 1), gates), ((again, 1), gates), ((_given(node, 3), 1), 2 * gates)):
        if axis[0] is not None:
            for block in range(blocks):
                slots.link((again, 2), axis, unit, block * hidden + unit)
    for block in range(3 if _given(node, 7) is not None else 0):
        slots.link((again, 2), (node.inputs[7], 1), unit, block * hidden + unit)
    states = [one for one in (_given(node, 5), _given(node, 6), *node.outputs[1:]) if one is not None]
    for state in states:
        slots.link((value, 1), (state, 1))
        slots.link((again, 2), (state, 2))
    slots.link((again, 2), (node.outputs[0], 3))


def _given(node: Node, at: int) -> Value | None:
    return node.inputs[at] if at < len(node.inputs) else None


SPREAD: dict[str, Rule] = {
    "Conv": conv,
    "ConvTranspose": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": channelwise,
    "InstanceNormalization": channelwise,
    "GroupNormalization": group_norm,
    "LSTM": recurrent,
    "GRU": recurrent,
    "RNN": recurrent,
}
