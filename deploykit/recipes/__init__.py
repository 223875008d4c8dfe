"""``deploykit run``: from a source to proved artifacts, by a recipe; what was done before is not done again.

``recipe`` reads the file, ``planning`` lays out its steps, ``tasks`` does one of them, ``store`` keeps what they made,
``making`` goes through them. The verdict after every step is against the original source. An artifact whose step fails
stops there; others go on. ``searching`` has the combinations that are worth a try.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploykit.child import Step as Say
from deploykit.child import silent
from deploykit.clock import Clock
from deploykit.errors import UsageError
from deploykit.recipes.executing import elsewhere
from deploykit.recipes.making import Made, Steps, Taken, made, put
from deploykit.recipes.planning import Plan, name_of_artifact, plan_of
from deploykit.recipes.recipe import NAME, Recipe, checked, read
from deploykit.recipes.recipe import recipe as of_table
from deploykit.recipes.searching import Found, Search, combinations, ranked, row
from deploykit.recipes.store import FOLDER, Store

__all__ = ["Found", "Made", "Planned", "Recipe", "Run", "Search", "Taken", "clean", "plan", "run"]


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
    searched: tuple[Found, ...] = ()
    """What a search has found; empty where there was none."""
    written: tuple[Path, ...] = ()
    """The artifacts that are in their place."""
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every artifact did; of a search, whether it found one that does."""
        if self.searched:
            return any(one.best for one in self.searched)
        return bool(self.artifacts) and all(one.passed for one in self.artifacts)


def run(
    recipe: str | Path | Recipe | Mapping[str, Any] = NAME,
    *,
    output: str | Path | None = None,
    report: str | Path | None = None,
    search: Search | None = None,
    executor: str | None = None,
    step: Say = silent,
) -> Run:
    """Make the artifacts of a recipe, each step proved against the original source.

    Args:
        recipe: the file, or what it would say: a table, or a ``Recipe``.
        output: the folder to write to, in the place of the recipe's.
        report: an HTML page to write of it all.
        search: try the combinations of passes that make sense, in the place of the recipe's artifacts, and write the
            fastest that keeps its bounds as ``SOURCE.best.onnx``.
        executor: where steps are done: ``dask:tcp://host:8786``; this machine where nothing is said.
        step: takes a sentence about what goes on.

    Raises:
        UsageError: the recipe can't be followed; nothing was run.
        DeploykitError: the source can't be converted.
    """
    clock = Clock()
    found = _recipe(recipe)
    if executor is not None:
        found = replace(found, folder=found.folder.resolve())  # others have another current folder
    found = checked(combinations(found, search) if search is not None else found)
    target = _folder(Path(output) if output is not None else found.path(found.output))
    store = Store.of(found.folder)
    with store.alone(step):
        planned = plan_of(found, store, reported=report is not None)
        steps = Steps(store, step, elsewhere(planned, store, executor, step) if executor is not None else {})
        converted = steps.taken(planned.convert)
        recorded = steps.taken(planned.record) if planned.record else None
        clock.lap("source")
        end = time.monotonic() + (search.time_budget if search is not None else math.inf)
        artifacts, notes = _artifacts(planned, steps, converted, target, end)
        rows = ranked([_row(one) for one in artifacts]) if search is not None else ()
        chosen = list(_chosen(artifacts, rows, target, found))
        for one, path in chosen:
            put(store, one.key, path, found.path(found.source))
        clock.lap("artifacts")
    place, written = Path(recipe) if isinstance(recipe, (str, Path)) else None, tuple(path for _, path in chosen)
    result = Run(found.path(found.source), place, converted, recorded, artifacts, clock.laps, rows, written, notes)
    _report(result, report)
    return result


def _recipe(given: str | Path | Recipe | Mapping[str, Any]) -> Recipe:
    if isinstance(given, Recipe):
        return given
    if isinstance(given, Mapping):
        return of_table(given)
    return read(Path(given))


def _folder(target: Path) -> Path:
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"there can be no folder {target}: {error.strerror}", fix="name another with -o") from error
    return target


def _report(made: Run, place: str | Path | None) -> None:
    if place is not None:
        from deploykit.recipes.page import write

        write(made, Path(place))


def _artifacts(
    planned: Plan, steps: Steps, converted: Taken, folder: Path, end: float
) -> tuple[tuple[Made, ...], tuple[str, ...]]:
    """Make one after the other; a search ends with its time, or with Ctrl-C, and keeps what it has."""
    done: list[Made] = []
    why = "the time was over"
    try:
        for line in planned.lines:
            if time.monotonic() > end:
                break
            done.append(made(planned, line, steps, converted, folder / name_of_artifact(planned.recipe, line.wanted)))
    except KeyboardInterrupt:
        if math.isinf(end) or not done:
            raise
        why = "it was interrupted"
    left = [line.wanted.name for line in planned.lines[len(done) :]]
    return tuple(done), (f"{why}: {', '.join(left)} not tried",) if left else ()


def _row(one: Made) -> Found:
    ratio = one.speed.rows[1].ratio if one.speed is not None else None
    verdict = one.verdict if one.key else None  # where a step failed, that of the one before says nothing
    return row(one.name, verdict, ratio, one.bytes, passed=one.passed)


def _chosen(
    artifacts: Sequence[Made], rows: Sequence[Found], folder: Path, recipe: Recipe
) -> Iterator[tuple[Made, Path]]:
    """Give the artifacts that are written, and where: all that passed, or the best of a search."""
    best = [row.name for row in rows if row.best]
    for one in artifacts:
        if one.passed and (not rows or one.name in best):
            yield one, folder / f"{Path(recipe.source).stem}.best.onnx" if rows else one.path


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
    """Remove what the steps of a folder have made, and give the bytes that this freed; artifacts stay.

    Raises:
        UsageError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise UsageError(f"there is no folder {folder}", fix="name the one that the recipe lies in")
    place = Path(folder) / FOLDER
    return Store(place).clean() if place.is_dir() else 0
