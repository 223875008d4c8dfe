"""What is known of layers from samples: products of their rows, summed as the samples go by."""

import gc
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, backend_for
from deploykit.child import Step
from deploykit.errors import ModelError
from deploykit.golden import rows
from deploykit.pruning.linear import Linear
from deploykit.quantization.calibrating import parts_of
from deploykit.rewrites.facts import Value
from deploykit.tensors import Array

Model = Any
Calls: TypeAlias = Callable[[], Iterable[Mapping[str, Array]]]

_AT_ONCE = 1 << 24
"""Values of all tensors looked at that a call may give."""
_ROWS = 4096
"""Rows of a layer that are enough, and eight times its columns."""
_PARTS = 8
"""Into so many parts samples are cut at least, so that some can be held out."""
_FINE = 2048
"""Columns up to which products are summed in float64."""


@dataclass
class Moments:
    """``sum of x' x`` over rows x [columns] of a layer, ``sum of x' y`` with rows y that it shall give, and of y y."""

    gram: Array
    cross: Array | None = None
    power: float = 0.0
    rows: int = 0
    _waiting: list[tuple[Array, Array | None]] = field(default_factory=list)
    """Rows that are still to be summed: a few at a time, writing the sums would take longer than the products."""

    @classmethod
    def of(cls, columns: int, outputs: int = 0) -> "Moments":
        """Start with nothing."""
        kind = np.float64 if columns <= _FINE else np.float32
        cross = np.zeros((columns, outputs), kind) if outputs else None
        return cls(np.zeros((columns, columns), kind), cross)

    def add(self, x: Array, y: Array | None = None) -> None:
        """Add rows; ``settle`` comes after the last of them."""
        self.rows += len(x)
        self._waiting.append((x, y))
        if sum(len(one) for one, _ in self._waiting) >= len(self.gram):
            self.settle()

    def settle(self) -> None:
        """Sum up what waits for it."""
        if not self._waiting:
            return
        x = np.concatenate([one for one, _ in self._waiting])
        given = [one for _, one in self._waiting if one is not None]
        self.gram += x.T @ x
        if given and self.cross is not None:
            y = np.concatenate(given)
            self.cross += x.T @ y
            self.power += float(np.square(y, dtype=np.float64).sum())
        self._waiting.clear()

    def error(self, matrix: Array) -> float:
        """Give the sum of squares of what a matrix, [columns, outputs], leaves of the rows that shall be given."""
        assert self.cross is not None
        return self.power + float((matrix * (self.gram @ matrix - 2 * self.cross)).sum())

    def joined(self, other: "Moments") -> "Moments":
        """Give those of both."""
        cross = None if self.cross is None or other.cross is None else self.cross + other.cross
        return Moments(self.gram + other.gram, cross, self.power + other.power, self.rows + other.rows)


@dataclass
class Seen:
    """What the source gave on the samples."""

    at_once: int
    """Samples that are run at a time."""
    samples: int = 0
    grams: dict[str, Moments] = field(default_factory=dict)
    """Of each layer, by name."""
    places: dict[str, list[Array]] = field(default_factory=dict)
    """Which rows of a layer are looked at, part by part: as many of each sample, drawn by lot."""
    wanted: dict[str, list[Array]] = field(default_factory=dict)
    """What these rows shall give."""


@contextmanager
def observed(model: Model, tensors: Sequence[str]) -> Iterator[Any]:
    """Give a session of what a model needs to compute some of its tensors, and gives these alone; it is changed."""
    import onnx_ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    from deploykit.onnx_io import save

    values = {value.name: value for node in model.graph for value in node.outputs}
    wanted = [values[name] for name in dict.fromkeys(tensors) if name in values]
    for value in wanted:
        value.dtype = value.dtype or onnx_ir.DataType.FLOAT
    model.graph.outputs.clear()
    model.graph.outputs.extend(wanted)
    RemoveUnusedNodesPass()(model)
    with tempfile.TemporaryDirectory(prefix="deploykit-") as folder:
        path = Path(folder) / "observed.onnx"
        save(model, path)
        del model
        gc.collect()
        with backend_for(Format.ONNX).load(Artifact(path, Format.ONNX), Asked()) as session:
            yield session


def parts(session: Any, calls: Calls, at_once: int) -> Iterator[dict[str, Array]]:
    """Run calls, so many samples at a time; give inputs and answers by name."""
    for call in calls():
        for part in parts_of(call, at_once, session.signature):
            answer = next(iter(session.run_all([part])))
            if isinstance(answer, ModelError):
                raise answer
            yield {**part, **answer}


def see(model: Model, layers: Mapping[str, Linear], calls: Calls, step: Step) -> Seen:
    """Run the source, and sum up what its layers take and give.

    Args:
        model: the source; it is changed.
        layers: its layers.
        calls: gives inputs by name.
        step: takes a sentence about what goes on.
    """
    total = sum(rows(call) for call in calls())
    points = {name: point_of(layer).name for name, layer in layers.items()}
    own = {name: (layer.value.name, layer.node.outputs[0].name) for name, layer in layers.items()}
    tensors = [*points.values(), *(name for pair in own.values() for name in pair)]
    with observed(model, tensors) as session:
        first = next(parts(session, calls, 1))
        room = _AT_ONCE * rows(first) // max(sum(one.size for one in first.values()), 1)
        found = Seen(max(1, min(room, total // _PARTS)))
        for name, layer in layers.items():
            found.grams[name] = Moments.of(layer.width + (layer.bias is not None))
            found.places[name], found.wanted[name] = [], []
        for number, tensors_of in enumerate(parts(session, calls, found.at_once)):
            count = rows(tensors_of)
            found.samples += count
            step(f"looking at {found.samples} of {total} samples")
            for name, layer in layers.items():
                at = _places(layer, number, count / total, tensors_of[own[name][1]])
                found.places[name].append(at)
                found.grams[name].add(layer.rows(tensors_of[own[name][0]], at))
                found.wanted[name].append(layer.answers(tensors_of[points[name]], at))
    for moments in found.grams.values():
        moments.settle()
    return found


def _places(layer: Linear, part: int, share: float, output: Array) -> Array:
    """Draw rows of a part that has this share of all samples, ascending."""
    positions = layer.positions(output)
    wanted = int(np.ceil(max(_ROWS, 8 * layer.width) * share))
    if wanted >= positions:
        return np.arange(positions)
    rng = np.random.default_rng([part, *layer.name.encode()])
    return np.sort(rng.choice(positions, wanted, replace=False))


def point_of(layer: Linear) -> Value:
    """Say where a layer shall be right: in the sum that it is added to, so that it makes up for what the rest lost."""
    return layer.node.outputs[0] if beside(layer) is None else layer.node.outputs[0].uses()[0].node.outputs[0]


def beside(layer: Linear) -> Value | None:
    """Give what is added to the output of a layer, of the same shape, where it is read by an Add alone."""
    output = layer.node.outputs[0]
    uses = output.uses()
    if len(uses) != 1 or output.is_graph_output() or uses[0].node.op_type != "Add":
        return None
    other = uses[0].node.inputs[1 - uses[0].idx]
    same = other is not output and not other.is_initializer() and other.shape is not None and output.shape is not None
    return other if same and list(other.shape) == list(output.shape) else None
