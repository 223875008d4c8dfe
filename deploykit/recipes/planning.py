"""What a recipe comes down to: steps with their keys, in an order in which each comes after what it needs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from deploykit import machine
from deploykit.artifact import Artifact
from deploykit.backends import Asked, Loading, check_options
from deploykit.nvidia import devices
from deploykit.optimization.quantizing import CALIBRATION_SAMPLES
from deploykit.passes import Pass
from deploykit.plugin import spelled
from deploykit.recipes.recipe import Recipe, Require, Wanted
from deploykit.recipes.steps import ENGINE, Engine
from deploykit.recipes.store import Store, key_of, versions
from deploykit.recipes.tasks import Apply, Build, Convert, Depth, Looked, Record, Task, Time
from deploykit.validation import Demand
from deploykit.validation.demand import Bounds


@dataclass(frozen=True)
class Step:
    """One step, and what it depends on."""

    title: str
    """``convert``, ``int8:target=cpu``, ``timing``."""
    key: str
    task: Task
    needs: tuple[str, ...]
    """Keys of the steps that come before it."""


@dataclass(frozen=True)
class Line:
    """The steps of one artifact after the conversion: its passes, and the timing of the last."""

    wanted: Wanted
    passes: tuple[Step, ...]
    timing: Step | None
    depth: Step | None = None
    """For the report."""


@dataclass(frozen=True)
class Plan:
    """All steps of a recipe; what two artifacts share is there once, under one key."""

    recipe: Recipe
    convert: Step
    record: Step | None
    lines: tuple[Line, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step once, each after those that it needs."""
        found = [self.convert, *([self.record] if self.record else [])]
        for line in self.lines:
            found += [*line.passes, *(one for one in (line.timing, line.depth) if one is not None)]
        return tuple({step.key: step for step in found}.values())


def plan_of(recipe: Recipe, store: Store, *, reported: bool = False) -> Plan:
    """Lay out the steps of a recipe that was checked; of one that is reported, also where each artifact errs.

    Raises:
        UsageError: the source can't be read, or an option says nothing about it.
        ModelError: it is no model.
    """
    source = Artifact.open(recipe.path(recipe.source))
    check_options(Asked(**loading_of(recipe)), source)
    convert = _convert(recipe, store, source)
    record = _record(recipe, store, convert)
    lines = tuple(_line(recipe, store, wanted, (convert, record)) for wanted in recipe.artifact)
    if reported:
        lines = tuple(replace(line, depth=_depth(line, convert, record)) for line in lines)
    return Plan(recipe, convert, record, lines)


def name_of_artifact(recipe: Recipe, wanted: Wanted) -> str:
    """Name the file of an artifact: ``digits.cpu.onnx``."""
    return f"{Path(recipe.source).stem}.{wanted.name}{'.engine' if wanted.engine is not None else '.onnx'}"


def loading_of(recipe: Recipe) -> Loading:
    """Give how the source is loaded, as the API takes it."""
    return {
        "factory": _from_here(recipe, recipe.factory),
        "factory_args": recipe.factory_args,
        "trust_pickle": recipe.trust_pickle,
        "python": recipe.python,
        "inputs": recipe.input,
        "shapes": recipe.shapes,
        "static": recipe.static,
        "signature": recipe.signature,
        "custom_objects": _from_here(recipe, recipe.custom_objects),
        "graph_inputs": recipe.inputs,
        "graph_outputs": recipe.outputs,
        "layout": recipe.layout,
    }


def _from_here(recipe: Recipe, text: str | None) -> str | None:
    """Give the path in ``file.py:callable`` from here; the name of a module stays."""
    if text is None or ".py" not in text:
        return text
    return str(recipe.path(text))


def _convert(recipe: Recipe, store: Store, source: Artifact) -> Step:
    more = {name: getattr(recipe, name) for name in ("opset", "for_runtime", "seed")}
    task = Convert(source.path, loading_of(recipe), more)
    code = [_code(store, recipe, text) for text in (recipe.factory, recipe.custom_objects)]
    key = key_of(
        task="convert", source=store.sha256(source.path), more=more, code=code,
        loading=[getattr(recipe, name) for name in _LOADING], versions=versions(*task.packages),
    )  # fmt: skip
    return Step("convert", key, task, ())


_LOADING = (
    *("input", "shapes", "factory", "factory_args", "trust_pickle", "python", "static", "signature"),
    *("custom_objects", "inputs", "outputs", "layout"),
)


def _code(store: Store, recipe: Recipe, text: str | None) -> str:
    """Hash the file of code that an option names, and those beside it, which it may import."""
    if text is None:
        return ""
    name = text.partition(":")[0]
    file = recipe.path(name if name.endswith(".py") else f"{name.replace('.', '/')}.py")
    return key_of(files=[store.sha256(one) for one in sorted(file.parent.glob("*.py"))]) if file.exists() else text


def _looked(recipe: Recipe, text: str | None) -> Looked | None:
    if text is None:
        return None
    place = recipe.path(text)
    given = place if place.exists() or ".py:" in text else Path(text)
    return Looked(given, recipe.data.image, recipe.data.samples or CALIBRATION_SAMPLES)


def _hashed(store: Store, looked: Looked | None) -> Any:
    """Tell samples by their content; a function by the file that it is in."""
    if looked is None:
        return None
    place = Path(str(looked.data).partition(".py:")[0] + ".py") if ".py:" in str(looked.data) else looked.data
    return [store.sha256(place) if place.exists() else str(place), looked.data.name, looked.image, looked.most]


