"""One pass after the other, each result proved; and the last one put in its place."""

import hashlib
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from deploykit import __version__, machine
from deploykit.artifact import Artifact, Staging, sha256
from deploykit.child import Step
from deploykit.clock import Clock
from deploykit.errors import NotEquivalent
from deploykit.optimization.evidence import Evidence
from deploykit.passes import Applied, Layer, Pass, Work
from deploykit.plugin import name_of, spelled
from deploykit.promotion import promote
from deploykit.validation.evidence import golden_path
from deploykit.validation.verdict import Verdict
from deploykit.workspace import Found


@dataclass(frozen=True)
class Measure:
    """How large a model is."""

    nodes: int
    """With those of its subgraphs and functions."""
    bytes: int
    """Of the file and what is beside it."""
    precision: str
    """What it computes in."""


@dataclass(frozen=True)
class Stage:
    """One pass of the chain, and what came of it."""

    applied: str
    """The pass as text: ``fp16:io=true``."""
    done: str
    notes: tuple[str, ...]
    layers: tuple[Layer, ...]
    """What became of each layer, where the pass chooses among them."""
    verdict: Verdict
    made: Measure


def measured(path: Path, model: Any) -> Measure:
    """Say how large a model is that was read from a file, or written to it."""
    from deploykit.onnx_io import every_node, precision_of, size_of

    return Measure(len(list(every_node(model))), size_of(path, model), precision_of(model))


@dataclass
class Chain:
    """One run of a chain of passes."""

    source: Artifact
    target: Path
    stage: Staging
    evidence: Evidence
    clock: Clock
    step: Step
    lossy: bool = False
    """Whether the model has lost something by now, so that it is judged by how much."""
    fewer: bool = False
    """Whether it has fewer bits by now, so that the user's bounds are for it."""
    settled: list[Found] = field(default_factory=list)
    """What passes had found out on the way, and is of no use once the result is in its place."""

    def applied(self, one: Pass, path: Path, folder: Path) -> tuple[Path, Stage]:
        """Apply a pass in a folder of its own, and prove what it made."""
        own = folder / "own"
        own.mkdir(parents=True)
        before = partial(self.evidence.judge, path, self.target, lossy=self.lossy, fewer=self.fewer)
        self.lossy, self.fewer = self.lossy or one.lossy, self.fewer or one.precision is not None
        written = _Written(folder, self.target.name, partial(self._lineage, one))
        judging = partial(self.evidence.judge, target=self.target, lossy=self.lossy, fewer=self.fewer)
        judge = _Judged(judging, self.clock, name_of(one))
        self.step(f"{name_of(one)}: {path.name}")
        found = _Found(path, self.evidence)
        made = one.apply(
            path, Work(self.evidence.calls, written.write, judge, self.evidence.data is None, own, self.step, found.of)
        )
        self.settled += found.places if made.settled else []
        self.step(f"proving {self.target.name} after {name_of(one)}")
        self.clock.lap(name_of(one))
        verdict = judge(made.path)
        if not verdict.passed:
            raise self._broken(one, made, verdict, before())
        measure = written.measures[made.path]
        return made.path, Stage(spelled(one), made.done, made.notes, made.layers, verdict, measure)

    def golden(self) -> Path:
        """Give the golden that a result has now, in the stage."""
        place = self.stage.folder / f"{'lossy' if self.lossy else 'same'}.golden.npz"
        if not place.exists():
            self.evidence.write(place, lossy=self.lossy)
        return place

    def _lineage(self, one: Pass, model: Any) -> None:
        """Write in a model where it comes from."""
        from deploykit.onnx_io import lineage, set_lineage

        if "source.sha256" not in lineage(model):
            own_source = {"source.sha256": self.source.sha256(), "source.name": self.source.path.name}
            set_lineage(model, **own_source)
        set_lineage(model, **{"golden.sha256": sha256(self.golden())})
        before = lineage(model).get("passes")
        own = spelled(one)
        set_lineage(model, passes=f"{before}; {own}" if before else own)
        if one.precision is not None:
            set_lineage(model, precision=one.precision)

    def _broken(self, one: Pass, made: Applied, verdict: Verdict, before: Verdict) -> NotEquivalent:
        said = [*made.notes, *(check.said for check in verdict.failures[:3])]
        if verdict.undecided:
            return NotEquivalent(
                f"whether the model answers as {self.evidence.source} does after {name_of(one)} can't be told from"
                f" {verdict.samples} samples; nothing was written",
                fix=[
                    "give more samples: --data FILE --samples N",
                    "or take what nothing speaks against: --allow-undecided",
                ],
                details=said,
                verdict=verdict,
            )
        blame = [] if before.passed else [f"so it was before {name_of(one)}: {self._at_fault}"]
        less = ["ask for less: --min-agreement, --min-sqnr, --max-drop", "or leave the model as it is"]
        otherwise = less if one.lossy else ["leave it out"]
        return NotEquivalent(
            f"after {name_of(one)} the model does not answer as {self.evidence.source} does; nothing was written",
            fix="deploykit validate shows what is wrong with the model" if blame else otherwise,
            details=[*blame, *said],
            verdict=verdict,
        )

    @property
    def _at_fault(self) -> str:
        if self.evidence.path is None:
            return (
                f"{self.source.path.name} itself does not pass, run once more on the inputs that it was recorded with"
            )
        return "the model that came in is not its source any more"

    def promoted(self, path: Path) -> list[Path]:
        """Put the last file and its golden in their place."""
        golden = self.golden().rename(self.stage.folder / golden_path(self.target).name)
        written = [file for file in path.parent.iterdir() if file.is_file()]
        for file in written:
            file.rename(self.stage.folder / file.name)
        return promote(
            self.stage, self.target, [file.name for file in written], golden.name, ("optimize", self.source.path)
        )

    def forget(self) -> None:
        """Remove what was kept for a rerun, now that the result is in its place."""
        for place in self.settled:
            place.forget()


