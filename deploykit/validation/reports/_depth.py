"""The error along the depth of a net, against its noise floor on a log scale, as inline SVG."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from xml.etree import ElementTree as ET

from deploykit.validation.divergence.found import Divergence, Layer
from deploykit.validation.reports._markup import element
from deploykit.validation.reports._words import line, number, short

_MOST = 240
"""Points that a line is drawn with; of more, the largest of each group is."""
_TOP = 16
"""Pixels above the highest line, for its label."""
_HEIGHT = 260 + _TOP
_TICKS = 7
_DECADES = 18
_NAME = 40
_MARK = 3


def depth_chart(divergence: Divergence) -> ET.Element | None:
    """Draw the relative error of each tensor and the floor of its noise, in the order of execution.

    Lengths across are shares of the width and heights are pixels, so that letters keep their size on a phone.

    Args:
        divergence: what was found; nothing is drawn of fewer than two tensors.
    """
    steps = _thinned(divergence.steps, divergence.first)
    if len(steps) < _LEAST:
        return None
    low, high = _range(steps)
    wrong = [(_across(place, steps), _down(layer.error, low, high)) for place, layer in enumerate(steps)]
    noise = [(_across(place, steps), _down(layer.floor, low, high)) for place, layer in enumerate(steps)]
    return element(
        "svg",
        element("title", "Relative error of each tensor along the depth of the net, log scale", id="depth-title"),
        element("desc", _sentence(divergence), id="depth-desc"),
        *_grid(low, high),
        *_line(noise, "noise"),
        *_line(wrong, "error"),
        *_points(steps, wrong),
        *_first(divergence, steps, wrong),
        element("text", "first operator", x="0", y=str(_HEIGHT + 34), class_="axis"),
        element("text", "last", x="100%", y=str(_HEIGHT + 34), text_anchor="end", class_="axis"),
        role="img",
        aria_labelledby="depth-title depth-desc",
        width="100%",
        height=str(_HEIGHT + 40),
        class_="depth",
    )


_LEAST = 2


def _thinned(steps: Sequence[Layer], first: Layer | None) -> list[Layer]:
    """Keep the worst of each group of neighbours, and the first that diverges."""
    group = math.ceil(len(steps) / _MOST)
    parts = [steps[start : start + group] for start in range(0, len(steps), max(1, group))]
    return [first if first in part else max(part, key=lambda one: one.ratio) for part in parts]  # type: ignore[misc]


def _range(steps: Sequence[Layer]) -> tuple[int, int]:
    drawn = [math.log10(one) for layer in steps for one in (layer.error, layer.floor) if 0 < one < math.inf] or [0.0]
    high = math.floor(max(drawn)) + 1
    return max(math.ceil(min(drawn)) - 1, high - _DECADES), high


def _across(place: int, steps: Sequence[Layer]) -> float:
    return place / (len(steps) - 1)


def _down(value: float, low: int, high: int) -> float:
    """Say how far down a value stands, in pixels; zero is at the bottom, what is not finite at the top."""
    if not math.isfinite(value):
        return float(_TOP)
    if value <= 0:
        return float(_HEIGHT)
    return _TOP + (_HEIGHT - _TOP) * min(1.0, max(0.0, (high - math.log10(value)) / (high - low)))


def _grid(low: int, high: int) -> Iterator[ET.Element]:
    for power in range(low, high + 1, math.ceil((high - low) / _TICKS)):
        at = f"{_down(10.0**power, low, high):.1f}"
        yield element("line", x1="0", x2="100%", y1=at, y2=at, class_="grid")
        yield element("text", f"1e{power}", x="0", y=f"{float(at) - 3:.1f}", class_="axis")


def _line(points: Sequence[tuple[float, float]], kind: str) -> Iterator[ET.Element]:
    for (left, top), (right, bottom) in pairwise(points):
        yield element("line", x1=_percent(left), x2=_percent(right), y1=f"{top:.1f}", y2=f"{bottom:.1f}", class_=kind)


def _points(steps: Sequence[Layer], points: Sequence[tuple[float, float]]) -> Iterator[ET.Element]:
    """Put an unseen mark on every tensor, which tells its name and figures under a pointer."""
    for layer, (left, top) in zip(steps, points, strict=True):
        told = (
            f"{line(layer.tensor)} ({line(layer.operator)}): error {number(layer.error)}, noise {number(layer.floor)}"
        )
        yield element(
            "circle", element("title", told), cx=_percent(left), cy=f"{top:.1f}", r=str(_MARK), class_="error"
        )


def _first(
    divergence: Divergence, steps: Sequence[Layer], points: Sequence[tuple[float, float]]
) -> Iterator[ET.Element]:
    if divergence.first is None:
        return
    left, _ = points[steps.index(divergence.first)]
    at = _percent(left)
    anchor = "end" if left > _HALF else "start"
    yield element("line", x1=at, x2=at, y1=str(_TOP), y2=str(_HEIGHT), class_="limit")
    named = short(line(divergence.first.tensor), _NAME)
    yield element("text", named, x=at, y=str(_HEIGHT + 16), text_anchor=anchor, class_="fail")


_HALF = 0.5


def _sentence(divergence: Divergence) -> str:
    first = divergence.first
    if first is None:
        return "No tensor leaves its noise floor."
    return (
        f"The error leaves the noise floor at {line(first.tensor)} ({line(first.operator)}): it is"
        f" {number(first.error)} there, where {number(first.floor)} is noise."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
