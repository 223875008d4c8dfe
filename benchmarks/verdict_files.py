"""ONNX files made of others that compute the same: optimized, rewritten, renamed, in half precision."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np


def copied(source: Path, target: Path) -> None:
    """Copy the file as it is."""
    shutil.copy(source, target)


def converted(source: Path, opset: int, target: Path) -> None:
    """Change the opset with onnx's converter."""
    import onnx
    from onnx import version_converter

    onnx.save(version_converter.convert_version(onnx.load(source), opset), target)


def optimized(source: Path, level: str, target: Path) -> None:
    """Have onnxruntime optimize it, and keep what came out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def halved(source: Path, block: tuple[str, ...], target: Path) -> None:
    """Compute in float16, inputs and outputs as they were, with the converter that onnxruntime ships."""
    import onnx
    from onnxruntime.transformers import float16

    kept = [*float16.DEFAULT_OP_BLOCK_LIST, *block]
    made = float16.convert_float_to_float16(onnx.load(source), keep_io_types=True, op_block_list=kept)
    onnx.save(made, target)


BLOCKED: tuple[tuple[str, ...], ...] = (
    (),
    ("Softmax", "LayerNormalization", "InstanceNormalization", "LogSoftmax", "BatchNormalization"),
)
"""Operators that stay in float32, beside those that the converter leaves so."""


def stored(source: Path, target: Path) -> None:
    """Keep the weights in float16, and compute in float32."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims:
            own, half = tensor.name, f"{tensor.name}.half"
            array = numpy_helper.to_array(tensor).clip(-65504, 65504).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(array, half))
            casts.append(helper.make_node("Cast", [half], [own], to=onnx.TensorProto.FLOAT))
    _replace(model.graph.node, [*casts, *model.graph.node])
    onnx.save(model, target)


def inferred(source: Path, target: Path) -> None:
    """Write the shapes of all values into it."""
    import onnx

    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(source), data_prop=True), target)


def folded(source: Path, target: Path) -> None:
    """Have onnxscript fold constants and rewrite the rest."""
    import onnx
    import onnxscript.optimizer

    onnx.save(onnxscript.optimizer.optimize(onnx.load(source)), target)


def external(source: Path, target: Path) -> None:
    """Keep the weights in a file beside it, but for the small ones, which say shapes."""
    import onnx

    beside = f"{target.name}.data"
    target.with_name(beside).unlink(missing_ok=True)  # onnx appends
    onnx.save(onnx.load(source), target, save_as_external_data=True, location=beside, size_threshold=1024)


def renamed(source: Path, target: Path) -> None:
    """Give every weight and every value inside another name."""
    import onnx

    model = onnx.load(source)
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    for tensor in graph.initializer:
        tensor.name = f"w_{tensor.name}"
    names = {tensor.name.removeprefix("w_"): tensor.name for tensor in graph.initializer}
    for node in graph.node:
        node.name = f"n_{node.name}"
        for number, name in enumerate(node.input):
            node.input[number] = name if name in kept else names.get(name, f"v_{name}")
        for number, name in enumerate(node.output):
            node.output[number] = name if name in kept else f"v_{name}"
    del graph.value_info[:]
    onnx.save(model, target)


def reordered(source: Path, target: Path) -> None:
    """Put the nodes in another order that is as good, and the weights too."""
    import onnx

    model = onnx.load(source)
    rng = np.random.default_rng(0)
    left, ordered = list(model.graph.node), []
    while left:
        waited = {name for node in left for name in node.output}
        free = [number for number, node in enumerate(left) if not waited.intersection(node.input)]
        ordered.append(left.pop(free[rng.integers(len(free))]))
    tensors = [model.graph.initializer[index] for index in rng.permutation(len(model.graph.initializer))]
    _replace(model.graph.node, ordered)
    _replace(model.graph.initializer, tensors)
    onnx.save(model, target)


def _replace(field: Any, parts: list[Any]) -> None:
    copies = [type(part).FromString(part.SerializeToString()) for part in parts]
    del field[:]
    field.extend(copies)


def as_constants(source: Path, target: Path) -> None:
    """Keep the weights in Constant nodes."""
    import onnx
    from onnx import helper

    model = onnx.load(source)
    made = [helper.make_node("Constant", [], [one.name], value=one) for one in model.graph.initializer]
    del model.graph.initializer[:]
    _replace(model.graph.node, [*made, *model.graph.node])
    onnx.save(model, target)


CHANGES = (inferred, folded, external, renamed, reordered, as_constants)
