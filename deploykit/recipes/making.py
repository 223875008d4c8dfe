"""Make the artifacts of a plan: each step once, each artifact as far as its proofs hold."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploykit.artifact import staging
from deploykit.child import Step as Say
from deploykit.errors import DeploykitError, UsageError
from deploykit.optimization.speed import is_faster
from deploykit.promotion import promote
from deploykit.recipes.planning import Line, Plan, Step
from deploykit.recipes.store import Store
from deploykit.recipes.tasks import GOLDEN, MODEL, Done
from deploykit.timing import Comparison
from deploykit.timing.words import times, told
from deploykit.typed import filled, stored
from deploykit.validation.divergence.found import Divergence
from deploykit.validation.evidence import golden_path
from deploykit.validation.verdict import Verdict


@dataclass(frozen=True)
class Taken:
    """A step of an artifact, done now or before."""

    title: str
    cached: bool
    told: Done


@dataclass(frozen=True)
class Made:
    """What became of one artifact."""

    name: str
    path: Path
    """Where it is, or would be."""
    passed: bool
    """Whether it was made, proved, and keeps what was required."""
    steps: tuple[Taken, ...]
    missed: tuple[str, ...]
    """Why it did not pass, in plain words."""
    bytes: int
    """Of the last file that was proved."""
    speed: Comparison | None
    last_good: Path | None
    """Where it did not pass: the last file that was made."""
    depth: Divergence | None = None
    """How its error grows along the net, where a report tells it."""
    key: str = ""
    """Of the step that made it; empty where one failed."""

    @property
    def word(self) -> str:
        """What became of it, in a word or two."""
        if self.steps and self.steps[-1].told.unproved:
            return "built, not run" if self.passed else "UNPROVED"
        return "proved" if self.passed else "FAILED"

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the last file that was proved."""
        return self.steps[-1].told.verdict if self.steps else None


@dataclass(frozen=True)
class Steps:
    """Does steps, or finds that they were done."""

    store: Store
    say: Say
    failed: Mapping[str, DeploykitError] = field(default_factory=dict)
    """What went wrong with steps that were tried elsewhere, by their keys."""

    def taken(self, step: Step) -> Taken:
        """Do a step, unless it was done.

        Raises:
            DeploykitError: it can't be done, or its proof fails.
        """
        if step.key in self.failed:
            raise self.failed[step.key]
        cached = self.store.has(step.key)
        if not cached:
            self.say(step.title)
            self.store.make(step.key, lambda own: stored(step.task.do(self.store, own, self.say)))
        problems: list[str] = []
        done = filled(Done, self.store.result(step.key), step.title, problems)
        if done is None:
            raise UsageError(f"what was kept of {step.title} can't be read", fix="deploykit clean", details=problems)
        return Taken(step.title, cached, done)


def made(planned: Plan, line: Line, steps: Steps, converted: Taken, target: Path) -> Made:
    """Make one artifact; an error of a step is its end, and not that of the others."""
    taken: list[Taken] = []
    good = planned.convert
    try:
        for step in line.passes:
            taken.append(steps.taken(step))
            good = step
        speed = steps.taken(line.timing).told.speed if line.timing else None
        depth = steps.taken(line.depth).told.depth if line.depth else None
    except DeploykitError as error:
        name = line.passes[len(taken)].title if len(taken) < len(line.passes) else "timing"
        missed = (f"{name}: {error.message}", *error.details, *(f"fix: {line}" for line in error.fix))
        place = steps.store.path(good.key) / MODEL
        return Made(line.wanted.name, target, False, tuple(taken), missed, _bytes(converted, taken), None, place)
    place = steps.store.path(good.key)
    size = _bytes(converted, taken)
    missed = tuple(_misses(line, size, speed, taken[-1].told.unproved if taken else ""))
    last = place / (MODEL if line.wanted.engine is None else target.name) if missed else None
    return Made(line.wanted.name, target, not missed, tuple(taken), missed, size, speed, last, depth, good.key)


def _bytes(converted: Taken, taken: list[Taken]) -> int:
    """Give the size of the last file that was proved."""
    made = [one.told.made for one in (converted, *taken) if one.told.made is not None]
    return made[-1].bytes if made else 0


def _misses(line: Line, size: int, speed: Comparison | None, unproved: str) -> list[str]:
    """Say which of its bounds an artifact misses, that its verdict does not know."""
    asked, found = line.wanted.require, []
    engine = line.wanted.engine
    if unproved and not (engine is not None and engine.allow_unproved):
        found.append(f"built, not run: {unproved}; allow_unproved = true keeps it")
    if asked.max_size_mb is not None and size / 1e6 > asked.max_size_mb:
        found.append(f"it has {size / 1e6:.2f} MB, and max_size_mb is {asked.max_size_mb:g}")
    if speed is None:
        return found
    ratio = speed.rows[1].ratio
    bound = asked.max_latency_ratio
    if bound is not None and (ratio is None or ratio.value > bound):
        found.append(f"a call takes {times(ratio) if ratio else '?'} times as long, and max_latency_ratio is {bound:g}")
    elif (
        bound is None
        and any(one.hastens for one in line.wanted.passes)
        and not line.wanted.keep_slower
        and not is_faster(speed)
    ):
        found.append(f"{next(told(speed))}; keep_slower = true keeps it")
    return found


def put(store: Store, key: str, target: Path, source: Path) -> None:
    """Write what a step made as the artifact, with its golden, unless that is there already."""
    from deploykit.onnx_io import load, save

    if store.is_placed(key, target):
        return
    place, golden = store.path(key), golden_path(target)
    if target.suffix != ".onnx":
        _copy(store, key, target)
        return
    with staging(target.parent) as stage:
        names = [file.name for file in save(load(place / MODEL), stage.folder / target.name)]
        shutil.copyfile(place / GOLDEN, stage.folder / golden.name)
        files = promote(stage, target, names, golden.name, ("run", source))
    store.place(key, target, [*files, golden])


def _copy(store: Store, key: str, target: Path) -> None:
    """Write an engine in its place, with all that lies beside it; its sidecar names them."""
    place = store.path(key)
    names = sorted((file.name for file in place.glob(f"{target.name}*")), key=lambda name: name == target.name)
    with staging(target.parent) as stage:
        for name in names:
            shutil.copyfile(place / name, stage.folder / name)
        stage.commit(*names)
    store.place(key, target, [target.parent / name for name in names])
