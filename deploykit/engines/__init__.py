"""``deploykit build``: from an ONNX file to a TensorRT engine, proved where a GPU is, and else called unproved.

What an engine computes in is decided in the ONNX file: the passes fp16, bf16 and int8 come first, with their proofs.
The engine is then built strongly typed, in a process of its own. With it appear its sidecar and its golden, so that it
can be validated later, and elsewhere.
"""

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from deploykit import __version__, workspace
from deploykit.artifact import Artifact, Format, Staging, sha256, staging
from deploykit.backends.tensorrt import unfit, within
from deploykit.child import Child, Step, silent
from deploykit.clock import Clock
from deploykit.engines.evidence import Asking, Source, prepared
from deploykit.engines.graph import Graph
from deploykit.engines.lint import lint
from deploykit.engines.options import Options, chosen
from deploykit.engines.placing import proof_of, replaced, unlink_older
from deploykit.engines.profiles import Profiles, profiles_of
from deploykit.engines.refusing import failed, listed, parsed
from deploykit.engines.remarks import remarks
from deploykit.errors import NotEquivalent, UsageError
from deploykit.nvidia import Bindings, Devices, devices
from deploykit.sidecar import Part, Sidecar, golden_of, sidecar_path, told_layers
from deploykit.validation.demand import Bounds, Demand
from deploykit.validation.verdict import Verdict

if TYPE_CHECKING:
    from deploykit.timing import Timed

