"""Write a TFLite file as ONNX through tf2onnx, under the names that the user knows."""

import copy
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
from tf2onnx import handler, optimizer, tf_loader, tfonnx

import deploykit.child.tensorflow.export.operations
import deploykit.child.tensorflow.tflite.operations  # noqa: F401 - these register translations with tf2onnx
from deploykit.child.tensorflow.export.failures import explained
from deploykit.child.tensorflow.export.layout import LayoutOptimizer
from deploykit.child.tensorflow.export.naming import describe_inputs, drop_unused_domains, rename_ports
from deploykit.child.tensorflow.export.to_onnx import HIGHEST_OPSET, LOWEST_OPSET
from deploykit.child.tensorflow.model import Order
from deploykit.child.tensorflow.tflite.file import TfliteFile, packed
from deploykit.child.tensorflow.tflite.quantized import as_tflite_rounds
from deploykit.child.tensorflow.tflite.tables import for_tf2onnx
from deploykit.errors import ModelError, UsageError

_REWRITE = "replace it in the model, or end the graph before it and compute the rest outside"
_ONE_FILE = 1_900_000_000


def export_tflite(file: TfliteFile, order: Order) -> list[str]:
    """Write a TFLite file as ONNX, at the opset asked for or the highest that tf2onnx writes.

    Returns:
        What the user should know of it.

    Raises:
        ModelError: an operation has no translation, or the opset is too old.
        UsageError: an axis that the file fixes is to be dynamic.
    """
    if order.opset < LOWEST_OPSET:
        raise ModelError(
            f"TFLite files can't be written at opset {order.opset}",
            fix=f"take opset {LOWEST_OPSET} or newer: --opset {LOWEST_OPSET}",
        )
    _must_fit(file, order)
    opset = min(order.opset, HIGHEST_OPSET)
    _must_be_known(file, opset)
    tables = for_tf2onnx(file, order)
    proto = _translated(tables, [wire.tensor for wire in file.inputs if wire.name in order.nchw], opset)
    as_tflite_rounds(proto)
    _connect(proto, tables, file)
    describe_inputs(proto, order)
    drop_unused_domains(proto)
    _write(proto, Path(order.target))
    return []


def _must_fit(file: TfliteFile, order: Order) -> None:
    tensors = {wire.name: file.tensor(wire.tensor) for wire in file.inputs}
    for spec in order.inputs:
        signature = tensors[spec.name].shapeSignature
        sizes = tensors[spec.name].shape if signature is None else signature
        for axis, (dim, size) in enumerate(zip(spec.dims, () if sizes is None else sizes, strict=True)):
            if size >= 0 and dim != size:
                raise UsageError(
                    f"axis {axis} of '{spec.name}' has {size} in the TFLite file, and can't become {dim}",
                    fix="convert the model to TFLite again with this axis free (None)",
                )


def _must_be_known(file: TfliteFile, opset: int) -> None:
    """Make sure that every operation has a translation.

    Raises:
        ModelError: some have none; all are listed.
    """
    tensorflow = handler.tf_op.create_mapping(opset, None)
    known = {*handler.tfl_op.create_tfl_to_tf_mapping(), *tensorflow}
    left = {
        name: count
        for name, count in file.operations().items()
        if f"TFL_{name}" not in known and not (name.startswith("Flex") and name[4:] in tensorflow)
    }
    if left:
        raise _untranslated(left)


def _untranslated(left: dict[str, int]) -> ModelError:
    names = [name.removeprefix("TFL_") for name in left]
    return ModelError(
        f"{'an operation' if len(left) == 1 else f'{len(left)} operations'} of the TFLite file can't be written as "
        f"ONNX: {', '.join(sorted(names))}",
        fix=_REWRITE,
        details=[f"{name}: {left[name]} of them" for name in sorted(left)],
    )


def _translated(tables: Any, nchw: list[int], opset: int) -> Any:
    names = [tables.subgraphs[0].tensors[one].name.decode() for one in nchw]
    with tempfile.TemporaryDirectory() as folder, explained("the TFLite file", "{} at '{}'", _REWRITE):
        path = Path(folder) / "model.tflite"
        path.write_bytes(packed(tables))
        tf_loader.clear_functions()
        graph = tfonnx.process_tf_graph(None, opset=opset, tflite_path=str(path), inputs_as_nchw=names)
        graph.delete_unused_nodes(graph.outputs)
        _all_translated(graph)
        stages = {**optimizer._get_optimizers(), "optimize_transpose": LayoutOptimizer}  # noqa: SLF001
        return optimizer.optimize_graph(graph, catch_errors=False, optimizers=stages).make_model("")


def _all_translated(graph: Any) -> None:
    left = Counter(
        node.type
        for node in graph.get_nodes()
        if node.domain == "" and not node.is_const() and not node.is_graph_input() and not onnx.defs.has(node.type)
    )
    if left:
        raise _untranslated(left)


def _connect(proto: Any, tables: Any, file: TfliteFile) -> None:
    """Name inputs and outputs; an output that is another one too, or an input, gets an Identity of its own."""
    graph, place = proto.graph, tables.subgraphs[0]
    made = {value.name: value for value in (*graph.input, *graph.output)}
    inputs = [made[place.tensors[wire.tensor].name.decode()] for wire in file.inputs]
    outputs, used = [], {value.name for value in inputs}
    for wire in file.outputs:
        value = copy.deepcopy(made[place.tensors[wire.tensor].name.decode()])
        if value.name in used:
            graph.node.add(op_type="Identity", input=[value.name], output=[f"{value.name}/{wire.name}"])
            value.name = f"{value.name}/{wire.name}"
        used.add(value.name)
        outputs.append(value)
    inputs = [copy.deepcopy(value) for value in inputs]
    del graph.input[:], graph.output[:]
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    rename_ports(proto, [wire.name for wire in file.inputs], [wire.name for wire in file.outputs])


def _write(proto: Any, target: Path) -> None:
    external = proto.ByteSize() > _ONE_FILE
    location = f"{target.name}.data"
    onnx.save_model(proto, target, save_as_external_data=external, location=location if external else None)
