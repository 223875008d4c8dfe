"""Record a golden: run a source on inputs, and find how far it is itself from exact arithmetic."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from deploykit.errors import ModelError
from deploykit.golden import Case, Cases, Golden, rows
from deploykit.tensors import Array, Npz, Signature, Tensors, write_npz

Answer = Tensors | ModelError
"""What a source gives for one call: its outputs, or the error that it failed with."""


class Runs(Protocol):
    """A source that runs."""

    def run_all(self, cases: Iterable[Mapping[str, Array]], mode: str) -> Iterable[Answer]:
        """Run every case: ``source`` as it is, ``exact`` in float64, ``moved`` with its numbers an ulp away."""


@dataclass(frozen=True)
class Plan:
    """How a golden is recorded."""

    folder: Path
    """Where its arrays are kept, so that memory holds a few calls and no more; it must outlive the golden."""
    batched: bool
    """Whether axis 0 of every input is a batch that may be split."""
    floor_samples: int | None = None
    """The noise floor is told by the first calls that have so many samples together at most; None: by all of them."""
    restless: Callable[[Mapping[str, Array]], bool] = lambda _: False
    """Tells a call of which one draw of the source's rounding says too little: the farther of two counts then."""


def record(
    source: Runs, signature: Signature, inputs: Iterable[Mapping[str, Array]], origin: Mapping[str, str], plan: Plan
) -> Golden:
    """Run a source on inputs and keep what it answers, with its noise floor.

    The floor is the error of the source against itself in float64. Where it does not run in float64, the floor is
    the spread of its answers when inputs and weights move by one unit in the last place and the batch is split.

    Args:
        source: the running source.
        signature: its inputs and outputs.
        inputs: a call's tensors each. What the source refuses is left out, and said in the notes.
        origin: path, format and sha256 of the source.
        plan: how it is recorded.

    Raises:
        ModelError: the source takes none of the inputs, or its answers change from run to run.
    """
    kept = _Kept(plan.folder)
    notes = kept.run(source, inputs)
    _check_repeatable(source, *kept.first())
    told = kept.told(plan.floor_samples)
    if _exact(source, kept, told):
        _draw_again(source, kept, [number for number in range(told) if plan.restless(kept.get("inputs", number))])
        return Golden(signature, kept.cases("reference", told), "float64", origin, notes)
    _spread(source, kept, told, batched=plan.batched)
    return Golden(signature, kept.cases("noisy", told), "ulp", origin, notes)


class _Kept:
    """The arrays of a golden in the making, each kind of each call in a file of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.count = 0
        self._rows: list[int] = []

    def run(self, source: Runs, inputs: Iterable[Mapping[str, Array]]) -> tuple[str, ...]:
        """Run the source on every call, keep what it takes and gives, and say what it refuses."""
        refusals: list[ModelError] = []
        for given, answer in _both(source, inputs):
            if isinstance(answer, ModelError):
                refusals.append(answer)
                continue
            self.put("inputs", self.count, given)
            self.put("outputs", self.count, answer)
            self._rows.append(rows(given))
            self.count += 1
        if not self.count:
            raise refusals[0]
        return _refused(refusals)

    def first(self) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        return self.get("inputs", 0), self.get("outputs", 0)

    def told(self, samples: int | None) -> int:
        """Count the first calls that have so many samples together at most; one call at least."""
        if samples is None:
            return self.count
        sums = np.cumsum(self._rows)
        return max(1, int(np.searchsorted(sums, samples, side="right")))

    def put(self, kind: str, number: int, tensors: Mapping[str, Array]) -> None:
        write_npz(self._path(kind, number), tensors)

    def get(self, kind: str, number: int) -> Mapping[str, Array]:
        return Npz(self._path(kind, number))

    def all(self, kind: str, count: int) -> Iterator[Mapping[str, Array]]:
        return (self.get(kind, number) for number in range(count))

    def cases(self, kind: str, told: int) -> Cases:
        """Give the cases, of which the first ``told`` have a ``reference``, or a ``noisy`` answer, of their own."""

        def load(number: int) -> Case:
            inputs, outputs = self.get("inputs", number), self.get("outputs", number)
            own = self.get(kind, number) if number < told else outputs
            reference, noisy = (own, self._noisy(number, outputs)) if kind == "reference" else (outputs, own)
            return Case(inputs, outputs, reference, noisy, floor=number < told)

        return Cases(self.count, load)

    def _noisy(self, number: int, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return self.get("noisy", number) if self._path("noisy", number).exists() else outputs

    def _path(self, kind: str, number: int) -> Path:
        return self._folder / f"{number}.{kind}.npz"


def _refused(errors: Sequence[ModelError]) -> tuple[str, ...]:
    """Say in one line which inputs were refused, with the reason of the first: the others' differ by numbers."""
    if not errors:
        return ()
    where = ", ".join(error.details[0] for error in errors)
    return (f"the source itself refuses inputs {where}: {'; '.join(errors[0].details[1:])}",)


