"""A TFLite file as it lies on disk: checked, and its tables as Python objects."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from deploykit.child.said import line_of
from deploykit.errors import ModelError, UsageError, nearest

_IDENTIFIER = b"TFL3"
_VERSION = 3
_AGAIN = "copy or download the file again"
_INVENTED = re.compile(r"^(StatefulPartitionedCall|PartitionedCall|Identity)([_:]\d+)*$")


def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if not name.startswith("_")}


_OPERATORS = _names(schema.BuiltinOperator)
_TYPES = _names(schema.TensorType)
QUANTIZED = ("INT8", "UINT8", "INT16")
"""Types of tensors that stand for real numbers where they have a scale."""
SUMS = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_3D"), (0, 2)),
    "TRANSPOSE_CONV": (2, 3),
}
"""Where the values are among the inputs, and the bias; the weights are the second."""


@dataclass(frozen=True)
class Wire:
    """An input or an output: the name that the user knows, and the number of its tensor."""

    name: str
    tensor: int


class TfliteFile:
    """The tables of a file, and which of its graphs is meant."""

    def __init__(self, content: bytes, signature: str | None, path: str) -> None:
        """Take the content of a file that was checked.

        Raises:
            UsageError: the file has no such signature, or several to choose from.
        """
        self.tables = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
        self._to_front(_chosen(self.tables.signatureDefs or [], signature, path))
        self.content = content if self._chosen_is_first else packed(self.tables)
        self.graph = self.tables.subgraphs[0]
        self.inputs, self.outputs = self._wires()

    def _to_front(self, chosen: Any) -> None:
        """Put the graph of the signature first: the interpreter and tf2onnx take the first for the model."""
        self._signature = chosen
        place = chosen.subgraphIndex if chosen is not None else 0
        self._chosen_is_first = place == 0
        if place == 0:
            return
        graphs = self.tables.subgraphs
        graphs[0], graphs[place] = graphs[place], graphs[0]
        for one in self.tables.signatureDefs:
            one.subgraphIndex = {0: place, place: 0}.get(one.subgraphIndex, one.subgraphIndex)
        for graph in graphs:
            for operator in graph.operators:
                _renumber(operator.builtinOptions, place)

    def _wires(self) -> tuple[tuple[Wire, ...], tuple[Wire, ...]]:
        signature = self._signature
        if signature is not None and signature.inputs is not None and signature.outputs is not None:
            inputs = _by_key(signature.inputs, list(self.graph.inputs))
            outputs = _by_key(signature.outputs, list(self.graph.outputs))
        else:
            inputs = [Wire(_plain(self.tensor(one)), one) for one in self.graph.inputs]
            outputs = [Wire(_plain(self.tensor(one)), one) for one in self.graph.outputs]
        made_up = [bool(_INVENTED.match(wire.name)) for wire in outputs]
        outputs = [
            Wire(f"output_{place}" if len(outputs) > 1 else "output", wire.tensor) if odd else wire
            for place, (wire, odd) in enumerate(zip(outputs, made_up, strict=True))
        ]
        inputs = _unlike(inputs, ())
        return tuple(inputs), tuple(_unlike(outputs, [wire.name for wire in inputs]))

    def tensor(self, number: int) -> Any:
        """Give a tensor of the graph."""
        return self.graph.tensors[number]

    def constant(self, number: int) -> Any:
        """Give the bytes of a constant tensor, as a numpy array; None for what is computed."""
        return self.tables.buffers[self.tensor(number).buffer].data if number >= 0 else None

    def operation(self, operator: Any) -> str:
        """Name what an operator does; a custom one by its own name."""
        code = self.tables.operatorCodes[operator.opcodeIndex]
        name = _OPERATORS.get(number := max(code.builtinCode, code.deprecatedBuiltinCode), f"number {number}")
        return code.customCode.decode(errors="replace") if name == "CUSTOM" and code.customCode else name

    def operations(self) -> Counter[str]:
        """Count the operations of all graphs."""
        return Counter(self.operation(one) for graph in self.tables.subgraphs for one in graph.operators)

    def custom(self) -> list[str]:
        """List the operations that are not TFLite's own."""
        return sorted(name for name in self.operations() if name not in _OPERATORS.values())


