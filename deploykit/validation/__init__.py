"""``deploykit validate``: does an artifact still answer as its source does?"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from deploykit import workspace
from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, Loading, backend_for, check_options, fitting
from deploykit.backends.tensorrt import usable, within
from deploykit.child import Step, silent
from deploykit.errors import ModelError, UsageError
from deploykit.golden import Golden
from deploykit.nvidia import devices
from deploykit.sidecar import Sidecar, golden_of, read_sidecar
from deploykit.tensors import Signature
from deploykit.validation.baseline import drift, keep
from deploykit.validation.compare import Rules, compare
from deploykit.validation.demand import Bounds, Demand
from deploykit.validation.evidence import SAMPLES, Size, find_golden, make_golden
from deploykit.validation.half_ports import widened
from deploykit.validation.verdict import Check, Verdict

if TYPE_CHECKING:
    from deploykit.validation.locating import Search

__all__ = ["Check", "Demand", "Rules", "Verdict", "compare", "prove", "validate"]


MEMORY = "1GB"
"""What the tensors may take at a time where the first divergence is looked for."""


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
        artifact: an ONNX file, or any source; the latest made in this folder where it is not given.
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
    asked = Asked(**loading)
    if labels is not None and (asked.data is None or against is None):
        raise UsageError(
            "--labels are those of the samples of --data", fix="--against SOURCE --data val.npz --labels val.npz:y"
        )
    bounds = Bounds(
        min_agreement=min_agreement, min_sqnr=min_sqnr, allow_undecided=allow_undecided, atol=atol, rtol=rtol
    )
    demand = Demand.of(bounds, max_drop, labels)
    search = _search(against, asked, locate=locate, max_memory=max_memory)
    judged = _Judged.opened(artifact, demand, step)
    if search is not None and search.reference is not None and search.reference.format is Format.ENGINE:
        raise UsageError(
            f"{against} is an engine, and an engine is what is judged",
            fix=f"name the two the other way round: deploykit validate {against} --against {judged.artifact.path}",
        )
    if search is None or search.reference is None:
        verdict = judged.by_golden(judged.golden(), asked)
    elif search.reference.format is Format.GOLDEN:
        verdict = judged.by_golden(search.reference.path, asked)
    else:
        verdict = judged.by_source(search.reference, search, samples, seed)
    return _with_baseline(verdict, baseline, update=update_baseline)


def prove(path: Path, golden: Golden, demand: Demand | None, *, artifact: str, reference: str) -> Verdict:
    """Judge an ONNX file that was just made, as it lies on the disk.

    Args:
        path: the file.
        golden: the evidence of the original source.
        demand: what is asked of it; None: that it is the same model, whatever it computes in.
        artifact: what the verdict calls it.
        reference: what the verdict calls the source.

    Returns:
        The verdict; of a file that is not valid, or that onnxruntime does not even load, one that says so.
    """
    from deploykit.onnx_io import check, judged_as, lineage, load

    file = Artifact(path, Format.ONNX)
    try:
        check(path)
        model = load(path)
        rules, about = Rules() if demand is None else demand.rules(judged_as(model), golden), lineage(model)
        del model  # its weights would be there beside those of the session
        with backend_for(file.format).load(file, Asked()) as loaded:
            session = widened(loaded, about)
            return compare(golden, session, artifact=artifact, reference=reference, rules=rules)
    except ModelError as error:
        said = " ".join((error.message, *error.details)).replace(f"{path.parent}/", "")
        why = Check("load", passed=False, rule="valid, and loaded by onnxruntime", why=said)
        return Verdict(artifact, reference, (why,), 0, 0, (), golden.method)


def _search(against: str | Path | None, asked: Asked, *, locate: bool, max_memory: str | int) -> "Search | None":
    """Settle how to look for the first divergence; a verdict by the golden alone, which is quick, needs none of it."""
    if against is None and not locate and max_memory == MEMORY:
        return None
    from deploykit.validation.locating import Search

    return Search.of(against, asked, wanted=locate, max_memory=max_memory)


_MADE_UP = (
    "a lossy file is judged here on inputs that were made up, and may do better on real ones: give them with --data"
)

FLOOR_SAMPLES = 8
"""Samples of the user's that tell the noise floor: float64 takes several times as long as the source itself."""


