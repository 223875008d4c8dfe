"""Compare what an artifact answers with the golden of its source, output by output, and judge.

Nothing is taken for granted: the union of both sides' output names, presence, shape, dtype, count, finiteness, and
only then the noise ratio, in float64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from deploykit.backends import Session
from deploykit.errors import ModelError
from deploykit.golden import Case, Golden, rows
from deploykit.metrics import measure_all
from deploykit.tensors import Array, Signature, Tensors, TensorSpec
from deploykit.validation.tolerance import COARSE, LIMIT, Errors, Ratio, limit, noise_ratio
from deploykit.validation.verdict import Check, Verdict


def compare(golden: Golden, session: Session, *, artifact: str, reference: str, precision: str = "float32") -> Verdict:
    """Run an artifact on a golden's inputs and judge each output.

    Args:
        golden: the evidence of the source.
        session: the artifact, running.
        artifact: what the verdict calls it.
        reference: what the verdict calls the source.
        precision: what the artifact computes in: ``float32`` or ``float16``.
    """
    contract = list(_contract(golden.signature, session.signature))
    answers: list[tuple[Case, Tensors]] = []
    refused: list[Check] = []
    if all(check.passed for check in contract):
        answers, refused = _answers(golden, session)
    names = _names(golden, answers)
    judged = [_judge(name, answers, precision, session.rounding(name)) for name in names] if answers else []
    if any(map(_may_be_coarse, judged)):
        judged = _judge_finer(golden, session, judged, precision)
    values = sum(
        case.outputs[name].size for case, answer in answers for name in names if name in answer and name in case.outputs
    )
    return Verdict(
        artifact,
        reference,
        (*(check for check in contract if not check.passed), *refused[:1], *judged, *_tables(golden, session)),
        samples=sum(rows(case.inputs) for case, _ in answers),
        values=values,
        shapes=golden.shapes,
        method=golden.method,
        notes=golden.notes,
    )


def _answers(golden: Golden, session: Session) -> tuple[list[tuple[Case, Tensors]], list[Check]]:
    answers: list[tuple[Case, Tensors]] = []
    refused: list[Check] = []
    for case, answer in zip(golden.cases, session.run_all([case.inputs for case in golden.cases]), strict=True):
        if isinstance(answer, ModelError):
            refused.append(_refusal(answer, golden))
        else:
            answers.append((case, answer))
    return answers, refused


def _tables(golden: Golden, session: Session) -> Iterator[Check]:
    """Find tables that became others: samples reach some of their rows only. One that a pass has renamed is let be."""
    changed = [name for name, digest in golden.tables.items() if session.tables.get(name, digest) != digest]
    if changed:
        rule = "tables are, row by row, what was proved"
        yield Check("weights", passed=False, rule=rule, why=f"{', '.join(changed)} changed since")


def _may_be_coarse(check: Check) -> bool:
    return not check.passed and bool(check.limit) and (check.value or 0) <= (check.limit or 0) * COARSE


def _judge_finer(golden: Golden, session: Session, judged: Sequence[Check], precision: str) -> list[Check]:
    """Judge again, in finer arithmetic, what may have failed by the runtime's own; the rest stays as it is."""
    with session.finer() as fine:
        answers, refused = _answers(golden, fine) if fine is not None else ([], [])
        if fine is None or refused:
            return list(judged)
        again = {check.what: _judge(check.what, answers, precision, fine.rounding(check.what)) for check in judged}
    return [
        _excused(check, again[check.what]) if _may_be_coarse(check) and again[check.what].passed else check
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


def _names(golden: Golden, answers: Sequence[tuple[Case, Tensors]]) -> list[str]:
    """List the outputs of both sides, in the source's order, then what only the artifact has."""
    names = [spec.name for spec in golden.signature.outputs]
    return list(dict.fromkeys([*names, *(name for _, answer in answers for name in answer)]))


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
        said = [f"{', '.join(gone)} missing"] if gone else []
        return Check(
            kind, passed=False, rule=rule, why="; ".join([*said, *([f"{', '.join(new)} unknown"] if new else [])])
        )
    if [spec.name for spec in ours] != [spec.name for spec in theirs]:
        order = ", ".join(spec.name for spec in theirs)
        return Check(kind, passed=False, rule=rule, why=f"in another order: {order}")
    wrong = [f"{one} became {by_name[one.name]}" for one in ours if not _fits(one, by_name[one.name])]
    return Check(kind, passed=not wrong, rule=rule, why="; ".join(wrong) or "as the source")


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


def _judge(name: str, answers: Sequence[tuple[Case, Tensors]], precision: str, rounding: float) -> Check:
    for case, answer in answers:
        wrong = _form(name, case, answer)
        if wrong:
            return Check(
                name, passed=False, rule="present, of the source's shape and dtype, finite where it is", why=wrong
            )
    arrays = [(case.reference[name], case.noisy[name], answer[name]) for case, answer in answers]
    dtype = answers[0][0].outputs[name].dtype
    if dtype.kind not in "fc":
        return _judge_discrete(name, arrays)
    errors = [_errors(*case) for case in arrays]
    if not any(np.any(~np.isnan(case.outputs[name])) for case, _ in answers):
        empty = not sum(case.reference.size for case in errors)
        why = f"{'empty' if empty else 'NaN throughout'}: no value was compared"
        return Check(name, passed=False, rule="values to compare", why=why)
    return _judge_real(name, errors, noise_ratio(errors, str(dtype), rounding), limit(precision))


def _form(name: str, case: Case, answer: Tensors) -> str | None:
    """Say what keeps an output from being compared at all, or None."""
    if name not in case.outputs:
        return "the source has no such output"
    if name not in answer:
        return "missing"
    own, found = case.outputs[name], answer[name]
    given = ", ".join(f"{key} {list(array.shape)}" for key, array in case.inputs.items())
    if found.dtype != own.dtype:
        return f"is {found.dtype}, the source's is {own.dtype}"
    if found.shape != own.shape:
        return f"has shape {list(found.shape)} where the source's has {list(own.shape)}, on {given}"
    if own.dtype.kind in "fc":
        return _infinite(own, found, given)
    return None


def _infinite(own: Array, found: Array, given: str) -> str | None:
    for word, test in (("NaN", np.isnan), ("+inf", np.isposinf), ("-inf", np.isneginf)):
        if own.dtype.kind == "c" and word != "NaN":
            continue
        apart = np.argwhere(test(own) != test(found))
        if len(apart):
            index = tuple(int(part) for part in apart[0])
            return (
                f"{word} in other places than the source's: {len(apart)} values, the first at {list(index)}, on {given}"
            )
    return None


def _errors(reference: Array, noisy: Array, candidate: Array) -> Errors:
    """Give the three in float64; complex numbers as pairs, and zero wherever one is not finite."""
    kind, real = (np.complex128, np.float64) if reference.dtype.kind == "c" else (np.float64, np.float64)
    finite = np.isfinite(reference) & np.isfinite(noisy) & np.isfinite(candidate)
    parts = (np.atleast_1d(np.where(finite, part, 0).astype(kind)) for part in (reference, noisy, candidate))
    return Errors(*(np.ascontiguousarray(part).view(real) for part in parts))


def _judge_real(name: str, cases: Sequence[Errors], ratio: Ratio, most: float) -> Check:
    passed = bool(ratio.value <= most)
    why = f"errs {ratio.error:.2g} where the source errs {ratio.floor:.2g}"
    return Check(
        name,
        passed=passed,
        rule=f"noise ratio at most {most:g}",
        why=why if passed or ratio.where == "whole" else f"{why}, worst in {ratio.where}",
        value=ratio.value,
        limit=most,
        figures=measure_all(
            np.concatenate([case.reference.ravel() for case in cases]),
            np.concatenate([case.candidate.ravel() for case in cases]),
        ),
    )


_OPEN = 2.0**-20
"""The share of decisions that lie so near to their threshold that rounding settles them."""


def _judge_discrete(name: str, cases: Sequence[tuple[Array, Array, Array]]) -> Check:
    """Judge whole numbers, bools and texts: equal, but for as many as the source itself leaves open, ten times."""
    total = sum(reference.size for reference, _, _ in cases)
    wrong = sum(int(np.sum(reference != candidate)) for reference, _, candidate in cases)
    own = sum(int(np.sum(reference != noisy)) for reference, noisy, _ in cases)
    allowed = int(LIMIT * max(own, total * _OPEN))
    why = f"{wrong} of {total} values differ" + (f"; of the source's own, {own} change with rounding" if own else "")
    return Check(
        name,
        passed=wrong <= allowed and total > 0,
        rule="equal" if not allowed else f"at most {allowed} values differ",
        why=why if total else "empty: no value was compared",
        value=float(wrong),
        limit=float(allowed),
    )
