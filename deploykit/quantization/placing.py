"""Write a graph in integers: QuantizeLinear and DequantizeLinear where a runtime turns them into its own kernels."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from deploykit.quantization.calibrating import Channels
from deploykit.quantization.ranges import Grid
from deploykit.quantization.regions import Regions, Unit
from deploykit.quantization.targets import Target
from deploykit.quantization.weighted import Model, Node, Value, attribute, constant, kept
from deploykit.quantization.weights import Rounded, rounded
from deploykit.tensors import Array

_LARGEST_BIAS = 2.0**30
_INSIDE = ("Pad",)
"""Operators that onnxruntime has kernels in integers for, but does not find between two pairs."""


@dataclass(frozen=True)
class Numbers:
    """What stands for the tensors of a graph."""

    grids: Mapping[str, Grid]
    """Of each calibrated tensor, by its name."""
    channels: Mapping[str, Channels]
    """Means of the inputs of nodes with weights, by their names; of some there may be none."""
    weights: Mapping[str, Rounded] = field(default_factory=dict)
    """Weights that are rounded already, by the names of their nodes."""
    searched: bool = True
    """Whether the scales of weights are searched for, and biases make up for what rounding shifts."""

    def weight(self, unit: Unit, target: Target, least: Array | None = None) -> Rounded:
        """Give the weight of a node in integers.

        Args:
            unit: the node.
            target: the rules.
            least: the smallest scale that each channel may have, so that its bias fits too.
        """
        assert unit.weight is not None
        known = self.weights.get(unit.node.name)
        if known is not None and (least is None or bool((known.scale >= least).all())):
            return known
        weight = constant(unit.node.inputs[unit.weight]).numpy()
        return rounded(weight, unit.axis, target.weight_levels, least, searched=self.searched)


def place(model: Model, regions: Regions, target: Target, numbers: Numbers) -> None:
    """Write the regions of a graph in integers; in place.

    Args:
        model: the graph.
        regions: what of it.
        target: the rules.
        numbers: what stands for its tensors.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    writer = _Writer(model, regions, target, numbers)
    for unit in regions.units:
        if unit.weight is not None:
            writer.weigh(unit)
        for place_ in unit.constants:
            writer.constant(unit.node, place_)
    for value in writer.tensors():
        writer.pair(value)
    for node in regions.movers:
        if node.op_type in _INSIDE:
            writer.inside(node)
    RemoveUnusedNodesPass()(model)