def read_tflite(path: str, signature: str | None) -> TfliteFile:
    """Read a file that TFLite's own verifier accepts: it checks every offset, so that nothing reads beyond the end.

    Raises:
        ModelError: it is damaged, or of a version that TFLite does not read.
        UsageError: it has no such signature, or several to choose from.
    """
    content = Path(path).read_bytes()
    if content[4:8] != _IDENTIFIER:
        raise ModelError(f"{path} is no TFLite file: it lacks the mark {_IDENTIFIER.decode()}", fix=_AGAIN)
    try:
        tf.lite.Interpreter(model_content=content)
    except ValueError as error:
        raise _unreadable(path, content, error) from error
    return TfliteFile(content, signature, path)


def _unreadable(path: str, content: bytes, error: ValueError) -> ModelError:
    said = str(error)
    if "valid Flatbuffer" in said:
        return ModelError(f"{path} is damaged or cut short: it ends within a table", fix=_AGAIN)
    if "schema version" in said:
        version = schema.Model.GetRootAs(content, 0).Version()
        return ModelError(
            f"{path} is of TFLite's format version {version}; only version {_VERSION} can be read",
            fix="convert the model again with tf.lite.TFLiteConverter",
        )
    return refused(path, error)


def refused(path: str, error: BaseException) -> ModelError:
    """Say that the interpreter of TFLite does not take a file."""
    return ModelError(
        f"TFLite's interpreter (tensorflow {tf.__version__}) does not take {path}: {line_of(error)}",
        fix="run it with the tensorflow that made it (--python), or convert the model again with this one",
    )


def type_of(tensor: Any) -> str:
    """Name a tensor's type as TFLite does: ``FLOAT32``, ``INT8``."""
    return _TYPES.get(tensor.type, f"type {tensor.type}")


def scales_of(tensor: Any) -> list[float]:
    """Give the scales of a quantized tensor, one or one for each channel; none for others."""
    quantization = tensor.quantization
    scale = None if quantization is None else quantization.scale
    return [] if scale is None or type_of(tensor) not in QUANTIZED else [float(one) for one in scale]


def packed(tables: Any) -> bytes:
    """Write tables as a file."""
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(tables.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def threads() -> int:
    """Give the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chosen(signatures: list[Any], asked: str | None, path: str) -> Any:
    by_key = {one.signatureKey.decode(): one for one in signatures if one.signatureKey is not None}
    if asked is not None and asked not in by_key:
        raise UsageError(
            f"{path} has no signature '{asked}'{nearest(asked, by_key)}",
            fix=[f"--signature {key}" for key in by_key] or "leave --signature out: the file names none",
        )
    if len(by_key) < 2 or asked is not None:  # noqa: PLR2004
        return by_key[asked] if asked is not None else next(iter(by_key.values()), None)
    if "serving_default" in by_key:
        return by_key["serving_default"]
    raise UsageError(
        f"{path} has {len(by_key)} signatures: {', '.join(by_key)}", fix=[f"--signature {key}" for key in by_key]
    )


def _renumber(options: Any, place: int) -> None:
    for name, value in vars(options).items() if options is not None else ():
        if name.endswith("ubgraphIndex") or name == "subgraph":
            setattr(options, name, {0: place, place: 0}.get(value, value))


def _by_key(maps: Iterable[Any], order: list[int]) -> list[Wire]:
    """Name tensors by a signature, in the order of the graph: a signature's own order is by the alphabet."""
    wires = [Wire(one.name.decode(), one.tensorIndex) for one in maps]
    return sorted(wires, key=lambda wire: order.index(wire.tensor) if wire.tensor in order else len(order))


def _plain(tensor: Any) -> str:
    """Give the part of a tensor's name that the user chose: the last, where the converter fused several."""
    name = tensor.name.decode(errors="replace").rpartition(";")[2]
    return name.removesuffix(f"_{type_of(tensor).lower()}").removeprefix("serving_default_").removesuffix(":0")


def _unlike(wires: list[Wire], taken: Iterable[str]) -> list[Wire]:
    """Give each wire a name of its own."""
    known = set(taken)
    renamed = []
    for wire in wires:
        name = next(one for one in _versions(wire.name, known) if one not in known)
        known.add(name)
        renamed.append(Wire(name, wire.tensor))
    return renamed


def _versions(name: str, known: set[str]) -> Iterator[str]:
    yield name
    yield f"{name}_out"
    yield from (f"{name}_{number}" for number in range(1, len(known) + 2))
