"""Record a golden: run a source on inputs, and find how far it is itself from exact arithmetic."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from deploykit.errors import ModelError
from deploykit.golden import Case, Golden, rows
from deploykit.tensors import Array, Signature, Tensors

Answer = Tensors | ModelError
"""What a source gives for one call: its outputs, or the error that it failed with."""


class Runs(Protocol):
    """A source that runs."""

    def run_all(self, cases: Sequence[Tensors], mode: str) -> list[Answer]:
        """Run every case: ``source`` as it is, ``exact`` in float64, ``moved`` with its numbers an ulp away."""


def record(
    source: Runs, signature: Signature, inputs: Sequence[Tensors], origin: Mapping[str, str], *, batched: bool
) -> Golden:
    """Run a source on inputs and keep what it answers, with its noise floor.

    The floor is the error of the source against itself in float64. Where it does not run in float64, the floor is
    the spread of its answers when inputs and weights move by one unit in the last place and the batch is split.

    Args:
        source: the running source.
        signature: its inputs and outputs.
        inputs: a call's tensors each. What the source refuses is left out, and said in the notes.
        origin: path, format and sha256 of the source.
        batched: whether axis 0 of every input is a batch that may be split.

    Raises:
        ModelError: the source takes none of the inputs, or its answers change from run to run.
    """
    answers = source.run_all(inputs, "source")
    refusals = [answer for answer in answers if isinstance(answer, ModelError)]
    taken = [(given, own) for given, own in zip(inputs, answers, strict=True) if not isinstance(own, ModelError)]
    if not taken:
        raise refusals[0]
    given, outputs = [pair[0] for pair in taken], [pair[1] for pair in taken]
    notes = _refused(refusals)
    _check_repeatable(source, given[0], outputs[0])
    exact = _exact(source, given, outputs)
    if exact is not None:
        cases = [Case(*case) for case in zip(given, outputs, exact, outputs, strict=True)]
        return Golden(signature, tuple(cases), "float64", origin, notes)
    noisy = _spread(source, given, outputs, batched=batched)
    cases = [Case(*case) for case in zip(given, outputs, outputs, noisy, strict=True)]
    return Golden(signature, tuple(cases), "ulp", origin, notes)


def _refused(errors: Sequence[ModelError]) -> tuple[str, ...]:
    """Say in one line which inputs were refused, with the reason of the first: the others' differ by numbers."""
    if not errors:
        return ()
    where = ", ".join(error.details[0] for error in errors)
    return (f"the source itself refuses inputs {where}: {'; '.join(errors[0].details[1:])}",)


def _check_repeatable(source: Runs, given: Tensors, first: Tensors) -> None:
    second = source.run_all([given], "source")[0]
    if isinstance(second, ModelError):
        raise second
    for name, array in first.items():
        if not np.array_equal(array, second[name], equal_nan=array.dtype.kind in "fc"):
            apart = _distance(array, second[name]) if array.shape == second[name].shape else np.inf
            size = float(np.sqrt(np.mean(np.square(np.abs(array.astype(np.float64)))))) if array.size else 0.0
            if apart > 1e-4 * size:  # threads alone don't do that
                raise ModelError(
                    f"the source gives another '{name}' each time it runs on the same inputs",
                    fix="switch off what is random in it, or pass the state it keeps as an input and an output",
                    details=[f"two runs are {apart:.3g} apart (RMS), its values are of size {size:.3g}"],
                )


def _exact(source: Runs, given: Sequence[Tensors], outputs: Sequence[Tensors]) -> list[Tensors] | None:
    found: list[Tensors] = []
    for answer, own in zip(source.run_all(given, "exact"), outputs, strict=True):
        if isinstance(answer, ModelError) or not _is_exact(answer, own):
            return None
        found.append(answer)
    return found if all(_plausible(name, found, outputs) for name in outputs[0]) else None


_FAR = 0.1
"""From this share of its size on, what float64 gives is no better arithmetic but another model, or chaos."""


def _plausible(name: str, exact: Sequence[Tensors], outputs: Sequence[Tensors]) -> bool:
    pairs = [(own[name], answer[name]) for own, answer in zip(outputs, exact, strict=True)]
    size = max((_distance(own, np.zeros_like(own)) for own, _ in pairs), default=0.0)
    return all(_distance(own, answer) <= _FAR * size for own, answer in pairs)


def _is_exact(answer: Tensors, own: Tensors) -> bool:
    """Tell whether a run in float64 may stand as the reference: the same outputs, and real ones in float64."""
    return answer.keys() == own.keys() and all(
        array.shape == own[name].shape and (own[name].dtype.kind != "f" or array.dtype == np.float64)
        for name, array in answer.items()
    )


def _spread(source: Runs, given: Sequence[Tensors], outputs: Sequence[Tensors], *, batched: bool) -> list[Tensors]:
    spread: list[Tensors] = []
    for case, own, answer in zip(given, outputs, source.run_all(given, "moved"), strict=True):
        noisy = own if isinstance(answer, ModelError) else answer
        if batched and rows(case) > 1:
            noisy = _farther(own, noisy, _split(source, case, own))
        spread.append(noisy)
    return spread


def _split(source: Runs, case: Tensors, own: Tensors) -> Tensors:
    """Run a batch one sample at a time; where that gives something else than rows, give the outputs themselves."""
    count = rows(case)
    singles = [
        {name: array[row : row + 1] if array.ndim else array for name, array in case.items()} for row in range(count)
    ]
    answers = [answer for answer in source.run_all(singles, "source") if not isinstance(answer, ModelError)]
    if len(answers) != count:
        return own
    joined = {name: [answer[name] for answer in answers] for name in own}
    return {
        name: np.concatenate(parts) if all(part.shape[1:] == own[name].shape[1:] for part in parts) else own[name]
        for name, parts in joined.items()
        if parts[0].ndim
    } | {name: own[name] for name, parts in joined.items() if not parts[0].ndim}


def _farther(own: Tensors, one: Tensors, other: Tensors) -> Tensors:
    return {
        name: one[name]
        if other[name].shape != array.shape or _distance(array, one[name]) >= _distance(array, other[name])
        else other[name]
        for name, array in own.items()
    }


def _distance(one: Array, other: Array) -> float:
    if one.dtype.kind not in "fc" or one.shape != other.shape or not one.size:
        return 0.0
    with np.errstate(invalid="ignore"):  # two infinities
        apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
    finite = apart[np.isfinite(apart)]
    return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0
