"""Random nets of the blocks that real ones are made of, for what cuts channels."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper  # noqa: TID253

from deploykit.tensors import Array

SIZE = 8
"""Height and width of the images."""


@dataclass
class Net:
    """A graph while it is made; tensors are names."""

    rng: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def weight(self, array: Array) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def random(self, *shape: int) -> str:
        return self.weight((self.rng.normal(size=shape) / np.sqrt(float(np.prod(shape[1:])))).astype(np.float32))

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"t{len(self.nodes)}_{at}" for at in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"{op}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x: str, into: int, out: int, size: int = 3, group: int = 1) -> str:
        weight, bias = self.random(out, into // group, size, size), self.random(out)
        return self.add("Conv", x, weight, bias, pads=[size // 2] * 4, group=group)

    def norm(self, x: str, channels: int) -> str:
        positive = self.weight(self.rng.uniform(0.5, 2, channels).astype(np.float32))
        return self.add("BatchNormalization", x, *(self.random(channels) for _ in range(3)), positive)

    def model(self, output: str, opset: int = 18) -> Any:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


Block = Callable[[Net, str, int], str]
"""Goes on from a tensor of so many channels to one of as many."""


def residual(net: Net, x: str, channels: int) -> str:
    y = net.add("Relu", net.norm(net.conv(x, channels, 6), 6))
    return net.add("Relu", net.add("Add", net.conv(y, 6, channels), x))


def joined(net: Net, x: str, channels: int) -> str:
    both = net.add("Concat", net.conv(x, channels, 4, 1), net.conv(x, channels, 6), x, axis=1)
    return net.conv(net.norm(both, 10 + channels), 10 + channels, channels, 1)


def parted(net: Net, x: str, channels: int) -> str:
    parts = net.add("Split", net.conv(x, channels, 12), net.weight(np.array([5, 7])), outputs=2, axis=1)
    return net.add("Add", net.conv(net.add("Sigmoid", parts[0]), 5, channels), net.conv(parts[1], 7, channels))


def halves(net: Net, x: str, channels: int) -> str:
    """A gate: the halves of one convolution are multiplied."""
    y = net.conv(x, channels, 12)
    ends = [net.weight(np.array([at])) for at in (0, 6, 100)]
    first, second = (net.add("Slice", y, ends[at], ends[at + 1], net.weight(np.array([1]))) for at in (0, 1))
    return net.conv(net.add("Mul", net.add("Tanh", first), second), 6, channels)


def depthwise(net: Net, x: str, channels: int) -> str:
    y = net.add("HardSwish", net.conv(x, channels, 10, 1))
    y = net.add("Relu", net.conv(y, 10, 20, group=10))
    squeezed = net.add("Relu", net.conv(net.add("GlobalAveragePool", y), 20, 5, 1))
    y = net.add("Mul", y, net.add("Sigmoid", net.conv(squeezed, 5, 20, 1)))
    return net.add("Add", net.conv(y, 20, channels, 1), x)


def grouped(net: Net, x: str, channels: int) -> str:
    y = net.add("Relu", net.conv(net.conv(x, channels, 12, 1), 12, 8, group=2))
    return net.conv(net.conv(y, 8, 18, group=2), 18, channels, 1)


def widened(net: Net, x: str, channels: int) -> str:
    """A shortcut that is padded with channels, as in the ResNets for CIFAR, and rows that are gathered again."""
    y = net.add("Pad", net.conv(x, channels, 5), net.weight(np.array([0, 2, 0, 0, 0, 3, 0, 0])))
    y = net.add("Add", y, net.conv(x, channels, 10))
    y = net.add("Gather", y, net.weight(np.array([9, 1, 1, 4, 0])), axis=1)
    return net.conv(y, 5, channels)


def transposed(net: Net, x: str, channels: int) -> str:
    y = net.add("ConvTranspose", x, net.random(channels, 6, 2, 2), net.random(6), strides=[2, 2])
    y = net.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    last = net.add("Transpose", y, perm=[0, 2, 3, 1])
    last = net.add("MatMul", net.add("PRelu", last, net.random(6)), net.random(6, channels))
    return net.add("Transpose", last, perm=[0, 3, 1, 2])


def attended(net: Net, x: str, channels: int) -> str:
    """Two heads of attention over the pixels."""
    rows = net.add("Reshape", x, net.weight(np.array([0, channels, SIZE * SIZE])))
    rows = net.add("Transpose", rows, perm=[0, 2, 1])
    heads = []
    for turn in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        y = net.add("Add", net.add("MatMul", rows, net.random(channels, 12)), net.random(12))
        y = net.add("Reshape", y, net.weight(np.array([0, SIZE * SIZE, 4, 3])))
        heads.append(net.add("Transpose", y, perm=turn))
    scores = net.add("Softmax", net.add("MatMul", heads[0], heads[1]), axis=-1)
    mixed = net.add("Transpose", net.add("MatMul", scores, heads[2]), perm=[0, 2, 1, 3])
    mixed = net.add("Reshape", mixed, net.weight(np.array([0, SIZE * SIZE, 12])))
    y = net.add("Add", net.add("MatMul", mixed, net.random(12, channels)), rows)
    y = net.add("LayerNormalization", y, net.random(channels), net.random(channels), axis=-1)
    y = net.add("Transpose", y, perm=[0, 2, 1])
    return net.add("Reshape", y, net.weight(np.array([0, channels, SIZE, SIZE])))


BLOCKS: tuple[Block, ...] = (
    *(residual, joined, parted, halves, depthwise),
    *(grouped, widened, transposed, attended),
)


def flattened(net: Net, x: str, channels: int) -> str:
    y = net.add("AveragePool", net.conv(x, channels, 6), kernel_shape=[4, 4], strides=[4, 4])
    y = net.add("Relu", net.add("Gemm", net.add("Flatten", y), net.random(7, 24), net.random(7), transB=1))
    return net.add("Gemm", y, net.random(7, 4), net.random(4))


def remembered(net: Net, x: str, channels: int) -> str:
    """The rows of the image as steps of an LSTM in both directions."""
    y = net.add("ReduceMean", x, net.weight(np.array([3])), keepdims=0)
    steps = net.add("Transpose", y, perm=[2, 0, 1])
    weights = net.random(2, 20, channels), net.random(2, 20, 5), net.random(2, 40)
    y = net.add("LSTM", steps, *weights, hidden_size=5, direction="bidirectional")
    y = net.add("Transpose", y, perm=[2, 0, 1, 3])
    return net.add("MatMul", net.add("Reshape", y, net.weight(np.array([0, SIZE, 10]))), net.random(10, 4))


HEADS: tuple[Block, ...] = (flattened, remembered)


def chained(blocks: list[Block], head: Block, channels: int = 8, seed: int = 0) -> Any:
    """Make a net of a stem, blocks one after the other, and a head."""
    net = Net(np.random.default_rng(seed))
    x = net.add("Relu", net.norm(net.conv("x", 3, channels), channels))
    for block in blocks:
        x = block(net, x, channels)
    return net.model(head(net, x, channels))
