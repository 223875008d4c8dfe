"""Nets of the size of ResNet-50, MobileNetV2, ViT-B and BERT-base, written as ONNX in float32, float16 or int8.

Their weights are random. A golden of one call lies beside each, so that nothing has to be run before it is built.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.artifact import sha256
from deploykit.golden import Case, Golden
from deploykit.tensors import Array, Signature, Tensors, TensorSpec


class Net:
    """A graph in the making; ``kind`` is the type that its products are computed in."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.dtype = np.float16 if kind == "float16" else np.float32
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._numbers = np.random.default_rng(0).standard_normal(1 << 16, np.float32) * 0.05
        if kind == "int8":
            self.constant("scale", np.float32(0.05))
            self.constant("zero", np.int8(0))

    def constant(self, name: str, array: Any) -> str:
        import onnx

        self.weights.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        import onnx

        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def random(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        return self.constant(name, np.resize(self._mixed().astype(self.dtype), shape))

    def _mixed(self) -> Array:
        """Give the numbers in another order for each weight: an engine holds those that are alike once."""
        return np.roll(self._numbers, 97 * len(self.weights))

    def product(self, kind: str, x: str, *shape: int, axis: int, **attributes: Any) -> str:
        """Multiply with a weight, in integers where these are wanted."""
        if self.kind != "int8":
            return self.op(kind, x, self.random(*shape), **attributes)
        x = self.op("DequantizeLinear", self.op("QuantizeLinear", x, "scale", "zero"), "scale", "zero")
        name = f"w{len(self.weights)}"
        self.constant(name, np.resize(np.clip(self._mixed() * 600, -127, 127).astype(np.int8), shape))
        scales = self.constant(f"{name}.scale", np.full(shape[axis], 1e-3, np.float32))
        return self.op(kind, x, self.op("DequantizeLinear", name, scales, axis=axis), **attributes)

    def conv(self, x: str, into: int, out: int, size: int, stride: int = 1, groups: int = 1) -> str:
        pads = [(size - 1) // 2] * 4
        return self.product(
            "Conv", x, out, into // groups, size, size, axis=0, pads=pads, strides=[stride] * 2, group=groups
        )

    def linear(self, x: str, into: int, out: int) -> str:
        return self.op("Add", self.product("MatMul", x, into, out, axis=1), self.random(out))

    def shape(self, *sizes: int) -> str:
        return self.constant(f"shape{len(self.weights)}", np.array(sizes, np.int64))

    def write(self, path: Path, inputs: dict[str, Array], output: str, given: str) -> Path:
        """Write the file, its golden beside it; of every input the first axis is the batch."""
        import onnx

        specs = tuple(TensorSpec(name, str(one.dtype), ("batch", *one.shape[1:])) for name, one in inputs.items())
        out = TensorSpec(output, np.dtype(self.dtype).name, ("batch", 1000))
        answers: Tensors = {output: np.zeros((1, 1000), self.dtype)}
        case = Case(inputs, answers, answers, answers)
        golden = path.with_name(f"{path.stem}.golden.npz")
        Golden(Signature(specs, (out,)), (case,), "ulp", {"path": given, "sha256": "0"}).write(golden)
        infos = [
            onnx.helper.make_tensor_value_info(
                one.name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype)), list(one.dims)
            )
            for one in (*specs, out)
        ]
        graph = onnx.helper.make_graph(self.nodes, path.stem, infos[:-1], infos[-1:], self.weights)
        model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)])
        onnx.helper.set_model_props(model, {"deploykit.golden.sha256": sha256(golden)})
        onnx.save(model, path)
        return path


