"""What an ONNX model computes in, told by its operators and the types of its weights."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from deploykit.onnx_io.parse import Model
from deploykit.onnx_io.read import every_node
from deploykit.onnx_io.versions import lineage
from deploykit.onnx_io.weights import weights

_INTEGERS = re.compile(r"QuantizeLinear|QLinear|Integer|^QGemm$|^QAttention$")
BLOCKS = "MatMulNBits"
_HALVES = ("float16", "bfloat16")
_SHARE = 0.5


def judged_as(model: Model) -> str:
    """Say by whose bounds a model is judged: ``pruned`` where channels or weights were taken from it, and no bits."""
    precision = precision_of(model)
    return "pruned" if "pruned" in lineage(model) and not precision.startswith("int") else precision


def precision_of(model: Model) -> str:
    """Say what a model computes in: ``float32``, ``float16``, ``bfloat16``, ``int8``, or ``int4`` for blocks of 4 bits.

    One operator in integers makes it int8: its answers are then those of rounded numbers. One in floats of 16 bits does
    so where half of the weights are of that type.
    """
    sizes: dict[str, int] = {}
    for value in weights(model):
        name = value.dtype.name if value.dtype is not None else ""
        sizes[name] = sizes.get(name, 0) + value.const_value.size
    return told_by(((node.op_type, _bits(node)) for node in every_node(model)), lineage(model).get("precision"), sizes)


def told_by(operators: Iterable[tuple[str, int]], said: str | None, sizes: Mapping[str, int]) -> str:
    """Say what a model computes in, by its parts.

    Args:
        operators: name of each, and of ``MatMulNBits`` how many bits.
        said: what its lineage calls its precision.
        sizes: how many weights it has of each type, by ONNX's name.
    """
    kinds = set()
    for name, bits in operators:
        if name == BLOCKS:
            kinds.add("int8" if bits == 8 else "int4")  # noqa: PLR2004
        elif _INTEGERS.search(name):
            kinds.add("int8")
    if kinds:
        return min(kinds)  # int4 loses more
    if said in _HALVES:  # most of its weights may have had to stay
        return said
    half = {name: sizes.get(name.upper(), 0) for name in _HALVES}
    return max(half, key=half.__getitem__) if sum(half.values()) > _SHARE * sum(sizes.values()) else "float32"


def _bits(node: Any) -> int:
    return node.attributes["bits"].as_int() if node.op_type == BLOCKS and "bits" in node.attributes else 4
