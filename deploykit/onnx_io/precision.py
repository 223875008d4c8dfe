"""What an ONNX model computes in, told by its operators and the types of its weights."""

import re

from deploykit.onnx_io.parse import Model
from deploykit.onnx_io.versions import lineage
from deploykit.onnx_io.weights import weights

_INTEGERS = re.compile(r"QuantizeLinear|QLinear|Integer|^QGemm$|^QAttention$")
_BLOCKS = "MatMulNBits"
_SHARE = 0.5


def precision_of(model: Model) -> str:
    """Say what a model computes in: ``float32``, ``float16``, ``int8``, or ``int4`` for weights in blocks of 4 bits.

    One operator in integers makes it int8: its answers are then those of rounded numbers. One in floats of 16 bits does
    so where half of the weights are of that type.
    """
    kinds = set()
    for node in (node for graph in (model.graph, *model.functions.values()) for node in graph.all_nodes()):
        if node.op_type == _BLOCKS:
            bits = node.attributes["bits"].as_int() if "bits" in node.attributes else 4
            kinds.add("int8" if bits == 8 else "int4")  # noqa: PLR2004
        elif _INTEGERS.search(node.op_type):
            kinds.add("int8")
    if kinds:
        return min(kinds)  # int4 loses more
    if lineage(model).get("precision") == "float16":  # most of its weights may have had to stay
        return "float16"
    sizes: dict[str, int] = {}
    for value in weights(model):
        name = value.dtype.name if value.dtype is not None else ""
        sizes[name] = sizes.get(name, 0) + value.const_value.size
    half = sizes.get("FLOAT16", 0) + sizes.get("BFLOAT16", 0)
    return "float16" if half > _SHARE * sum(sizes.values()) else "float32"
