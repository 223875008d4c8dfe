"""``deploykit optimize`` and ``deploykit quantize``: from a proved ONNX file to a better one, proved again.

What must always hold lives here, whatever a pass does: the passes fit along the whole chain before anything runs, the
model that came in is untouched, each result is checked and answers as the ORIGINAL source does, its lineage is
written; only then does it appear, with its golden.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from deploykit import workspace
from deploykit.artifact import Artifact, Format, staging
from deploykit.backends import Asked, Loading, check_options
from deploykit.child import Step, silent
from deploykit.clock import Clock
from deploykit.errors import UsageError
from deploykit.optimization.chain import Chain, Measure, Stage, measured
from deploykit.optimization.evidence import evidence_of
from deploykit.optimization.speed import compared, is_faster, refusal
from deploykit.passes import PASSES, Pass
from deploykit.plugin import name_of
from deploykit.promotion import output_path
from deploykit.timing import Comparison
from deploykit.validation import FLOOR_SAMPLES, Demand
from deploykit.validation.evidence import SAMPLES, Size, golden_path
from deploykit.validation.verdict import Verdict

__all__ = ["Measure", "Optimization", "Stage", "check_steps", "checked", "optimize"]


@dataclass(frozen=True)
class Optimization:
    """What a chain of passes made."""

    path: Path
    files: tuple[Path, ...]
    """All that the model is made of: the .onnx file, and its weights where they are beside it."""
    golden: Path
    model: Path
    """What went in."""
    before: Measure
    stages: tuple[Stage, ...]
    verdict: Verdict
    """Of the last stage, which is the file that was written."""
    speed: Comparison | None
    """The result timed against what went in, where it is meant to be faster on this machine."""
    notes: tuple[str, ...]
    seconds: dict[str, float]
    """golden, then each pass by name, the proofs of all of them, and save."""


def optimize(  # noqa: PLR0913 - the options of the command
    model: str | Path | None = None,
    output: str | Path | None = None,
    *,
    passes: Sequence[Pass | str] = ("simplify",),
    demand: Demand | None = None,
    keep_slower: bool = False,
    samples: int | None = None,
    seed: int = 0,
    step: Step = silent,
    **loading: Unpack[Loading],
) -> Optimization:
    """Apply passes to an ONNX file, one after the other, and prove each result.

    Args:
        model: an ONNX file; the latest made in this folder where it is not given.
        output: the file to write; the model's name with what was done, in the current folder, where it is not given.
        passes: what to apply; a name stands for a pass with its usual options. See ``deploykit.passes``.
        demand: what is asked of a result in fewer bits; the usual bounds where it is not given.
        keep_slower: whether a result stays that is meant to be faster, and is not.
        samples: at most so many of the user's samples are looked at; 32 where nothing is said.
        seed: of synthesized inputs.
        step: takes a sentence about what goes on.
        loading: ``data`` to look at instead of the inputs of the golden; the sizes of the inputs.

    Raises:
        NotEquivalent: a result does not answer as the source does, or is not faster; nothing is written.
        DeploykitError: the model can't be read, or a pass not be applied to it.
    """
    chain = [PASSES.parse(one) if isinstance(one, str) else one for one in passes]
    asked = Asked(**loading)
    source = Artifact.open(model or workspace.latest(suffix=".onnx"))
    before = checked(source, asked, chain, demand or Demand(), keep_slower=keep_slower)
    target = output_path(output, f"{source.path.stem}.{chain[-1].suffix}.onnx", source.path)
    clock = Clock()
    with staging(target.parent) as stage:
        wanted = Size(stage.folder / "evidence", samples or SAMPLES, seed, FLOOR_SAMPLES)
        evidence = evidence_of(source, asked, wanted, demand or Demand(), step)
        evidence = evidence.parted() if any(one.fits for one in chain) else evidence
        clock.lap("golden")
        run = Chain(source, target, stage, evidence, clock, step, lossy=before.lossy)
        path, stages = source.path, list[Stage]()
        for number, one in enumerate(chain):
            path, done = run.applied(one, path, stage.folder / str(number))
            stages.append(done)
        speed = None
        if any(one.hastens for one in chain):
            speed = compared(source.path, path, target, evidence.judging(), step)
            clock.lap("timing")
            if not (keep_slower or is_faster(speed)):
                raise refusal(speed, stages)
        files = run.promoted(path)
        run.forget()
        clock.lap("save")
    return Optimization(
        target, tuple(files), golden_path(target), source.path, before, tuple(stages), stages[-1].verdict, speed,
        evidence.notes, clock.laps,
    )  # fmt: skip


def check_steps(passes: Sequence[Pass], precision: str = "float32", *, made_up: bool, pruned: bool = False) -> str:
    """Make sure that each pass takes what the one before it gives, and that its options make sense.

    Args:
        passes: in their order.
        precision: of the model that goes in.
        made_up: whether there are no samples of the user's.
        pruned: whether channels or weights were taken from that model.

    Returns:
        What comes out is judged as: its precision, or ``pruned``.

    Raises:
        UsageError: one does not fit.
    """
    for one in passes:
        if precision not in one.accepts:
            raise UsageError(
                f"{name_of(one)} takes a model in {' or '.join(sorted(one.accepts))}, and this one is in {precision}",
                fix="name the model from before that was done to it",
                details=[one.first] if one.first else [],
            )
        one.check(made_up=made_up)
        precision, pruned = one.precision or precision, pruned or (one.lossy and one.precision is None)
    return "pruned" if pruned else precision


def checked(source: Artifact, asked: Asked, passes: Sequence[Pass], demand: Demand, *, keep_slower: bool) -> Measure:
    """Make sure that the whole chain fits before anything runs, and measure what goes in.

    Raises:
        UsageError: it is no ONNX file, or a pass does not take what it would be given.
    """
    from deploykit.onnx_io import load

    if source.format is not Format.ONNX:
        raise UsageError(
            f"{source.path} is {source.format}, and this is done to ONNX files",
            fix=source.to_onnx,
        )
    check_options(asked, source)
    before = measured(source.path, load(source.path))
    judged = check_steps(passes, before.precision, made_up=asked.data is None, pruned=before.pruned)
    if keep_slower and not any(one.hastens for one in passes):
        raise UsageError("--keep-slower is for what is meant to be faster on this machine", fix="leave it out")
    if demand.labels is not None and asked.data is None:
        raise UsageError("--labels are those of the samples of --data", fix="--data val.npz --labels val.npz:y")
    if demand != Demand():
        demand.check(judged)
    return before
