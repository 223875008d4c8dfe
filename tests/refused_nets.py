"""Graphs that TensorRT refuses, or takes for something else; each named after what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.half_nets import normal

HEAD = '<ir_version: 10, opset_import: ["" : OPSET, "com.microsoft" : 1, "mine" : 1]>\nnet '


def written(folder: Path, text: str, opset: int = 18, **weights: Any) -> Path:
    """Write a graph given from its signature on, and its weights by name."""
    import onnx

    model = onnx.parser.parse_model(HEAD.replace("OPSET", str(opset)) + text)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()
    )
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


@dataclass(frozen=True)
class Refused:
    """One such graph."""

    name: str
    text: str
    nodes: tuple[tuple[str, str], ...]
    """Name and operator of each node that is at fault."""
    word: str
    weights: Mapping[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ("sm89",)
    opset: int = 18
    taken: bool = False
    """Whether TensorRT takes it all the same, and computes something else."""

    def write(self, folder: Path) -> Path:
        return written(folder, self.text, self.opset, **self.weights)


def _quantized(dtype: type, zero: int, weight_zero: int = 0) -> dict[str, Any]:
    weight = np.ones((4, 3, 3, 3), np.int8)
    return {"s": np.float32(0.1), "z": dtype(zero), "w": weight, "wz": np.int8(weight_zero)}


_QDQ = """(float[1,3,8,8] x) => (float[1,4,6,6] y) { q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    v = DequantizeLinear (w, s, wz)
    y = Conv (d, v) }"""
_BIASED = """(float[1,3,8,8] x) => (float[1,4,6,6] y) { q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    v = DequantizeLinear (w, s, wz)
    c = DequantizeLinear (b, s)
    y = Conv (d, v, c) }"""
_PAIR = (("q", "QuantizeLinear"), ("d", "DequantizeLinear"))
_MATMUL = "(float[batch,3] x) => (float[batch,4] y) { y = MatMul (x, w) }"
_WHOLE = np.ones((4, 3, 3, 3), np.int8)
_TENTH: dict[str, Any] = {"s": np.float32(0.1), "z": np.int8(0)}

REFUSED = (
    Refused("absent", "(float[2,2] x) => (float y) { y = Det (x) }", (("y", "Det"),), "does not have this operator"),
    Refused(
        "plugins",
        "(float[2,3] x) => (int64[2,n] y) { a = Relu (x)\n y = NonZero (a) }",
        (("y", "NonZero"),),
        "does not have this operator",
    ),
    Refused(
        "unknown",
        "(float[2,3] x) => (float[2,3] y) { a = mine.Foo (x)\n b = mine.Bar (a)\n y = Relu (b) }",
        (("a", "Foo"), ("b", "Bar")),
        "domain mine",
    ),
    Refused(
        "namesake",
        "(float[2,3] x) => (float[2,3] y) { y = mine.Relu (x) }",
        (("y", "Relu"),),
        "domain mine",
        taken=True,
    ),
    Refused(
        "mixed product", _MATMUL, (("y", "MatMul"),), "float16 meets float32", {"w": normal(3, 4).astype(np.float16)}
    ),
    Refused(
        "mixed sum",
        "(float[2,3] x, float16[2,3] z) => (float[2,3] y) { y = Add (x, z) }",
        (("y", "Add"),),
        "float16 meets float32",
    ),
    Refused("uint8", _QDQ, _PAIR, "uint8", _quantized(np.uint8, 128)),
    Refused("uint8 from zero", _QDQ, _PAIR, "uint8", _quantized(np.uint8, 0), taken=True),
    Refused("asymmetric activation", _QDQ, _PAIR, "zero point is not 0", _quantized(np.int8, 3)),
    Refused("asymmetric weight", _QDQ, (("v", "DequantizeLinear"),), "zero point is not 0", _quantized(np.int8, 0, 3)),
    Refused(
        "bias in integers",
        _BIASED,
        (("c", "DequantizeLinear"),),
        "int32",
        {**_quantized(np.int8, 0), "b": np.ones(4, np.int32)},
    ),
    Refused(
        "QOperator",
        "(int8[1,3,8,8] x) => (int8[1,4,6,6] y) { y = QLinearConv (x, s, z, w, s, z, s, z) }",
        (("y", "QLinearConv"),),
        "does not have this operator",
        {**_TENTH, "w": _WHOLE},
    ),
    Refused(
        "MatMulInteger",
        "(int8[2,3] x) => (int32[2,4] y) { y = MatMulInteger (x, w) }",
        (("y", "MatMulInteger"),),
        "does not have this operator",
        {"w": np.ones((3, 4), np.int8)},
    ),
    Refused(
        "DynamicQuantizeLinear",
        "(float[2,3] x) => (uint8[2,3] y) { y, s, z = DynamicQuantizeLinear (x) }",
        (("y", "DynamicQuantizeLinear"),),
        "does not have this operator",
    ),
    Refused(
        "no float64",
        "(double[2,3] x) => (double[2,3] y) { y = Relu (x) }",
        (("x", ""), ("y", "")),
        "float64",
        taken=True,
    ),
    Refused("no int16", "(int16[2,3] x) => (int16[2,3] y) { y = Add (x, x) }", (("x", ""), ("y", "")), "int16"),
    Refused("float32 product on Turing", _MATMUL, (("y", "MatMul"),), "sm75", {"w": normal(3, 4)}, ("sm75", "sm89")),
    Refused(
        "bfloat16 on Turing",
        "(bfloat16[2,16] x) => (bfloat16[2,16] y) { y = Relu (x) }",
        (("y", "Relu"),),
        "sm75 has no bfloat16",
        targets=("sm75",),
    ),
    Refused(
        "float8 on Ampere",
        "(float[9] x) => (float[9] y) { q = QuantizeLinear <output_dtype = 17> (x, s)\n y = DequantizeLinear (q, s) }",
        (_PAIR[0], ("y", "DequantizeLinear")),
        "sm86 has no float8",
        {"s": np.float32(0.1)},
        ("sm86", "sm89"),
        21,
    ),
)
