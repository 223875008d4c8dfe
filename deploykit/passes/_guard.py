"""Keep the budget: give the layers that harm most back to float, as few as it takes.

Each layer's own effect is measured first: the noise that it alone makes at the outputs, by a graph in which every layer
can be switched between float and integers while it runs, so that one inference each is enough. Then layers are given
back in the order of effect over the arithmetic that they save, one, two, four and so on, until the whole keeps its
budget; and halfway back, while it still does.
"""

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deploykit.errors import UsageError, nearest
from deploykit.passes import Layer, Work
from deploykit.quantization.sensitivity import Effect, Switchable, effects
from deploykit.quantization.targets import LAYERS
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
    _order: list[str] = field(default_factory=list)
    """The layers, in the order in which they are given back."""
    _too_few: int = 0
    """So many given back still missed the budget."""
    _enough: int | None = None
    """So many kept it; None while none did."""
    _remarks: list[str] = field(default_factory=list)
    _until: float = np.inf

    def search(self, kept: frozenset[str]) -> Candidate:
        """Find the candidate with the fewest layers in float that keeps the budget; where none does, the last tried.

        Ctrl-C ends the search once some candidate keeps the budget, and the best of these is given.

        Args:
            kept: names of nodes that stay in float anyway.
        """
        self._until = time.monotonic() + self.seconds
        best = self.write(kept)
        if self._good(best):
            return best
        self._order = self._ranked()
        try:
            while (count := self._next()) is not None:
                self.work.step(f"the budget is missed: with {count} of {len(self._order)} layers in float?")
                best = self._better(best, self.write(kept | set(self._order[:count])), count)
        except KeyboardInterrupt:
            if self._enough is None:
                raise
            self._remarks.append("interrupted: fewer might be enough")
        return best

    def _next(self) -> int | None:
        """Say how many layers to try in float: ever more until it is enough, then halfway back; None at the end."""
        if self._enough is not None:
            count = (self._enough + self._too_few) // 2
            done = count == self._too_few
        else:  # with all of them in float nothing would be left to do
            count = min(max(1, 2 * self._too_few), len(self._order) - 1)
            done = count <= self._too_few
        if not done and self._too_few and time.monotonic() > self._until:
            self._remarks.append("the time for the search was over: give it more with --time-budget")
            done = True
        return None if done else count

    def _better(self, best: Candidate, tried: Candidate, count: int) -> Candidate:
        """Keep what was tried, or what there was; the file of the other is removed."""
        good = self._good(tried)
        if good:
            self._enough = count
        else:
            self._too_few = count
        keep, drop = (tried, best) if good or self._enough is None else (best, tried)
        shutil.rmtree(drop.path.parent, ignore_errors=True)
        return keep

    def _ranked(self) -> list[str]:
        """Name the layers, what harms most over what it saves first; those that there was no time for come last."""
        model = self.read()
        layers = self.prepare(model)
        found = list[Effect]()
        with closing(effects(model, layers, self.work.calls(), self.work.step)) as measured:
            for one in measured:
                found.append(one)
                if time.monotonic() > self._until:
                    break
        self.alone = {one.name: one.sqnr for one in found}
        rest = (layer.node.name for layer in layers if layer.node.name not in self.alone)
        return [*(one.name for one in sorted(found, key=_worth, reverse=True)), *rest]

    def _good(self, candidate: Candidate) -> bool:
        verdict: Verdict = self.work.judge(candidate.path)
        self._remarks += [f"a file did not load: {one.why}" for one in verdict.failures if one.what == "load"]
        return verdict.passed or verdict.undecided

    def said(self) -> list[str]:
        """Say what was given back."""
        if not self._order:
            return []
        total = len(self._order)
        if self._enough is None:
            missed = f"the budget is missed even with {self._too_few} of {total} nodes in float"
            return [missed, *self._remarks]
        return [f"{self._enough} of {total} nodes went back to float, to keep the budget", *self._remarks]


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
    for node in model.graph.all_nodes():
        if node.op_type not in LAYERS or constant(node.inputs[1]) is None:
            continue
        if node.graph is not model.graph:
            yield Layer(node.name or "", node.op_type, "float: it is in a body of If, Loop or Scan")
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
