"""Keep the budget: give the layers that harm most back to float, as few as it takes.

Each layer's own effect is measured first: the noise that it alone makes at the outputs, by a graph in which every layer
can be switched between float and integers while it runs, so that one inference each is enough. Then layers are given
back in the order of effect over the arithmetic that they save, one, two, four and so on, until the whole keeps its
budget; and halfway back, while it still does.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploykit.errors import UsageError, nearest
from deploykit.passes import Layer, Work
from deploykit.quantization.sensitivity import Effect, Switchable, effects
from deploykit.quantization.targets import WEIGHTED
from deploykit.quantization.weighted import Model, constant
from deploykit.validation.verdict import Verdict


@dataclass(frozen=True)
class Candidate:
    """A file with some nodes in integers."""

    path: Path
    excluded: frozenset[str]
    """Names of the nodes that stay in float, for the budget."""
    chosen: frozenset[str]
    """Names of those that were rounded."""
    left: Mapping[str, str]
    """Why other nodes with weights stay there, by their names."""


@dataclass
class Guard:
    """The search for the fastest file that keeps the budget."""

    read: Callable[[], Model]
    """Reads the model in float."""
    prepare: Callable[[Model], list[Switchable]]
    """Adds to the model what each layer reads once it is rounded."""
    work: Work
    seconds: float
    write: Callable[[frozenset[str]], Candidate]
    """Writes the candidate with these nodes in float."""
    alone: dict[str, float] = field(default_factory=dict)
    """SQNR in dB at the outputs with only this node in integers, by name; empty where nothing had to be given back."""
    _given_back: int = 0
    _late: bool = False

    def search(self, kept: frozenset[str]) -> Candidate:
        """Find the candidate with the fewest layers in float that keeps the budget; where none does, the best.

        Args:
            kept: names of nodes that stay in float anyway.
        """
        until = time.monotonic() + self.seconds
        first = self.write(kept)
        if self._good(first):
            return first
        ranked = effects(self.read(), self.prepare, self.work.calls(), self.work.step)
        self.alone = {one.name: one.sqnr for one in ranked}
        order = [one.name for one in sorted(ranked, key=_worth, reverse=True)]
        failing, passing, best = self._doubled(kept, order, until)
        if passing is None:
            self._given_back = len(order)
            return best
        while passing - failing > 1 and time.monotonic() < until:
            count = (passing + failing) // 2
            self.work.step(f"is it enough to have {count} of {len(order)} layers in float?")
            tried = self.write(kept | set(order[:count]))
            if self._good(tried):
                best, passing = tried, count
            else:
                failing = count
        self._given_back = passing
        return best

    def _doubled(self, kept: frozenset[str], order: list[str], until: float) -> tuple[int, int | None, Candidate]:
        """Give back ever more layers; tell how many were too few, how many enough, and what that made."""
        failing, count = 0, 1
        while True:
            self.work.step(f"the budget is missed: {count} of {len(order)} layers back to float")
            tried = self.write(kept | set(order[:count]))
            if self._good(tried):
                return failing, count, tried
            failing = count
            self._late = time.monotonic() > until
            # With all of them in float nothing would be left to do.
            if self._late or count >= len(order) - 1:
                return failing, None, tried
            count = min(2 * count, len(order) - 1)

    def _good(self, candidate: Candidate) -> bool:
        verdict: Verdict = self.work.judge(candidate.path)
        return verdict.passed or verdict.undecided

    def said(self) -> list[str]:
        """Say what was given back."""
        if not self.alone:
            return []
        told = f"{self._given_back} of {len(self.alone)} layers went back to float, to keep the budget"
        return [told + ("; the time for it was over" if self._late else "")]


def _worth(one: Effect) -> float:
    """What a layer harms, over what it saves."""
    return one.noise / max(one.work, 1.0) ** 0.5


def layers_of(
    model: Model, best: Candidate, ran: Collection[str] | None, alone: Mapping[str, float]
) -> Iterator[Layer]:
    """Tell the fate of every layer with weights.

    Args:
        model: the model in float.
        best: the file that was chosen.
        ran: names of the nodes that the runtime has kernels in integers for; None where that was not looked at.
        alone: SQNR in dB with only this layer rounded, by name, where it was measured.
    """
    for node in model.graph:
        if node.op_type not in (*WEIGHTED, "LSTM", "GRU", "RNN") or constant(node.inputs[1]) is None:
            continue
        fate = f"float: {best.left.get(node.name, 'there is no kernel in integers for it')}"
        if node.name in best.excluded:
            fate = "float: for the budget" if node.name in alone else "float: as asked"
        if node.name in best.chosen:
            fate = "int8" if ran is None or node.name in ran else "float: onnxruntime did not fuse it"
        yield Layer(node.name, node.op_type, fate, alone.get(node.name))


def nodes_named(model: Model, names: Collection[str], source: Path) -> None:
    """Make sure that there are nodes of these names.

    Raises:
        UsageError: there is none of one of them.
    """
    known = {node.name for node in model.graph}
    for name in names:
        if name not in known:
            raise UsageError(
                f"{source.name} has no node '{name}'{nearest(name, known)}",
                fix="give the name that the file has for it",
            )
