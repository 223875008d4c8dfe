"""The steps of a recipe, each with all that it needs to be done, anywhere that sees the folder."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from deploykit.artifact import Artifact, Format, Staging
from deploykit.backends import Asked, Loading, backend_for
from deploykit.child import Step
from deploykit.clock import Clock
from deploykit.errors import DeploykitError, NotEquivalent
from deploykit.golden import Golden
from deploykit.optimization.chain import Chain, Measure, measured
from deploykit.optimization.evidence import Evidence
from deploykit.optimization.speed import compared
from deploykit.passes import Layer, Pass
from deploykit.recipes.steps import Engine, options_of
from deploykit.recipes.store import Store
from deploykit.tensors import Array
from deploykit.timing import Comparison
from deploykit.validation import FLOOR_SAMPLES, Demand, prove
from deploykit.validation.demand import Bounds
from deploykit.validation.divergence.found import Divergence
from deploykit.validation.evidence import Size, batches, find_golden, is_batched, make_golden
from deploykit.validation.stored import read_verdict
from deploykit.validation.verdict import Verdict

MODEL = "model.onnx"
GOLDEN = "model.golden.npz"
DATA = "data.golden.npz"
_BATCH = 8


def _read_verdict(value: Any, at: str, problems: list[str]) -> Verdict | None:
    try:
        return None if value is None else read_verdict(value)
    except (KeyError, ValueError, TypeError, AttributeError):
        problems.append(f"{at} is damaged")
        return None


@dataclass(frozen=True)
class Done:
    """What a step tells of itself."""

    seconds: Mapping[str, float]
    notes: tuple[str, ...] = ()
    done: str = ""
    """What a pass did, in one line."""
    layers: tuple[Layer, ...] = ()
    verdict: Verdict | None = field(default=None, metadata={"read": _read_verdict})
    made: Measure | None = None
    speed: Comparison | None = None
    depth: Divergence | None = None
    """How the error grows along the net, where that was looked for."""
    unproved: str = ""
    """Why an engine was not run; empty where it was."""


class Task(Protocol):
    """One step."""

    packages: ClassVar[tuple[str, ...]]
    """Whose versions decide what it makes."""

    def do(self, store: Store, own: Path, step: Step) -> Done:
        """Do it: read what other steps have made, write files in ``own``, give what there is to tell.

        Raises:
            DeploykitError: it can't be done, or what it made is not the same model any more.
        """


_CORE = ("onnx", "onnx-ir", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Convert:
    """The source becomes an ONNX file with its golden; a file that has its golden is taken as it is."""

    packages: ClassVar[tuple[str, ...]] = (*_CORE, "torch", "onnxscript", "tensorflow", "tensorflow-cpu", "tf2onnx")
    source: Path
    loading: Loading
    more: Mapping[str, Any]
    """opset, for_runtime and seed, as ``deploykit.convert`` takes them."""

    def do(self, store: Store, own: Path, step: Step) -> Done:  # noqa: ARG002 - it is the first
        """Convert it."""
        from deploykit.conversion import convert
        from deploykit.onnx_io import lineage, load

        source = Artifact.open(self.source)
        if source.format is Format.ONNX and "golden.sha256" in lineage(load(source.path)):
            return self._taken(own)
        step(f"converting {self.source.name}")
        made = convert(self.source, own / MODEL, step=step, **self.more, **self.loading)
        notes = (f"exported with {made.exporter}, opset {made.opset}", *made.notes)
        return Done(made.seconds, notes, verdict=made.verdict, made=_measured(own / MODEL))

    def _taken(self, own: Path) -> Done:
        from deploykit.onnx_io import lineage, load, save

        clock = Clock()
        model = load(self.source)
        shutil.copyfile(find_golden(self.source, lineage(model)), own / GOLDEN)
        save(model, own / MODEL)
        golden = Golden.read(own / GOLDEN)
        source = golden.source.get("path", "its source")
        verdict = prove(own / MODEL, golden, None, artifact=str(self.source), reference=source)
        clock.lap("proof")
        if not verdict.passed:
            raise NotEquivalent(
                f"{self.source} does not answer as {source} does", fix=f"deploykit validate {self.source}",
                details=[one.said for one in verdict.failures[:3]], verdict=verdict,
            )  # fmt: skip
        notes = (f"{self.source.name} has its golden, and is taken as it is",)
        return Done(clock.laps, notes, verdict=verdict, made=_measured(own / MODEL))


def _measured(path: Path) -> Measure:
    from deploykit.onnx_io import load

    return measured(path, load(path))


@dataclass(frozen=True)
class Looked:
    """Samples of the user's."""

    data: Path
    image: str | None
    most: int

    @property
    def asked(self) -> Asked:
        """Give them as those who read them want it."""
        return Asked(data=self.data, image=self.image)


@dataclass(frozen=True)
class Record:
    """What the converted source answers to the user's samples."""

    packages: ClassVar[tuple[str, ...]] = _CORE
    converted: str
    samples: Looked
    seed: int

    def do(self, store: Store, own: Path, step: Step) -> Done:
        """Record it."""
        from deploykit.onnx_io import load

        clock = Clock()
        base = Artifact(store.path(self.converted) / MODEL, Format.ONNX)
        step(f"recording what the source answers to {self.samples.data.name}")
        wanted = Size(own / "arrays", self.samples.most, self.seed, FLOOR_SAMPLES)
        with backend_for(Format.ONNX).load(base, self.samples.asked, step) as session:
            golden = make_golden(session, load(base.path), base, self.samples.asked, wanted)
            golden.write(own / DATA)
        said = f"{golden.samples} samples"
        shutil.rmtree(wanted.folder)
        clock.lap("golden")
        return Done(clock.laps, golden.notes, said)


