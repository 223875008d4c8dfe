"""Metrics: how far one array is from another, in float64. One file each; each holds one frozen dataclass.

A metric is taken in parts: what is kept of one batch, joined with what is kept of the next, gives the figure of both.
So memory is that of one batch, however many there are.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from deploykit.plugin import Registry
from deploykit.tensors import Array

Parts = tuple[Any, ...]
"""What a metric keeps of the values that it has seen."""


@dataclass(frozen=True)
class Metric(ABC):
    """One figure of the difference between a candidate and its reference."""

    @abstractmethod
    def parts(self, reference: Array, candidate: Array) -> Parts:
        """Give what is to be kept of a batch.

        Args:
            reference: float64, any shape, at least one element, finite.
            candidate: float64, the same shape, finite.
        """

    def joined(self, one: Parts, other: Parts) -> Parts:
        """Join what was kept of two batches: sums add up."""
        return tuple(left + right for left, right in zip(one, other, strict=True))

    @abstractmethod
    def figure(self, parts: Parts) -> float:
        """Give the figure of all that was joined."""

    def measure(self, reference: Array, candidate: Array) -> float:
        """Give the figure of one batch; the arrays as ``parts`` takes them."""
        return self.figure(self.parts(reference, candidate))


METRICS = Registry("deploykit.metrics", Metric, "metric")


class Figures:
    """Every metric, followed batch by batch."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._metrics = {name: METRICS.make(name) for name in METRICS.names()}
        self._parts: dict[str, Parts] = {}

    def add(self, reference: Array, candidate: Array) -> None:
        """Take a batch: float64, of one shape, finite; an empty one is passed over."""
        if not reference.size:
            return
        for name, metric in self._metrics.items():
            parts = metric.parts(reference, candidate)
            self._parts[name] = metric.joined(self._parts[name], parts) if name in self._parts else parts

    def result(self) -> dict[str, float]:
        """Give the figures by name; none where there was no value."""
        return {name: self._metrics[name].figure(parts) for name, parts in self._parts.items()}


def measure_all(reference: Array, candidate: Array) -> dict[str, float]:
    """Give the figure of every metric, by name."""
    figures = Figures()
    figures.add(reference, candidate)
    return figures.result()
