"""``deploykit convert``: from a source model to an ONNX file that is proved to be the same model.

What must always hold lives here: the source is untouched, the file is checked, its inputs and outputs are the
source's, it answers as the source does, its lineage is written; only then do the model and its golden appear, both
or neither.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from deploykit.artifact import Artifact, Format, Staging, sha256, staging
from deploykit.backends import Asked, Loading, Session, backend_for, check_options
from deploykit.child import Step, silent
from deploykit.clock import Clock
from deploykit.errors import ModelError, NotEquivalent, UsageError, ValueDependent
from deploykit.exporters import EXPORTERS, OPSET, Exporter
from deploykit.golden import Golden
from deploykit.promotion import output_path, promote
from deploykit.tensors import Signature
from deploykit.validation import prove
from deploykit.validation.evidence import SAMPLES, Size, golden_path, make_golden, settled_outputs
from deploykit.validation.units import summary
from deploykit.validation.verdict import Verdict

_LONGEST = 700
"""Characters of one way's failure; frameworks say much."""


@dataclass(frozen=True)
class Conversion:
    """What a conversion made."""

    path: Path
    files: tuple[Path, ...]
    """All that the model is made of: the .onnx file, and its weights where they are beside it."""
    golden: Path
    source: Artifact
    exporter: str
    signature: Signature
    opset: int
    ir_version: int
    verdict: Verdict
    notes: tuple[str, ...]
    seconds: dict[str, float]
    """load, export, golden, save and proof."""
    peak_bytes: int
    """Largest resident memory of the child process; 0 where there was none."""


def convert(  # noqa: PLR0913 - the options of the command
    source: str | Path,
    output: str | Path | None = None,
    *,
    exporter: str = "auto",
    opset: int | None = None,
    for_runtime: str | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    step: Step = silent,
    **loading: Unpack[Loading],
) -> Conversion:
    """Convert a trained model to ONNX, and prove that the file answers as the source does.

    Args:
        source: the model: .pt2, TorchScript, state_dict, safetensors, pickled module or ONNX, told apart by content.
        output: the file to write; the source's name with .onnx, in the current folder, where it is not given.
            The golden lies beside it.
        exporter: ``auto``, or one of the framework's.
        opset: ai.onnx opset to write.
        for_runtime: an onnxruntime version that shall load the file.
        samples: at most so many of the user's samples go into the golden.
        seed: of synthesized inputs.
        step: takes a sentence about what goes on.
        loading: how to load the source, and what goes into it.

    Raises:
        NotEquivalent: the file does not answer as the source does; nothing is written.
        DeploykitError: it can't be read, loaded, exported or written.
    """
    from deploykit.runtimes import installed_limits, limits

    origin = Artifact.open(source)
    asked = Asked(**loading)
    check_options(asked, origin)
    target = _target(origin, output)
    allowed = limits(for_runtime) if for_runtime else installed_limits()
    if opset is not None and opset > allowed.opset:
        raise UsageError(
            f"onnxruntime {for_runtime or 'as installed'} takes opset {allowed.opset} at most, not {opset}",
            fix=f"--opset {allowed.opset}",
        )
    name = _exporter_for(origin)
    wanted = min(opset or min(OPSET, allowed.opset), EXPORTERS.kind(name).newest)
    chosen = EXPORTERS.make(name, exporter=exporter, opset=wanted)
    raise_to = (opset or (allowed.opset if for_runtime else None)) if origin.format is Format.ONNX else opset
    work = Work(origin, asked, chosen, allowed.ir, raise_to, samples, seed, step)
    with staging(target.parent) as stage:
        return _converted(work, target, stage)


@dataclass(frozen=True)
class Work:
    """What one conversion is asked to do."""

    source: Artifact
    asked: Asked
    exporter: Exporter
    highest_ir: int
    opset: int | None
    """The opset to change the file to after the export, where it is another; None for that of the export."""
    samples: int
    seed: int
    step: Step


@dataclass(frozen=True)
class Trial:
    """One export, with the evidence to judge it by."""

    way: str
    raw: Path
    golden: Golden
    notes: tuple[str, ...]
    versions: dict[str, str]
    clock: Clock
    peak_bytes: int
    written: tuple[str, ...] = ()
    """Names of the files of the model in the stage, once it is finished; and what its versions are."""
    opset: int = 0
    ir_version: int = 0


def _exporter_for(source: Artifact) -> str:
    kinds = {name: EXPORTERS.kind(name).formats for name in EXPORTERS.names()}
    for name, formats in kinds.items():
        if source.format in formats:
            return name
    raise UsageError(
        f"{source.path} is {source.format}, and that can't be converted",
        fix="give one of: " + ", ".join(sorted(str(one) for formats in kinds.values() for one in formats)),
    )


def _target(source: Artifact, output: str | Path | None) -> Path:
    name = f"{source.path.stem}{'.proved' if source.format is Format.ONNX else ''}.onnx"
    return output_path(output, name, source.path)


def _converted(work: Work, target: Path, stage: Staging) -> Conversion:
    ways = list(work.exporter.ways(work.source.format))
    failures: list[str] = []
    while True:
        trial = _tried(work, ways, failures, stage, target)
        trial = _finished(work, trial, stage, target)
        trial.clock.lap("save")
        verdict = _proved(work, trial, stage, target)
        trial.clock.lap("proof")
        if verdict.passed:
            return _promoted(work, trial, verdict, failures, stage, target)
        failures.append(f"{trial.way}: exported, but not the same model: {_worst(verdict)}")
        ways = ways[ways.index(trial.way) + 1 :]
        if not ways:
            verdict, where = _located(work, trial, verdict, stage.folder / target.name)
            raise NotEquivalent(
                f"{target.name} does not answer as {work.source.path} does; nothing was written",
                fix=_ways_out(work, trial.golden.signature),
                details=[*failures, *where],
                verdict=verdict,
            )


