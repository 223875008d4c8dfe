"""Compare what an artifact answers with the golden of its source, output by output, and judge.

Nothing is taken for granted: the union of both sides' output names, presence, shape, dtype, count, finiteness, and
only then the noise ratio, in float64.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from deploykit.backends import Session
from deploykit.errors import ModelError
from deploykit.golden import Golden, rows, shapes_of
from deploykit.tensors import Signature, TensorSpec
from deploykit.validation.fixed import Tolerances
from deploykit.validation.judge import Bounds, Judge
from deploykit.validation.loss import Loss, Losses
from deploykit.validation.tables import tables_check
from deploykit.validation.tolerance import COARSE, least_sqnr, limit
from deploykit.validation.verdict import Check, Verdict


@dataclass(frozen=True)
class Rules:
    """By what an artifact is judged."""

    precision: str = "float32"
    """What the noise ratio takes it to compute in: ``float32``, ``float16`` or ``bfloat16``."""
    tolerances: Tolerances = field(default_factory=Tolerances)
    """What the user fixes, in the place of the noise ratio."""
    loss: Loss | None = None
    """How much it may lose, where it need not be the same model any more."""


STRICT = Rules()


def compare(golden: Golden, session: Session, *, artifact: str, reference: str, rules: Rules = STRICT) -> Verdict:
    """Run an artifact on a golden's inputs and judge each output.

    Args:
        golden: the evidence of the source.
        session: the artifact, running.
        artifact: what the verdict calls it.
        reference: what the verdict calls the source.
        rules: by what it is judged.

    Raises:
        UsageError: a tolerance is for an output that is not there.
    """
    rules.tolerances.check(spec.name for spec in golden.signature.outputs)
    contract = list(_contract(golden.signature, session.signature))
    run = _Run(golden, rules)
    if all(check.passed for check in contract):
        run.follow(session)
    judged = run.checks()
    if any(map(_may_be_coarse, judged)):
        judged = _judge_finer(golden, session, judged, rules)
    judged += tables_check(golden.tables, session.tables)
    same = all(check.passed for check in judged)
    lossy = rules.loss is not None and rules.loss.replaces and run.samples > 0 and not same
    if run.losses is not None and run.samples and (run.losses.loss.named or not same):
        judged = _with_losses(run.losses, rules, judged, same=same)
    return Verdict(
        artifact,
        reference,
        (*(check for check in contract if not check.passed), *run.refused[:1], *judged),
        samples=run.samples,
        values=run.values,
        shapes=tuple(run.shapes) or golden.shapes,
        method=golden.method,
        notes=(*golden.notes, *([session.emulated] if session.emulated else []), *_of_halves(rules)),
        lossy=lossy,
    )


def _with_losses(losses: Losses, rules: Rules, judged: Sequence[Check], *, same: bool) -> list[Check]:
    """Judge by what was lost; of what is the same model, or should be, only by what the user names, beside all else."""
    named = losses.loss.named
    beside = same or not losses.loss.replaces
    kept = list(judged) if beside else [check for check in judged if rules.tolerances.of(check.what) is not None]
    fixed = set() if named else {check.what for check in kept}
    figures = {check.what: check.figures for check in judged}
    lost = losses.checks(named if beside else ())
    return [
        *kept,
        *(
            replace(
                check,
                # The same model decides the same, however few samples there are.
                passed=check.passed or (same and check.undecided),
                undecided=check.undecided and not same,
                why=check.why.partition("; undecided")[0] if same else check.why,
                figures={**figures.get(check.what, {}), **check.figures},
            )
            for check in lost
            if check.what not in fixed
        ),
    ]


class _Run:
    """An artifact run once on every case, each output judged on the way."""

    def __init__(self, golden: Golden, rules: Rules) -> None:
        self._golden, self._rules = golden, rules
        self._judges: dict[str, Judge] = {}
        self.losses = None if rules.loss is None else Losses(rules.loss)
        self.refused: list[Check] = []
        self.shapes: list[str] = []
        self.samples = 0

    def follow(self, session: Session) -> None:
        """Run the artifact; the outputs are those of both sides, in the source's order, then what only it has."""
        names = dict.fromkeys(spec.name for spec in self._golden.signature.outputs)
        cases = self._golden.cases
        answers = session.run_all(case.inputs for case in cases)
        for case, answer in zip(cases, answers, strict=True):
            self.shapes.append(shapes_of(case.inputs))
            if isinstance(answer, ModelError):
                self.refused.append(_refusal(answer, self._golden))
                continue
            self.samples += rows(case.inputs)
            names |= dict.fromkeys(answer)
            for name in names:
                if name not in self._judges:
                    self._judges[name] = Judge(name, _bounds(self._golden, self._rules, name, session))
                self._judges[name].add(case, answer)
            if self.losses is not None:
                self.losses.add(names, case, answer)

    def checks(self) -> list[Check]:
        return [judge.check() for judge in self._judges.values()]

    @property
    def values(self) -> int:
        return sum(judge.values for judge in self._judges.values())


