"""A bar chart of noise ratios against their limits, as inline SVG."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from deploykit.validation.reports._markup import element
from deploykit.validation.reports._words import line, number, short
from deploykit.validation.verdict import Check

_ROWS = 30
_STEP = 40
_NAME = 28
_TICKS = 6
_DECADES = 12


@dataclass(frozen=True)
class _Scale:
    """A log scale from one power of ten to another."""

    low: int
    high: int

    def share(self, value: float) -> float:
        """Say how far along a value is, from 0 to 1; zero is at the left end, what is not finite at the right."""
        if not math.isfinite(value):
            return 1.0
        if value <= 0:
            return 0.0
        return min(1.0, max(0.0, (math.log10(value) - self.low) / (self.high - self.low)))


def chart(checks: Sequence[Check]) -> ET.Element | None:
    """Draw the noise ratio of each output and its limit on a log scale, or nothing where there is no ratio.

    Lengths across are shares of the width and heights are pixels, so that letters keep their size on a phone.

    Args:
        checks: the worst first; those that judge something else than a noise ratio are left out.
    """
    ratios = [check for check in checks if check.rule.startswith("noise ratio") and _has_figures(check)]
    if not ratios:
        return None
    shown = ratios[:_ROWS]
    scale = _scale(shown)
    height = _STEP * len(shown)
    named = f"Noise ratio of {'each output' if shown == ratios else f'the {_ROWS} worst of {len(ratios)} outputs'}"
    return element(
        "svg",
        element("title", f"{named} against its limit, log scale", id="chart-title"),
        element("desc", "; ".join(map(_sentence, shown)), id="chart-desc"),
        *_grid(scale, height),
        *(_bar(check, row, scale) for row, check in enumerate(shown)),
        role="img",
        aria_labelledby="chart-title chart-desc",
        width="100%",
        height=str(height + 24),
    )


def _has_figures(check: Check) -> bool:
    return check.value is not None and check.limit is not None


def _scale(checks: Sequence[Check]) -> _Scale:
    figures = [figure for check in checks for figure in (check.value, check.limit) if figure is not None]
    drawn = [math.log10(figure) for figure in figures if figure > 0 and math.isfinite(figure)] or [0.0]
    high = math.floor(max(drawn)) + 1
    return _Scale(max(math.ceil(min(drawn)) - 1, high - _DECADES), high)


def _sentence(check: Check) -> str:
    word = "passes" if check.passed else "fails"
    return f"{line(check.what)}: {number(check.value)}, limit {number(check.limit)}, {word}"


def _grid(scale: _Scale, height: int) -> Iterator[ET.Element]:
    step = math.ceil((scale.high - scale.low) / _TICKS)
    for power in range(scale.low, scale.high + 1, step):
        share = (power - scale.low) / (scale.high - scale.low)
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        at = _percent(share)
        yield element("line", x1=at, x2=at, y1="0", y2=str(height), class_="grid")
        yield element("text", _tick(power), x=at, y=str(height + 16), text_anchor=anchor, class_="axis")


def _tick(power: int) -> str:
    return f"{10.0**power:g}" if abs(power) < _TICKS else f"1e{power}"


def _bar(check: Check, row: int, scale: _Scale) -> ET.Element:
    value, limit = check.value or 0.0, check.limit or 0.0
    top = row * _STEP
    word = "pass" if check.passed else "fail"
    told = f"{number(value)} {'pass' if check.passed else 'FAIL'}"
    at = _percent(scale.share(limit))
    # A figure that is not a number has no length: only its label tells it.
    length = 0.0 if math.isnan(value) else scale.share(value)
    return element(
        "g",
        element("title", _sentence(check)),
        element("text", short(line(check.what), _NAME), x="0", y=str(top + 14)),
        element("text", told, x="100%", y=str(top + 14), text_anchor="end", class_=word),
        element("rect", x="0", y=str(top + 20), width=_percent(length), height="12", class_=f"bar {word}"),
        element("line", x1=at, x2=at, y1=str(top + 17), y2=str(top + 35), class_="limit"),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
