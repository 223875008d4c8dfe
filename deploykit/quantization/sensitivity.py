"""What each layer alone does to the outputs when its numbers are rounded.

All layers are in one graph, each with a switch, an input of the graph: whether it reads its inputs as they are, or as
they are after rounding. So the model is loaded once, and one inference tells the effect of one layer.
"""

import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, backend_for
from deploykit.child import Step
from deploykit.errors import ModelError
from deploykit.golden import rows
from deploykit.quantization.calibrating import parts_of
from deploykit.quantization.weighted import Model, Node, Value
from deploykit.tensors import Array, Signature

_ROWS = 8
_SWITCH = "deploykit_switch_"


@dataclass(frozen=True)
class Switchable:
    """A layer, and what it reads once it is rounded."""

    node: Node
    rounded: Mapping[int, Value]
    """By the place of the input."""
    work: float
    """Multiplications for each position, about: what is saved by having it in integers."""


@dataclass(frozen=True)
class Effect:
    """What one layer does."""

    name: str
    noise: float
    """Power of the error at the outputs over that of the outputs; of the worst output."""
    work: float

    @property
    def sqnr(self) -> float:
        """The same in dB."""
        return float(-10 * np.log10(max(self.noise, 1e-30)))


def effects(
    model: Model, layers: Sequence[Switchable], calls: Iterable[Mapping[str, Array]], step: Step
) -> Generator[Effect]:
    """Measure what rounding each layer does to the outputs, alone, one after the other.

    Args:
        model: the model in float; it is changed.
        layers: its layers, with what they read once they are rounded, which is in the model already.
        calls: inputs by name, of which the first rows are taken.
        step: takes a sentence about what goes on.
    """
    from deploykit.onnx_io import save

    for number, layer in enumerate(layers):
        _switch(model, layer, number)
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deploykit-"))) / "switched.onnx"
        save(model, path)
        session = stack.enter_context(backend_for(Format.ONNX).load(Artifact(path, Format.ONNX), Asked()))
        run = partial(_run, session, _first(calls, session.signature), len(layers))
        reference = run(None)
        for number, layer in enumerate(layers):
            step(f"measuring the effect of layer {number + 1} of {len(layers)}")
            yield Effect(layer.node.name, _noise(reference, run(number)), layer.work)


def _first(calls: Iterable[Mapping[str, Array]], signature: Signature) -> list[Mapping[str, Array]]:
    """Take some rows, of as many calls as that takes."""
    found, count = list[Mapping[str, Array]](), 0
    for call in calls:
        found.append(next(parts_of(call, _ROWS - count, signature)))
        count += rows(found[-1])
        if count >= _ROWS:
            break
    return found


def _run(
    session: Any, calls: Sequence[Mapping[str, Array]], count: int, only: int | None
) -> Sequence[Mapping[str, Array]]:
    switches = {f"{_SWITCH}{number}": np.array(number == only) for number in range(count)}
    answers: list[Mapping[str, Array]] = list(session.run_all([{**call, **switches} for call in calls]))
    for answer in answers:
        if isinstance(answer, ModelError):
            raise answer
    return answers


def _noise(reference: Sequence[Mapping[str, Array]], found: Sequence[Mapping[str, Array]]) -> float:
    """Give the power of the error over that of the output, of the worst output."""
    errors, powers = defaultdict[str, float](float), defaultdict[str, float](float)
    for own, other in zip(reference, found, strict=True):
        for name, array in own.items():
            if array.dtype.kind == "f" and array.size:
                errors[name] += float(((array.astype(np.float64) - other[name]) ** 2).sum())
                powers[name] += float((array.astype(np.float64) ** 2).sum())
    return max((error / max(powers[name], 1e-30) for name, error in errors.items()), default=0.0)


def _switch(model: Model, layer: Switchable, number: int) -> None:
    """Let a layer read one or the other by an input of the graph."""
    import onnx_ir

    kind = onnx_ir.TensorType(onnx_ir.DataType.BOOL)
    switch = onnx_ir.Value(name=f"{_SWITCH}{number}", shape=onnx_ir.Shape([]), type=kind)
    model.graph.inputs.append(switch)
    for place, rounded in layer.rounded.items():
        node = onnx_ir.node("Where", [switch, rounded, layer.node.inputs[place]])
        model.graph.insert_before(layer.node, node)
        layer.node.replace_input_with(place, node.outputs[0])