def _located(work: Work, trial: Trial, verdict: Verdict, file: Path) -> tuple[Verdict, list[str]]:
    """Find where the file and its source part, where that can be found, and say it."""
    from deploykit.validation.divergence import MEMORY
    from deploykit.validation.divergence.words import told
    from deploykit.validation.locating import Search

    search = Search(work.source, work.asked, wanted=False, max_bytes=MEMORY)
    verdict = search.add(verdict, file, trial.golden.cases, work.step)
    lines = told(verdict.divergence) if verdict.divergence is not None else ()
    return verdict, [f"{word:9} {text}" for word, text in lines]


def _tried(work: Work, ways: list[str], failures: list[str], stage: Staging, target: Path) -> Trial:
    """Load the source, export it in the first way that goes, and record its golden; its process ends with this."""
    from deploykit.onnx_io import load

    clock = Clock()
    raw = stage.folder / "raw" / "model.onnx"
    shutil.rmtree(raw.parent, ignore_errors=True)
    raw.parent.mkdir()
    with backend_for(work.source.format).load(work.source, work.asked, work.step) as session:
        clock.lap("load")
        way, said = _exported(work, session, ways, failures, raw, target)
        clock.lap("export")
        kept = stage.folder / "evidence"
        shutil.rmtree(kept, ignore_errors=True)
        golden = make_golden(session, load(raw), work.source, work.asked, Size(kept, work.samples, work.seed))
        golden = replace(golden, signature=Signature(golden.signature.inputs, settled_outputs(golden)))
        trial = Trial(way, raw, golden, (*session.notes, *said), session.versions, clock, session.peak_bytes)
    work.step("looking for units that are never active")
    idle = summary(raw, (case.inputs for case in golden.cases))
    clock.lap("golden")
    return replace(trial, golden=replace(golden, notes=(*golden.notes, *idle)))


def _exported(
    work: Work, session: Session, ways: list[str], failures: list[str], raw: Path, target: Path
) -> tuple[str, tuple[str, ...]]:
    """Export in the first way that goes; give it, and what there is to say of it."""
    ways_out: tuple[str, ...] = ()
    for way in ways:
        try:
            return way, tuple(work.exporter.export(session, raw, way))
        except ModelError as error:
            failures.append(f"{way}: {error.message}: {'; '.join(error.details)}"[:_LONGEST])
            ways_out = error.fix
            if isinstance(error, ValueDependent):  # another exporter would not notice, and keep one way only
                break
    script = work.exporter.reproducer(work.source, work.asked, session)
    shown = target.with_suffix(".repro.py")
    if script:
        shown.write_text(script)
    raise ModelError(
        f"{work.source.path} can't be exported to ONNX",
        fix=[*ways_out, *([f"{shown} shows it without deploykit, for a bug report"] if script else [])],
        details=failures,
    )


def _finished(work: Work, trial: Trial, stage: Staging, target: Path) -> Trial:
    """Write golden and model in the stage: versions set, outputs described, lineage written, checked."""
    from deploykit.onnx_io import describe, load, save, set_lineage, set_versions

    golden = stage.folder / golden_path(target).name
    trial.golden.write(golden)
    model = load(trial.raw)
    work.step("setting versions and lineage")
    set_versions(model, ir=min(model.ir_version, work.highest_ir), opset=work.opset)
    if work.source.format is not Format.ONNX:  # such a file has described itself
        describe(model, trial.golden.signature)
    set_lineage(
        model,
        **{
            "source.sha256": trial.golden.source["sha256"],
            "source.name": work.source.path.name,
            "golden.sha256": sha256(golden),
            "passes": f"convert:exporter={trial.way},opset={model.opset_imports['']}",
            "versions": ", ".join(f"{name} {version}" for name, version in trial.versions.items()),
        },
    )
    written = tuple(path.name for path in save(model, stage.folder / target.name))
    return replace(trial, written=written, opset=model.opset_imports[""], ir_version=model.ir_version)


def _proved(work: Work, trial: Trial, stage: Staging, target: Path) -> Verdict:
    """Judge the file that will be promoted, as it lies on the disk."""
    work.step(f"proving {target.name} in onnxruntime")
    file, source = stage.folder / target.name, str(work.source.path)
    return prove(file, trial.golden, None, artifact=str(target), reference=source)


def _promoted(
    work: Work, trial: Trial, verdict: Verdict, failures: list[str], stage: Staging, target: Path
) -> Conversion:
    golden = golden_path(target)
    files = promote(stage, target, trial.written, golden.name, ("convert", work.source.path))
    return Conversion(
        target,
        tuple(files),
        golden,
        work.source,
        trial.way,
        trial.golden.signature,
        trial.opset,
        trial.ir_version,
        verdict,
        (*trial.notes, *(f"tried before: {failure}" for failure in failures)),
        trial.clock.laps,
        trial.peak_bytes,
    )


def _worst(verdict: Verdict) -> str:
    return "; ".join(check.said for check in verdict.failures[:3]) or "nothing was compared"


def _ways_out(work: Work, signature: Signature) -> list[str]:
    ways = ["look at the output named above", "give inputs like the real ones with --data samples.npz"]
    if signature.axes and work.asked.data is None:
        ways.append(
            f"name the sizes that it is used at, where it is wrong at others: --shapes '{signature.axes[-1]}=8,16'"
        )
    if work.exporter.exporter != "auto":
        ways.append("leave --exporter out, so that the others are tried")
    return ways
