"""A small ONNX model of two layers, a published one, and whether two files give the same answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.tensors import Tensors

SILERO = Path(__file__).parents[1].parent / "shared" / "data" / "vad" / "silero_vad.onnx"
needs_silero = pytest.mark.skipif(not SILERO.exists(), reason="shared/data/vad/silero_vad.onnx is not here")


def dense(opset: int = 20, ir: int = 10, **extra: Any) -> Any:
    """MatMul and Add with weights of 4 kB and 128 bytes, a batch of its own, and a default value for the bias."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(32, 32)).astype(np.float32), "weight"),
        numpy_helper.from_array(rng.normal(size=32).astype(np.float32), "bias"),
    ]
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["h"]), helper.make_node("Add", ["h", "bias"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", None, 32])
    bias = helper.make_tensor_value_info("bias", TensorProto.FLOAT, [32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", None, 32])
    graph = helper.make_graph(nodes, "dense", [x, bias], [y], weights)
    return helper.make_model(graph, ir_version=ir, opset_imports=[helper.make_opsetid("", opset)], **extra)


def written(folder: Path, proto: Any, *, external: bool = False) -> Path:
    """Write a model with onnx itself; its weights into ``weights.bin`` if they are to be external."""
    import onnx

    path = folder / "model.onnx"
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 1024} if external else {}
    onnx.save(proto, str(path), **options)
    return path


def layers(folder: Path, name: str, count: int, width: int = 64, batch: int | str = "batch") -> Path:
    """Write a net of so many square layers; the weights of many lie beside it."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(0, width**-0.5, (width, width)).astype(np.float32), f"w{layer}")
        for layer in range(count)
    ]
    nodes = [
        helper.make_node("MatMul", [f"h{layer}" if layer else "x", f"w{layer}"], [f"h{layer + 1}"])
        for layer in range(count)
    ]
    ports = [helper.make_tensor_value_info(port, TensorProto.FLOAT, [batch, width]) for port in ("x", f"h{count}")]
    graph = helper.make_graph(nodes, name, ports[:1], ports[1:], weights)
    path = folder / f"{name}.onnx"
    proto: Any = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    external = {"save_as_external_data": True, "location": f"{name}.data", "size_threshold": 0} if count > 8 else {}
    save(proto, str(path), **external)
    return path


def run(path: Path, feed: Tensors) -> list[Any]:
    import onnxruntime

    return list(onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed))


def feed() -> Tensors:
    return {"x": np.random.default_rng(1).normal(size=(2, 3, 32)).astype(np.float32)}


def silero_feed() -> Tensors:
    sound = np.random.default_rng(0).normal(size=(1, 512)).astype(np.float32)
    return {"input": sound, "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16000, np.int64)}


def same(reference: Path, candidate: Path, tensors: Tensors) -> bool:
    pairs = zip(run(reference, tensors), run(candidate, tensors), strict=True)
    return all(np.array_equal(first, second) for first, second in pairs)
