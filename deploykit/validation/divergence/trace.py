"""Follow the error along the graph: which tensor leaves the noise floor first, and what the rest makes of it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from deploykit.validation.divergence.apart import Apart
from deploykit.validation.divergence.found import Layer
from deploykit.validation.divergence.graph import Graph, Step
from deploykit.validation.divergence.structure import Match
from deploykit.validation.tolerance import COARSE, limit

GROWS = 3.0
"""From this factor on, a node adds to the error, or amplifies it, and does not only pass it on."""

_STEPS = {"int8": 2 / 255, "int4": 2 / 15}
"""A step of integers, as a share of the largest value that they hold."""


@dataclass(frozen=True)
class Rule:
    """By what an artifact's tensors are told right from wrong."""

    limit: float
    quantum: float = 0.0
    """A step of its numbers, as a share of the largest; 0 for floating point."""

    @classmethod
    def of(cls, precision: str) -> "Rule":
        """Give the rule for what an artifact computes in.

        Float16 and integers round more coarsely, by a known factor: that much is no fault.
        """
        return cls(limit(precision), _STEPS.get(precision, 0.0))


def trace(graph: Graph, matches: Mapping[str, Match], found: Mapping[str, Apart], rule: Rule) -> tuple[Layer, ...]:
    """Give a layer for every tensor that was compared, in the order of execution."""
    makers = {name: step for step in graph.steps for name in step.outputs}
    ratios = {name: apart.ratio(rule.quantum) for name, apart in found.items()}
    layers: list[Layer] = []
    for name in (name for step in graph.steps for name in step.outputs if name in found):
        step, apart = makers[name], found[name]
        before = max((ratios[one] for one in ancestors(name, makers, ratios)), default=0.0)
        layers.append(
            Layer(
                tensor=name,
                node=step.name,
                operator=step.operator,
                module=step.module,
                line=step.line,
                counterpart=matches[name][0],
                matched=matches[name][1],
                error=apart.error,
                floor=apart.floor(rule.quantum),
                ratio=ratios[name],
                before=before,
                growth=_growth(ratios[name], before),
                form=apart.form,
            )
        )
    return tuple(layers)


def plausible(graph: Graph, matches: Mapping[str, Match], found: Mapping[str, Apart], rule: Rule) -> dict[str, Apart]:
    """Take back the matches that can't be: far apart, while what is computed from them agrees.

    What has the same name is the same tensor. But additions, say, are matched by their order where nothing agrees, and
    a converter may add up in another one.
    """
    readers: dict[str, list[Step]] = {}
    for step in graph.steps:
        for name in filter(None, step.inputs):
            readers.setdefault(name, []).append(step)
    ratios = {name: apart.ratio(rule.quantum) for name, apart in found.items()}
    kept = dict(found)
    # What has no noise does not depend on its inputs, as the softmax of one number: it agrees with everything.
    telling = {name for name, apart in found.items() if apart.noise}
    for name in [name for step in graph.steps[::-1] for name in step.outputs if name in found]:
        later = [ratios[one] for one in _after(name, readers, telling)]
        agrees = bool(later) and min(later) <= rule.limit and ratios[name] > COARSE * max(1.0, min(later))
        if matches[name][1] != "name" and ratios[name] > rule.limit and agrees:
            del kept[name]
            telling.discard(name)
    return kept


def _after(name: str, readers: Mapping[str, Sequence[Step]], known: Collection[str]) -> Iterator[str]:
    """Give the nearest tensors with a counterpart that are computed from a tensor."""
    seen: set[str] = set()
    ahead = [one for step in readers.get(name, ()) for one in step.outputs]
    while ahead:
        here = ahead.pop()
        if here in seen:
            continue
        seen.add(here)
        if here in known:
            yield here
        else:
            ahead += [one for step in readers.get(here, ()) for one in step.outputs]


def _growth(ratio: float, before: float) -> float:
    if before == float("inf"):
        return 1.0
    return ratio / max(before, 1.0)  # below one noise floor there is only noise


def ancestors(name: str, makers: Mapping[str, Step], known: Collection[str]) -> Iterator[str]:
    """Give the nearest tensors with a counterpart that a tensor is computed from."""
    yield from (one for one in _before(name, makers, known) if one in known)


def unmatched(name: str, makers: Mapping[str, Step], known: Collection[str]) -> Iterator[str]:
    """Give the tensors between those and it, which have no counterpart."""
    yield from (one for one in _before(name, makers, known) if one not in known)


def _before(name: str, makers: Mapping[str, Step], known: Collection[str]) -> Iterator[str]:
    seen: set[str] = set()
    ahead = list(filter(None, makers[name].inputs))
    while ahead:
        here = ahead.pop()
        if here in seen:
            continue
        seen.add(here)
        yield here
        if here not in known and here in makers:
            ahead += filter(None, makers[here].inputs)


def first_of(layers: Sequence[Layer], rule: Rule) -> Layer | None:
    """Give the layer where the error begins, or None.

    That is the first over the limit. But a little over it may be the runtime's own coarse arithmetic, in long sums;
    where an error many times as large begins farther on, that one counts. What is quantized errs everywhere, and more
    and more: there it is the first that makes the error much larger than it comes in.
    """
    over = [layer for layer in layers if layer.ratio > rule.limit]
    if rule.quantum:
        return next((layer for layer in over if layer.growth > GROWS), None)
    clear = [layer for layer in over if layer.ratio > rule.limit * COARSE and layer.growth > COARSE]
    if over and clear and over[0].ratio <= rule.limit * COARSE:
        return clear[0]
    return over[0] if over else None
