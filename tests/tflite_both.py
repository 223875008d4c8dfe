"""A TFLite file and the ONNX file that is made of it, side by side."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.child.tensorflow.model import Order, Source
from deploykit.child.tensorflow.tflite.model import load_tflite
from deploykit.tensors import TensorSpec


def load(path: Path, signature: str | None = None) -> Any:
    return load_tflite(Source(str(path), "tflite", signature=signature))


def order(model: Any, target: Path, **options: Any) -> Order:
    specs = [
        TensorSpec(port.name, port.dtype, tuple(f"axis{axis}" if size is None else size for axis, size in sizes))
        for port in model.inputs
        for sizes in [list(enumerate(port.shape))]
    ]
    return Order(str(target), options.pop("opset", 18), tuple(specs), **options)


class Both:
    """A TFLite file and its ONNX file."""

    def __init__(self, path: Path, tmp_path: Path, signature: str | None = None, **options: Any) -> None:
        self.model = load(path, signature)
        import onnx
        import onnxruntime

        target = tmp_path / "made.onnx"
        self.said = self.model.export(order(self.model, target, **options))
        self.proto = onnx.load(target)
        onnx.checker.check_model(self.proto, full_check=True)
        self.counts = Counter(node.op_type for node in self.proto.graph.node)
        self.session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])

    def given(self, batch: int = 3, seed: int = 0) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        found = {}
        for port in self.model.inputs:
            shape = [batch if size is None else size for size in port.shape]
            if port.dtype.startswith("float"):
                found[port.name] = random.standard_normal(shape).astype(port.dtype)
            else:
                limits = np.iinfo(port.dtype)
                found[port.name] = random.integers(limits.min, limits.max, shape, endpoint=True, dtype=port.dtype)
        return found

    def onnx(self, tensors: dict[str, Any]) -> dict[str, Any]:
        names = [value.name for value in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, tensors), strict=True))

    def pairs(self, tensors: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        ours, theirs = self.onnx(tensors), self.model.run(tensors)
        assert list(ours) == list(theirs)
        for name, array in ours.items():
            assert (array.dtype, array.shape) == (theirs[name].dtype, theirs[name].shape)
        return {name: (array.astype(np.float64), theirs[name].astype(np.float64)) for name, array in ours.items()}

    def apart(self, tensors: dict[str, Any]) -> float:
        return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in self.pairs(tensors).values())

    def quanta(self, tensors: dict[str, Any]) -> float:
        sizes = self.model.quanta()
        return max(float(np.abs(a - b).max() / sizes[name]) for name, (a, b) in self.pairs(tensors).items())