@dataclass(frozen=True)
class Apply:
    """One pass, proved against the original source."""

    packages: ClassVar[tuple[str, ...]] = _CORE
    one: Pass
    before: tuple[Pass, ...]
    """What was done to the model that it is applied to."""
    prior: str
    """Key of the step that made that model."""
    converted: str
    recorded: str | None
    calibration: Looked | None
    """What it looks at, where that is not what its result is judged by."""
    demand: Demand
    name: str
    """What the verdict calls the result."""

    def do(self, store: Store, own: Path, step: Step) -> Done:
        """Apply it."""
        clock = Clock()
        chain = Chain(
            Artifact(store.path(self.converted) / MODEL, Format.ONNX), Path(self.name), Staging(own),
            self._evidence(store), clock, step,
            lossy=any(one.lossy for one in self.before),
            fewer=any(one.lossy or one.precision is not None for one in self.before),
        )  # fmt: skip
        path, stage = chain.applied(self.one, store.path(self.prior) / MODEL, own / "work")
        chain.golden().replace(own / GOLDEN)
        for file in [one for one in path.parent.iterdir() if one.is_file()]:
            file.replace(own / (MODEL if file == path else file.name))
        for rest in [one for one in own.iterdir() if one.is_dir()]:
            shutil.rmtree(rest)
        chain.forget()
        return Done(clock.laps, stage.notes, stage.done, stage.layers, stage.verdict, stage.made)

    def _evidence(self, store: Store) -> Evidence:
        path = store.path(self.converted) / GOLDEN
        golden = Golden.read(path)
        data = Golden.read(store.path(self.recorded) / DATA) if self.recorded is not None else None
        looked = partial(_calls, golden, self.calibration) if self.calibration is not None else None
        found = Evidence(golden, path, data, golden.source.get("path", "its source"), self.demand, looked)
        return found.parted() if any(one.fits for one in (*self.before, self.one)) else found


def _calls(golden: Golden, looked: Looked) -> Iterator[Mapping[str, Array]]:
    sizes = [_BATCH] if is_batched(golden.signature) else None
    return batches(looked.asked, looked.data, golden.signature, looked.most, sizes)


@dataclass(frozen=True)
class Build:
    """A TensorRT engine; proved where a device is."""

    packages: ClassVar[tuple[str, ...]] = ("tensorrt", "tensorrt_rtx_cu13_bindings", "tensorrt_rtx", "numpy")
    prior: str
    engine: Engine
    bounds: Bounds
    name: str

    def do(self, store: Store, own: Path, step: Step) -> Done:
        """Build it."""
        from deploykit.engines import build

        made = build(
            store.path(self.prior) / MODEL, own / self.name, options=options_of(self.engine), step=step, **self.bounds
        )
        size = sum(path.stat().st_size for path in made.files if path.suffix != ".npz")
        notes = (*made.layers, *made.profiles, *made.warnings)
        return Done(
            made.seconds, notes, f"built with {made.sidecar.backend}", verdict=made.verdict,
            made=Measure(len(made.sidecar.nodes), size, made.sidecar.precision), unproved=made.unproved,
        )  # fmt: skip


@dataclass(frozen=True)
class Depth:
    """Where along the net an artifact errs, for the report."""

    packages: ClassVar[tuple[str, ...]] = _CORE
    converted: str
    made: str
    recorded: str | None

    def do(self, store: Store, own: Path, step: Step) -> Done:  # noqa: ARG002 - it writes no file
        """Hold each tensor against that of the converted source, on the first call."""
        from deploykit.validation.divergence import locate

        clock = Clock()
        case = next(iter(_golden(store, self.converted, self.recorded).cases))
        base = Artifact(store.path(self.converted) / MODEL, Format.ONNX)
        try:
            found = locate(store.path(self.made) / MODEL, base, Asked(), [dict(case.inputs)], step=step)
        except DeploykitError as error:
            return Done(clock.laps, (f"where it errs was not found: {error.message}",))
        clock.lap("depth")
        return Done(clock.laps, depth=found)


def _golden(store: Store, converted: str, recorded: str | None) -> Golden:
    return Golden.read(store.path(recorded) / DATA if recorded else store.path(converted) / GOLDEN)


@dataclass(frozen=True)
class Time:
    """An artifact timed against the converted source, in turns."""

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "numpy")
    converted: str
    made: str
    recorded: str | None
    source: str
    name: str

    def do(self, store: Store, own: Path, step: Step) -> Done:  # noqa: ARG002 - it writes no file
        """Time it."""
        clock = Clock()
        calls = (case.inputs for case in _golden(store, self.converted, self.recorded).cases)
        base, result = (store.path(key) / MODEL for key in (self.converted, self.made))
        speed = compared(base, result, Path(self.name), calls, step)
        first, second = speed.rows
        clock.lap("timing")
        return Done(clock.laps, speed=replace(speed, rows=(replace(first, artifact=self.source), second)))