@dataclass(frozen=True)
class _Found:
    """Where a pass keeps what it finds out about a file: no other model, evidence, version or machine has the same."""

    path: Path
    evidence: Evidence
    places: list[Found] = field(default_factory=list)

    def of(self, words: Sequence[str]) -> Found:
        from deploykit.onnx_io import external_files

        files = [self.path, *sorted(external_files(self.path))]
        versions = [importlib.metadata.version(name) for name in ("onnxruntime", "onnx", "onnx-ir", "numpy")]
        said = [*words, *map(sha256, files), self.evidence.digest(), __version__, *versions, *machine.instructions()]
        self.places.append(Found.of(hashlib.sha256("\0".join(said).encode()).hexdigest()))
        return self.places[-1]


@dataclass
class _Written:
    """The files that a pass writes, each in a folder of its own under the name of the target."""

    folder: Path
    name: str
    lineage: Callable[[Any], None]
    measures: dict[Path, Measure] = field(default_factory=dict)

    def write(self, model: Any) -> Path:
        from deploykit.onnx_io import every_node, precision_of, save

        place = self.folder / f"written{len(self.measures)}"
        place.mkdir()
        before = dict(model.metadata_props)
        self.lineage(model)
        try:
            files = save(model, place / self.name)
            precision = precision_of(model)
        finally:
            model.metadata_props.clear()
            model.metadata_props.update(before)
        size = sum(file.stat().st_size for file in files)
        self.measures[place / self.name] = Measure(len(list(every_node(model))), size, precision)
        return place / self.name


@dataclass(frozen=True)
class _Judged:
    """Judges each file once; what that takes is no time of the pass."""

    judge: Callable[[Path], Verdict]
    clock: Clock
    name: str
    known: dict[Path, Verdict] = field(default_factory=dict)

    def __call__(self, path: Path) -> Verdict:
        if path not in self.known:
            self.clock.lap(self.name)
            self.known[path] = self.judge(path)
            self.clock.lap("proof")
        return self.known[path]
