"""What the layers of an engine compute in, read from the line of the builder's log that begins ``Layers:``.

Its layout is not documented: what does not match is given as unknown, and never guessed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BEGINNING = "Layers:"
UNKNOWN = "unknown"

_TYPES = {
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Int8": "int8",
    "FP8": "fp8",
    "Int4": "int4",
    "FP4": "fp4",
}
_NARROW = ("fp4", "int4", "fp8", "int8", "bfloat16", "float16", "float32")
"""From the narrowest on."""
_ROW = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]+), Inputs: \[(?P<inputs>.*?)\], Constants: ")
_TYPE = re.compile(r"Datatype: (\w+)")
_ONNX = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_AROUND = frozenset({"kgen", "shuffle", "reformat", "signal", "wait"})
"""Layers in which TensorRT puts what lies before and behind a product, such as its quantizing."""


@dataclass(frozen=True)
class Row:
    """One layer of an engine."""

    kind: str
    types: tuple[str, ...]
    """Of its inputs."""
    nodes: frozenset[str]
    """Names of the ONNX nodes that it is made of."""


def rows_of(text: str) -> tuple[Row, ...] | None:
    """Read the layers from the builder's message; None where it is not laid out as is known."""
    lines = [line for line in text.splitlines() if line.startswith("Name: ")]
    found = [_ROW.match(line) for line in lines]
    if not lines or not all(found):
        return None
    return tuple(
        Row(match["kind"], tuple(_TYPES.get(one, one) for one in _TYPE.findall(match["inputs"])),
            frozenset(_ONNX.findall(line.rpartition("Metadata: ")[2])))
        for match, line in zip(found, lines, strict=True) if match is not None
    )  # fmt: skip


def precisions(text: str, nodes: Iterable[str]) -> dict[str, str]:
    """Say what became of some ONNX nodes.

    Args:
        text: the builder's message.
        nodes: names of nodes that multiply: Conv, MatMul, Gemm.

    Returns:
        What each computes in, ``int8``; ``unknown`` where the engine does not say.
    """
    rows = rows_of(text) or ()
    by_node: dict[str, list[Row]] = {}
    for row in rows:
        for name in row.nodes:
            by_node.setdefault(name, []).append(row)
    return {name: _precision(by_node.get(name, [])) for name in nodes}


def _precision(rows: list[Row]) -> str:
    """Give the type that goes into the layer that multiplies; of layers around it alone, what they agree on."""
    own = [row for row in rows if row.kind not in _AROUND]
    found = {_narrowest(row.types) for row in own or rows} - {""}
    return found.pop() if len(found) == 1 else UNKNOWN


def _narrowest(types: Iterable[str]) -> str:
    return min((one for one in types if one in _NARROW), key=_NARROW.index, default="")


def counted(precisions: Mapping[str, str]) -> dict[str, int]:
    """Count how many nodes compute in each type."""
    counts: dict[str, int] = {}
    for one in precisions.values():
        counts[one] = counts.get(one, 0) + 1
    return counts
