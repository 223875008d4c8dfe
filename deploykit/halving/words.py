"""What is said of a halved model: what stayed in float32 and why, and what became of its weights."""

import re
from collections.abc import Iterator

from deploykit.halving.graph import Graph
from deploykit.halving.plan import Plan

_SHOWN = 3
_NUMBER = re.compile(r"[-+]?\d[\d.]*(e[-+]?\d+)?%?")


def told(graph: Graph, plan: Plan) -> str:
    """Say in one line what was done to a graph."""
    able = sum(1 for ports in graph.ports if ports)
    return f"{len(plan.halves)} of {able} nodes with real numbers in {graph.half.name}"


def noted(graph: Graph, plan: Plan) -> Iterator[str]:
    """Say what stayed in float32, the reasons of one kind together, and which weights lost values."""
    kinds: dict[str, list[int]] = {}
    for number, why in sorted(plan.reasons.items()):
        kinds.setdefault(_NUMBER.sub("", why), []).append(number)
    for numbers in kinds.values():
        named = dict.fromkeys(f"{graph.name(one)}: {plan.reasons[one]}" for one in numbers)
        yield f"{_nodes(len(numbers))} in float32: {_listed(list(named))}"
    yield from _weights(graph, plan)


def _weights(graph: Graph, plan: Plan) -> Iterator[str]:
    stored = {value.name for value in graph.model.graph.initializers.values() if value.dtype == graph.half.type}
    vanished = {name: fit for name, fit in plan.fits.items() if name in stored and fit.vanished}
    if vanished:
        count = sum(fit.vanished for fit in vanished.values())
        words = [f"{fit.vanished} of {fit.values} of {name}" for name, fit in vanished.items()]
        yield f"{count} weights under {graph.half.least:.1g} became zero: {_listed(words)}"
    masks = [name for name, fit in plan.fits.items() if name in stored and fit.mask]
    if masks:
        yield f"what hides scores was clipped to -32768 in {_listed(masks)}"


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count > 1)}"


def _listed(words: list[str]) -> str:
    more = len(words) - _SHOWN
    return "; ".join(words[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
