"""How channels go on through operators: which places of what a node reads belong to which of what it gives.

A rule names links only; an axis that it does not name stays whole (``Slots.spread``). So the axis that a Softmax, a
LayerNormalization or a mean runs over is left as it is: without a part of it the statistics would be others.
"""

import numpy as np

from deploykit.pruning import layers
from deploykit.pruning.reshaping import reshaped
from deploykit.pruning.slots import Rule, Slots
from deploykit.rewrites.evaluation import attribute
from deploykit.rewrites.facts import Node, Value
from deploykit.tensors import Array

_UNARY = (
    *("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus"),
    *("Softsign", "ThresholdedRelu", "Gelu", "Mish", "Swish", "Erf", "Exp", "Log", "Sqrt", "Abs", "Neg", "Sign"),
    *("Reciprocal", "Floor", "Ceil", "Round", "Sin", "Cos", "Identity", "Cast", "Not", "IsNaN", "Dropout"),
)
_BROADCAST = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Mod", "Where", "PRelu", "Clip"),
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor"),
)
_POOLS = ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
_REDUCE = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1", "ReduceSumSquare", "ReduceProd")


def broadcast(node: Node, slots: Slots) -> None:
    """Element by element, axes matched from the last on."""
    for value in node.inputs:
        aligned(value, node.outputs[0], slots)


def aligned(value: Value | None, other: Value, slots: Slots, first: int = 0) -> None:
    """Link two tensors axis by axis from the last on, but for so many of the last."""
    shapes = slots.shape(value), slots.shape(other)
    if shapes[0] is None or shapes[1] is None:
        return
    for back in range(1 + first, min(map(len, shapes)) + 1):  # type: ignore[arg-type]
        slots.link((value, len(shapes[0]) - back), (other, len(shapes[1]) - back))


def but_one_axis(node: Node, slots: Slots) -> None:
    """What runs over one axis, and keeps the others apart."""
    rank = len(slots.shape(node.inputs[0]) or ())
    over = attribute(node, "axis", -1) % max(rank, 1)
    for at in range(rank):
        if at != over:
            slots.link((node.inputs[0], at), (node.outputs[0], at))


def leading(node: Node, slots: Slots) -> None:
    """What runs over all axes from one on, as LayerNormalization does."""
    rank = len(slots.shape(node.inputs[0]) or ())
    for at in range(attribute(node, "axis", -1) % max(rank, 1)):
        slots.link((node.inputs[0], at), (node.outputs[0], at))


def batch_and_channels(node: Node, slots: Slots) -> None:
    """Pooling and Resize: pixels meet, channels do not."""
    scales = slots.facts.constant(node.inputs[2]) if node.op_type == "Resize" and len(node.inputs) > 2 else None  # noqa: PLR2004
    if scales is not None and scales.size > 1 and not np.all(scales[:2] == 1):
        return
    if not node.attributes.get("axes"):
        for value in node.outputs:
            slots.link((node.inputs[0], 0), (value, 0))
            slots.link((node.inputs[0], 1), (value, 1))


def reduced(node: Node, slots: Slots) -> None:
    """Axes that are not summed over."""
    rank = len(slots.shape(node.inputs[0]) or ())
    given = slots.facts.constant(node.inputs[1]) if len(node.inputs) > 1 else attribute(node, "axes", range(rank))
    if given is None:
        return
    over = {int(axis) % max(rank, 1) for axis in np.asarray(given).reshape(-1)} or set(range(rank))
    place = 0
    for at in range(rank):
        if at not in over:
            slots.link((node.inputs[0], at), (node.outputs[0], place))
        place += at not in over or bool(attribute(node, "keepdims", 1))


def shuffled(node: Node, slots: Slots) -> None:
    """DepthToSpace and SpaceToDepth: a channel is that of all pixels of a block."""
    deep, flat = node.inputs[0], node.outputs[0]
    if node.op_type == "SpaceToDepth":
        deep, flat = flat, deep
    slots.link((deep, 0), (flat, 0))
    count, size = slots.size((deep, 1)), slots.size((flat, 1))
    if count and size:
        kept_apart = attribute(node, "mode", "DCR") in ("CRD", b"CRD")
        place = np.arange(count) // (count // size) if kept_apart else np.arange(count) % size
        slots.link((deep, 1), (flat, 1), np.arange(count), place)


def transpose(node: Node, slots: Slots) -> None:
    """Axes in another order."""
    rank = len(slots.shape(node.inputs[0]) or ())
    for to, at in enumerate(attribute(node, "perm", list(range(rank))[::-1])):
        slots.link((node.inputs[0], at), (node.outputs[0], to))


