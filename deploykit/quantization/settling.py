"""Round the weights of a model by what it does to the outputs of its layers, and say beforehand how long it takes."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploykit.child import Step
from deploykit.quantization.descent import settled
from deploykit.quantization.moments import Moments, as_matrix, moments
from deploykit.quantization.regions import Unit, find_regions
from deploykit.quantization.targets import Target
from deploykit.quantization.weighted import Model, constant
from deploykit.quantization.weights import Rounded, rounded
from deploykit.tensors import Array


def settle(
    read: Callable[[], Model],
    target: Target,
    calls: Callable[[], Iterable[Mapping[str, Array]]],
    folder: Path,
    step: Step,
) -> Iterator[tuple[str, Rounded, float]]:
    """Round the weights of all layers that become integers.

    Args:
        read: reads the model.
        target: the rules.
        calls: gives inputs by name; each time from the first on.
        folder: where a copy of the model may lie.
        step: takes a sentence about what goes on; of the first layer on, how many minutes are left.

    Yields:
        The name of a node, its weight in integers, and the squared error of its output over that of the nearest.

    Raises:
        ModelError: the model does not run.
    """
    units = {unit.node.name: unit for unit in find_regions(read(), target).units if unit.weight is not None}
    clock = _Clock({name: _cost(unit) for name, unit in units.items()})
    for window in moments(read, units, calls, folder, step):
        clock.gathered(window)
        for name in sorted(window, key=lambda one: -clock.costs[one]):  # of the largest the time is told best
            one = _settled(units[name], window.pop(name), target)
            clock.settled(name)
            step(f"settling the rounding: {clock.done} of {len(units)} layers, {clock.left}")
            yield name, *one


def _settled(unit: Unit, found: Moments, target: Target) -> tuple[Rounded, float]:
    assert unit.weight is not None
    weight = constant(unit.node.inputs[unit.weight]).numpy()
    return settled(unit.node, weight, rounded(weight, unit.axis, target.weight_levels), found, target.weight_levels)


def _cost(unit: Unit) -> float:
    """Say what a layer takes, about: outputs and rows, each against the square of the inputs."""
    assert unit.weight is not None
    groups, outputs, inputs = as_matrix(unit.node, constant(unit.node.inputs[unit.weight]).numpy()).shape
    return float(groups * inputs * (inputs * outputs + 64 * outputs + 4096))


@dataclass
class _Clock:
    """How long it will take, as far as it is known."""

    costs: Mapping[str, float]
    done: int = 0
    _start: float = field(default_factory=time.monotonic)
    _gathering: float = 0.0
    _settling: float = 0.0
    _gathered: float = 0.0
    _settled: float = 0.0

    def gathered(self, names: Iterable[str]) -> None:
        """Note that the moments of these are there."""
        self._gathering += self._lap()
        self._gathered += sum(self.costs[name] for name in names)

    def settled(self, name: str) -> None:
        """Note that a layer is done."""
        self._settling += self._lap()
        self._settled += self.costs[name]
        self.done += 1

    def _lap(self) -> float:
        before, self._start = self._start, time.monotonic()
        return self._start - before

    @property
    def left(self) -> str:
        """How long the rest takes, about, in words."""
        whole = sum(self.costs.values())
        rest = self._gathering * (whole / self._gathered - 1) + self._settling * (whole / self._settled - 1)
        return f"about {rest / 60:.0f} min left" if rest > 90 else f"about {rest:.0f} s left"  # noqa: PLR2004
