"""What TensorRT refuses, found in an ONNX file before anything is built: all of it at once, each with its way out.

TensorRT's parser stops at the first node whose types do not fit, and some of what it does not have it computes as
something else. The rules are those that were measured with TensorRT-RTX 1.7, of which the operators are the same in
onnx-tensorrt's list for 10 and 11.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deploykit.engines.graph import Graph, Node, type_name
from deploykit.nvidia import RTX

ABSENT = frozenset(
    {"AffineGrid", "Bernoulli", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"}
    | {"CenterCropPad", "Col2Im", "Compress", "ConcatFromSequence", "ConvInteger", "CumProd", "DFT", "DeformConv"}
    | {"Det", "DynamicQuantizeLinear", "ImageDecoder", "MatMulInteger", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix"}
    | {"Multinomial", "NegativeLogLikelihoodLoss", "Optional", "OptionalGetElement", "OptionalHasElement"}
    | {"QLinearConv", "QLinearMatMul", "RegexFullMatch", "SequenceAt", "SequenceConstruct", "SequenceEmpty"}
    | {"SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "SoftmaxCrossEntropyLoss"}
    | {"SplitToSequence", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer", "Unique"}
    | {"FlexAttention", "SwiGLU"}
)
"""Operators of the standard that its parser does not have."""
PLUGINS = frozenset({"CausalConvWithState", "LinearAttention", "NonZero", "RoiAlign"})
"""Operators that its parser has, and builds with plugins, which TensorRT-RTX comes without."""
RUNTIMES_OWN = frozenset(
    {"Gelu", "GroupQueryAttention", "MatMulNBits", "MultiHeadAttention", "RotaryEmbedding"}
    | {"SimplifiedLayerNormalization"}
)
"""Operators of com.microsoft that it has."""
_DOMAINS = frozenset({"", "ai.onnx", "trt.plugins"})
TYPES = frozenset(
    {"float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool", "int4", "float4e2m1", "float8e4m3fn"}
)
"""What an engine can take and give."""

_INTEGERS = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"})
_PRODUCTS = frozenset({"MatMul", "Gemm"})
_QUANTIZE = (
    "deploykit build FLOAT.onnx --int8 --data calib.npz, of the model in float32, quantizes as TensorRT takes it"
)
_CONVERT = (
    "convert the source again, or deploykit quantize --fp16 of the model in float32, which casts where types meet"
)


@dataclass(frozen=True)
class Refusal:
    """One thing that can't be built."""

    node: str
    operator: str
    why: str
    fix: str
    module: str = ""
    """Of the source, where the exporter has said it."""

    @property
    def said(self) -> str:
        """Give it in one line."""
        place = f"{self.operator} '{self.node}'" if self.operator else f"'{self.node}'"
        return f"{place}: {self.why}" + (f"; from {self.module}" if self.module else "")


def lint(
    graph: Graph, targets: Sequence[str] = (), *, precision_to_come: bool = False, backend: str = RTX
) -> tuple[Refusal, ...]:
    """Find all that TensorRT would refuse, or compute otherwise.

    Args:
        graph: the file.
        targets: the devices that the engine is for; some have less.
        precision_to_come: whether its types are still to be changed, so that they say nothing.
        backend: ``tensorrt`` or ``tensorrt-rtx``.
    """
    absent = ABSENT | PLUGINS if backend == RTX else ABSENT
    if precision_to_come:
        return tuple(dict.fromkeys((*_ports(graph), *_operators(graph, absent))))
    types = _types(graph)
    found = (
        _ports(graph),
        _operators(graph, absent),
        _quantizers(graph),
        _mixed(graph, types),
        _narrow(graph, targets, types),
    )
    return tuple(dict.fromkeys(refusal for part in found for refusal in part))


def _refused(node: Node, why: str, fix: str) -> Refusal:
    return Refusal(node.name, node.operator, why, fix, node.module)


def _ports(graph: Graph) -> Iterator[Refusal]:
    signature = graph.signature
    for role, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if spec.dtype not in TYPES:
                why = f"the {role} is {spec.dtype}, which TensorRT does not have"
                yield Refusal(spec.name, "", why, "export the model with float32 or int64 in its place")


def _operators(graph: Graph, absent: frozenset[str]) -> Iterator[Refusal]:
    for node in graph.nodes:
        if (node.domain, node.operator) in graph.functions or node.domain in _DOMAINS - {"", "ai.onnx"}:
            continue
        if node.domain in _DOMAINS and node.operator in absent:
            fix = (
                _QUANTIZE if node.operator in _INTEGERS else "write that module with other operators, and convert again"
            )
            yield _refused(node, "TensorRT does not have this operator", fix)
        elif node.domain not in _DOMAINS and not (node.domain == "com.microsoft" and node.operator in RUNTIMES_OWN):
            # Its parser looks at the name alone: mine.Relu would become a Relu.
            why = f"it is of the domain {node.domain}, which TensorRT does not know"
            yield _refused(node, why, "give the file from before it was optimized for another runtime")