@dataclass(frozen=True)
class _Judged:
    """The artifact, read once, and what is asked of it."""

    artifact: Artifact
    graph: Any
    """An ``onnx_ir.Model``; None of a source."""
    precision: str
    demand: Demand
    step: Step
    engine: Sidecar | None = None
    """What is known of an engine; None of all else."""

    @classmethod
    def opened(cls, path: str | Path | None, demand: Demand, step: Step) -> "_Judged":
        from deploykit.onnx_io import judged_as, load

        model = Artifact.open(path or workspace.latest())
        if model.format is Format.GOLDEN:
            raise UsageError(
                f"{model.path} is a golden: an artifact is judged by it",
                fix=f"deploykit validate model.onnx --against {model.path}",
            )
        graph = load(model.path) if model.format is Format.ONNX else None
        precision = judged_as(graph) if graph is not None else "float32"
        known = None
        if model.format is Format.ENGINE:
            known = read_sidecar(model.path)
            precision = known.precision
            usable(known, devices())
        demand.check(precision)
        return cls(model, graph, precision, demand, step, known)

    def golden(self) -> Path:
        """Find the golden beside the artifact."""
        from deploykit.onnx_io import lineage

        if self.engine is not None:
            return golden_of(self.artifact.path, self.engine)
        if self.graph is None:
            raise UsageError(
                f"{self.artifact.path} is {self.artifact.format}, and only an ONNX file has its golden beside it",
                fix=[
                    f"deploykit convert {self.artifact.path} first",
                    f"or compare it with another: deploykit validate {self.artifact.path} --against model.onnx",
                ],
            )
        return find_golden(self.artifact.path, lineage(self.graph))

    def by_golden(self, path: Path, asked: Asked) -> Verdict:
        if asked != (Asked() if self._says_what_goes_in else replace(asked, data=None, image=None)):
            raise UsageError(
                "--data, --input, --shapes and the like are for a source that is run, and none is named",
                fix=f"deploykit validate {self.artifact.path} --against model.pt ...",
            )
        golden = Golden.read(path)
        return self._verdict(golden, f"{path.name}, recorded from {golden.source.get('path', 'its source')}", asked)

    def by_source(self, source: Artifact, search: "Search", samples: int, seed: int) -> Verdict:
        """Run the source too. What is not near it by the floor of a few samples is judged by that of every sample."""
        check_options(search.asked, source, self.artifact)
        few, every = (partial(Size, samples=samples, seed=seed, floor_samples=one) for one in (FLOOR_SAMPLES, None))
        verdict = self._by_run(source, search, few) or self._by_run(source, search, every)
        assert verdict is not None, "of every sample there is a floor"
        return verdict

    def _by_run(self, source: Artifact, search: "Search", size: Callable[[Path], Size]) -> Verdict | None:
        """Judge it, or give None where it fails and the floor was told by a few samples."""
        with tempfile.TemporaryDirectory(prefix="deploykit-") as folder:
            golden = self._recorded(source, search.asked, size(Path(folder)))
            verdict = self._verdict(golden, str(source.path), search.asked)
            # What is judged by what it lost has left the noise floor anyway.
            final = verdict.passed or verdict.lossy or all(case.floor for case in golden.cases)
            if final and self.graph is not None:
                verdict = search.add(verdict, self.artifact.path, golden.cases, self.step)
            return verdict if final else None

    def _verdict(self, golden: Golden, reference: str, asked: Asked) -> Verdict:
        from deploykit.onnx_io import lineage

        rules = self.demand.rules(self.precision, golden)
        # An ONNX file says itself what it takes; what the user says of inputs is for the source.
        own = Asked() if self._says_what_goes_in else self._as_source(golden, asked)
        if self.engine is not None:
            golden = within(golden, self.engine)
        with backend_for(self.artifact.format).load(self.artifact, own, self.step) as loaded:
            origin = self.engine.lineage if self.engine is not None else lineage(self.graph) if self.graph else {}
            session = widened(loaded, origin)
            self.step("comparing")
            verdict = compare(golden, session, artifact=str(self.artifact.path), reference=reference, rules=rules)
        if rules.loss is not None and not verdict.passed and "data" not in golden.source:
            return replace(verdict, notes=(*verdict.notes, _MADE_UP))
        return verdict

    @property
    def _says_what_goes_in(self) -> bool:
        return self.graph is not None or self.engine is not None

    def _as_source(self, golden: Golden, asked: Asked) -> Asked:
        inputs = asked.inputs or tuple(str(spec) for spec in golden.signature.inputs)
        return replace(fitting(self.artifact, asked), inputs=inputs, data=None, image=None)

    def _recorded(self, source: Artifact, asked: Asked, size: Size) -> Golden:
        from deploykit.onnx_io import load, signature

        own = fitting(source, asked)
        if not own.inputs and self._says_what_goes_in:  # the artifact says what goes in
            ports = self.engine.signature if self.engine is not None else signature(self.graph)
            own = replace(own, inputs=tuple(str(spec) for spec in ports.inputs))
        graph = self.graph
        if source.format is Format.ONNX:
            theirs = load(source.path)
            if graph is None or _names(signature(theirs)) != _names(signature(graph)):
                graph, own = theirs, replace(own, inputs=asked.inputs)  # the verdict says how the names differ
        if graph is None and asked.data is None:
            raise UsageError(
                f"{self.artifact.path} and {source.path} are both sources: nothing says what goes into them",
                fix="--data samples.npz, or compare with an ONNX file",
            )
        try:
            with backend_for(source.format).load(source, own, self.step) as session:
                return make_golden(session, graph, source, own, size)
        except UsageError as error:
            if asked.inputs or asked.data is not None or asked.shapes or self.graph is None:
                raise
            raise UsageError(
                f"{source.path} does not take what {self.artifact.path} takes: {error.message}",
                fix="name the source that the artifact was made from",
                details=[f"the artifact takes {', '.join(own.inputs)}", *error.details],
            ) from error


def _names(signature: Signature) -> set[str]:
    return {spec.name for spec in signature.inputs}


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