def _both(source: Runs, inputs: Iterable[Mapping[str, Array]]) -> Iterator[tuple[Mapping[str, Array], Answer]]:
    """Give the inputs of each call with the answer, however many calls the source takes at once."""
    waiting: list[Mapping[str, Array]] = []

    def passed_on() -> Iterator[Mapping[str, Array]]:
        for given in inputs:
            waiting.append(given)
            yield given

    for answer in source.run_all(passed_on(), "source"):
        yield waiting.pop(0), answer


def _check_repeatable(source: Runs, given: Mapping[str, Array], first: Mapping[str, Array]) -> None:
    second = next(iter(source.run_all([given], "source")))
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


def _exact(source: Runs, kept: _Kept, told: int) -> bool:
    """Run the first calls in float64 and keep the answers; tell whether they may stand as the reference."""
    apart: dict[str, list[tuple[float, float]]] = {}
    answers = source.run_all(kept.all("inputs", told), "exact")
    for number, answer in enumerate(answers):
        own = kept.get("outputs", number)
        if isinstance(answer, ModelError) or not _is_exact(answer, own):
            return False
        kept.put("reference", number, answer)
        for name, array in own.items():
            sizes = _distance(array, answer[name]), _distance(array, np.zeros_like(array))
            apart.setdefault(name, []).append(sizes)
    return all(_plausible(sizes) for sizes in apart.values())


_FAR = 0.1
"""From this share of its size on, what float64 gives is no better arithmetic but another model, or chaos."""


def _plausible(sizes: list[tuple[float, float]]) -> bool:
    largest = max(size for _, size in sizes)
    return all(distance <= _FAR * largest for distance, _ in sizes)


def _draw_again(source: Runs, kept: _Kept, numbers: Sequence[int]) -> None:
    """Move some calls by an ulp; where that brings an output farther from the reference, keep it as the noisy one.

    Of few values, as in a norm over two of them, the source's own error is large or none by chance.
    """
    moved = source.run_all((kept.get("inputs", number) for number in numbers), "moved")
    for number, answer in zip(numbers, moved, strict=True):
        outputs = kept.get("outputs", number)
        if not isinstance(answer, ModelError) and answer.keys() == outputs.keys():
            reference = kept.get("reference", number)
            kept.put("noisy", number, _farther(reference, dict(outputs), answer))


def _is_exact(answer: Tensors, own: Mapping[str, Array]) -> bool:
    """Tell whether a run in float64 may stand as the reference: the same outputs, and real ones in float64."""
    return answer.keys() == own.keys() and all(
        array.shape == own[name].shape and (own[name].dtype.kind != "f" or array.dtype == np.float64)
        for name, array in answer.items()
    )


def _spread(source: Runs, kept: _Kept, told: int, *, batched: bool) -> None:
    """Keep for each of the first calls the answer that is farthest from the source's, and as good."""
    for number, answer in enumerate(source.run_all(kept.all("inputs", told), "moved")):
        own = kept.get("outputs", number)
        kept.put("noisy", number, own if isinstance(answer, ModelError) else answer)
    for number, case in enumerate(kept.all("inputs", told)):
        if batched and rows(case) > 1:
            own, noisy = kept.get("outputs", number), dict(kept.get("noisy", number))
            kept.put("noisy", number, _farther(own, noisy, _split(source, case, own)))


def _split(source: Runs, case: Mapping[str, Array], own: Mapping[str, Array]) -> Mapping[str, Array]:
    """Run a batch one sample at a time; where that gives something else than rows, give the outputs themselves."""
    whole, count = dict(case), rows(case)
    singles = (
        {name: array[row : row + 1] if array.ndim else array for name, array in whole.items()} for row in range(count)
    )
    answers = [answer for answer in source.run_all(singles, "source") if not isinstance(answer, ModelError)]
    if len(answers) != count:
        return own
    joined = {name: [answer[name] for answer in answers] for name in own}
    return {
        name: np.concatenate(parts) if all(part.shape[1:] == own[name].shape[1:] for part in parts) else own[name]
        for name, parts in joined.items()
        if parts[0].ndim
    } | {name: own[name] for name, parts in joined.items() if not parts[0].ndim}


def _farther(own: Mapping[str, Array], one: Mapping[str, Array], other: Mapping[str, Array]) -> Mapping[str, Array]:
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
