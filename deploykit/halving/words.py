"""What is said of a halved model: what stayed in float32 and why, and what became of its weights."""

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deploykit.halving.graph import Graph, bodies, captured, holds_graph
from deploykit.halving.plan import Plan
from deploykit.halving.schema import is_float
from deploykit.rounding import Half

if TYPE_CHECKING:
    from deploykit.validation.verdict import Verdict

_SHOWN = 3
_HARDLY = 0.95
"""Over this share of its size a file is hardly smaller."""
_NUMBER = re.compile(r"[-+]?\d[\d.]*(e[-+]?\d+)?%?")


def told(graph: Graph, plan: Plan) -> str:
    """Say in one line what was done to a graph."""
    able = sum(1 for ports in graph.ports if ports)
    return f"{len(plan.halves)} of {able} nodes with real numbers in {graph.half.name}"


def noted(graph: Graph, plan: Plan) -> Iterator[str]:
    """Say what stayed in float32, the reasons of one kind together, and which weights lost values."""
    kinds: dict[str, list[int]] = {}
    for number, why in sorted(plan.reasons.items()):
        if not _is_real(graph, number):
            continue
        kinds.setdefault(_NUMBER.sub("", why), []).append(number)
    for numbers in kinds.values():
        named = dict.fromkeys(f"{graph.name(one)}: {plan.reasons[one]}" for one in numbers)
        yield f"{_nodes(len(numbers))} in float32: {_listed(list(named))}"
    yield from _weights(graph, plan)
    yield from _inner(graph)


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


def _inner(graph: Graph) -> Iterator[str]:
    """Say which weights of bodies are halved: those of a branch that no sample takes are not proved."""
    half = graph.half.type
    holders = [node for node in graph.nodes if holds_graph(node)]
    own = {value for node in holders for body in bodies(node) for value in body.initializers.values()}
    own |= {value for node in holders for value in captured(node, graph.model.graph)}
    count = sum(1 for value in own if half in (value.dtype, _cast_from(value)))
    if count:
        kinds = ", ".join(dict.fromkeys(node.op_type for node in holders))
        weights = f"{count} weight{'s' * (count > 1)} in bodies of {kinds}"
        yield f"{weights} in {graph.half.name}, computed in float32; a branch that no sample takes is not proved"


def _cast_from(value: Any) -> Any:
    """Give the type of the weight that a value is cast from, or None."""
    node = value.producer()
    made = node is not None and node.op_type == "Cast" and node.inputs[0].const_value is not None
    return node.inputs[0].dtype if made else None


def fates(graph: Graph, plan: Plan) -> tuple[tuple[str, str, str], ...]:
    """Give the name and the operator of each node with real numbers, and what becomes of it, before it is rewritten."""
    real = (number for number in range(len(graph.nodes)) if _is_real(graph, number))
    return tuple((graph.module(one), graph.nodes[one].op_type, _fate(graph, plan, one)) for one in real)


def _is_real(graph: Graph, number: int) -> bool:
    return bool(graph.inputs(number)) or any(is_float(value) for value in graph.nodes[number].outputs)


def _fate(graph: Graph, plan: Plan, number: int) -> str:
    if number in plan.halves:
        return graph.half.name
    return f"float32: {plan.reasons.get(number, f'has no form in {graph.half.name}')}"


def sized(graph: Graph, before: int, after: int) -> Iterator[str]:
    """Say where a file did not get smaller, or hardly; the sizes are in bytes."""
    if after <= _HARDLY * before:
        return
    values = [value for one in graph.model.graphs() for value in one.initializers.values()]
    stored = sum(value.const_value.nbytes for value in values if value.dtype == graph.half.type)
    whole = sum(value.const_value.nbytes for value in values if is_float(value))
    why = "most weights stay in float32" if whole > stored else "what was added takes what its weights save"
    yield f"the file is {'not' if after >= before else 'hardly'} smaller: {why}"


def proved(verdict: "Verdict", half: Half) -> Iterator[str]:
    """Say what the worst output keeps where every tensor is rounded; in bfloat16 every proof does that."""
    known = [(sqnr, check.what) for check in verdict.checks if (sqnr := check.figures.get("sqnr")) is not None]
    if known and half.name == "float16":
        sqnr, name = min(known)
        left = f"{sqnr:.1f} dB" if math.isfinite(sqnr) else "every digit"
        yield f"with every tensor rounded to {half.name}, as a GPU does: {name} keeps {left}"


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count > 1)}"


def _listed(words: list[str]) -> str:
    more = len(words) - _SHOWN
    return "; ".join(words[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