def concat(node: Node, slots: Slots) -> None:
    """One after the other along an axis."""
    _row(node.outputs[0], node.inputs, attribute(node, "axis", 0), slots)


def split(node: Node, slots: Slots) -> None:
    """Parts along an axis."""
    _row(node.inputs[0], node.outputs, attribute(node, "axis", 0), slots)


def _row(whole: Value, parts: list[Value], axis: int, slots: Slots) -> None:
    shapes = [slots.shape(value) for value in (whole, *parts)]
    if any(shape is None for shape in shapes):
        return
    over, start = axis % len(shapes[0] or (0,)), 0
    fixed = all(shape[over] for shape in shapes if shape)
    for part, shape in zip(parts, shapes[1:], strict=True):
        for at, size in enumerate(shape or ()):
            if at != over:
                slots.link((part, at), (whole, at))
            elif fixed:
                slots.link((part, at), (whole, at), np.arange(size), start + np.arange(size))
                start += size


def sliced(node: Node, slots: Slots) -> None:
    """A part without gaps along each axis."""
    value, given = node.inputs[0], [slots.facts.constant(one) for one in node.inputs[1:]]
    shape = slots.shape(value)
    if shape is None or any(one is None for one, at in zip(given, node.inputs[1:], strict=True) if at is not None):
        return
    for at, (start, length, step) in enumerate(ranges(shape, given)):
        if step == 1 and length == slots.size((node.outputs[0], at)):
            slots.link((value, at), (node.outputs[0], at), start + np.arange(length), np.arange(length))


def ranges(shape: tuple[int, ...], given: list[Array | None]) -> list[tuple[int, int, int]]:
    """Give for each axis where a Slice starts, how many it takes, and its step; of sizes not fixed the length is 0."""
    starts, ends, axes, steps = (*given, None, None)[:4]
    assert starts is not None
    assert ends is not None
    found = [(0, size, 1) for size in shape]
    listed = range(len(starts)) if axes is None else axes.tolist()
    for at, start, end, step in zip(
        listed, starts.tolist(), ends.tolist(), [1] * len(starts) if steps is None else steps.tolist(), strict=True
    ):
        taken = range(*slice(start, end, step).indices(shape[at])) if shape[at] else range(0)
        found[at] = (taken.start, len(taken), step)
    return found


def padded(node: Node, slots: Slots) -> None:
    """What is added at the ends are channels too."""
    pads, shape = slots.facts.constant(node.inputs[1]), slots.shape(node.inputs[0])
    whole = len(node.inputs) < 4 or node.inputs[3] is None  # noqa: PLR2004
    constant = attribute(node, "mode", "constant") in ("constant", b"constant")
    if pads is None or shape is None or not (whole and constant):
        return
    for at, (size, before, after) in enumerate(zip(shape, pads[: len(shape)], pads[len(shape) :], strict=True)):
        if size > 1 and min(before, after) >= 0:
            slots.link((node.inputs[0], at), (node.outputs[0], at), np.arange(size), int(before) + np.arange(size))


def gathered(node: Node, slots: Slots) -> None:
    """Rows by constant numbers, and the other axes of a table."""
    value, numbers, output = node.inputs[0], node.inputs[1], node.outputs[0]
    shapes = slots.shape(value), slots.shape(numbers)
    if shapes[0] is None or shapes[1] is None:
        return
    over, wide = attribute(node, "axis", 0) % len(shapes[0]), len(shapes[1])
    for at in range(len(shapes[0])):
        if at != over:
            slots.link((value, at), (output, at if at < over else at + wide - 1))
    known = slots.facts.constant(numbers)
    if known is None:
        for at in range(wide):
            slots.link((numbers, at), (output, over + at))
    elif wide == 1 and slots.size((value, over)):
        slots.link((value, over), (output, over), known % shapes[0][over], np.arange(len(known)))
        slots.link((numbers, 0), (output, over))


def expanded(node: Node, slots: Slots) -> None:
    """Axes that were there already; the others are repeated, and their sizes are numbers."""
    aligned(node.inputs[0], node.outputs[0], slots)


SPREAD: dict[str, Rule] = {
    **dict.fromkeys((*_UNARY, *_BROADCAST), broadcast),
    **dict.fromkeys((*_POOLS, "Resize"), batch_and_channels),
    **dict.fromkeys(_REDUCE, reduced),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), but_one_axis),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), leading),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshaped),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), shuffled),
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": sliced,
    "Pad": padded,
    "Gather": gathered,
    "Expand": expanded,
    **layers.SPREAD,
}
"""The rule of each operator of the standard domain that is known."""
