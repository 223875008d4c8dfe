"""Zeros in weights that keep their place: two of four, for sparse tensor cores, or any.

Which ones, and how the others make up for them, is told as in SparseGPT (E. Frantar and D. Alistarh, ICML 2023):
columns go one after the other; what a zero takes away is spread over the columns to come, by the inverse of their
second moments. With the diagonal of these alone that is Wanda (M. Sun et al., ICLR 2024), and nothing makes up for a
zero; with none the smallest weights go.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit.pruning.fitting import regular
from deploykit.pruning.linear import Linear, linear_layers
from deploykit.tensors import Array

Model = Any

OF, KEPT = 4, 2
"""Of four weights two stay."""
_RIDGE = 1e-2
"""As SparseGPT has it."""
_BLOCK = 128
"""Columns that are thinned together; a multiple of four."""


@dataclass(frozen=True)
class Thinned:
    """What became of a layer."""

    name: str
    operator: str
    zeros: int
    total: int
    why: str = ""
    """Why nothing did."""


def thin(model: Model, grams: Mapping[str, Array], share: float | None) -> Iterator[Thinned]:
    """Put zeros in the weights of every layer, in place; what is left is fitted where there are moments.

    Args:
        model: the graph.
        grams: second moments of what its layers take, [columns, columns] by name; none for the smallest weights.
        share: of the weights that become zero; None for two of four.
    """
    for layer in linear_layers(model).values():
        channels = layer.width // layer.pixels
        if share is None and channels % OF:
            yield Thinned(layer.name, layer.node.op_type, 0, layer.width, f"it sums over {channels} channels")
            continue
        gram = grams.get(layer.name, np.eye(layer.width + (layer.bias is not None)))
        order = _order(layer, len(gram))
        matrix = layer.matrix()
        matrix[order] = _thinned(matrix[order], gram[np.ix_(order, order)], layer.width, share)
        layer.put(matrix)
        weight = layer.weight.const_value.numpy()
        yield Thinned(layer.name, layer.node.op_type, int((weight == 0).sum()), weight.size)


def _order(layer: Linear, columns: int) -> Array:
    """Give the columns so that channels at the same pixel are neighbours, of which sparse kernels take four."""
    order: Array = np.arange(layer.width).reshape(-1, layer.pixels).T.reshape(-1)
    return np.concatenate([order, np.arange(layer.width, columns)])


def _thinned(matrix: Array, gram: Array, width: int, share: float | None) -> Array:
    """Put zeros in the first ``width`` rows of [columns, outputs]; the row of the bias comes last and stays."""
    inverse = np.linalg.inv(regular(gram.astype(np.float64), _RIDGE))
    upper = np.linalg.cholesky(inverse).T
    found = matrix.astype(np.float64)
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        keeps = _any_of(found[start:end], upper, start, share) if share is not None else None
        errors = np.zeros((end - start, found.shape[1]))
        for at in range(start, end):
            if keeps is None or (share is None and at % OF == 0):
                keeps = _two_of_four(found[at : at + OF], upper, at)
            keep = keeps[at % OF] if share is None else keeps[at - start]
            errors[at - start] = np.where(keep, 0, found[at]) / upper[at, at]
            found[at : at + 1] = np.where(keep, found[at], 0)
            found[at + 1 : end] -= upper[at, at + 1 : end, None] * errors[at - start]
        found[end:] -= upper[start:end, end:].T @ errors
    return found


def _two_of_four(rows: Array, upper: Array, at: int) -> Array:
    scores = np.abs(rows) / np.diag(upper)[at : at + len(rows), None]
    places = np.argsort(-scores, axis=0, kind="stable")
    keep = np.zeros(rows.shape, bool)
    np.put_along_axis(keep, places[:KEPT], values=True, axis=0)
    return keep


def _any_of(rows: Array, upper: Array, start: int, share: float) -> Array:
    scores = np.abs(rows) / np.diag(upper)[start : start + len(rows), None]
    count = round(share * scores.size)
    keep = np.ones(scores.size, bool)
    keep[np.argsort(scores, axis=None, kind="stable")[:count]] = False
    return keep.reshape(scores.shape)


def is_two_of_four(layer: Linear) -> bool:
    """Tell whether of each four channels at a pixel two weights at most are not zero, for each output."""
    columns = layer.matrix()[: layer.width]
    if (layer.width // layer.pixels) % OF:
        return False
    ordered = columns[_order(layer, layer.width)].reshape(-1, OF, columns.shape[1])
    return bool(((ordered != 0).sum(axis=1) <= KEPT).all())


def packed(model: Model) -> int:
    """Give the bytes of all weights as zlib packs them."""
    weights = (value.const_value for value in model.graph.initializers.values())
    return sum(len(zlib.compress(one.numpy().tobytes(), 6)) for one in weights if one is not None and one.nbytes)