def resnet50(folder: Path, kind: str) -> Path:
    net = Net(kind)
    x = net.op("MaxPool", net.op("Relu", net.conv("x", 3, 64, 7, 2)), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    into = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = net.op("Relu", net.conv(x, into, width, 1))
            y = net.op("Relu", net.conv(y, width, width, 3, stride))
            y = net.conv(y, width, 4 * width, 1)
            side = x if block else net.conv(x, into, 4 * width, 1, stride)
            x, into = net.op("Relu", net.op("Add", y, side)), 4 * width
    return _classified(net, x, into, folder / f"resnet50.{kind}.onnx")


def mobilenetv2(folder: Path, kind: str) -> Path:
    net = Net(kind)
    x, into = _clipped(net, net.conv("x", 3, 32, 3, 2)), 32
    for factor, out, times, first in (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    ):
        for number in range(times):
            stride, wide = (first if not number else 1), into * factor
            y = _clipped(net, net.conv(x, into, wide, 1)) if factor > 1 else x
            y = net.conv(_clipped(net, net.conv(y, wide, wide, 3, stride, wide)), wide, out, 1)
            x, into = (net.op("Add", x, y) if stride == 1 and into == out else y), out
    return _classified(net, _clipped(net, net.conv(x, into, 1280, 1)), 1280, folder / f"mobilenetv2.{kind}.onnx")


def vit(folder: Path, kind: str) -> Path:
    net = Net(kind)
    x = net.product("Conv", "x", 768, 3, 16, 16, axis=0, strides=[16, 16])
    x = net.op("Transpose", net.op("Reshape", x, net.shape(0, 768, 196)), perm=[0, 2, 1])
    x = _encoded(net, net.op("Add", x, net.random(1, 196, 768)), 196)
    image = np.zeros((1, 3, 224, 224), net.dtype)
    return _pooled(net, x, {"x": image}, folder / f"vit.{kind}.onnx")


def bert(folder: Path, kind: str) -> Path:
    net = Net(kind)
    x = net.op("Add", net.op("Gather", net.random(30522, 768), "ids"), net.random(1, 128, 768))
    return _pooled(net, _encoded(net, x, 128), {"ids": np.zeros((1, 128), np.int64)}, folder / f"bert.{kind}.onnx")


def _clipped(net: Net, x: str) -> str:
    bounds = [net.constant(f"b{len(net.weights)}", np.asarray(bound, net.dtype)) for bound in (0, 6)]
    return net.op("Clip", x, *bounds)


def _classified(net: Net, x: str, into: int, path: Path) -> Path:
    y = net.linear(net.op("Flatten", net.op("GlobalAveragePool", x)), into, 1000)
    return net.write(path, {"x": np.zeros((1, 3, 224, 224), net.dtype)}, y, path.stem)


def _pooled(net: Net, x: str, inputs: dict[str, Array], path: Path) -> Path:
    first = net.op("Gather", x, net.constant("first", np.int64(0)), axis=1)
    return net.write(path, inputs, net.linear(first, 768, 1000), path.stem)


def _encoded(net: Net, x: str, length: int) -> str:
    for _ in range(12):
        y = _normed(net, x)
        heads = []
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
            part = net.op("Reshape", net.linear(y, 768, 768), net.shape(0, length, 12, 64))
            heads.append(net.op("Transpose", part, perm=perm))
        small = net.constant(f"c{len(net.weights)}", np.asarray(0.125, net.dtype))
        shares = net.op("Softmax", net.op("Mul", net.op("MatMul", *heads[:2]), small), axis=-1)
        mixed = net.op("Transpose", net.op("MatMul", shares, heads[2]), perm=[0, 2, 1, 3])
        x = net.op("Add", x, net.linear(net.op("Reshape", mixed, net.shape(0, length, 768)), 768, 768))
        y = net.op("Gelu", net.linear(_normed(net, x), 768, 3072))
        x = net.op("Add", x, net.linear(y, 3072, 768))
    return _normed(net, x)


def _normed(net: Net, x: str) -> str:
    return net.op("LayerNormalization", x, net.random(768), net.random(768))


NETS: dict[str, Callable[[Path, str], Path]] = {
    "resnet50": resnet50,
    "mobilenetv2": mobilenetv2,
    "vit": vit,
    "bert": bert,
}
