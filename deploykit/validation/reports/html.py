"""HTML: the whole verdict on one page, for people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from deploykit.validation.divergence.words import told
from deploykit.validation.reports import Report
from deploykit.validation.reports._chart import chart
from deploykit.validation.reports._depth import depth_chart
from deploykit.validation.reports._markup import document, element, listed_facts, scrolled
from deploykit.validation.reports._words import compared, figure_title, method, number, outcome, result, worst_first
from deploykit.validation.verdict import Check, Verdict


@dataclass(frozen=True)
class Html(Report):
    """One page that holds all: the verdict, a chart, every figure; it opens offline, on a phone and in the dark."""

    def write(self, verdict: Verdict) -> str:
        """Give the page."""
        return document(f"{outcome(verdict)}: {verdict.artifact}", _body(verdict))


def _body(verdict: Verdict) -> ET.Element:
    checks = worst_first(verdict)
    word = element("span", outcome(verdict), class_="pass" if verdict.passed else "fail")
    return element(
        "body",
        element(
            "main",
            element("h1", word, f": {verdict.artifact}"),
            _facts(verdict, checks),
            *_picture(checks),
            *_divergence(verdict),
            element("h2", "All figures"),
            scrolled(figures_table(checks), "All figures"),
            *_listed("Notes", verdict.notes),
            *_listed("Shapes", tuple(dict.fromkeys(verdict.shapes))),
        ),
    )


def _facts(verdict: Verdict, checks: Sequence[Check]) -> ET.Element:
    failed = sum(not check.passed for check in checks)
    facts = {
        "against": verdict.reference,
        "checks": f"{failed} of {len(checks)} failed" if failed else f"all {len(checks)} passed",
        "compared": compared(verdict),
        "noise floor": method(verdict),
    }
    return listed_facts(facts.items())


def _picture(checks: Sequence[Check]) -> Iterator[ET.Element]:
    drawn = chart(checks)
    if drawn is not None:
        yield element("h2", "Noise ratio")
        said = "About 1 is equal. The upright mark is the limit of each output; the scale is logarithmic."
        yield element("figure", element("figcaption", said), drawn, style="margin: 0")


def _divergence(verdict: Verdict) -> Iterator[ET.Element]:
    if verdict.divergence is None:
        return
    yield element("h2", "Where it diverges")
    lines = told(verdict.divergence)
    yield listed_facts((word or "note", text) for word, text in lines)
    drawn = depth_chart(verdict.divergence)
    if drawn is not None:
        said = "Error of each tensor from first to last; the line without marks is the noise of the source."
        yield element("figure", element("figcaption", said), drawn, style="margin: 0")


def figures_table(checks: Sequence[Check]) -> ET.Element:
    """Make a table of all figures of some checks."""
    names = tuple(dict.fromkeys(name for check in checks for name in check.figures))
    titles = [*(("" , title) for title in ("result", "output", "found", "asked for")),
              *(("number", title) for title in ("measured", "limit", *map(figure_title, names)))]  # fmt: skip
    return element(
        "table",
        element("caption", "The worst first."),
        element("thead", element("tr", *(element("th", title, scope="col", class_=kind) for kind, title in titles))),
        element("tbody", *(_row(check, names) for check in checks)),
    )


def _row(check: Check, names: Sequence[str]) -> ET.Element:
    figures = (check.value, check.limit, *(check.figures.get(name) for name in names))
    return element(
        "tr",
        element("td", result(check), class_="pass" if check.passed else "fail"),
        element("th", check.what, scope="row"),
        element("td", check.why, class_="words"),
        element("td", check.rule, class_="words"),
        *(element("td", number(figure), class_="number") for figure in figures),
    )


def _listed(title: str, lines: Sequence[str]) -> Iterator[ET.Element]:
    if lines:
        yield element("h2", title)
        yield element("ul", *(element("li", one) for one in lines))
