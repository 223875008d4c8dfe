"""Second moments of what goes into layers with weights: they tell what a change of the weights does to the output.

A layer multiplies rows (a pixel's surroundings, a token) by a matrix, so that a change D of the matrix moves its output
by a squared error of ``trace(D gram D^T)``, whatever the number of samples. Nothing else of them is kept.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from deploykit.child import Step
from deploykit.golden import rows
from deploykit.quantization.calibrating import watched
from deploykit.quantization.targets import WEIGHTED
from deploykit.quantization.weighted import Model, Node, attribute, constant, is_turned
from deploykit.tensors import Array

_WINDOW = 256 << 20
"""Bytes of moments that are gathered at a time."""
_PLACES = 1 << 14
"""Places of all samples together that are looked at, about; but of each sample some."""
_LEAST, _MOST = 16, 256


@dataclass(frozen=True)
class Reading:
    """How a layer reads a tensor: as rows that are multiplied by a matrix, for each of its groups."""

    tensor: str
    operator: str
    groups: int = 1
    kernel: tuple[int, ...] = ()
    """Sizes of a convolution's kernel."""
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    """At the start of each axis, then at the end of each."""
    same: str = ""
    """``SAME_UPPER`` or ``SAME_LOWER``, where the pads follow from the size of the input."""

    @classmethod
    def of(cls, node: Node) -> Self:
        """Take it from a Conv, ConvTranspose, Gemm or MatMul with a constant weight."""
        tensor = node.inputs[0].name
        if node.op_type != "Conv":
            return cls(tensor, node.op_type, int(attribute(node, "group", 1)))
        kernel = tuple(constant(node.inputs[1]).shape[2:])
        usual = [1] * len(kernel)
        auto = str(attribute(node, "auto_pad", "NOTSET"))
        return cls(
            tensor,
            node.op_type,
            int(attribute(node, "group", 1)),
            kernel,
            tuple(attribute(node, "strides", usual)),
            tuple(attribute(node, "dilations", usual)),
            tuple(attribute(node, "pads", [0] * 2 * len(kernel))) if auto == "NOTSET" else (0,) * 2 * len(kernel),
            auto if auto.startswith("SAME") else "",
        )

    def rows(self, array: Array, places: int, rng: np.random.Generator) -> Array:
        """Give what the matrix is multiplied by: float32 [groups, rows, inputs]; of an image, so many places at most.

        A ConvTranspose multiplies each pixel alone, and adds up what overlaps: its rows are pixels.
        """
        if self.operator in ("MatMul", "Gemm"):
            return np.ascontiguousarray(array, np.float32).reshape(1, -1, array.shape[-1])
        some = partial(_some, places, rng)
        found = self._patches(array, some) if self.operator == "Conv" else self._pixels(array, some)
        return np.ascontiguousarray(found.reshape(len(found), self.groups, -1).swapaxes(0, 1), np.float32)

    def _pixels(self, array: Array, some: Callable[[int], Array]) -> Array:
        flat = array.reshape(*array.shape[:2], -1)
        return flat[:, :, some(flat.shape[2])].swapaxes(1, 2).reshape(-1, array.shape[1])

    def _patches(self, array: Array, some: Callable[[int], Array]) -> Array:
        """Give the surroundings of some places: [samples * places, channels, *kernel]."""
        spatial = tuple(range(2, array.ndim))
        spans = [(size - 1) * step + 1 for size, step in zip(self.kernel, self.dilations, strict=True)]
        before, after = self._padding(array.shape[2:], spans)
        padded = np.pad(array, [(0, 0), (0, 0), *zip(before, after, strict=True)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, spans, spatial)
        steps = [slice(None), slice(None), *(slice(None, None, step) for step in (*self.strides, *self.dilations))]
        windows = windows[tuple[Any, ...](steps)]
        sizes = windows.shape[2 : 2 + len(spatial)]
        flat = np.moveaxis(windows, 1, 1 + len(spatial))  # [samples, *places, channels, *kernel]
        return flat[(slice(None), *np.unravel_index(some(int(np.prod(sizes))), sizes))].reshape(
            -1, *flat.shape[1 + len(spatial) :]
        )

    def _padding(self, sizes: Sequence[int], spans: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        if not self.same:
            return self.pads[: len(sizes)], self.pads[len(sizes) :]
        whole = [
            max((-(-size // step) - 1) * step + span - size, 0)
            for size, step, span in zip(sizes, self.strides, spans, strict=True)
        ]
        less, more = [one // 2 for one in whole], [one - one // 2 for one in whole]
        return (less, more) if self.same == "SAME_UPPER" else (more, less)


def _some(places: int, rng: np.random.Generator, count: int) -> Array:
    return np.arange(count) if count <= places else rng.choice(count, places, replace=False)


def as_matrix(node: Node, weight: Array) -> Array:
    """Give a weight as what rows are multiplied by: [groups, outputs, inputs]."""
    groups = int(attribute(node, "group", 1))
    if node.op_type == "Conv":
        return weight.reshape(groups, len(weight) // groups, -1)
    if node.op_type == "ConvTranspose":
        return weight.reshape(groups, len(weight) // groups, -1).swapaxes(1, 2)
    return (weight if is_turned(node) else weight.T)[None]


def as_weight(node: Node, matrix: Array, shape: Sequence[int]) -> Array:
    """Give a matrix as the weight that the node has: the inverse of ``as_matrix``."""
    if node.op_type == "ConvTranspose":
        matrix = matrix.swapaxes(1, 2)
    elif node.op_type != "Conv" and not is_turned(node):
        matrix = matrix[0].T
    return np.ascontiguousarray(matrix).reshape(shape)


@dataclass
class Moments:
    """Sums over the rows that a layer reads."""

    gram: Array
    """float64 [groups, inputs, inputs]: of the products of each two inputs."""
    sums: Array
    """float64 [groups, inputs]."""
    count: int = 0
    """Rows."""
    _waiting: list[Array] = field(default_factory=list)

    @classmethod
    def empty(cls, groups: int, inputs: int) -> Self:
        """Give those of no rows."""
        return cls(np.zeros((groups, inputs, inputs)), np.zeros((groups, inputs)))

    def add(self, rows: Array) -> None:
        """Add rows, float32 [groups, rows, inputs]."""
        self._waiting.append(rows)
        self.count += rows.shape[1]
        if sum(one.shape[1] for one in self._waiting) >= max(rows.shape[2], 1024):
            self.settle()

    def settle(self) -> None:
        """Add up what waits: a few rows at a time would read and write the whole matrix for each."""
        if self._waiting:
            rows = np.concatenate(self._waiting, axis=1)
            self._waiting.clear()
            self.gram += rows.swapaxes(1, 2) @ rows
            self.sums += rows.sum(axis=1, dtype=np.float64)

    @property
    def centered(self) -> Array:
        """The products of what is over the mean: [groups, inputs, inputs]. A bias can make up for the mean itself."""
        return self.gram - self.sums[:, :, None] * self.sums[:, None] / max(self.count, 1)


def moments(
    read: Callable[[], Model],
    names: Collection[str],
    calls: Callable[[], Iterable[Mapping[str, Array]]],
    folder: Path,
    step: Step,
) -> Iterator[dict[str, Moments]]:
    """Give the moments of layers by the names of their nodes, some layers at a time.

    It takes as many passes over the samples as needed to hold no more than 256 MB of them, or one layer. Layers that
    read the same rows are given the same moments.

    Args:
        read: reads the model.
        names: nodes with weights in its main graph: Conv, ConvTranspose, Gemm or MatMul, with a constant weight.
        calls: gives inputs by name; each time from the first on.
        folder: where a copy of the model may lie.
        step: takes a sentence about what goes on.

    Raises:
        ModelError: the model does not run.
    """
    readers: dict[Reading, list[str]] = {}
    sizes: dict[Reading, tuple[int, int]] = {}
    for node in read().graph:
        if node.name in names and node.op_type in WEIGHTED:
            reading = Reading.of(node)
            readers.setdefault(reading, []).append(node.name)
            matrix = as_matrix(node, constant(node.inputs[1]).numpy())
            sizes[reading] = len(matrix), matrix.shape[2]
    count = sum(rows(call) for call in calls())
    places = min(max(_PLACES // max(count, 1), _LEAST), _MOST)
    for window in _windows(sizes):
        empty = {reading: Moments.empty(*sizes[reading]) for reading in window}
        tensors = list(dict.fromkeys(reading.tensor for reading in window))
        _gather(empty, places, watched(read(), tensors, calls, folder, step))
        yield {name: found for reading, found in empty.items() for name in readers[reading]}


def _windows(sizes: Mapping[Reading, tuple[int, int]]) -> Iterator[list[Reading]]:
    window, held = list[Reading](), 0
    for reading, (groups, inputs) in sizes.items():
        own = 8 * groups * inputs * inputs
        if window and held + own > _WINDOW:
            yield window
            window, held = [], 0
        window.append(reading)
        held += own
    if window:
        yield window


def _gather(found: Mapping[Reading, Moments], places: int, answers: Iterable[tuple[int, Mapping[str, Array]]]) -> None:
    rng = np.random.default_rng(0)
    for _, answer in answers:
        for reading, own in found.items():
            own.add(reading.rows(answer[reading.tensor], places, rng))
    for own in found.values():
        own.settle()
