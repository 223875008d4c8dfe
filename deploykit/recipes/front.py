"""The Pareto front of a search as inline SVG: latency across, accuracy up, size as the circle."""

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from deploykit.recipes.searching import Found
from deploykit.validation.reports._markup import element

_HEIGHT, _EDGE = 240, 24
_LEAST, _MOST = 4.0, 12.0
"""Radius in pixels of the smallest and the largest file."""


def front(rows: Sequence[Found]) -> ET.Element | None:
    """Draw the combinations that were proved and timed; nothing where there are fewer than two.

    Lengths across are shares of the width and heights are pixels, so that letters keep their size on a phone.
    """
    shown = [one for one in rows if one.passed and one.latency is not None]
    if len(shown) < 2:  # noqa: PLR2004 - one point is no picture
        return None
    worth = [_up(one) for one in shown]
    low, high = min(worth), max(worth)
    most = max(1.0, *(one.latency.value for one in shown if one.latency)) * 1.1
    largest = max(one.bytes for one in shown)
    circles = []
    for one, value in sorted(zip(shown, worth, strict=True), key=lambda pair: -pair[0].bytes):
        assert one.latency is not None
        y = _EDGE + (_HEIGHT - 2 * _EDGE) * (1 - (value - low) / (high - low) if high > low else 0.5)
        radius = _LEAST + (_MOST - _LEAST) * one.bytes / largest
        kind = "front" if one.pareto else "point"
        said = f"{one.name}: latency {one.latency.value:.3g}, {_said(one)}, {one.bytes / 1e6:.3g} MB"
        at = f"{100 * one.latency.value / most:.2f}%"
        circles.append(element("circle", element("title", said), cx=at, cy=f"{y:.1f}", r=f"{radius:.1f}", class_=kind))
    source = f"{100 / most:.2f}%"
    return element(
        "svg",
        element("title", "Accuracy against latency of every combination", id="front-title"),
        element("desc", "; ".join(_said(one) for one in shown), id="front-desc"),
        element("line", x1=source, x2=source, y1="0", y2=str(_HEIGHT), class_="grid"),
        element("line", x1="0", x2="100%", y1=str(_HEIGHT), y2=str(_HEIGHT), class_="grid"),
        *circles,
        element("text", "latency 0", x="0", y=str(_HEIGHT + 16), class_="axis"),
        element("text", "the source's", x=source, y=str(_HEIGHT + 16), text_anchor="end", class_="axis"),
        element("text", _said(max(shown, key=_up)), x="0", y="12", class_="axis"),
        role="img",
        aria_labelledby="front-title front-desc",
        width="100%",
        height=str(_HEIGHT + 24),
    )


def _up(one: Found) -> float:
    return one.accuracy if one.accuracy is not None else min(one.sqnr or 0.0, 120.0) / 120.0


def _said(one: Found) -> str:
    return f"{one.accuracy:.2%} right" if one.accuracy is not None else f"{one.sqnr or 0:.3g} dB"