def _of_halves(rules: Rules) -> list[str]:
    said = (
        "onnxruntime's CPU computes much of float16 in float32: what overflows or rounds on a GPU is not all seen here"
    )
    return [said] if rules.precision == "float16" else []


def _bounds(golden: Golden, rules: Rules, name: str, session: Session) -> Bounds:
    most = limit(rules.precision) if golden.limit is None else golden.limit
    least = least_sqnr(rules.precision)
    return Bounds(most, session.rounding(name), golden.quanta.get(name), rules.tolerances.of(name), least)


def _may_be_coarse(check: Check) -> bool:
    return not check.passed and bool(check.limit) and (check.value or 0) <= (check.limit or 0) * COARSE


def _judge_finer(golden: Golden, session: Session, judged: Sequence[Check], rules: Rules) -> list[Check]:
    """Judge again, in finer arithmetic, what may have failed by the runtime's own; the rest stays as it is."""
    with session.finer() as fine:
        if fine is None:
            return list(judged)
        run = _Run(golden, replace(rules, loss=None))
        run.follow(fine)
    again = {check.what: check for check in run.checks()}
    return [
        _excused(check, again[check.what])
        if not run.refused and _may_be_coarse(check) and again[check.what].passed
        else check
        for check in judged
    ]


def _excused(check: Check, finer: Check) -> Check:
    """Give the verdict on the finer run in place of the first, and say what the runtime's own arithmetic loses."""
    return replace(
        finer,
        rule=f"{finer.rule}, with long sums in float64",
        why=f"{finer.why} with long sums in float64; as it is, onnxruntime's own rounding makes it {check.value:.3g}",
        figures=check.figures,
    )


def _contract(source: Signature, artifact: Signature) -> Iterator[Check]:
    for kind, ours, theirs in (
        ("inputs", source.inputs, artifact.inputs),
        ("outputs", source.outputs, artifact.outputs),
    ):
        yield _same(kind, ours, theirs)


def _same(kind: str, ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> Check:
    rule = "the same names, order, dtypes and fixed sizes as the source"
    by_name = {spec.name: spec for spec in theirs}
    gone = [spec.name for spec in ours if spec.name not in by_name]
    new = [spec.name for spec in theirs if spec.name not in {one.name for one in ours}]
    if gone or new:
        said = [f"{', '.join(names)} {word}" for names, word in ((gone, "missing"), (new, "unknown")) if names]
        return Check(kind, passed=False, rule=rule, why="\n".join(["; ".join(said), *_diff(ours, theirs)]))
    if [spec.name for spec in ours] != [spec.name for spec in theirs]:
        order = ", ".join(spec.name for spec in theirs)
        return Check(kind, passed=False, rule=rule, why=f"in another order: {order}")
    wrong = [f"{one} became {by_name[one.name]}" for one in ours if not _fits(one, by_name[one.name])]
    if any(one.dtype == "float32" and by_name[one.name].dtype == "float16" for one in ours):
        wrong.append("converters to float16 leave them as they are with keep_io_types=True; deploykit says --fp16-io")
    return Check(kind, passed=not wrong, rule=rule, why="; ".join(wrong) or "as the source")


def _diff(ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> Iterator[str]:
    """Set the source's description against the artifact's, as in a unified diff."""
    lines = difflib.ndiff([str(spec) for spec in ours], [str(spec) for spec in theirs])
    return (line.rstrip() for line in lines if not line.startswith("?"))


def _fits(one: TensorSpec, other: TensorSpec) -> bool:
    """Tell whether two specs agree; a size that one side leaves free is settled by running, not here."""
    return (
        one.dtype == other.dtype
        and len(one.dims) == len(other.dims)
        and all(
            left == right or isinstance(left, str) or isinstance(right, str)
            for left, right in zip(one.dims, other.dims, strict=True)
        )
    )


def _refusal(error: ModelError, golden: Golden) -> Check:
    axes = ", ".join(golden.signature.axes)
    baked = f"a size is baked in where {axes} should be free: " if axes else ""
    return Check(
        "run",
        passed=False,
        rule="runs on every input that the source takes",
        why=f"{baked}{error.message}: {'; '.join(error.details)}",
    )
