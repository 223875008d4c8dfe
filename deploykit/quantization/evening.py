"""Even the channels of a tensor, where one scale for all of them leaves little of the small ones.

Between a layer and the next, channels are divided by factors and the next layer's weights multiplied by them. From one
convolution to another that is cross-layer equalization (M. Nagel et al., Data-Free Quantization Through Weight
Equalization and Bias Correction, ICCV 2019); from a normalization to the products of a transformer it is SmoothQuant
(G. Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models, ICML 2023).
How far the difference is moved into the weights is tried, from not at all to wholly. Factors are powers of two, so that
in float not one bit of the answers changes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np

from deploykit.child import Step
from deploykit.quantization.calibrating import parts_of, watched
from deploykit.quantization.counts import Counts
from deploykit.quantization.moments import as_matrix
from deploykit.quantization.ranges import choose
from deploykit.quantization.sites import Site, find_sites
from deploykit.quantization.targets import Target
from deploykit.quantization.weighted import Model, Node, constant
from deploykit.tensors import Array, Signature

_PARTS = (0.25, 0.5, 0.75, 1.0)
"""How much of the difference between channels is moved into the weights: alpha of SmoothQuant."""
_WORTH = 0.6
"""Part of a site's error that may be left for it to be worth it."""
_CALLS, _ROWS = 12, 8
"""Calls that are looked at, and rows of each."""
_VALUES = 1 << 20
"""Values of a tensor that are looked at, about: what comes seldom is large, and decides."""
_SMALLER, _LARGER = -4, 10
"""Exponents of the factors, beside the usual one: what hardly came in the samples may come in use."""


@dataclass(frozen=True)
class Evened:
    """What was evened in a graph; the tensors have other names then."""

    pairs: int
    """Sites between layers."""
    smoothed: int
    """Sites after normalizations."""

    @property
    def said(self) -> str:
        """The same in words."""
        counts = ((self.pairs, "pair{} of layers equalized"), (self.smoothed, "input{} of products smoothed"))
        return ", ".join(f"{count} {what.format('s' * (count > 1))}" for count, what in counts if count)


def even(
    read: Callable[[], Model],
    names: frozenset[str],
    target: Target,
    calls: Callable[[], Iterable[Mapping[str, Array]]],
    folder: Path,
    step: Step,
) -> tuple[Model, Evened]:
    """Even the channels of all tensors where it makes the error of the layers that read them less.

    Args:
        read: reads the model; what is given is such a model, changed.
        names: the nodes that become integers.
        target: the rules.
        calls: gives inputs by name; some rows of some calls are looked at.
        folder: where a copy of the model may lie.
        step: takes a sentence about what goes on.

    Raises:
        ModelError: the model does not run.
    """
    model = read()
    sites = [site for site in find_sites(model) if names & {node.name for node in site.readers}]
    pairs, smoothed = 0, 0
    seen = _seen(read(), sites, calls, folder, step) if sites else {}
    for site in sites:
        readers = [node for node in site.readers if node.name in names]
        factors = _factors([_Reading.of(node, seen[node.inputs[0].name], target) for node in readers])
        if factors is not None:
            site.scale(model, factors)
            pairs, smoothed = pairs + (not site.smooths), smoothed + site.smooths
    return model, Evened(pairs, smoothed)


