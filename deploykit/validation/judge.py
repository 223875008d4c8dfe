"""Judge one output of an artifact over all cases: its form, then its numbers by the rule for their kind."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from deploykit.golden import Case, shapes_of
from deploykit.tensors import Array, Tensors
from deploykit.validation.rules import Bounds, ByCount, ByRatio, rule_for
from deploykit.validation.verdict import Check

__all__ = ["Bounds", "Judge", "judge", "wrong_form"]


def judge(name: str, answers: Iterable[tuple[Case, Tensors]], bounds: Bounds) -> Check:
    """Judge one output over all cases: its form, then its numbers by the rule for their kind.

    Args:
        name: of the output.
        answers: the cases of a golden, and what the artifact answers to each.
        bounds: how far the artifact may be off.
    """
    judged = Judge(name, bounds)
    for case, answer in answers:
        judged.add(case, answer)
    return judged.check()


class Judge:
    """Judges one output case by case; what it keeps does not grow with the values."""

    def __init__(self, name: str, bounds: Bounds) -> None:
        """Take the name of the output, and how far the artifact may be off."""
        self.name, self._bounds = name, bounds
        self.values = 0
        """Values of the source that were held against the artifact's."""
        self._wrong: str | None = None
        self._numbers = 0
        """Values of the source that are not NaN."""
        self._shapes: list[str] = []
        self._rule: ByRatio | ByCount | None = None

    def add(self, case: Case, answer: Tensors) -> None:
        """Take a case, and what the artifact answers to it."""
        if self._wrong:
            return
        own, found = case.outputs.get(self.name), answer.get(self.name)
        self._wrong = wrong_form(own, found, case.inputs)
        if own is None or found is None:
            return
        self.values += own.size
        if self._wrong:
            return
        reference, noisy = (own if one is case.outputs else one[self.name] for one in (case.reference, case.noisy))
        self._numbers += own.size - int(np.isnan(own).sum()) if own.dtype.kind in "fc" else own.size
        if self._rule is None:
            self._rule = rule_for(own.dtype, self._bounds)
        if self._bounds.fixed is not None:
            reference = noisy = own  # the source as it runs
        self._rule.add(reference, noisy, found, floor=case.floor)
        self._shapes.append(shapes_of(case.inputs))

    def check(self) -> Check:
        """Give what came out."""
        if self._wrong:
            rule = "present, of the source's shape and dtype, finite where it is"
            return Check(self.name, passed=False, rule=rule, why=self._wrong)
        if self._rule is None or not self._numbers:
            why = f"{'NaN throughout' if self.values else 'empty'}: no value was compared"
            return Check(self.name, passed=False, rule="values to compare", why=why)
        by_shape: dict[str, float] = {}
        for shape, found in zip(self._shapes, self._rule.cases(), strict=True):
            by_shape[shape] = max(found, by_shape.get(shape, 0.0))
        return replace(self._rule.check(), what=self.name, by_shape=by_shape)


def wrong_form(own: Array | None, found: Array | None, inputs: Mapping[str, Array]) -> str | None:
    """Say what keeps an artifact's answer from being compared with the source's at all, or None.

    Args:
        own: the source's; None where it has no such output.
        found: the artifact's; None where it has none.
        inputs: what both were given.
    """
    if own is None or found is None:
        return "the source has no such output" if own is None else "missing"
    given = shapes_of(inputs)
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