def _quantizers(graph: Graph) -> Iterator[Refusal]:
    import onnx

    for node in graph.own:
        if node.operator not in ("QuantizeLinear", "DequantizeLinear") or node.domain not in _DOMAINS:
            continue
        zero = graph.tensors.get(node.inputs[2]) if len(node.inputs) > 2 else None  # noqa: PLR2004 - the third is the zero
        source = graph.tensors.get(node.inputs[0])
        if source is not None and type_name(onnx, source.data_type) == "int32":
            yield _refused(node, "a bias in int32 is dequantized, and TensorRT wants biases in float", _QUANTIZE)
        elif zero is not None and type_name(onnx, zero.data_type) == "uint8":
            # Where the zero point is 0 it takes it for int8, and what is over 127 becomes 127.
            yield _refused(node, "it quantizes to uint8, and TensorRT has int8 alone", _QUANTIZE)
        elif zero is not None and _is_not_zero(zero):
            yield _refused(node, "its zero point is not 0", _QUANTIZE)


def _is_not_zero(tensor: Any) -> bool:
    import onnx

    if not (tensor.raw_data or tensor.int32_data):
        return False  # of a type, or a size, of which nothing was read
    return bool(onnx.numpy_helper.to_array(tensor).astype("float32").any())


def _mixed(graph: Graph, types: dict[str, str]) -> Iterator[Refusal]:
    """Find nodes of which inputs that must have one type have two: the standard says which."""
    import onnx

    opset = next((one.version for one in graph.proto.opset_import if one.domain in ("", "ai.onnx")), 1)
    for node in graph.own:
        if node.domain not in ("", "ai.onnx"):
            continue
        try:
            schema = onnx.defs.get_schema(node.operator, opset, "")
        except onnx.defs.SchemaError:
            continue
        seen: dict[str, str] = {}
        for word, name in zip(_words(schema), node.inputs, strict=False):
            kind = types.get(name)
            if kind is not None and seen.setdefault(word, kind) != kind:
                why = f"{kind} meets {seen[word]} in one operator, which takes one type"
                yield _refused(node, why, _CONVERT)
                break


def _words(schema: Any) -> Iterator[str]:
    """Give the type parameter of each input, the last one's again where it may repeat and is of one type."""
    for one in schema.inputs:
        yield one.type_str
    last = schema.inputs[-1] if schema.inputs else None
    while last is not None and last.option.name == "Variadic" and last.is_homogeneous:
        yield last.type_str


def _narrow(graph: Graph, targets: Sequence[str], types: dict[str, str]) -> Iterator[Refusal]:
    """Find what some device of those asked for does not have."""
    old = [name for name in targets if name in ("sm75", "sm80", "sm86")]
    without = "leave {} out of --for"
    for node in graph.own:
        kinds = {types[name] for name in (*node.inputs, *node.outputs) if name in types}
        if "sm75" in targets and node.operator in _PRODUCTS and "float32" in kinds:
            yield _refused(node, "sm75 has no float32 product of matrices", f"{without.format('sm75')}, or give --fp16")
        elif "sm75" in targets and "bfloat16" in kinds:
            yield _refused(node, "sm75 has no bfloat16", f"{without.format('sm75')}, or give --fp16")
        elif old and any(kind.startswith("float8") for kind in kinds):
            yield _refused(node, f"{', '.join(old)} has no float8", f"{without.format(', '.join(old))}, or give --int8")


def computes_in(graph: Graph, kind: str) -> bool:
    """Say whether any node gives a tensor of a type, but for those that only bring it there."""
    types = _types(graph)
    working = (node for node in graph.own if node.operator not in ("Cast", "Constant"))
    return any(types.get(name) == kind for node in working for name in node.outputs)


def _types(graph: Graph) -> dict[str, str]:
    """Infer the element type of every tensor, by its name; what is not known is not there."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(graph.proto).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        inferred = graph.proto.graph
    named: Iterable[Any] = (*inferred.input, *inferred.value_info, *inferred.output)
    found = {one.name: one.type.tensor_type.elem_type for one in named if one.type.HasField("tensor_type")}
    found |= {name: tensor.data_type for name, tensor in graph.tensors.items()}
    return {name: type_name(onnx, number) for name, number in found.items() if number}
