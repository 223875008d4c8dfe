"""``deploykit.toml``: a source, its samples, and the artifacts that are to be made of it; read and checked whole."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from deploykit.errors import DeploykitError, UsageError
from deploykit.passes import Pass
from deploykit.recipes.steps import ENGINE, Engine, misbuilt, read_steps
from deploykit.typed import filled, value_of

NAME = "deploykit.toml"


@dataclass(frozen=True)
class Samples:
    """The user's samples, each as ``--data`` takes them."""

    calibration: str | None = None
    """What passes look at: ranges of integers, importance of channels."""
    validation: str | None = None
    """What results are judged by; the calibration's where it is not given."""
    labels: str | None = None
    """The right class of each sample of the validation: ``y.npy``, ``val.npz:y``."""
    image: str | None = None
    """How images are prepared: ``resize=256,crop=224``."""
    samples: int | None = None
    """At most so many of each."""


@dataclass(frozen=True)
class Require:
    """What an artifact must keep; where it does not, the run ends with 1."""

    min_agreement: float | None = None
    min_sqnr: float | None = None
    max_drop: float | None = None
    allow_undecided: bool = False
    max_latency_ratio: float | None = None
    """Of the latency of the converted source, measured in the same run."""
    max_size_mb: float | None = None


@dataclass(frozen=True)
class Wanted:
    """One artifact that is to be made."""

    name: str
    steps: tuple[Pass | Engine, ...] = field(metadata={"read": read_steps})
    require: Require = Require()
    keep_slower: bool = False
    """Whether it stays where it is meant to be faster than the source, and is not."""
    timed: bool = False
    """Whether it is timed though nothing asks for it."""

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The steps that make an ONNX file of one."""
        return tuple(one for one in self.steps if isinstance(one, Pass))

    @property
    def engine(self) -> Engine | None:
        """The engine that is built in the end, where one is."""
        return next((one for one in self.steps if isinstance(one, Engine)), None)


def _arguments(value: Any, at: str, problems: list[str]) -> str | None:
    """Read the arguments of a factory: a table, or JSON as a text."""
    return json.dumps(value) if isinstance(value, Mapping) else value_of(str | None, value, at, problems)


@dataclass(frozen=True)
class Recipe:
    """A source, and what is to be made of it; the fields are the keys of the file."""

    source: str
    artifact: tuple[Wanted, ...] = ()
    data: Samples = Samples()
    output: str = "."
    """The folder that the artifacts are written to."""
    input: tuple[str, ...] = ()
    """As ``--input`` takes them; this and all that follows is of the source."""
    shapes: tuple[str, ...] = ()
    factory: str | None = None
    factory_args: str | None = field(default=None, metadata={"read": _arguments})
    trust_pickle: bool = False
    python: str | None = None
    static: bool = False
    signature: str | None = None
    custom_objects: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    layout: str | None = None
    opset: int | None = None
    for_runtime: str | None = None
    seed: int = 0
    folder: Path = field(default=Path(), metadata={"read": lambda *_: Path()})
    """Where the recipe lies: its paths are from there."""

    def path(self, text: str) -> Path:
        """Give a path of the recipe from here."""
        return self.folder / text


def read(path: Path) -> Recipe:
    """Read a recipe and check it whole, as far as that goes without the model.

    Raises:
        UsageError: it can't be read, or something in it is wrong: all of it is said.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no recipe {path}", fix="write one: deploykit init model.pt") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", fix="name a recipe: deploykit.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}", fix="mend it there; see https://toml.io") from error
    return recipe(table, path.parent, str(path))


def recipe(table: Mapping[str, Any], folder: str | Path = ".", name: str = "the recipe") -> Recipe:
    """Make a recipe of a table, as the file has it, and check it whole, as far as that goes without the model.

    Args:
        table: source, artifact, data and so on.
        folder: where its paths are from.
        name: what errors call it.

    Raises:
        UsageError: something in it is wrong: all of it is said.
    """
    problems: list[str] = []
    if "folder" in table:
        problems.append("the recipe has no 'folder': its paths are from the folder that it lies in")
    data = table.get("data")
    given = {**table, "data": {"validation": data}} if isinstance(data, str) else table
    found = filled(Recipe, given, "the recipe", problems)
    if found is not None:
        found = replace(found, folder=Path(folder))
        problems.extend(_wrong(found))
    if problems:
        raise UsageError(
            f"{name} can't be followed: {problems[0]}", fix="mend the recipe; nothing was run", details=problems[1:]
        )
    return cast("Recipe", found)


def checked(recipe: Recipe) -> Recipe:
    """Make sure of what follows from the recipe alone, and give it.

    Raises:
        UsageError: something is wrong: all of it is said.
    """
    problems = list(_wrong(recipe))
    if problems:
        raise UsageError(problems[0], fix="nothing was run", details=problems[1:])
    return recipe


def _wrong(recipe: Recipe) -> list[str]:
    names = [one.name for one in recipe.artifact]
    found = [f"there are two artifacts named '{name}'" for name in sorted({n for n in names if names.count(n) > 1})]
    found += [f"'{name}' is no name for a file" for name in names if not _NAME.fullmatch(name)]
    if not recipe.artifact:
        found.append("it asks for no artifact: [[artifact]] name = 'small', steps = ['simplify']")
    if not recipe.path(recipe.source).exists():
        found.append(f"there is no source {recipe.path(recipe.source)}")
    found += [f"there are no samples {recipe.path(text)}" for text in _files(recipe.data) if not _is(recipe, text)]
    found += [*_labels(recipe), *(said for one in recipe.artifact for said in _misfits(one, recipe.data))]
    return found


_NAME = re.compile(r"\w[\w.+-]*")


def _labels(recipe: Recipe) -> list[str]:
    """Find what is wrong with the labels: they are read."""
    from deploykit.samples import labels

    if recipe.data.labels is None:
        return []
    name, sign, column = recipe.data.labels.partition(":")
    try:
        labels(f"{recipe.path(name)}{sign}{column}")
    except DeploykitError as error:
        return [error.message, *error.details]
    return []


def _files(data: Samples) -> list[str]:
    return [text for text in (data.calibration, data.validation) if text is not None]


def _is(recipe: Recipe, text: str) -> bool:
    return recipe.path(text).exists() or ":" in text


def _misfits(wanted: Wanted, data: Samples) -> list[str]:
    """Find what does not fit in the steps of an artifact."""
    from deploykit.optimization import check_steps

    at = f"artifact '{wanted.name}'"
    found = []
    try:
        check_steps(wanted.passes, made_up=not _files(data))
    except DeploykitError as error:
        found += [f"{at}: {error.message}", *error.fix]
    if any(isinstance(one, Engine) for one in wanted.steps[:-1]):
        found.append(f"{at}: {ENGINE} is the last step: nothing takes an engine")
    found += [f"{at}: {said}" for said in misbuilt(wanted.engine)] if wanted.engine is not None else []
    if wanted.engine is not None and wanted.require.max_latency_ratio is not None:
        found.append(f"{at}: an engine is not timed against an ONNX file: max_latency_ratio says nothing about it")
    asked = wanted.require
    for name in ("max_latency_ratio", "max_size_mb"):
        bound = getattr(asked, name)
        if bound is not None and not bound > 0:
            found.append(f"{name} of {at} is {bound:g}, and must be above 0")
    if data.labels is None and (asked.max_drop is not None or any("max_drop" in one.bounds for one in wanted.passes)):
        found.append(f"max_drop of {at} bounds the loss of accuracy, and data has no labels")
    return found
