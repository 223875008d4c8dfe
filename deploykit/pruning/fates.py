"""What became of each layer, and why of some nothing did."""

from collections.abc import Iterator, Sequence

import numpy as np

from deploykit.pruning.allocation import Curve
from deploykit.pruning.slots import Axis
from deploykit.pruning.subject import Subject
from deploykit.rewrites.evaluation import attribute
from deploykit.rewrites.facts import Node

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN")


def fates_of(
    subject: Subject, gone: Sequence[int], curves: Sequence[Curve]
) -> Iterator[tuple[str, str, str, float | None]]:
    """Tell for each layer with weights its name, its operator, how many channels are left of how many, or why all.

    The last is the signal to noise at the outputs in dB with only its channels cut, where that was measured.
    """
    for node, axis in _outputs(subject):
        size = subject.grouping.sizes.get(axis, 0)
        lost, noise = 0, 0.0
        for number, group in enumerate(subject.grouping.groups):
            if axis in group.slots and gone[number]:
                lost += gone[number] * group.slots[axis].shape[1]
                noise += curves[number].noise(gone[number]) if curves else 0.0
        why = subject.grouping.kept.get(axis)
        fate = f"{size - lost} of {size} channels" if lost or not why else f"{size or 'all'} channels: {why}"
        yield node.name, node.op_type, fate, float(-10 * np.log10(noise)) if noise else None


def why_nothing(subject: Subject) -> Iterator[str]:
    """Name the layers of which no channel can go, and why."""
    movable = {axis for group in subject.grouping.groups for axis in group.slots}
    for node, axis in _outputs(subject):
        if axis not in movable:
            yield f"{node.name}: {subject.grouping.kept.get(axis, 'its size is not fixed')}"


def _outputs(subject: Subject) -> Iterator[tuple[Node, Axis]]:
    """Give the layers with weights, and the axis of the channels that they give."""
    for node in subject.model.graph:
        if node.op_type not in _WEIGHTED or not any(
            value is not None and value.is_initializer() for value in node.inputs
        ):
            continue
        weight = node.inputs[1]
        if node.op_type in ("Conv", "ConvTranspose"):
            yield node, (node.outputs[0], 1)
        elif node.op_type in ("LSTM", "GRU", "RNN"):
            yield node, (node.inputs[2], 2)
        elif weight.is_initializer():
            turned = node.op_type == "Gemm" and attribute(node, "transB", 0)
            yield node, (weight, 0 if turned else len(weight.const_value.shape) - 1)
