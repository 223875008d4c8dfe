"""What a model file says about itself, read without running it and without the framework that made it."""

import json
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from deploykit import onnx_io, runtimes, workspace
from deploykit.artifact import Artifact, Format
from deploykit.errors import MissingPackage, ModelError, UsageError
from deploykit.sidecar import read_sidecar, told_layers
from deploykit.tensors import Signature, TensorSpec

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators whose precision decides about size and speed."""
WHOLE = {
    "QLinearConv": "Conv",
    "ConvInteger": "Conv",
    "QGemm": "Gemm",
    "QLinearMatMul": "MatMul",
    "MatMulInteger": "MatMul",
    "DynamicQuantizeMatMul": "MatMul",
    "MatMulIntegerToFloat": "MatMul",
    "MatMulNBits": "MatMul",
}
"""Operators that compute in integers themselves, and the float operator that each replaces."""
NOTABLE = 0.01
"""Share of the parameters from which an element type counts for the precision of a model."""

_SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "C64": "complex64",
    "BOOL": "bool",
    **{
        f"{letter}{bits}": f"{name}{bits}" for letter, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
    },
}


@dataclass(frozen=True)
class Inspection:
    """What is known about a model file or folder; what its format does not say is empty or None."""

    format: str
    path: str
    size: int
    """Bytes on disk, external weights among them."""
    sha256: str
    signature: Signature | None = None
    ir_version: int | None = None
    opsets: dict[str, int] = field(default_factory=dict)
    """Version by domain; the standard one is ``ai.onnx``."""
    producer: str = ""
    operators: dict[str, int] = field(default_factory=dict)
    """How often each occurs, commonest first; in subgraphs and functions too."""
    parameters: int | None = None
    precision: str = ""
    lineage: dict[str, str] = field(default_factory=dict)
    onnxruntime: str | None = None
    """The oldest release that loads the file."""
    tensorrt: str | None = None
    """The first release that is known to parse its opset."""
    tensors: tuple[TensorSpec, ...] = ()
    """What a file of weights alone holds."""
    imports: tuple[str, ...] = ()
    """What a pickle would import when it is loaded."""
    golden: Mapping[str, Any] = field(default_factory=dict)
    """What a golden says about itself."""
    engine: Mapping[str, str] = field(default_factory=dict)
    """How an engine was built, for what, and whether it was proved."""
    layers: tuple[str, ...] = ()
    """What the layers of an engine compute in."""
    notes: tuple[str, ...] = ()


def inspect(path: str | Path | None = None) -> Inspection:
    """Say what a model file or folder is, the latest made in this folder if none is named; nothing of it is run.

    Raises:
        UsageError: there is nothing there, or it can't be read.
        ModelError: it is empty, damaged, or of no known format.
    """
    artifact = Artifact.open(path or workspace.latest())
    readers: dict[Format, Callable[[Path], dict[str, Any]]] = {
        Format.ONNX: _onnx,
        Format.GOLDEN: _golden,
        Format.ENGINE: _engine,
        Format.SAFETENSORS: _safetensors,
        Format.TORCH_PICKLE: _pickle,
        Format.STATE_DICT: _pickle,
    }
    known: dict[str, Any] = {"size": artifact.size, "sha256": artifact.sha256()}
    if artifact.format in readers:
        known |= readers[artifact.format](artifact.path)
    return Inspection(format=artifact.format.value, path=str(artifact.path), **known)


def _onnx(path: Path) -> dict[str, Any]:
    import onnx_ir

    model = onnx_io.load(path)
    files = {
        path,
        *(Path(tensor.path) for tensor in _initializers(model) if isinstance(tensor, onnx_ir.ExternalTensor)),
    }
    nodes = list(_nodes(model))
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))
    signature, notes = _signature(model)
    return {
        "size": sum(file.stat().st_size for file in files),
        "signature": signature,
        "ir_version": model.ir_version,
        "opsets": {domain or "ai.onnx": version for domain, version in model.opset_imports.items()},
        "producer": f"{model.producer_name or ''} {model.producer_version or ''}".strip(),
        "operators": dict(Counter(_operator(node) for node in nodes).most_common()),
        "parameters": sum(tensor.size for tensor in _parameters(model, nodes)),
        "precision": _precision(model, nodes),
        "lineage": onnx_io.lineage(model),
        "onnxruntime": runtimes.oldest(model.ir_version, opset),
        "tensorrt": runtimes.oldest_tensorrt(opset),
        "notes": notes,
    }


def _signature(model: Any) -> tuple[Signature | None, tuple[str, ...]]:
    try:
        return onnx_io.signature(model), ()
    except ModelError as error:
        return None, (error.message,)


def _nodes(model: Any) -> Iterator[Any]:
    import onnx_ir

    for graph in (model.graph, *model.functions.values()):
        yield from onnx_ir.traversal.RecursiveGraphIterator(graph)


def _operator(node: Any) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else str(node.op_type)


def _initializers(model: Any) -> Iterator[Any]:
    for graph in model.graphs():
        yield from (value.const_value for value in graph.initializers.values() if value.const_value is not None)


def _parameters(model: Any, nodes: list[Any]) -> Iterator[Any]:
    """Every tensor of more than one element that the file holds: initializers and constants."""
    import onnx_ir

    yield from (tensor for tensor in _initializers(model) if tensor.size > 1)
    for node in nodes:
        for attribute in node.attributes.values():
            if attribute.type == onnx_ir.AttributeType.TENSOR and not attribute.is_ref() and attribute.value.size > 1:
                yield attribute.value


def _precision(model: Any, nodes: list[Any]) -> str:
    heavy = [node for node in nodes if node.op_type in HEAVY or node.op_type in WHOLE]
    found = [_quantization(node) for node in heavy]
    kinds = [kind for kind in dict.fromkeys(found) if kind]
    if not kinds:
        return _float_precision(model, nodes)
    return " + ".join(f"{kind} ({_share(heavy, found, kind)})" for kind in kinds)


def _float_precision(model: Any, nodes: list[Any]) -> str:
    sizes: Counter[str] = Counter()
    for tensor in _parameters(model, nodes):
        sizes[_dtype(tensor)] += tensor.size
    if not sizes:
        return " + ".join(dict.fromkeys(_dtype(value) for value in model.graph.inputs if value.dtype is not None))
    return " + ".join(name for name, size in sizes.most_common() if size >= NOTABLE * sizes.total())


def _dtype(tensor: Any) -> str:
    name = tensor.dtype.name.lower()
    return {"float": "float32", "double": "float64"}.get(name, str(name))


def _quantization(node: Any) -> str:
    """Say how a heavy operator is quantized, as ``int8 QDQ``, or give nothing."""
    if node.op_type == "MatMulNBits":
        return f"int{node.attributes['bits'].as_int() if 'bits' in node.attributes else 4} weight-only"
    if node.op_type in WHOLE:
        return "int8 dynamic" if "Integer" in node.op_type or "Dynamic" in node.op_type else "int8 QOperator"
    if len(node.inputs) < 2:  # noqa: PLR2004 - a function's call may leave inputs out
        return ""
    activation, weight = (_dequantizes(value) for value in node.inputs[:2])
    if not weight:
        return ""
    return f"{weight} QDQ" if activation else f"{weight} weight-only"


def _dequantizes(value: Any) -> str:
    """Give the type that a value is dequantized from, without the sign: int8 for uint8 too; or nothing."""
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in ("Transpose", "Reshape", "Cast"):
        node = node.inputs[0].producer()
    if node is None or node.op_type != "DequantizeLinear":
        return ""
    types = (source.dtype for source in (node.inputs[0], *node.inputs[2:3]) if source is not None)
    return next((dtype.name.lower().removeprefix("u") for dtype in types if dtype is not None), "int8")


def _share(heavy: list[Any], found: list[str], kind: str) -> str:
    names = [WHOLE.get(node.op_type, node.op_type) for node in heavy]
    done = Counter(name for name, how in zip(names, found, strict=True) if how == kind)
    return ", ".join(f"{done[name]} of {total} {name}" for name, total in Counter(names).most_common())


def _engine(path: Path) -> dict[str, Any]:
    """Read the sidecar: an engine says nothing of itself. Where a device is, TensorRT's inspector is asked too."""
    try:
        known = read_sidecar(path)
    except UsageError as error:
        return {"notes": (error.message,)}
    profiles = {
        name: ", ".join("x".join(map(str, shape)) for shape in shapes) for name, shapes in known.profiles.items()
    }
    built = {
        "backend": known.backend,
        "targets": ", ".join(known.targets) or "not named",
        **{f"{name} version": version for name, version in known.versions.items()},
        **{f"profile of {name}": text for name, text in profiles.items()},
        **{name: str(value) for name, value in known.options.items()},
        **{part: f"{one.name}, sha256 {one.sha256}" for part, one in (("onnx", known.onnx), ("golden", known.golden))},
        **{name: str(value) for name, value in known.proof.items()},
    }
    return {
        "signature": known.signature,
        "producer": f"{known.backend} {known.versions.get(known.backend, '')}".strip(),
        "precision": known.precision,
        "lineage": dict(known.lineage),
        "engine": built,
        "layers": told_layers(known.precision, known.layers),
        "notes": _inspected(path),
    }