@dataclass
class _Writer:
    model: Model
    regions: Regions
    target: Target
    numbers: Numbers
    _origins: dict[Value, str] = field(init=False)
    """Whose range each tensor has; told before anything is moved."""
    _units: dict[Node, Unit] = field(init=False)

    def __post_init__(self) -> None:
        self._origins = {value: self.regions.origin(value).name for value in self.tensors()}
        self._units = {unit.node: unit for unit in self.regions.units}

    def tensors(self) -> list[Value]:
        """List the tensors that become integers."""
        wanted: dict[Value, None] = {}
        for unit in self.regions.units:
            wanted.update(dict.fromkeys(unit.node.inputs[one] for one in unit.activations))
            if unit.rounded:
                wanted[unit.end] = None
        for node in self.regions.movers:
            wanted.update(dict.fromkeys((node.inputs[0], *node.outputs)))
        return list(wanted)

    def pair(self, value: Value) -> None:
        """Round a tensor to integers and back; who reads it reads that, or only who computes in integers."""
        import onnx_ir

        scale, zero = self._grid(value)
        produced = value in self.regions.produced
        readers = [(use.node, use.idx) for use in value.uses() if produced or self._reads(use.node, use.idx)]
        is_output = produced and value.is_graph_output()
        name = value.name
        quantized = onnx_ir.node("QuantizeLinear", [value, scale, zero], name=f"{name}_QuantizeLinear")
        restored = onnx_ir.node(
            "DequantizeLinear", [quantized.outputs[0], scale, zero], name=f"{name}_DequantizeLinear"
        )
        end = restored.outputs[0]
        end.type, end.shape = value.type, value.shape
        for node, place_ in readers:
            node.replace_input_with(place_, end)
        quantized.outputs[0].name, end.name = f"{name}_quantized", f"{name}_restored"
        if is_output:
            outputs = self.model.graph.outputs
            outputs[list(outputs).index(value)] = end
            value.name, end.name = f"{name}_float", name
        self._insert(value, [quantized, restored])

    def inside(self, node: Node) -> None:
        """Let a node between two pairs read the integers of the first; of the second its output takes the place."""
        import onnx_ir

        value = node.outputs[0]
        (use,) = value.uses()
        restored, quantized = node.inputs[0].producer(), use.node
        zero = restored.inputs[2]
        node.replace_input_with(0, restored.inputs[0])
        if str(attribute(node, "mode", "constant")) == "constant":
            node.resize_inputs(max(len(node.inputs), 3))
            node.replace_input_with(2, zero)
        onnx_ir.convenience.replace_all_uses_with(quantized.outputs[0], value)
        value.type = onnx_ir.TensorType(zero.dtype)  # of its own: the restored tensor has the old one
        self.model.graph.remove(quantized, safe=True)

    def _insert(self, value: Value, nodes: list[Node]) -> None:
        graph, maker = self.model.graph, value.producer()
        if maker is not None:
            graph.insert_after(maker, nodes)
        elif len(graph):
            graph.insert_before(graph[0], nodes)

    def _reads(self, node: Node, place_: int) -> bool:
        if node in self.regions.movers:
            return place_ == 0
        return node in self._units and place_ in self._units[node].activations

    def _grid(self, value: Value) -> tuple[Value, Value]:
        """Give scale and zero point of a tensor, shared by those that have the same."""
        name = self._origins[value]
        return self._scales(name, self.numbers.grids[name])

    def _scales(self, name: str, grid: Grid) -> tuple[Value, Value]:
        kind = np.int8 if self.target.symmetric else np.uint8
        return (
            self._initializer(f"{name}_scale", np.array(grid.scale, np.float32)),
            self._initializer(f"{name}_zero_point", np.array(grid.zero, kind)),
        )

    def _initializer(self, name: str, array: Array) -> Value:
        known = self.model.graph.initializers
        return known[name] if name in known else kept(self.model, name, array)

    def constant(self, node: Node, place_: int) -> None:
        """Write a constant operand that is no weight in the integers of activations."""
        value = node.inputs[place_]
        array = constant(value).numpy()
        ends = min(float(array.min(initial=0.0)), 0.0), max(float(array.max(initial=0.0)), 0.0)
        grid = Grid(*ends, self.target.activation_levels, self.target.symmetric)
        scale, zero = self._scales(value.name, grid)
        kind = np.iinfo(np.int8 if self.target.symmetric else np.uint8)
        integers = np.clip(np.rint(array / grid.scale) + grid.zero, kind.min, kind.max).astype(kind.dtype)
        self._restored(node, place_, self._initializer(f"{value.name}_quantized", integers), (scale, zero), None)

    def weigh(self, unit: Unit) -> None:
        """Write the weight of a node in integers, and its bias in sums of their products."""
        assert unit.weight is not None
        node, value = unit.node, unit.node.inputs[unit.weight]
        step = self.numbers.grids[self._origins[node.inputs[0]]].scale
        bias = None if unit.bias is None else constant(node.inputs[unit.bias]).numpy().astype(np.float64)
        weight = constant(value).numpy()
        seen = self.numbers.channels.get(node.inputs[0].name)
        mean = None if seen is None or not self.numbers.searched else _against(weight, unit, seen.means)
        least = None if bias is None else np.abs(bias) / step / _LARGEST_BIAS
        found = self.numbers.weight(unit, self.target, least)
        name = f"{value.name}_quantized"
        scale = kept(self.model, f"{name}_scale", found.scale)
        zero = kept(self.model, f"{name}_zero_point", np.zeros(found.scale.shape, np.int8))
        self._restored(node, unit.weight, kept(self.model, name, found.integers), (scale, zero), unit.axis)
        if mean is not None and node.op_type != "MatMul":
            rest = tuple(one for one in range(weight.ndim) if one != unit.axis)
            shift = ((found.values.astype(np.float64) - weight) * mean).sum(axis=rest)
            bias = (0.0 if bias is None else bias) - shift
        if bias is not None:
            self._bias(unit, bias, found.scale.astype(np.float64) * np.float64(np.float32(step)))

    def _bias(self, unit: Unit, bias: Array, scale: Array) -> None:
        from deploykit.quantization.targets import WEIGHTED

        node, place_ = unit.node, WEIGHTED[unit.node.op_type].bias
        name = f"{node.name}_bias"
        while len(node.inputs) <= place_:
            node.resize_inputs(len(node.inputs) + 1)
        if not self.target.bias:
            node.replace_input_with(place_, self._initializer(f"{name}_corrected", bias.astype(np.float32)))
            return
        most = np.iinfo(np.int32).max
        integers = np.clip(np.rint(bias / scale), -most, most).astype(np.int32)
        scales = self._initializer(f"{name}_scale", scale.astype(np.float32))
        zero = self._initializer(f"{name}_zero_point", np.zeros(scale.shape, np.int32))
        self._restored(node, place_, self._initializer(f"{name}_quantized", integers), (scales, zero), 0)

    def _restored(
        self, node: Node, place_: int, integers: Value, scales: tuple[Value, Value], axis: int | None
    ) -> None:
        """Let a node read a constant that is restored from integers."""
        import onnx_ir

        attributes = {} if axis is None else {"axis": axis}
        restored = onnx_ir.node(
            "DequantizeLinear", [integers, *scales], attributes, name=f"{integers.name}_{node.name}_DequantizeLinear"
        )
        restored.outputs[0].name = f"{integers.name}_{node.name}_restored"
        restored.outputs[0].shape, restored.outputs[0].dtype = integers.shape, onnx_ir.DataType.FLOAT
        self.model.graph.insert_before(node, restored)
        node.replace_input_with(place_, restored.outputs[0])


def _against(weight: Array, unit: Unit, means: Array) -> Array | None:
    """Lay means of the input's channels out, so that they are broadcast against the weight."""
    inner = {"Conv": 1, "ConvTranspose": 0}.get(unit.node.op_type, 1 - unit.axis)
    groups = attribute(unit.node, "group", 1)
    shape = tuple(-1 if axis == inner else 1 for axis in range(weight.ndim))
    if len(means) != weight.shape[inner] * (groups if inner == 1 else 1):
        return None
    if groups == 1:
        return means.reshape(shape)
    if unit.node.op_type != "Conv":
        return None
    laid = np.repeat(means.reshape(groups, -1), weight.shape[0] // groups, axis=0)
    return laid.reshape(*laid.shape, *shape[2:])
