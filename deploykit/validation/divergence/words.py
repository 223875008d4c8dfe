"""A divergence in words: a few lines for a terminal, the same for every report."""

from collections.abc import Iterator

from deploykit.validation.divergence.found import Divergence, Layer
from deploykit.validation.divergence.trace import GROWS

_SHOWN = 3


def told(divergence: Divergence) -> tuple[tuple[str, str], ...]:
    """Tell it in lines of a word and a sentence each: where it begins, what comes before it and what after."""
    return tuple(_lines(divergence))


def _lines(divergence: Divergence) -> Iterator[tuple[str, str]]:
    first = divergence.first
    if first is None:
        yield "diverges", f"nowhere: {_compared(divergence)} {_none(divergence)}"
    else:
        yield "diverges", f"first at {_node(first)}, {_errs(first)}"
        if first.module or first.line:
            yield "module", "  ".join(filter(None, (first.module, first.line)))
        yield "before", _before(divergence)
        yield "after", _after(divergence, first)
        yield "searched", f"{_compared(divergence)} were compared, in {_count(divergence.windows, 'run')}"
    for note in divergence.notes:
        yield "", note


def _compared(divergence: Divergence) -> str:
    steps = divergence.steps
    ways = [one.matched for one in steps]
    matched = ", ".join(f"{ways.count(way)} by {way}" for way in dict.fromkeys(ways))
    return f"{len(steps)} of {_count(divergence.tensors, 'tensor')}" + (f" ({matched})" if steps else "")


def _none(divergence: Divergence) -> str:
    worst = max(divergence.steps, key=lambda one: one.ratio, default=None)
    if worst is None:
        return "have a counterpart"
    largest = f"the largest noise ratio is {worst.ratio:.3g}, at '{worst.tensor}'"
    return f"were compared, none leaves its noise floor; {largest} (limit {divergence.limit:.3g})"


def _node(layer: Layer) -> str:
    name = f"node '{layer.node}' ({layer.operator})" if layer.node else f"a node {layer.operator}"
    return f"{name}, tensor '{layer.tensor}'"


def _errs(layer: Layer) -> str:
    if layer.form:
        return layer.form
    if layer.error == float("inf"):
        return "which is not finite where the source's is, or the other way round"
    return f"errs {layer.error:.2g} of its size where {layer.floor:.2g} is noise (noise ratio {layer.ratio:.3g})"


def _before(divergence: Divergence) -> str:
    right = divergence.last_right
    said = "nothing that goes in was matched"
    if right is not None:
        said = f"'{right.tensor}', which goes in, agrees (noise ratio {right.ratio:.2g})"
    between = divergence.between
    if not between:
        missing = ": it is wrong itself, or something that the source does before it is missing"
        return said + missing if right is not None else said
    more = f" and {len(between) - _SHOWN} more" if len(between) > _SHOWN else ""
    return f"{said}; or the fault is between, where nothing was matched: {', '.join(between[-_SHOWN:])}{more}"


def _after(divergence: Divergence, first: Layer) -> str:
    later = divergence.steps[divergence.steps.index(first) + 1 :]
    over = [layer for layer in later if layer.ratio > divergence.limit]
    if not over:
        return "nothing later is over the limit"
    worse = sorted((layer for layer in over if layer.growth >= GROWS), key=lambda one: -one.growth)
    end = f"to a noise ratio of {over[-1].ratio:.3g} at '{over[-1].tensor}'"
    if not worse:
        return f"{_passed(len(over))}, {end}"
    named = ", ".join(f"{_short(layer)} x{layer.growth:.3g}" for layer in worse[:_SHOWN])
    more = f" and {len(worse) - _SHOWN} more" if len(worse) > _SHOWN else ""
    verb = "amplifies" if len(worse) == 1 else "amplify"
    rest = f"{_passed(len(over) - len(worse))}, " if len(over) > len(worse) else ""
    return f"{named}{more} {verb} it; {rest}{end}"


def _passed(number: int) -> str:
    return "1 later tensor only passes it on" if number == 1 else f"{number} later tensors only pass it on"


def _short(layer: Layer) -> str:
    return f"'{layer.tensor}' ({layer.operator})"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
