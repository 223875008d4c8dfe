"""One pass after the other, each result proved; and the last one put in its place."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from deploykit.artifact import Artifact, Staging, sha256
from deploykit.child import Step
from deploykit.clock import Clock
from deploykit.errors import NotEquivalent
from deploykit.optimization.evidence import Evidence
from deploykit.passes import Applied, Pass, Work
from deploykit.plugin import name_of, spelled
from deploykit.promotion import promote
from deploykit.validation.evidence import golden_path
from deploykit.validation.verdict import Verdict


@dataclass(frozen=True)
class Measure:
    """How large a model is."""

    nodes: int
    """With those of its subgraphs and functions."""
    bytes: int
    """Of the file and what is beside it."""


@dataclass(frozen=True)
class Stage:
    """One pass of the chain, and what came of it."""

    applied: str
    """The pass as text: ``fp16:io=true``."""
    done: str
    notes: tuple[str, ...]
    verdict: Verdict
    made: Measure


def measured(path: Path, model: Any) -> Measure:
    """Say how large a model is that was read from a file, or written to it."""
    return Measure(_nodes(model), sum(file.stat().st_size for file in (path, *_beside(model))))


def _nodes(model: Any) -> int:
    return sum(1 for graph in (model.graph, *model.functions.values()) for _ in graph.all_nodes())


def _beside(model: Any) -> set[Path]:
    """List the files that a model's weights are in: to parse it once more for that takes long."""
    import onnx_ir

    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    return {Path(one.path) for one in tensors if isinstance(one, onnx_ir.ExternalTensor)}


@dataclass(frozen=True)
class Chain:
    """One run of a chain of passes."""

    source: Artifact
    target: Path
    stage: Staging
    evidence: Evidence
    step: Step
    clock: Clock
    """Has a lap for each pass, by name, and one for all proofs."""

    def applied(self, one: Pass, path: Path, folder: Path) -> tuple[Path, Stage]:
        """Apply a pass in a folder of its own, and prove what it made."""
        own = folder / "own"
        own.mkdir(parents=True)
        written = _Written(folder, self.target.name, partial(self._lineage, one))
        judge = _Judged(
            partial(self.evidence.judge, target=self.target), partial(self.clock.lap, name_of(one)), self.clock
        )
        self.step(f"{name_of(one)}: {path.name}")
        made = one.apply(path, Work(self.evidence.calls, written.write, judge, own, self.step))
        self.step(f"proving {self.target.name} after {name_of(one)}")
        verdict = judge(made.path)
        if not verdict.passed:
            raise self._broken(one, path, made, verdict)
        done = Stage(spelled(one), made.done, made.notes, verdict, written.measures[made.path])
        self.clock.lap(name_of(one))
        return made.path, done

    def _lineage(self, one: Pass, model: Any) -> None:
        """Write in a model where it comes from."""
        from deploykit.onnx_io import lineage, set_lineage

        if self.evidence.path is None and "golden.sha256" not in lineage(model):
            golden = self._golden()
            source = {"source.sha256": self.source.sha256(), "source.name": self.source.path.name}
            set_lineage(model, **source, **{"golden.sha256": sha256(golden)})
        before = lineage(model).get("passes")
        own = spelled(one)
        set_lineage(model, passes=f"{before}; {own}" if before else own)
        if one.precision is not None:
            set_lineage(model, precision=one.precision)

    def _golden(self) -> Path:
        """Give the golden in the stage."""
        place = self.stage.folder / golden_path(self.target).name
        if not place.exists():
            if self.evidence.path is None:
                self.evidence.golden.write(place)
            else:
                shutil.copyfile(self.evidence.path, place)
        return place

    def _broken(self, one: Pass, path: Path, made: Applied, verdict: Verdict) -> NotEquivalent:
        own = self.evidence.judge(path, self.target)
        blame = (
            []
            if own.passed
            else [f"so it was before {name_of(one)}: the model that came in is not its source any more"]
        )
        return NotEquivalent(
            f"after {name_of(one)} the model does not answer as {self.evidence.source} does; nothing was written",
            fix="deploykit validate shows what is wrong with the model" if blame else "leave it out",
            details=[*blame, *made.notes, *(f"{check.what}: {check.why}" for check in verdict.failures[:3])],
            verdict=verdict,
        )

    def promoted(self, path: Path) -> list[Path]:
        """Put the last file and its golden in their place."""
        golden = self._golden()
        written = [file for file in path.parent.iterdir() if file.is_file()]
        for file in written:
            file.rename(self.stage.folder / file.name)
        return promote(
            self.stage, self.target, [file.name for file in written], golden.name, ("optimize", self.source.path)
        )


@dataclass
class _Written:
    """The files that a pass writes, each in a folder of its own under the name of the target."""

    folder: Path
    name: str
    lineage: Callable[[Any], None]
    measures: dict[Path, Measure] = field(default_factory=dict)

    def write(self, model: Any) -> Path:
        from deploykit.onnx_io import save

        place = self.folder / f"written{len(self.measures)}"
        place.mkdir()
        before = dict(model.metadata_props)
        self.lineage(model)
        try:
            files = save(model, place / self.name)
        finally:
            model.metadata_props.clear()
            model.metadata_props.update(before)
        self.measures[place / self.name] = Measure(_nodes(model), sum(file.stat().st_size for file in files))
        return place / self.name


@dataclass(frozen=True)
class _Judged:
    """Judges each file once."""

    judge: Callable[[Path], Verdict]
    before: Callable[[], None]
    """Ends the lap of the pass."""
    clock: Clock
    known: dict[Path, Verdict] = field(default_factory=dict)

    def __call__(self, path: Path) -> Verdict:
        if path not in self.known:
            self.before()
            self.known[path] = self.judge(path)
            self.clock.lap("proof")
        return self.known[path]
