"""Which units matter least: the order in which those of a group go, and what is lost on the way.

``magnitude``: the L2 norm of all weights of a unit, each tensor in relation to its own; the baseline of the field.
``wanda``: the norm of the weights that read a unit times that of the unit's values on the samples (M. Sun et al., A
Simple and Effective Pruning Approach for Large Language Models, ICLR 2024).
``reconstruction``: the error that is left in the layers that read a unit after the other units have made up for it as
well as they can, in closed form from second moments (B. Hassibi et al., Optimal Brain Surgeon, 1993; in blocks as in
E. Kurtic et al., ZipLM, NeurIPS 2023).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deploykit.errors import UsageError, nearest
from deploykit.pruning.fitting import RIDGE, regular
from deploykit.pruning.groups import Group
from deploykit.pruning.linear import Linear, reading
from deploykit.pruning.moments import Moments
from deploykit.tensors import Array

METHODS = ("reconstruction", "wanda", "magnitude")
_FINE = 1024
"""Columns up to which it is computed in float64."""
_ROUNDS = 12
"""In so many rounds of equal shares the units of a group go; after each the others are looked at anew."""


def check_importance(name: str) -> None:
    """Make sure that there is such a method.

    Raises:
        UsageError: there is none.
    """
    if name not in METHODS:
        raise UsageError(f"there is no importance '{name}'{nearest(name, METHODS)}", fix=f"one of {', '.join(METHODS)}")


def order_of(group: Group, layers: Mapping[str, Linear], grams: Mapping[str, Moments], method: str) -> Array:
    """Give the numbers of the units of a group, what matters least first.

    Args:
        group: the group.
        layers: the layers of the source, by name.
        grams: their second moments on the samples.
        method: one of ``METHODS``.
    """
    read = [
        (columns, layer.matrix(), grams[layer.name].gram)
        for layer, columns in reading(layers, group.slots)
        if layer.name in grams and grams[layer.name].rows
    ]
    if method == "magnitude" or not read:
        return np.argsort(_magnitude(group), kind="stable")
    if method == "wanda":
        scores = sum(
            np.sqrt(np.square(matrix[columns]).sum(axis=2) * np.diag(gram)[columns]).sum(axis=1)
            / max(_power(matrix, gram), 1e-30) ** 0.5
            for columns, matrix, gram in read
        )
        return np.argsort(np.asarray(scores), kind="stable")
    return _one_by_one(group.size, [_Fit.of(*one) for one in read])


def _magnitude(group: Group) -> Array:
    """Give the sum of squares of the weights of each unit, each tensor over its mean."""
    total = np.zeros(group.size)
    for (value, axis), places in group.slots.items():
        if value.is_initializer() and value.const_value.dtype.name == "FLOAT":
            array = np.moveaxis(value.const_value.numpy().astype(np.float64), axis, 0)
            each = np.square(array.reshape(len(array), -1)).sum(axis=1)[places].sum(axis=1)
            if array.ndim > 1:
                total += each / max(float(each.mean()), 1e-30)
    return total


def _power(matrix: Array, gram: Array) -> float:
    """Give the power of what a layer gives."""
    return float((matrix * (gram @ matrix)).sum())


@dataclass
class _Fit:
    """A layer that reads the units of a group, while they go."""

    columns: Array
    """Of each unit."""
    matrix: Array
    """The weights, fitted to what is gone; [columns, outputs]."""
    inverse: Array
    """Of the second moments of what is left."""
    power: float

    @classmethod
    def of(cls, columns: Array, matrix: Array, gram: Array) -> "_Fit":
        inverse = np.linalg.inv(regular(gram if len(gram) <= _FINE else gram.astype(np.float32), RIDGE))
        return cls(columns, matrix.astype(inverse.dtype), inverse, max(_power(matrix, gram), 1e-30))

    def harm(self, units: Array) -> Array:
        """Give the error that each unit alone leaves, in relation to what the layer gives."""
        own = self.columns[units]
        blocks = self.inverse[own[:, :, None], own[:, None, :]]
        rows = self.matrix[own]
        solved = np.linalg.solve(blocks + 1e-9 * np.eye(blocks.shape[1], dtype=blocks.dtype) * _mean(blocks), rows)
        found: Array = np.einsum("uko,uko->u", rows, solved) / self.power
        return found

    def drop(self, units: Array) -> None:
        """Have units go, and what is left make up for them."""
        gone = self.columns[units].reshape(-1)
        across = self.inverse[:, gone]
        solved = np.linalg.solve(
            self.inverse[np.ix_(gone, gone)], np.concatenate([self.matrix[gone], across.T], axis=1)
        )
        outputs = self.matrix.shape[1]
        self.matrix = self.matrix - across @ solved[:, :outputs]
        self.inverse = self.inverse - across @ solved[:, outputs:]


def _mean(blocks: Array) -> float:
    return float(np.mean(np.einsum("uii->ui", blocks)))


def _one_by_one(size: int, fits: list[_Fit]) -> Array:
    """Let units go a few at a time, always those that are made up for best by what is left."""
    left, gone = np.arange(size), list[int]()
    while len(left):
        harm = np.sum([fit.harm(left) for fit in fits], axis=0)
        least = left[np.argsort(harm, kind="stable")[: max(1, size // _ROUNDS)]]
        gone += least.tolist()
        left = np.setdiff1d(left, least)
        if len(left):
            for fit in fits:
                fit.drop(least)
    return np.array(gone)
