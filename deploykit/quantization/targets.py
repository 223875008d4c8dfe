"""What runtimes do in int8, as data: each target is one row of rules."""

from dataclasses import dataclass

from deploykit.errors import UsageError, nearest
from deploykit.machine import sums_bytes


@dataclass(frozen=True)
class Weighted:
    """An operator with weights: the places of its inputs, and the axis of the weight's output channels."""

    axis: int
    weight: int = 1
    bias: int = 2


WEIGHTED = {"Conv": Weighted(0), "ConvTranspose": Weighted(1), "MatMul": Weighted(1), "Gemm": Weighted(1)}
"""Of Gemm the axis is 0 where its weight is transposed. MatMul has no bias of its own."""

_MOVERS = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Resize", "Identity"}
    | {"Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth"}
)


@dataclass(frozen=True)
class Target:
    """The rules of one runtime."""

    name: str
    says: str
    """In words, for the user."""
    symmetric: bool
    """Whether activations are int8 with zero in the middle; else uint8 with a zero point."""
    weight_levels: int
    """Steps of a weight: 254 for -127 to 127; 126 where products of 8 and 8 bits overflow 16."""
    weighted: frozenset[str]
    """Operators with weights that have kernels in integers."""
    between: frozenset[str]
    """Operators that have such kernels, and are worth it only between others."""
    movers: frozenset[str] = _MOVERS
    """Operators that move integers about as they are."""
    folded: frozenset[str] = frozenset({"Relu", "Clip"})
    """Operators that vanish in the one before."""
    free: frozenset[str] = frozenset({"MatMul", "Gemm"})
    """Operators whose results may be floats where no integers read them."""
    sums_fuse: bool = False
    """Whether an Add is computed with the product before it, whose result is then not rounded between them."""
    bias: bool = True
    """Whether biases are integers too."""
    rewritten: frozenset[str] = frozenset({"ReduceMean"})
    """Operators that have kernels in integers only in the words of another (``reading``)."""
    two_activations: bool = True
    """Whether a product of two activations is taken in integers."""

    @property
    def activation(self) -> str:
        """The type of activations."""
        return "int8" if self.symmetric else "uint8"

    @property
    def activation_levels(self) -> int:
        """Steps of an activation."""
        return 254 if self.symmetric else 255


LAYERS = frozenset(WEIGHTED) | {"LSTM", "GRU", "RNN"}
"""Operators with weights, whether some target has kernels in integers for them or none."""

_CPU_WEIGHTED = frozenset({"Conv", "MatMul", "Gemm"})
_CPU_BETWEEN = frozenset({"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu"})
_CPU_MOVERS = _MOVERS | {"Pad"}
_CPU_REWRITTEN = frozenset({"ReduceMean", "ConvTranspose"})
_ALL_WEIGHTED = _CPU_WEIGHTED | {"ConvTranspose"}
_TENSORRT_BETWEEN = frozenset({"Add", "AveragePool", "GlobalAveragePool"})
_OPENVINO_BETWEEN = frozenset({"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool"})

TARGETS = {
    one.name: one
    for one in (
        Target(
            "cpu",
            "onnxruntime on a CPU with VNNI: uint8 activations, int8 weights",
            symmetric=False,
            weight_levels=254,
            weighted=_CPU_WEIGHTED,
            between=_CPU_BETWEEN,
            movers=_CPU_MOVERS,
            rewritten=_CPU_REWRITTEN,
        ),
        Target(
            "cpu-avx2",
            "onnxruntime on a CPU without VNNI: uint8 activations, weights of 7 bits",
            symmetric=False,
            weight_levels=126,
            weighted=_CPU_WEIGHTED,
            between=_CPU_BETWEEN,
            movers=_CPU_MOVERS,
            rewritten=_CPU_REWRITTEN,
        ),
        Target(
            "tensorrt",
            "TensorRT: int8 with zero in the middle for both, biases in float",
            symmetric=True,
            weight_levels=254,
            weighted=_ALL_WEIGHTED,
            between=_TENSORRT_BETWEEN,
            movers=frozenset(),  # it moves Q and DQ over what only moves values itself
            free=_ALL_WEIGHTED | _TENSORRT_BETWEEN,
            sums_fuse=True,
            bias=False,
        ),
        Target(
            "openvino",
            "OpenVINO on a CPU: uint8 activations, int8 weights, biases in float",
            symmetric=False,
            weight_levels=254,
            weighted=_ALL_WEIGHTED,
            between=_OPENVINO_BETWEEN,
            free=_ALL_WEIGHTED | _OPENVINO_BETWEEN,
            bias=False,
        ),
    )
}


def target_of(name: str) -> Target:
    """Give the rules of a target; ``auto`` reads the CPU.

    Raises:
        UsageError: there is none of that name.
    """
    if name == "auto":
        return TARGETS["cpu" if sums_bytes() else "cpu-avx2"]
    if name not in TARGETS:
        known = ("auto", *TARGETS)
        raise UsageError(f"there is no target '{name}'{nearest(name, known)}", fix=f"--target {', '.join(known)}")
    return TARGETS[name]
