"""A residual net, whose normalizations exporters fold, in every form, and faults to plant in its ONNX files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: TID253
from torch import nn  # noqa: TID253

from deploykit.tensors import Tensors

INPUTS = ("x:float32[batch,1,8,8]",)
FACTORY = f"{__file__}:Net"
EXPORTERS = ("dynamo", "torchscript")


class Block(nn.Module):
    """Two convolutions beside a shortcut; what activates is a function and no module."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x - self.bn2(self.conv2(y)))


class Net(nn.Module):
    """A stem, two blocks in a list, and a head with an activation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3)
        self.layer1 = nn.Sequential(Block(6), Block(6))
        self.norm = nn.LayerNorm(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer1(self.stem(x)).mean((2, 3))
        return self.fc(nn.functional.gelu(self.norm(y)))


def write_all(folder: Path) -> None:
    """Write the weights, a scripted archive, an exported program, and an ONNX file of each exporter."""
    from deploykit import convert

    torch.manual_seed(0)
    net = Net().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # as if it had been trained: a fresh one does nothing
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    torch.save(net.state_dict(), folder / "net.pt")
    torch.jit.save(torch.jit.script(net), folder / "net.ts")
    batch = {0: torch.export.Dim("batch")}
    torch.export.save(torch.export.export(net, (torch.rand(2, 1, 8, 8),), dynamic_shapes=(batch,)), folder / "net.pt2")
    for exporter in EXPORTERS:
        target = folder / f"{exporter}.onnx"
        convert(folder / "net.pt", target, exporter=exporter, factory=FACTORY, inputs=INPUTS)


def case(rows: int = 3) -> Tensors:
    return {"x": np.random.default_rng(0).normal(size=(rows, 1, 8, 8)).astype(np.float32)}


Plant = Callable[[Any, Any], None]
"""Changes a model at one of its nodes."""


def planted(source: Path, target: Path, kind: str, number: int, plant: Plant) -> str:
    """Write a copy with a fault in the node of a kind and number, and give the name of the tensor that it makes."""
    import onnx_ir as ir

    model = ir.load(source)
    node = [one for one in model.graph if one.op_type == kind][number]
    plant(model, node)
    ir.save(model, target)
    return str(node.outputs[0].name)


def other_weight(model: Any, node: Any) -> None:
    import onnx_ir as ir

    own = node.inputs[1]
    value = ir.Value(name=f"{own.name}.wrong", const_value=ir.tensor(own.const_value.numpy() * np.float32(1.01)))
    model.graph.register_initializer(value)
    node.replace_input_with(1, value)


def no_activation(_: Any, node: Any) -> None:
    node.op_type = "Identity"


def swapped(_: Any, node: Any) -> None:
    first, second = node.inputs
    node.replace_input_with(0, second)
    node.replace_input_with(1, first)


def other_epsilon(_: Any, node: Any) -> None:
    import onnx_ir as ir

    node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-3)


def more_padding(_: Any, node: Any) -> None:
    import onnx_ir as ir

    node.attributes["pads"] = ir.AttrInt64s("pads", [2, 2, 2, 2])


def renamed(source: Path, target: Path) -> None:
    """Write a copy in which every tensor and node has another name, but for what goes in and comes out."""
    import onnx_ir as ir

    model = ir.load(source)
    kept = {value.name for value in (*model.graph.inputs, *model.graph.outputs)}
    for number, node in enumerate(model.graph):
        node.name = f"n{number}"
        node.metadata_props.clear()
        for value in node.outputs:
            if value.name not in kept:
                value.name = f"t{number}"
    ir.save(model, target)
