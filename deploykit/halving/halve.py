"""Halve a file, prove it on a machine with such floats, and keep in float32 what loses too much."""

import gc
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.errors import NotEquivalent, UsageError
from deploykit.halving.graph import Graph, read
from deploykit.halving.plan import PRODUCTS, Plan, plan
from deploykit.halving.ranges import Ranges, measure
from deploykit.halving.rewrite import Rewriting
from deploykit.halving.schema import is_float
from deploykit.halving.search import Trial, search
from deploykit.halving.words import fates, noted, proved, sized, told
from deploykit.rounding import Half, emulate, rounded_types
from deploykit.validation.tolerance import least_sqnr

if TYPE_CHECKING:
    from deploykit.passes import Work
    from deploykit.validation.verdict import Verdict


@dataclass(frozen=True)
class Halved:
    """A file that was made, and how it is on a machine that rounds to 16 bits."""

    path: Path
    plan: Plan
    done: str
    """What was done, in one line."""
    notes: tuple[str, ...]
    """What stayed in float32, what became of weights, and how it did where every tensor is rounded."""
    fates: tuple[tuple[str, str, str], ...]
    """The name, the operator and what became of each node with real numbers."""
    verdict: "Verdict"


def halve(source: Path, half: Half, work: "Work", *, ports: bool) -> Halved:
    """Make a file that computes in 16 bits where it can, and answers as its source does.

    Args:
        source: an ONNX file in float32.
        half: the type.
        work: what writes and judges files.
        ports: whether its inputs and outputs become 16 bits wide too.

    Raises:
        UsageError: nothing in it can be halved.
        NotEquivalent: whatever stays in float32, it is not the same model any more.
        ModelError: it can't be read, or does not run.
    """
    work.step(f"measuring the tensors of {source.name}")
    ranges = measure(source, half, work.calls(), work.folder)
    making = _Making(source, half, work, ranges, ports)
    work.step(f"rewriting to {half.name}")
    made = making.made({})
    if not _loads(work.judge(made.path)):
        making = replace(making, stored=False)
        made = _loading(making)
    if made.verdict.passed or not work.judge(source).passed:
        return made  # what was wrong before is for the runner to say
    work.step(f"looking for what loses too much in {half.name}")
    kept = search(made.plan, partial(making.trial, made.plan))
    found = making.made(kept) if kept is not None else made
    if not found.verdict.passed or not found.plan.halves:
        raise _failed(found, half)
    return found


@dataclass(frozen=True)
class _Making:
    """What files are made of."""

    source: Path
    half: Half
    work: "Work"
    ranges: Ranges
    ports: bool
    stored: bool = True
    """Whether weights that float32 reads are 16 bits wide in the file."""

    def made(self, kept: Mapping[int, str]) -> Halved:
        """Write a file, and judge what it is where every tensor of 16 bits is rounded."""
        from deploykit.onnx_io import size_of

        graph = read(self.source, self.half)
        chosen = plan(graph, self.ranges, kept)
        done, every, before = told(graph, chosen), fates(graph, chosen), size_of(self.source, graph.model)
        Rewriting(graph, chosen, self._whole(graph, kept), self.ports).run()
        if not kept and not chosen.halves and self.half not in rounded_types(graph.model):
            raise _nothing(self.source, self.half, list(noted(graph, chosen)))
        path = self.work.write(graph.model)
        notes = [*noted(graph, chosen), *sized(graph, before, _written(path))]
        rounded = self._rounded(graph)
        del graph
        verdict = self._judged(rounded)
        notes += proved(verdict, self.half) if verdict.passed else ()
        return Halved(path, chosen, done, tuple(notes), every, verdict)

    def trial(self, chosen: Plan, kept: Collection[int]) -> Trial:
        """Judge a file in which some nodes of a plan stay in float32, and throw it away.

        No cheapest cut is looked for: it would take the rest of a small part back to float32, which then does no harm.
        """
        graph = read(self.source, self.half)
        rest = replace(chosen, halves=chosen.halves - set(kept))
        Rewriting(graph, rest, self._whole(graph, kept)).run()
        rounded = self._rounded(graph)
        del graph
        return Trial.of(self._judged(rounded), least_sqnr(self.half.name))

    def _rounded(self, graph: Graph) -> Path:
        emulate(graph.model)
        return self.work.write(graph.model)

    def _judged(self, path: Path) -> "Verdict":
        gc.collect()  # a model is cyclic, and would keep its weights beside those of the session
        verdict = self.work.judge(path)
        for file in path.parent.iterdir():
            file.unlink()
        return verdict

    def _whole(self, graph: Graph, kept: Collection[int]) -> frozenset[str] | None:
        """Name the weights of the nodes that lose too much: they are not rounded either. None stands for all."""
        if not self.stored:
            return None
        return frozenset(
            value.name
            for number in kept
            for value in graph.nodes[number].inputs
            if is_float(value) and value.const_value
        )


def _written(path: Path) -> int:
    """Give the bytes of a file that has a folder of its own, with those beside it."""
    return sum(file.stat().st_size for file in path.parent.iterdir())


_RECURRENT = ("LSTM", "GRU", "RNN")


def _loading(making: _Making) -> Halved:
    """Make a file that onnxruntime loads.

    Its FuseFp16InitializerToFp32NodeTransformer (1.31) dies of some files: of some whose weights are cast before they
    are read, and of some that cast what a recurrent layer gives.
    """
    made = making.made({})
    if _loads(making.work.judge(made.path)):
        return made
    graph = read(making.source, making.half)
    ahead = [number for number, node in enumerate(graph.nodes) if node.op_type in _RECURRENT]
    kept: dict[int, str] = {}
    while ahead:
        users = {user for value in graph.nodes[ahead.pop()].outputs for user, _ in value.uses()}
        after = [graph.number[user] for user in users if user in graph.number and user.op_type not in PRODUCTS]
        ahead += [number for number in after if number not in kept]
        kept |= dict.fromkeys(after, "comes after a recurrent layer, where onnxruntime dies of a cast")
    del graph
    return making.made(kept)


def _loads(verdict: "Verdict") -> bool:
    return all(check.what != "load" for check in verdict.failures)


def _nothing(source: Path, half: Half, reasons: list[str]) -> UsageError:
    return UsageError(
        f"there is nothing in {source.name} that can be {half.name}",
        fix="leave it as it is",
        details=reasons or ["none of its numbers is float32"],
    )


def _failed(found: Halved, half: Half) -> NotEquivalent:
    return NotEquivalent(
        f"whatever stays in float32, in {half.name} the model does not answer as its source does",
        fix="leave it in float32, or give samples as it gets in use with --data",
        details=[*found.notes, *(check.said for check in found.verdict.failures[:3])],
        verdict=found.verdict,
    )
