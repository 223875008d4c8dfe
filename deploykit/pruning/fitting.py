"""Fit the weights that are left to what the source gave on the samples: least squares, in closed form.

A layer that lost inputs gets the weights W that make ``|Y - X W|^2 + r |W - W0|^2`` least, of rows X that the smaller
graph gives it now, the source's own answers Y, and its weights W0 as they were cut. Layers are fitted in order, so that
each makes up for what those before it lost (as in Y. He et al., Channel Pruning for Accelerating Very Deep Neural
Networks, ICCV 2017), and before a sum also for what the other side of it lost. How near r keeps them to W0 is chosen by
samples that the fit has not seen; where none is better than W0, that stays.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from deploykit.child import Step
from deploykit.pruning.cut import Removal
from deploykit.pruning.linear import Linear, linear_layers
from deploykit.pruning.moments import Calls, Moments, Seen, beside, observed, parts
from deploykit.tensors import Array

Model = Any

RIDGE = 1e-3
"""Of the mean of the diagonal, added to it: samples are few, and weights shall not grow to fit them."""
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_PRODUCTS = ("Gemm", "MatMul")
_HELD_OUT = 4
"""One of so many parts of the samples chooses the ridge."""


def fit_locally(model: Model, source: Mapping[str, Linear], removal: Removal, grams: Mapping[str, Moments]) -> None:
    """Fit the layers of a cut graph, each by itself, to what it gives for the source's own values.

    Args:
        model: the cut graph; it is changed.
        source: the layers of the source.
        removal: what was cut.
        grams: second moments of the rows of the source's layers.
    """
    for name, layer in linear_layers(model).items():
        kept = removal.kept(*layer.into)
        if kept is None or name not in grams or not grams[name].rows:
            continue
        gram, columns = grams[name].gram, layer.columns(kept[:, None]).reshape(-1)
        if layer.bias is not None:
            columns = np.append(columns, len(gram) - 1)
        gone = np.setdiff1d(np.arange(len(gram)), columns)
        lost = gram[np.ix_(columns, gone)] @ _kept_outputs(source[name], removal)[gone]
        layer.put(layer.matrix() + np.linalg.solve(regular(gram[np.ix_(columns, columns)], RIDGE), lost))


def fit_in_order(
    model: Model, source: Mapping[str, Linear], removal: Removal, seen: Seen, calls: Calls, step: Step
) -> int:
    """Fit the layers of a cut graph one after the other; give how many were.

    Args:
        model: the cut graph; it is changed.
        source: the layers of the source.
        removal: what was cut.
        seen: what the source gave on the samples.
        calls: gives the samples.
        step: takes a sentence about what goes on.
    """
    layers = [layer for layer in changed(model, removal) if layer.name in source and seen.grams[layer.name].rows]
    count = 0
    for number, layer in enumerate(layers):
        step(f"fitting layer {number + 1} of {len(layers)}")
        fit, held = _moments(model, layer, removal, seen, calls)
        found = _best(layer.matrix(), fit, held)
        if found is not None:
            layer.put(found)
            count += 1
    return count


def changed(model: Model, removal: Removal) -> Iterator[Linear]:
    """Give the layers of a cut graph that lost inputs, or whose inputs are others than the source's, in order."""
    layers, other = linear_layers(model), set[Any]()
    for node in model.graph:
        layer = layers.get(node.name)
        lost = any(value is not None and (value.name, at) in removal.stays for value, at in _summed(node, layer))
        if lost or any(value in other for value in node.inputs):
            other |= set(node.outputs)
            if layer is not None:
                yield layer


def _summed(node: Any, layer: Linear | None) -> list[tuple[Any, int]]:
    """Give the axes of weights over which a node sums, where these could have lost something."""
    if layer is not None:
        return [layer.into]
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return [(node.inputs[1], 2), (node.inputs[2], 2)]
    return [(node.inputs[1], at) for at in range(2)] if node.op_type in ("Conv", "ConvTranspose", *_PRODUCTS) else []


def _moments(model: Model, layer: Linear, removal: Removal, seen: Seen, calls: Calls) -> tuple[Moments, Moments]:
    """Run the graph as far as a layer, and sum up its rows and what they shall give; a part is held out."""
    other = beside(layer)
    outputs, columns = layer.matrix().shape[1], layer.width + (layer.bias is not None)
    both = Moments.of(columns, outputs), Moments.of(columns, outputs)
    kept = removal.kept(*layer.out)
    tensors = [layer.value.name, *([] if other is None else [other.name])]
    with observed(model.clone(), tensors) as session:
        for number, given in enumerate(parts(session, calls, seen.at_once)):
            at = seen.places[layer.name][number]
            wanted = seen.wanted[layer.name][number]
            wanted = wanted if kept is None else wanted[:, kept]
            if other is not None:
                wanted = wanted - layer.answers(given[other.name], at)
            both[number % _HELD_OUT == _HELD_OUT - 1].add(layer.rows(given[layer.value.name], at), wanted)
    for moments in both:
        moments.settle()
    return both


def _best(start: Array, fit: Moments, held: Moments) -> Array | None:
    """Give the weights of the best ridge; None where those at the start are better on what was held out."""
    if not held.rows:
        return _solved(start, fit, RIDGE)
    errors = {ridge: held.error(_solved(start, fit, ridge)) for ridge in _RIDGES}
    ridge = min(errors, key=errors.__getitem__)
    return _solved(start, fit.joined(held), ridge) if errors[ridge] < held.error(start) else None


def _solved(start: Array, moments: Moments, ridge: float) -> Array:
    assert moments.cross is not None
    missing = moments.cross - moments.gram @ start
    found: Array = start + np.linalg.solve(regular(moments.gram.astype(np.float64), ridge), missing)
    return found


def regular(gram: Array, ridge: float) -> Array:
    """Add to the diagonal."""
    found: Array = gram + np.eye(len(gram), dtype=gram.dtype) * (ridge * float(np.mean(np.diag(gram))) + 1e-12)
    return found


def _kept_outputs(layer: Linear, removal: Removal) -> Array:
    kept, matrix = removal.kept(*layer.out), layer.matrix()
    return matrix if kept is None else matrix[:, kept]
