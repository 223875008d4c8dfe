"""What a file in integers is written from, and how it is made better before any layer goes back to float.

Each way to make it better is tried whole: the file is written and judged, and the draft stays where its outputs lose
less. So none can make a model worse.
"""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from deploykit.passes import Work
from deploykit.passes._guard import Candidate
from deploykit.quantization.calibrating import Calibration, calibrate
from deploykit.quantization.effort import Effort
from deploykit.quantization.evening import even
from deploykit.quantization.health import chosen
from deploykit.quantization.placing import Numbers, place
from deploykit.quantization.ranges import Choice
from deploykit.quantization.reading import read
from deploykit.quantization.regions import Named, find_regions
from deploykit.quantization.settling import settle
from deploykit.quantization.targets import Target
from deploykit.quantization.weighted import Model
from deploykit.quantization.weights import Rounded
from deploykit.validation.verdict import Verdict

_GAIN, _LOSS = 0.1, 0.1
"""Decibels at the outputs that a change must gain in the mean, and that none of them may lose."""


@dataclass(frozen=True)
class Draft:
    """A model in float, and what stands for its tensors."""

    source: Path
    target: Target
    named: Named
    calibration: Calibration
    effort: Effort
    choices: Mapping[str, Choice]
    """The range of each tensor that was calibrated."""
    method: str
    """How they were chosen."""
    kept: frozenset[str] = frozenset()
    """Names of nodes that stay in float anyway."""
    weights: Mapping[str, Rounded] = field(default_factory=dict)
    """Weights that are rounded otherwise than to the nearest, by the names of their nodes."""
    did: tuple[str, ...] = ()
    """What was done for it, the last thing last."""

    def read(self) -> Model:
        """Read the model in float."""
        return read(self.source, self.target)

    @cached_property
    def numbers(self) -> Numbers:
        """What stands for every tensor: for one that was only moved about, what stands for its origin."""
        grids = {name: choice.grid for name, choice in self.choices.items()}
        for name, origin in self.named.origins.items():
            grids.setdefault(name, grids[origin])
        return Numbers(grids, self.calibration.channels, self.weights, self.effort.searches)

    def write(self, work: Work, excluded: frozenset[str]) -> Candidate:
        """Write the model with all but some nodes in integers."""
        model = self.read()
        regions = find_regions(model, self.target, excluded)
        place(model, regions, self.target, self.numbers)
        path = work.write(model)
        chosen_ = frozenset(unit.node.name for unit in regions.units)
        return Candidate(path, excluded, chosen_, regions.left)


class Trial(Protocol):
    """What a file in integers can be written from."""

    @property
    def did(self) -> tuple[str, ...]:
        """What was done for it, the last thing last."""

    def write(self, work: Work, excluded: frozenset[str]) -> Candidate:
        """Write the model with all but some nodes in integers."""


Kind = TypeVar("Kind", bound=Trial)


@dataclass
class Contest(Generic[Kind]):
    """The best that was tried so far, and its file."""

    best: Kind
    work: Work
    kept: frozenset[str]
    """Names of nodes that stay in float anyway."""
    gains: list[str] = field(default_factory=list)
    in_vain: list[str] = field(default_factory=list)
    _file: Candidate | None = None
    _verdict: Verdict | None = None

    def tried(self, other: Kind | None) -> None:
        """Write and judge another, and keep the better one; of None nothing is tried."""
        if other is None:
            return
        if self._file is None or self._verdict is None:
            self._file, self._verdict = self._judged(self.best)
        file, verdict = self._judged(other)
        gain = gained(self._verdict, verdict)
        if gain is None:
            drop = file
            self.in_vain.append(other.did[-1])
        else:
            drop, self.best, self._file, self._verdict = self._file, other, file, verdict
            self.gains.append(f"{other.did[-1]}: {gain:.1f} dB gained at the outputs")
        shutil.rmtree(drop.path.parent, ignore_errors=True)

    def write(self, excluded: frozenset[str]) -> Candidate:
        """Write the best with these nodes in float, unless it is there already."""
        if self._file is not None and self._file.excluded == excluded and self._file.path.exists():
            return self._file
        return self.best.write(self.work, excluded)

    def said(self) -> list[str]:
        """Say what was done, and what was tried in vain."""
        return [*self.gains, *([f"tried, and gained nothing: {'; '.join(self.in_vain)}"] if self.in_vain else [])]

    def _judged(self, draft: Kind) -> tuple[Candidate, Verdict]:
        file = draft.write(self.work, self.kept)
        return file, self.work.judge(file.path)


def gained(before: Verdict, after: Verdict) -> float | None:
    """Say how many dB the outputs gain in the mean; None where it is not worth it, or one of them loses."""
    first, second = _levels(before), _levels(after)
    if first.keys() != second.keys() or not first:
        return None
    gains = [second[name] - first[name] for name in first]
    mean = math.fsum(gains) / len(gains)
    return mean if mean >= _GAIN and min(gains) >= -_LOSS else None


def _levels(verdict: Verdict) -> dict[str, float]:
    """Give the SQNR of each output in dB."""
    found = {check.what: check.figures.get("sqnr", math.nan) for check in verdict.checks}
    return {name: level for name, level in found.items() if math.isfinite(level)}


def improve(contest: Contest[Draft]) -> None:
    """Try what the effort has."""
    effort, work = contest.best.effort, contest.work
    if effort.evens:
        contest.tried(evened(contest.best, work))
    if effort.settles:
        contest.tried(settled(contest.best, work))


def evened(draft: Draft, work: Work) -> Draft | None:
    """Even the channels of the model, and calibrate what has other values then; None where nothing is worth it."""
    model, done = even(draft.read, draft.named.nodes, draft.target, work.calls, work.folder, work.step)
    if not done.said:
        return None
    source = written_aside(model, work)
    del model
    old, graph = draft.calibration, read(source, draft.target)
    named = Named.of(find_regions(graph, draft.target, draft.kept))
    names = [name for name in named.calibrated if name not in old.counts]
    again = calibrate(graph, names, named.channels, work.calls, work.folder, work.step)
    counts = {name: again.counts.get(name) or old.counts[name] for name in named.calibrated}
    calibration = replace(old, counts=counts, channels={**old.channels, **again.channels})
    new = chosen(again, draft.target, draft.method)
    choices = {name: new.get(name) or draft.choices[name] for name in counts}
    did = (*draft.did, done.said)
    return replace(draft, source=source, named=named, calibration=calibration, choices=choices, did=did)


def written_aside(model: Model, work: Work) -> Path:
    """Write a model in float that other files are made from."""
    from deploykit.onnx_io import save

    place_ = work.folder / "evened" / "model.onnx"
    place_.parent.mkdir()
    save(model, place_)
    return place_


def settled(draft: Draft, work: Work) -> Draft:
    """Round the weights by what it does to the outputs of their layers."""
    settling = settle(draft.read, draft.target, work.calls, work.folder, work.step)
    found = {name: one for name, one, part in settling if part < 1}
    return replace(draft, weights=found, did=(*draft.did, f"the rounding of {len(found)} layers settled"))