def _record(recipe: Recipe, store: Store, convert: Step) -> Step | None:
    looked = _looked(recipe, recipe.data.validation or recipe.data.calibration)
    if looked is None:
        return None
    task = Record(convert.key, looked, recipe.seed)
    key = key_of(task="record", on=convert.key, data=_hashed(store, looked), seed=recipe.seed)
    return Step("record", key, task, (convert.key,))


def demand_of(recipe: Recipe, require: Require) -> Demand:
    """Say what the verdict on an artifact is asked."""
    bounds: Bounds = {
        "min_agreement": require.min_agreement,
        "min_sqnr": require.min_sqnr,
        "allow_undecided": require.allow_undecided,
    }
    labels = recipe.data.labels
    name, sign, column = (labels or "").partition(":")
    return Demand.of(bounds, require.max_drop, f"{recipe.path(name)}{sign}{column}" if labels else None)


def _line(recipe: Recipe, store: Store, wanted: Wanted, first: tuple[Step, Step | None]) -> Line:
    convert, record = first
    passes: list[Step] = []
    for number in range(len(wanted.passes)):
        prior = passes[-1] if passes else convert
        passes.append(_apply(recipe, store, wanted, wanted.passes[: number + 1], (convert, record, prior)))
    if wanted.engine is not None:
        return Line(wanted, (*passes, _build(recipe, wanted, wanted.engine, passes[-1] if passes else convert)), None)
    asked = wanted.timed or wanted.require.max_latency_ratio is not None
    if not passes or not (asked or any(one.hastens for one in wanted.passes)):
        return Line(wanted, tuple(passes), None)
    task = Time(
        convert.key, passes[-1].key, record.key if record else None, recipe.source, name_of_artifact(recipe, wanted)
    )
    cpu = machine.cpu(machine.text("/proc/cpuinfo"))
    key = key_of(task="time", on=passes[-1].key, cpu=cpu, cores=machine.cores())
    return Line(wanted, tuple(passes), Step("timing", key, task, (passes[-1].key,)))


def _depth(line: Line, convert: Step, record: Step | None) -> Step | None:
    pruned = any(one.lossy and one.precision is None for one in line.wanted.passes)
    if line.wanted.engine is not None or not line.passes or pruned:
        return None  # of tensors that have fewer channels none has a counterpart
    task = Depth(convert.key, line.passes[-1].key, record.key if record else None)
    return Step("depth", key_of(task="depth", on=task.made, versions=versions()), task, (task.made,))


def _build(recipe: Recipe, wanted: Wanted, engine: Engine, prior: Step) -> Step:
    cache = str(recipe.path(engine.timing_cache)) if engine.timing_cache else None
    require = wanted.require
    bounds: Bounds = {"min_agreement": require.min_agreement, "min_sqnr": require.min_sqnr}
    task = Build(
        prior.key, replace(engine, timing_cache=cache), {**bounds, "allow_undecided": require.allow_undecided},
        name_of_artifact(recipe, wanted),
    )  # fmt: skip
    # Its sidecar names it, so that another name is another engine.
    key = key_of(task="build", on=prior.key, engine=asdict(engine), name=task.name, bounds=task.bounds,
                 devices=[str(one) for one in devices().found], versions=versions(*task.packages))  # fmt: skip
    return Step(ENGINE, key, task, (prior.key,))


def _apply(
    recipe: Recipe, store: Store, wanted: Wanted, steps: Sequence[Pass], on: tuple[Step, Step | None, Step]
) -> Step:
    convert, record, prior = on
    *before, one = steps
    looked = _looked(recipe, recipe.data.calibration) if recipe.data.validation else None
    bounded = any(each.lossy or each.precision for each in steps)
    demand = demand_of(recipe, wanted.require) if bounded else Demand()
    task = Apply(
        one, tuple(before), prior.key, convert.key, record.key if record else None, looked, demand,
        name_of_artifact(recipe, wanted),
    )  # fmt: skip
    key = key_of(
        task="apply", on=prior.key, record=record.key if record else None, step=spelled(one),
        files=[store.sha256(recipe.path(text)) for text in _files_of(recipe, one)],
        data=_hashed(store, looked) if one.lossy or one.precision else None, cpu=machine.instructions(),
        demand=_told(store, recipe, wanted.require) if bounded else None, versions=versions(*task.packages),
    )  # fmt: skip
    needs = {convert.key, prior.key, *([record.key] if record else [])}
    return Step(spelled(one), key, task, tuple(sorted(needs)))


def _files_of(recipe: Recipe, one: Pass) -> Iterator[str]:
    """Give the options of a pass that name a file which is there."""
    for each in fields(one):
        value = getattr(one, each.name)
        if isinstance(value, str) and value and recipe.path(value).is_file():
            yield value


def _told(store: Store, recipe: Recipe, require: Require) -> Any:
    """Tell what bounds a verdict; what is measured after it is no part of it."""
    labels = recipe.data.labels
    place = recipe.path(labels.partition(":")[0]) if labels is not None else None
    bounds = [require.min_agreement, require.min_sqnr, require.max_drop, require.allow_undecided]
    return [*bounds, labels, store.sha256(place) if place is not None and place.exists() else None]
