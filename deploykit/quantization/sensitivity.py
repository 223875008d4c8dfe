"""What each layer alone does to the outputs when it is computed in integers."""

import tempfile
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, backend_for
from deploykit.child import Step
from deploykit.errors import ModelError
from deploykit.quantization.placing import Numbers
from deploykit.quantization.ranges import Grid
from deploykit.quantization.regions import Model, Unit, constant, find_regions
from deploykit.quantization.targets import Target
from deploykit.quantization.weights import rounded
from deploykit.tensors import Array

_ROWS = 8
_SWITCH = "deploykit_switch_"


@dataclass(frozen=True)
class Effect:
    """What one layer does."""

    name: str
    noise: float
    """Power of the error at the outputs over that of the outputs; of the worst output."""
    work: float
    """Multiplications for a value of its result, times the values: of a sample, about."""

    @property
    def sqnr(self) -> float:
        """The same in dB."""
        return float(-10 * np.log10(max(self.noise, 1e-30)))


def effects(
    source: Path,
    target: Target,
    numbers: Numbers,
    names: Collection[str],
    calls: Iterable[Mapping[str, Array]],
    step: Step,
) -> list[Effect]:
    """Measure what each layer that is in integers does to the outputs, alone.

    Args:
        source: the model in float.
        target: the rules of its integers.
        numbers: what stands for its tensors.
        names: of the nodes that are in integers.
        calls: inputs by name, of which the first few rows are taken.
        step: takes a sentence about what goes on.
    """
    from deploykit.onnx_io import load, save

    model = load(source)
    units = [unit for unit in find_regions(model, target).units if unit.node.name in names]
    for number, unit in enumerate(units):
        _switchable(model, unit, number, target, numbers)
    few = [{name: array[:_ROWS] for name, array in call.items()} for call in islice(calls, 1)]
    found = []
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deploykit-"))) / "switched.onnx"
        save(model, path)
        session = stack.enter_context(backend_for(Format.ONNX).load(Artifact(path, Format.ONNX), Asked()))
        answers = [_run(session, call, len(units), None) for call in few]
        for number, unit in enumerate(units):
            step(f"measuring the effect of layer {number + 1} of {len(units)}")
            noise = max(_noise(answers[at], _run(session, call, len(units), number)) for at, call in enumerate(few))
            found.append(Effect(unit.node.name, noise, _work(unit)))
    return found


def _run(session: Any, call: Mapping[str, Array], count: int, only: int | None) -> Mapping[str, Array]:
    switches = {f"{_SWITCH}{number}": np.array(number == only) for number in range(count)}
    answer = next(iter(session.run_all([{**call, **switches}])))
    if isinstance(answer, ModelError):
        raise answer
    found: Mapping[str, Array] = answer
    return found


def _noise(reference: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    worst = 0.0
    for name, array in reference.items():
        if array.dtype.kind == "f" and array.size:
            own = array.astype(np.float64)
            error = found[name].astype(np.float64) - own
            worst = max(worst, float((error**2).sum() / max((own**2).sum(), 1e-30)))
    return worst


def _work(unit: Unit) -> float:
    if unit.weight is None:
        return 1.0
    weight = constant(unit.node.inputs[unit.weight])
    return float(weight.size) if weight is not None else 1.0


def _switchable(model: Model, unit: Unit, number: int, target: Target, numbers: Numbers) -> None:
    """Let a node read its inputs as integers give them, or as they are, by an input of the graph."""
    import onnx_ir

    switch = onnx_ir.Value(
        name=f"{_SWITCH}{number}", shape=onnx_ir.Shape([]), type=onnx_ir.TensorType(onnx_ir.DataType.BOOL)
    )
    model.graph.inputs.append(switch)
    for place in unit.activations:
        value = unit.node.inputs[place]
        ends = _rounded(model, unit, value, numbers.grids[value.name], target)
        _choose(model, unit, place, switch, ends)
    if unit.weight is not None:
        value = unit.node.inputs[unit.weight]
        found = rounded(constant(value).numpy(), unit.axis, target.weight_levels)
        kept = onnx_ir.Value(name=f"{value.name}_rounded_{number}", const_value=onnx_ir.tensor(found.values))
        kept.shape, kept.dtype = kept.const_value.shape, kept.const_value.dtype
        model.graph.register_initializer(kept)
        _choose(model, unit, unit.weight, switch, kept)


def _rounded(model: Model, unit: Unit, value: Any, grid: Grid, target: Target) -> Any:
    import onnx_ir

    kind = np.int8 if target.symmetric else np.uint8
    scale = onnx_ir.node("Constant", [], {"value": onnx_ir.tensor(np.array(grid.scale, np.float32))})
    zero = onnx_ir.node("Constant", [], {"value": onnx_ir.tensor(np.array(grid.zero, kind))})
    ends = [scale.outputs[0], zero.outputs[0]]
    quantized = onnx_ir.node("QuantizeLinear", [value, *ends])
    restored = onnx_ir.node("DequantizeLinear", [quantized.outputs[0], *ends])
    model.graph.insert_before(unit.node, [scale, zero, quantized, restored])
    return restored.outputs[0]


def _choose(model: Model, unit: Unit, place: int, switch: Any, integers: Any) -> None:
    import onnx_ir

    node = onnx_ir.node("Where", [switch, integers, unit.node.inputs[place]])
    model.graph.insert_before(unit.node, node)
    unit.node.replace_input_with(place, node.outputs[0])
