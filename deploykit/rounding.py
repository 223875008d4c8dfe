"""The two floats of 16 bits, and graphs that compute as a machine with such floats does.

onnxruntime's CPU kernels for float16 are few: it computes the rest in float32 and leaves out the roundings between, and
for bfloat16 it has next to none. What overflows on a GPU looks right there. ``emulate`` makes a graph for it in which
each tensor of 16 bits is one of 32 that was rounded to 16.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Half:
    """A float of 16 bits."""

    name: str
    """As numpy and deploykit call it."""
    largest: float
    normal: float
    """The smallest number of full precision."""
    least: float
    """The smallest number over zero."""
    digits: int
    """Of its significand, with the one before the point."""

    @property
    def unit(self) -> float:
        """What rounding does to a number at most, in relation to it."""
        return float(2.0**-self.digits)

    @property
    def type(self) -> Any:
        """Its ``onnx_ir.DataType``."""
        import onnx_ir

        return onnx_ir.DataType[self.name.upper()]


FLOAT16 = Half("float16", 65504.0, 2.0**-14, 2.0**-24, 11)
BFLOAT16 = Half("bfloat16", 3.3895313892515355e38, 2.0**-126, 2.0**-133, 8)
HALVES = {half.name: half for half in (FLOAT16, BFLOAT16)}

MOVES = frozenset(
    [
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "Pad",
        "Reshape",
        "ReverseSequence",
        "ScatterElements",
        "ScatterND",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
"""Operators that give the numbers that they take."""
_EXACT = MOVES | frozenset(
    ["Abs", "Clip", "GlobalMaxPool", "Max", "MaxPool", "Min", "Neg", "ReduceMax", "ReduceMin", "Relu", "Sign", "Where"]
)
"""Operators that round nothing, where what they take is rounded."""


def emulate(model: Any) -> None:
    """Make a graph, in place, in which every tensor of 16 bits is one of 32 that was rounded to 16.

    Its inputs and outputs become float32, its weights stay as they are. Sums within one operator are taken in float32,
    as GPUs do.
    """
    kinds = {half.type: half for half in HALVES.values()}
    for graph in list(model.graphs()):
        for node in list(graph):
            _emulate_node(graph, node, kinds)
        _emulate_ports(graph, kinds)


def _emulate_node(graph: Any, node: Any, kinds: dict[Any, Half]) -> None:
    import onnx_ir

    for output in node.outputs:
        half = kinds.get(output.dtype)
        if half is None:
            continue
        _widen_value_attribute(node)
        if node.op_type not in ("Cast", "Constant"):  # what these give is as an attribute says
            output.dtype = onnx_ir.DataType.FLOAT
            if node.op_type in _EXACT:
                continue
            rounded = _cast(graph, node, output, half.type)
            wide = _cast(graph, rounded.producer(), rounded, onnx_ir.DataType.FLOAT)
        else:
            rounded, wide = output, _cast(graph, node, output, onnx_ir.DataType.FLOAT)
        _take_over(output, wide, but={rounded.producer(), wide.producer()})


def _widen_value_attribute(node: Any) -> None:
    """Let a ConstantOfShape give float32."""
    import numpy as np
    import onnx_ir

    if node.op_type == "ConstantOfShape":
        value = node.attributes["value"].value.numpy().astype(np.float32)
        node.attributes["value"] = onnx_ir.AttrTensor("value", onnx_ir.tensor(value))


def _emulate_ports(graph: Any, kinds: dict[Any, Half]) -> None:
    """Widen what comes in and what the weights are; inputs become float32 themselves and are rounded then."""
    import onnx_ir

    place = {node: number for number, node in enumerate(graph)}
    for value in (*graph.inputs, *graph.initializers.values()):
        half = kinds.get(value.dtype)
        if half is None or not place:
            continue
        # Where it is read: widened at the start, all weights would be there at once.
        users = [user for user, _ in value.uses() if user in place]
        first = min(users or place, key=place.__getitem__)
        own = value
        if value in graph.inputs:
            value.dtype = onnx_ir.DataType.FLOAT
            own = _cast(graph, first, value, half.type, before=True)
        wide = _cast(graph, first, own, onnx_ir.DataType.FLOAT, before=True)
        _take_over(value, wide, but={wide.producer(), own.producer()})


def _cast(graph: Any, node: Any, value: Any, to: Any, *, before: bool = False) -> Any:
    import onnx_ir

    made = onnx_ir.Node("", "Cast", [value], [onnx_ir.AttrInt64("to", int(to))], num_outputs=1)
    made.outputs[0].dtype, made.outputs[0].shape = to, value.shape
    (graph.insert_before if before else graph.insert_after)(node, made)
    return made.outputs[0]


def _take_over(old: Any, new: Any, but: set[Any]) -> None:
    """Let all nodes but some read another value; outputs of a graph stay what they are."""
    for user, place in tuple(old.uses()):
        if user not in but:
            user.replace_input_with(place, new)


def rounded_types(model: Any) -> Iterator[Half]:
    """Give the floats of 16 bits that a model has weights or results in."""
    found = {value.dtype for graph in model.graphs() for value in graph.initializers.values()}
    found |= {value.dtype for graph in model.graphs() for node in graph for value in node.outputs}
    return (half for half in HALVES.values() if half.type in found)
