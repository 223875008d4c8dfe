"""Metrics: how far one array is from another, in float64. One file each; each holds one frozen dataclass."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from deploykit.plugin import Registry
from deploykit.tensors import Array


@dataclass(frozen=True)
class Metric(ABC):
    """One figure of the difference between a candidate and its reference."""

    @abstractmethod
    def measure(self, reference: Array, candidate: Array) -> float:
        """Give the figure.

        Args:
            reference: float64, any shape, at least one element, finite.
            candidate: float64, the same shape, finite.
        """


METRICS = Registry("deploykit.metrics", Metric, "metric")


def measure_all(reference: Array, candidate: Array) -> dict[str, float]:
    """Give the figure of every metric, by name."""
    return {name: METRICS.make(name).measure(reference, candidate) for name in METRICS.names()}
