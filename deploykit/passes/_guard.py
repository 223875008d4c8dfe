"""Keep the budget: give the layers that harm most back to float, as few as it takes.

Each layer's own effect is measured first: the noise that it alone makes at the outputs, by a graph in which every layer
can be switched between float and integers while it runs, so that one inference each is enough. Then layers are given
back in the order of effect over the arithmetic that they save, one, two, four and so on, until the whole keeps its
budget; and halfway back, while it still does. All that was measured is kept as it goes (``_known``).
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
from deploykit.passes._known import Known
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
    known: Known
    """What is measured is kept in it, and what a run before has measured is there already."""
    alone: dict[str, float] = field(default_factory=dict)
    """SQNR in dB at the outputs with only this node in integers, by name; empty where nothing had to be given back."""
    settled: bool = True
    """Whether the search came to its end."""
    _order: list[str] = field(default_factory=list)
    """The layers, in the order in which they are given back."""
    _too_few: int = 0
    """So many given back still missed the budget."""
    _enough: int | None = None
    """So many kept it; None while none did."""
    _given: int | None = None
    """So many were given back in the end, and that was enough."""
    _remarks: list[str] = field(default_factory=list)
    _files: dict[frozenset[str], Candidate] = field(default_factory=dict)
    """Of what was written, the best."""
    _until: float = np.inf

    def search(self, kept: frozenset[str]) -> Candidate:
        """Find the candidate with the fewest layers in float that keeps the budget; where none does, the last tried.

        Ctrl-C ends the search once some candidate keeps the budget, and the best of these is given.

        Args:
            kept: names of nodes that stay in float anyway.
        """
        self._until = time.monotonic() + self.seconds
        if self._good(kept):
            return self._file(kept)
        try:
            self._order = self._ranked()
            while (count := self._next()) is not None:
                self.work.step(f"the budget is missed: with {count} of {len(self._order)} layers in float?")
                self._judged(kept | set(self._order[:count]), count)
        except KeyboardInterrupt:
            if self.known.best() is None:
                raise
            self._cut_short("interrupted: fewer might be enough")
        best = self.known.best()
        self._given = None if best is None else len(best - kept)
        return self._file(best or kept | set(self._order[: self._too_few]))

    def _next(self) -> int | None:
        """Say how many layers to try in float: ever more until it is enough, then halfway back; None at the end."""
        if self._enough is not None:
            count = (self._enough + self._too_few) // 2
            done = count == self._too_few
        else:  # with all of them in float nothing would be left to do
            count = min(max(1, 2 * self._too_few), len(self._order) - 1)
            done = count <= self._too_few
        if not done and self._too_few and time.monotonic() > self._until:
            self._cut_short("the time for the search was over: give it more with --time-budget")
            done = True
        return None if done else count

    def _cut_short(self, why: str) -> None:
        self.settled = False
        self._remarks.append(f"{why}; the same command goes on from here")

    def _judged(self, excluded: frozenset[str], count: int) -> None:
        """Move the end of the search that a choice tells of; of the files only the best stays."""
        if self._good(excluded):
            self._enough = count
        else:
            self._too_few = count
        best = self.known.best() or excluded
        for other in [one for one in self._files if one != best]:
            shutil.rmtree(self._files.pop(other).path.parent, ignore_errors=True)

    def _file(self, excluded: frozenset[str]) -> Candidate:
        """Give the candidate with these nodes in float."""
        if excluded not in self._files:
            self._files[excluded] = self.write(excluded)
        return self._files[excluded]

    def _ranked(self) -> list[str]:
        """Name the layers, what harms most over what it saves first; those that there was no time for come last."""
        model = self.read()
        layers = self.prepare(model)
        every = [layer.node.name for layer in layers]
        rest = [layer for layer in layers if layer.node.name not in self.known.effects]
        if rest:
            with closing(effects(model, rest, self.work.calls(), self.work.step)) as measured:
                for one in measured:
                    self.known.measured(one)
                    if time.monotonic() > self._until:
                        break
        found = [self.known.effects[name] for name in every if name in self.known.effects]
        self.alone = {one.name: one.sqnr for one in found}
        last = (name for name in every if name not in self.alone)
        return [*(one.name for one in sorted(found, key=_worth, reverse=True)), *last]

    def _good(self, excluded: frozenset[str]) -> bool:
        """Tell whether the budget is kept with these nodes in float; what was judged before is not judged again."""
        if excluded not in self.known.verdicts:
            verdict: Verdict = self.work.judge(self._file(excluded).path)
            self._remarks += [f"a file did not load: {one.why}" for one in verdict.failures if one.what == "load"]
            self.known.judged(excluded, passed=verdict.passed or verdict.undecided)
        return self.known.verdicts[excluded]

    def said(self) -> list[str]:
        """Say what was given back."""
        total = len(self._order)
        before = self.known.said(total)
        if not total:
            return [*before]
        if self._given is None:
            missed = f"the budget is missed even with {self._too_few} of {total} nodes in float"
            return [missed, *before, *self._remarks]
        return [f"{self._given} of {total} nodes went back to float, to keep the budget", *before, *self._remarks]


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
        is_table = node.op_type == "Gather" and node.name in best.chosen | best.excluded
        if not is_table and (node.op_type not in LAYERS or constant(node.inputs[1]) is None):
            continue
        if node.graph is not model.graph:
            yield Layer(node.name or "", node.op_type, "float: it is in a body of If, Loop or Scan")
            continue
        without = "only --dynamic has a kernel for it" if node.op_type == "LSTM" else "it has no kernel in integers"
        fate = f"float: {best.left.get(node.name, without)}"
        if node.name in best.excluded:
            fate = "float: for the budget" if node.name in alone else "float: as asked"
        if node.name in best.chosen:
            fate = "int8" if ran is None or node.name in ran else "float: onnxruntime did not fuse it"
        yield Layer(node.name, node.op_type, fate, alone.get(node.name))


def nodes_named(model: Model, names: Collection[str]) -> None:
    """Make sure that there are nodes of these names.

    Raises:
        UsageError: there is none of one of them.
    """
    known = [node.name for node in model.graph]
    for name in names:
        if name not in known:
            layers = [f"{node.name} ({node.op_type})" for node in model.graph if node.op_type in LAYERS]
            raise UsageError(
                f"the simplified model has no node '{name}'{nearest(name, known)}",
                fix="name one that it has",
                details=[f"its layers with weights: {', '.join(layers[:6])}{', ...' if layers[6:] else ''}"],
            )


def check_seconds(given: float) -> None:
    """Make sure that a time for the search is one.

    Raises:
        UsageError: it is not.
    """
    if not given >= 0:
        raise UsageError(f"--time-budget is {given:g}, and is a number of seconds", fix="--time-budget 600")
