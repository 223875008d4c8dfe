"""``deploykit run``: from a source to proved artifacts, by a recipe; what was done before is not done again.

``recipe`` reads the file, ``planning`` lays out its steps, ``tasks`` does one of them, ``store`` keeps what they made.
The verdict after every step is against the original source. An artifact whose step fails stops there; others go on.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploykit.artifact import staging
from deploykit.child import Step as Say
from deploykit.child import silent
from deploykit.clock import Clock
from deploykit.errors import DeploykitError, UsageError
from deploykit.optimization.speed import is_faster
from deploykit.promotion import promote
from deploykit.recipes.planning import Line, Plan, Step, name_of_artifact, plan_of
from deploykit.recipes.recipe import NAME, Recipe, checked, read
from deploykit.recipes.store import FOLDER, Store
from deploykit.recipes.tasks import GOLDEN, MODEL, Done
from deploykit.timing import Comparison
from deploykit.timing.words import times, told
from deploykit.typed import filled, stored
from deploykit.validation.evidence import golden_path
from deploykit.validation.verdict import Verdict

__all__ = ["Made", "Planned", "Recipe", "Run", "Taken", "clean", "plan", "run"]


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
    """Where a step failed: the last file that was proved."""

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the last file that was proved."""
        return self.steps[-1].told.verdict if self.steps else None


@dataclass(frozen=True)
class Planned:
    """A step as ``--dry-run`` shows it."""

    artifact: str
    title: str
    cached: bool
    """Whether it was done before, and would not be done again."""


@dataclass(frozen=True)
class Run:
    """What a recipe made."""

    source: Path
    recipe: Path | None
    converted: Taken
    recorded: Taken | None
    artifacts: tuple[Made, ...]
    seconds: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """Whether every artifact did."""
        return bool(self.artifacts) and all(one.passed for one in self.artifacts)


def run(
    recipe: str | Path | Recipe = NAME,
    *,
    output: str | Path | None = None,
    report: str | Path | None = None,
    step: Say = silent,
) -> Run:
    """Make the artifacts of a recipe, each step proved against the original source.

    Args:
        recipe: the file, or what it would say.
        output: the folder to write to, in the place of the recipe's.
        report: an HTML page to write of it all.
        step: takes a sentence about what goes on.

    Raises:
        UsageError: the recipe can't be followed; nothing was run.
        DeploykitError: the source can't be converted.
    """
    clock = Clock()
    found = recipe if isinstance(recipe, Recipe) else read(Path(recipe))
    checked(found)
    target = Path(output) if output is not None else found.path(found.output)
    if not target.is_dir():
        raise UsageError(f"there is no folder {target} to write to", fix=f"mkdir {target}")
    store = Store.of(found.folder)
    with store.alone(step):
        planned = plan_of(found, store)
        steps = _Steps(store, step)
        converted = steps.taken(planned.convert)
        recorded = steps.taken(planned.record) if planned.record else None
        made = tuple(_made(planned, line, steps, (converted, target)) for line in planned.lines)
    clock.lap("run")
    place = None if isinstance(recipe, Recipe) else Path(recipe)
    result = Run(found.path(found.source), place, converted, recorded, made, clock.laps)
    if report is not None:
        from deploykit.recipes.page import write

        write(result, Path(report))
    return result


@dataclass(frozen=True)
class _Steps:
    """Does steps, or finds that they were done."""

    store: Store
    say: Say

    def taken(self, step: Step) -> Taken:
        cached = self.store.has(step.key)
        if not cached:
            self.say(step.title)
            self.store.make(step.key, lambda own: stored(step.task.do(self.store, own, self.say)))
        problems: list[str] = []
        done = filled(Done, self.store.result(step.key), step.title, problems)
        if done is None:
            raise UsageError(f"what was kept of {step.title} can't be read", fix="deploykit clean", details=problems)
        return Taken(step.title, cached, done)


def _made(planned: Plan, line: Line, steps: _Steps, given: tuple[Taken, Path]) -> Made:
    """Make one artifact; an error of a step is its end, and not that of the others."""
    first, folder = given
    target = folder / name_of_artifact(planned.recipe, line.wanted)
    taken: list[Taken] = []
    good = planned.convert
    try:
        for step in line.passes:
            taken.append(steps.taken(step))
            good = step
        speed = steps.taken(line.timing).told.speed if line.timing else None
    except DeploykitError as error:
        name = line.passes[len(taken)].title if len(taken) < len(line.passes) else "timing"
        missed = (f"{name}: {error.message}", *error.details)
        place = steps.store.path(good.key) / MODEL
        return Made(line.wanted.name, target, False, tuple(taken), missed, _bytes(first, taken), None, place)
    place = steps.store.path(good.key)
    size = _bytes(first, taken)
    missed = tuple(_misses(line, size, speed))
    if not missed:
        _put(steps.store, good.key, target, planned.recipe.path(planned.recipe.source))
    last = place / MODEL if missed else None
    return Made(line.wanted.name, target, not missed, tuple(taken), missed, size, speed, last)


def _bytes(converted: Taken, taken: list[Taken]) -> int:
    """Give the size of the last file that was proved."""
    made = [one.told.made for one in (converted, *taken) if one.told.made is not None]
    return made[-1].bytes if made else 0


def _misses(line: Line, size: int, speed: Comparison | None) -> list[str]:
    """Say which of its bounds an artifact misses, that its verdict does not know."""
    asked, found = line.wanted.require, []
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
        and any(one.hastens for one in line.wanted.steps)
        and not line.wanted.keep_slower
        and not is_faster(speed)
    ):
        found.append(f"{next(told(speed))}; keep_slower = true keeps it")
    return found


def _put(store: Store, key: str, target: Path, source: Path) -> None:
    """Write what a step made as the artifact, with its golden, unless that is there already."""
    from deploykit.onnx_io import load, save

    if store.is_placed(key, target):
        return
    place, golden = store.path(key), golden_path(target)
    with staging(target.parent) as stage:
        names = [file.name for file in save(load(place / MODEL), stage.folder / target.name)]
        shutil.copyfile(place / GOLDEN, stage.folder / golden.name)
        files = promote(stage, target, names, golden.name, ("run", source))
    store.place(key, target, [*files, golden])


def plan(recipe: str | Path | Recipe = NAME) -> tuple[Planned, ...]:
    """Say which steps a recipe has, and which of them were done: nothing is run.

    Raises:
        UsageError: the recipe can't be followed.
    """
    found = recipe if isinstance(recipe, Recipe) else read(Path(recipe))
    store = Store.of(checked(found).folder)
    planned = plan_of(found, store)
    first = [planned.convert, *([planned.record] if planned.record else [])]
    rows = [("every", one) for one in first]
    for line in planned.lines:
        rows += [(line.wanted.name, one) for one in (*line.passes, *([line.timing] if line.timing else []))]
    return tuple(Planned(name, one.title, store.has(one.key)) for name, one in rows)


def clean(folder: str | Path = ".") -> int:
    """Remove what the steps of a folder have made, and give the bytes that this freed; artifacts stay."""
    place = Path(folder) / FOLDER
    return Store(place).clean() if place.is_dir() else 0