def _inspected(path: Path) -> tuple[str, ...]:
    from deploykit.backends import Asked
    from deploykit.backends.tensorrt import TensorRT

    try:
        with TensorRT().load(Artifact(path, Format.ENGINE), Asked()) as session:
            return (f"TensorRT's inspector: {session.layers()}",)
    except MissingPackage as error:
        return (error.message,)


def _golden(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {"golden": json.loads(archive.read("golden.json"))}
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ModelError(
            f"{path} can't be read as a golden: it is damaged or cut short",
            details=(str(error),),
            fix="convert the source again, which writes it anew",
        ) from error


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, path.stat().st_size)))
        about = header.pop("__metadata__", {})
        tensors = tuple(
            TensorSpec(name, _SAFETENSORS.get(entry["dtype"], entry["dtype"].lower()), tuple(entry["shape"]))
            for name, entry in header.items()
        )
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} can't be read as safetensors: its header is damaged",
            details=(str(error),),
            fix="copy or download it again, and compare its size with the original",
        ) from error
    sizes: Counter[str] = Counter()
    for spec in tensors:
        sizes[spec.dtype] += prod(int(dim) for dim in spec.dims)
    return {
        "tensors": tensors,
        "parameters": sizes.total(),
        "precision": " + ".join(name for name, size in sizes.most_common() if size >= NOTABLE * sizes.total()),
        "producer": str(about.get("format", "")),
    }


def _pickle(path: Path) -> dict[str, Any]:
    from deploykit.pickles import pickle_globals

    return {"imports": pickle_globals(path)}
