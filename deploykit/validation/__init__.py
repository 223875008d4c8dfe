"""``deploykit validate``: does an artifact still answer as its source does?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from deploykit import workspace
from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, Loading, backend_for, check_options
from deploykit.child import Step, silent
from deploykit.errors import UsageError
from deploykit.golden import Golden
from deploykit.tensors import Array
from deploykit.validation.baseline import drift, keep
from deploykit.validation.budgets import Budget
from deploykit.validation.compare import Rules, compare
from deploykit.validation.divergence import MEMORY
from deploykit.validation.evidence import SAMPLES, find_golden, make_golden
from deploykit.validation.fixed import Tolerances
from deploykit.validation.locating import Search
from deploykit.validation.loss import Loss
from deploykit.validation.verdict import Check, Verdict

__all__ = ["Check", "Rules", "Verdict", "compare", "validate"]


def validate(  # noqa: PLR0913 - the options of the command
    artifact: str | Path | None = None,
    against: str | Path | None = None,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    min_agreement: float | None = None,
    min_sqnr: float | None = None,
    max_drop: float | None = None,
    labels: str | Path | None = None,
    allow_undecided: bool = False,
    atol: Sequence[str | float] = (),
    rtol: Sequence[str | float] = (),
    baseline: str | Path | None = None,
    update_baseline: bool = False,
    locate: bool = False,
    max_memory: str | int = MEMORY,
    step: Step = silent,
    **loading: Unpack[Loading],
) -> Verdict:
    """Compare an artifact with the golden of its source, or with a source that is run anew.

    Args:
        artifact: an ONNX file; the latest made in this folder where it is not given.
        against: a source, an ONNX file or a golden; the artifact's own golden where it is not given.
        samples: at most so many of the data.
        seed: of the synthesized inputs.
        min_agreement: share of the decisions that a lossy artifact (int8, int4, pruned) must keep.
        min_sqnr: signal to quantization noise in dB that its outputs must keep.
        max_drop: accuracy that it may lose, as a share of the samples.
        labels: the right class of each sample: ``y.npy``, ``data.npz:y``, ``table.csv:y``.
        allow_undecided: whether it passes where there are too few samples to tell.
        atol: a fixed tolerance in the place of the noise ratio: ``1e-3`` for all outputs, ``"logits=1e-3"`` for one.
        rtol: the same in relation to the source's values; both add up.
        baseline: the file of the last run's verdict; what has moved since fails.
        update_baseline: write this verdict there instead, where it passes.
        locate: whether to look for the first tensor that differs though all passes; where something fails and the
            source is at hand it is looked for anyway.
        max_memory: how much the tensors looked at may take at a time: ``1GB``, or bytes.
        step: takes a sentence about what goes on.
        loading: how to load the source, and ``data`` to use instead of synthesized inputs.

    Raises:
        DeploykitError: a file is missing or damaged, or the two can't be compared at all.
    """
    from deploykit.onnx_io import lineage, precision_of
    from deploykit.samples import labels as read_labels

    asked = Asked(**loading)
    if labels is not None and (asked.data is None or against is None):
        raise UsageError(
            "--labels are those of the samples of --data", fix="--against SOURCE --data val.npz --labels val.npz:y"
        )
    tolerances = Tolerances.parse([str(one) for one in atol], [str(one) for one in rtol])
    judged = _opened(artifact)
    search = Search.of(against, asked, wanted=locate, max_memory=max_memory)
    if search.reference is None:
        if asked != Asked():
            raise UsageError(
                "--data, --input and the like are for a source that is run, and none is named",
                fix=f"deploykit validate {judged.path} --against model.pt ...",
            )
        golden, reference = _from_golden(find_golden(judged.path, lineage(judged.graph)))
    else:
        golden, reference = _from_source(search.reference, judged, asked, samples=samples, seed=seed, step=step)
    precision = precision_of(judged.graph)
    given = _given(min_agreement=min_agreement, min_sqnr=min_sqnr, max_drop=max_drop)
    kept = None if labels is None else read_labels(labels, limit=golden.samples)
    coarse = bool(golden.quanta) or golden.limit is not None  # such a source has its own rule, and lost nothing more
    loss = _loss("float32" if coarse else precision, given, kept, allow_undecided=allow_undecided)
    rules = Rules("float16" if precision == "float16" else "float32", tolerances, loss)
    with backend_for(Format.ONNX).load(Artifact(judged.path, Format.ONNX), Asked(), step) as session:
        step("comparing")
        verdict = compare(golden, session, artifact=str(judged.path), reference=reference, rules=rules)
    verdict = search.add(verdict, judged.path, golden.cases, step)
    return _with_baseline(verdict, baseline, update=update_baseline)


@dataclass(frozen=True)
class _Judged:
    """The artifact, read once."""

    path: Path
    graph: Any
    """An ``onnx_ir.Model``."""


def _opened(artifact: str | Path | None) -> _Judged:
    from deploykit.onnx_io import load

    model = Artifact.open(artifact or workspace.latest())
    if model.format is not Format.ONNX:
        raise UsageError(
            f"{model.path} is {model.format}, and validate judges ONNX files",
            fix=f"deploykit convert {model.path} first, or give it as the source: --against {model.path}",
        )
    return _Judged(model.path, load(model.path))


def _given(**bounds: float | None) -> dict[str, float]:
    return {name: value for name, value in bounds.items() if value is not None}


def _loss(precision: str, given: Mapping[str, float], labels: Array | None, *, allow_undecided: bool) -> Loss | None:
    """Say what an artifact may lose: nothing, unless it computes in integers, or the user says how much."""
    asked = bool(given) or labels is not None
    if precision in _LOSSY or asked:
        budget = replace(Budget.of(precision if precision in _LOSSY else "pruned"), **given)
        return Loss(budget, asked, labels, allow_undecided)
    if allow_undecided:
        raise UsageError("--allow-undecided is for int8 and other lossy artifacts", fix="leave it out")
    return None


_LOSSY = ("int8", "int4")


def _with_baseline(verdict: Verdict, path: str | Path | None, *, update: bool) -> Verdict:
    """Add what has moved since the last run, or keep this one for the next."""
    if path is None:
        if update:
            raise UsageError("--update-baseline writes a file, and none is named", fix="--baseline last.json")
        return verdict
    if not update:
        return replace(verdict, checks=(*verdict.checks, *drift(verdict, Path(path))))
    if verdict.passed:
        keep(verdict, Path(path))
    return verdict


def _from_golden(path: Path) -> tuple[Golden, str]:
    golden = Golden.read(path)
    return golden, f"{path.name}, recorded from {golden.source.get('path', 'its source')}"


def _from_source(
    source: Artifact, judged: _Judged, asked: Asked, *, samples: int, seed: int, step: Step
) -> tuple[Golden, str]:
    from deploykit.onnx_io import signature

    if source.format is Format.GOLDEN:
        return _from_golden(source.path)
    check_options(source, asked)
    own = asked.inputs
    if not own:  # the artifact says what goes in
        asked = replace(asked, inputs=tuple(str(spec) for spec in signature(judged.graph).inputs))
    try:
        with backend_for(source.format).load(source, asked, step) as session:
            golden = make_golden(session, judged.graph, source, asked, samples=samples, seed=seed)
    except UsageError as error:
        if own:
            raise
        raise UsageError(
            f"{source.path} does not take what {judged.path} takes: {error.message}",
            fix="name the source that the artifact was made from",
            details=[f"the artifact takes {', '.join(asked.inputs)}", *error.details],
        ) from error
    return golden, str(source.path)