def _seen(
    model: Model,
    sites: Sequence[Site],
    calls: Callable[[], Iterable[Mapping[str, Array]]],
    folder: Path,
    step: Step,
) -> dict[str, Array]:
    """Give some places of the tensors that are read, float32 [places, channels], by name."""
    from deploykit.onnx_io import signature

    step("looking at the channels")
    axes = {node.inputs[0].name: site.axis for site in sites for node in site.readers}
    found: dict[str, list[Array]] = {name: [] for name in axes}
    few = partial(_few, calls, signature(model))
    for count, answer in watched(model, list(axes), few, folder, step):
        for name, axis in axes.items():
            rows = np.moveaxis(answer[name], axis, -1).reshape(-1, answer[name].shape[axis])
            places = _VALUES * count // (_CALLS * _ROWS * rows.shape[1])
            step_ = -(-len(rows) // max(places, 1)) | 1  # an odd step does not stay in the same column
            found[name].append(rows[::step_].astype(np.float32))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _few(calls: Callable[[], Iterable[Mapping[str, Array]]], signature: Signature) -> Iterator[Mapping[str, Array]]:
    for call in islice(calls(), _CALLS):
        yield next(parts_of(call, _ROWS, signature))


def _factors(readings: Sequence["_Reading"]) -> Array | None:
    """Give the factors with which the layers that read a tensor err least, or None where it isn't worth it."""
    if not readings:
        return None
    largest = np.max([one.largest for one in readings], axis=0)
    weights = np.max([one.weights for one in readings], axis=0)
    alive = (largest > 0) & (weights > 0)
    if not alive.any():
        return None
    best, least = None, _WORTH * sum(one.error(np.ones(len(largest), np.float32)) for one in readings)
    for part in _PARTS:
        wanted = np.zeros(len(largest))
        wanted[alive] = part * np.log2(largest[alive]) - (1 - part) * np.log2(weights[alive])
        wanted[alive] -= np.median(wanted[alive])
        factors = np.exp2(np.clip(np.rint(wanted), _SMALLER, _LARGER)).astype(np.float32)
        error = sum(one.error(factors) for one in readings)
        if error < least:
            best, least = factors, error
    return best


@dataclass(frozen=True)
class _Reading:
    """A layer that reads a tensor, and what its rounding does to the layer's output."""

    seen: Array
    """Places of the tensor, [places, channels]."""
    largest: Array
    """Of each channel."""
    spread: Array
    """Mean square of each channel."""
    energy: Array
    """Squares of the weights that read each channel."""
    weights: Array
    """The largest of these, for each channel."""
    rows: Array
    """The largest weights by output and channel: [outputs, channels of its group]."""
    taps: int
    groups: int
    target: Target

    @classmethod
    def of(cls, node: Node, seen: Array, target: Target) -> Self:
        """Look at a layer, and at places of what it reads."""
        matrix = as_matrix(node, constant(node.inputs[1]).numpy())
        groups, outputs, inputs = matrix.shape
        count = seen.shape[1] // groups
        parts = np.abs(matrix.reshape(groups, outputs, count, inputs // count))
        return cls(
            seen,
            np.abs(seen).max(axis=0),
            (seen.astype(np.float64) ** 2).mean(axis=0),
            (parts.astype(np.float64) ** 2).sum(axis=(1, 3)).reshape(-1),
            parts.max(axis=(1, 3)).reshape(-1),
            parts.max(axis=3),
            inputs // count,
            groups,
            target,
        )

    def error(self, factors: Array) -> float:
        """Estimate the squared error of the output over its size, with rounded inputs and weights."""
        scaled = self.seen / factors
        counts = Counts()
        counts.add(scaled)
        grid = choose(counts, levels=self.target.activation_levels, symmetric=self.target.symmetric, method="mse").grid
        low, high = (-(grid.levels // 2), grid.levels // 2) if grid.symmetric else (-grid.zero, grid.levels - grid.zero)
        lost = np.clip(np.rint(scaled / grid.scale), low, high) * grid.scale - scaled
        activations = np.einsum("pc,pc->c", lost, lost) / len(lost) * self.energy * factors.astype(np.float64) ** 2
        by_group = factors.reshape(self.groups, 1, -1)
        steps = (self.rows * by_group).max(axis=2) / (self.target.weight_levels // 2)
        spread = (self.spread / factors.astype(np.float64) ** 2).reshape(self.groups, -1).sum(axis=1)
        weights = (steps.astype(np.float64) ** 2).sum(axis=1) / 12 * self.taps * spread
        return float((activations.sum() + weights.sum()) / max((self.spread * self.energy).sum(), 1e-30))