_SECONDS = 2.0
"""Of timing an engine that was proved."""
HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators of which it is asked what they compute in."""


@dataclass(frozen=True)
class Built:
    """What a build made."""

    path: Path
    files: tuple[Path, ...]
    """The engine, its sidecar, its golden, and the ONNX file where one was made for it."""
    model: Path
    """What went in."""
    sidecar: Sidecar
    verdict: Verdict | None
    """None where it was not run."""
    unproved: str
    """Why it was not run; empty where it was."""
    speed: "Timed | None"
    """What a call takes on the device, with the copies there and back; None where it was not run."""
    did: tuple[str, ...]
    """What the passes did before it was built."""
    profiles: tuple[str, ...]
    warnings: tuple[str, ...]
    """Of TensorRT, and of what does less than it seems to."""
    peak_bytes: int
    """Largest resident memory of the process that built it."""
    seconds: dict[str, float]
    """lint, golden or precision, profiles, build (its process), proof and save."""
    building: dict[str, float]
    """Of the build: parse, engine and write, and cpu, of all its threads."""

    @property
    def passed(self) -> bool:
        """Whether it was run and answers as its source does."""
        return self.verdict is not None and self.verdict.passed

    @property
    def layers(self) -> tuple[str, ...]:
        """What became of the precision that was asked for, in words."""
        return told_layers(self.sidecar.precision, self.sidecar.layers)


def build(  # noqa: PLR0913 - the options of the command
    model: str | Path | None = None,
    output: str | Path | None = None,
    *,
    to: Any = None,
    options: Options | None = None,
    max_drop: float | None = None,
    labels: str | Path | None = None,
    samples: int | None = None,
    seed: int = 0,
    data: Path | None = None,
    image: str | None = None,
    step: Step = silent,
    **bounds: Unpack[Bounds],
) -> Built:
    """Build a TensorRT engine of an ONNX file, and prove it where a CUDA device is.

    Args:
        model: an ONNX file; the latest made in this folder where it is not given.
        output: the file to write; the model's name with .engine, in the current folder, where it is not given.
        to: ``fp16``, ``bf16``, ``int8``, or such a pass with its options; what the file computes in where it is None.
        options: how it is built.
        max_drop: accuracy that may be lost, as a share of the samples; needs labels.
        labels: the right class of each sample.
        samples: at most so many of the user's samples.
        seed: of synthesized inputs.
        data: samples to calibrate and to judge with; needs ``to``.
        image: how images among them are prepared.
        step: takes a sentence about what goes on.
        bounds: what the result is asked in the place of the usual rules.

    Raises:
        NotEquivalent: it does not answer as its source does; nothing is written.
        UsageError: an option is lacking in this TensorRT, or does not fit the model.
        MissingPackage: no TensorRT is installed.
        ModelError: TensorRT does not take the model.
    """
    wanted, there = options or Options(), devices()
    source = _opened(model)
    found = chosen(wanted.backend, there)
    wanted.check(found)
    asking = Asking(to, data, image, samples, seed, bounds, max_drop, labels)
    asking.check()
    target = _target(source.path, output, asking.suffix)
    clock = Clock()
    step(f"looking for what TensorRT refuses in {source.path.name}")
    _lint(source.path, Graph.read(source.path), wanted, found, precision_to_come=to is not None)
    clock.lap("lint")
    with staging(target.parent) as stage:
        ready = prepared(source, asking, stage.folder, target, step)
        clock.lap("golden" if to is None else "precision")
        return _Build(source.path, target, ready, wanted, found, there, stage, clock, step).run(bounds)


def _opened(model: str | Path | None) -> Artifact:
    source = Artifact.open(model or workspace.latest(suffix=".onnx"))
    if source.format is not Format.ONNX:
        raise UsageError(f"{source.path} is {source.format}, and engines are built of ONNX files", fix=source.to_onnx)
    return source


def _target(source: Path, output: str | Path | None, suffix: str) -> Path:
    name = f"{source.stem}{suffix}.engine"
    target = Path(output) if output else Path(name)
    if target.is_dir():
        target /= name
    if target.suffix not in (".engine", ".plan", ".trt"):
        raise UsageError(f"the output {target} does not end in .engine", fix=f"-o {target}.engine")
    return target


def _lint(path: Path, graph: Graph, asked: Options, found: Bindings, *, precision_to_come: bool = False) -> None:
    refused = lint(graph, asked.targets, precision_to_come=precision_to_come, backend=found.kind)
    if refused:
        raise listed(path, refused)


@dataclass(frozen=True)
class _Build:
    """One build."""

    model: Path
    target: Path
    source: Source
    asked: Options
    found: Bindings
    there: Devices
    stage: Staging
    clock: Clock
    step: Step

    def run(self, bounds: Bounds) -> Built:
        graph = Graph.read(self.source.onnx)
        if self.source.made:
            _lint(self.model, graph, self.asked, self.found)
        else:
            Demand.of(bounds, None, None).check(graph.precision)
        profiles = profiles_of(graph.signature.inputs, self.asked.shapes, self.source.golden)
        notes = (*self.source.notes, *remarks(graph, profiles, self.source.golden))
        self.clock.lap("profiles")
        told, peak = self._built(graph, profiles)
        self.clock.lap("build")
        sidecar = self._sidecar(graph, profiles, told)
        verdict, why = self._proved(sidecar, bounds)
        sidecar = replace(sidecar, proof=proof_of(verdict, why, self.there))
        sidecar.write(sidecar_path(self._engine))
        self.clock.lap("proof")
        files = self._promoted(sidecar)
        self.clock.lap("save")
        did, said, laps = self.source.did, profiles.said, self.clock.laps
        return Built(
            self.target,
            files,
            self.model,
            sidecar,
            verdict,
            why,
            self._timed(sidecar) if verdict is not None else None,
            did,
            said,
            (*notes, *told["warnings"]),
            peak,
            laps,
            told["seconds"] | {"cpu": told["cpu_seconds"]},
        )

    @property
    def _engine(self) -> Path:
        return self.stage.folder / self.target.name

    @property
    def _new_cache(self) -> Path:
        return self.stage.folder / "timing.cache"

    def _built(self, graph: Graph, profiles: Profiles) -> tuple[dict[str, Any], int]:
        options = {
            "profiles": profiles.shapes,
            "targets": list(self.asked.targets),
            "workspace": self.asked.workspace_bytes,
            "level": self.asked.level,
            "sparse": self.asked.sparse,
            "version_compatible": self.asked.version_compatible,
            "hardware_compatible": self.asked.hardware_compatible,
            "timing_cache": str(self.asked.timing_cache or ""),
            "new_cache": str(self._new_cache) if self.asked.timing_cache else "",
            "nodes": [node.builder_name for node in graph.nodes if node.operator in HEAVY],
        }
        with Child("tensorrt", step=self.step) as child:
            doing = f"building {self.target.name} with {self.found.kind}"
            places = {"onnx": str(self.source.onnx), "target": str(self._engine)}
            told = child.call("build", doing, module=self.found.module, options=options, **places)
            peak = child.peak_bytes
        if "refused" in told:
            raise listed(self.model, parsed(graph, told["refused"]))
        if "failed" in told:
            raise failed(self.model, told["failed"])
        return told, peak

    def _sidecar(self, graph: Graph, profiles: Profiles, told: dict[str, Any]) -> Sidecar:
        self.step(f"hashing {self.target.name}")
        heavy = [node for node in graph.nodes if node.operator in HEAVY]
        nodes = {node.name: told["precisions"].get(node.builder_name, "unknown") for node in heavy}
        layers: dict[str, dict[str, int]] = {}
        for node in heavy:
            row = layers.setdefault(node.operator, {})
            row[nodes[node.name]] = row.get(nodes[node.name], 0) + 1
        own = {name: value for name, value in self._settings() if value}
        return Sidecar(
            Part(self.target.name, sha256(self._engine)),
            Part(self.source.onnx.name if self.source.made else self.model.name, sha256(self.source.onnx)),
            Part(self.source.golden.name, sha256(self.source.golden)),
            self.found.kind,
            {self.found.kind: told["version"], "deploykit": __version__},
            tuple(self.asked.targets),
            graph.precision,
            graph.signature,
            profiles.shapes,
            own,
            layers,
            nodes,
            graph.lineage,
            {},
        )

    def _settings(self) -> list[tuple[str, Any]]:
        one = self.asked
        return [
            ("workspace", one.workspace_bytes),
            ("level", None if one.level is None else str(one.level)),
            ("sparse", one.sparse),
            ("hardware_compatible", one.hardware_compatible),
            ("version_compatible", one.version_compatible),
        ]

    def _proved(self, sidecar: Sidecar, bounds: Bounds) -> tuple[Verdict | None, str]:
        """Run the engine where that can be, and judge it by its golden."""
        why = unfit(sidecar.targets, sidecar.backend, self.there)
        if why:
            return None, why
        from deploykit.validation import validate

        sidecar.write(sidecar_path(self._engine))
        verdict = replace(validate(self._engine, step=self.step, **bounds), artifact=str(self.target))
        if not verdict.passed:
            raise NotEquivalent(
                f"the engine does not answer as the source of {self.model} does; nothing was written",
                fix=["build it in a higher precision", "or give bounds of yours: --min-agreement 97% --min-sqnr 15"],
                details=[check.said for check in verdict.failures[:3]],
                verdict=verdict,
            )
        return verdict, ""

    def _timed(self, sidecar: Sidecar) -> "Timed":
        """Time it on the first call of its golden that is within its profile."""
        from deploykit.golden import Golden
        from deploykit.timing import measure

        calls = within(Golden.read(golden_of(self.target, sidecar)), sidecar).cases
        return measure([self.target], calls[0].inputs, seconds=_SECONDS, step=self.step).rows[0]

    def _promoted(self, sidecar: Sidecar) -> tuple[Path, ...]:
        """Put all that was made in its place, the engine last; the timing cache has a place of its own."""
        if self.asked.timing_cache is not None and self._new_cache.exists():
            replaced(self._new_cache, self.asked.timing_cache)
        if not self.source.made:
            unlink_older(self.target)
        names = [self.source.golden.name, *self.source.made, sidecar_path(self.target).name, self.target.name]
        self.stage.commit(*names)
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        workspace.write(workspace.Entry(str(self.target), sidecar.engine.sha256, "build", str(self.model), now))
        return tuple(self.target.parent / name for name in reversed(names))
