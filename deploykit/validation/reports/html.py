"""HTML: the whole verdict on one page, for people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from deploykit.validation.divergence.words import told
from deploykit.validation.reports import Report
from deploykit.validation.reports._chart import chart
from deploykit.validation.reports._depth import depth_chart
from deploykit.validation.reports._markup import element
from deploykit.validation.reports._words import compared, figure_title, method, number, outcome, result, worst_first
from deploykit.validation.verdict import Check, Verdict

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The browser itself refuses whatever the page would load or run."""

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --faint: #57606a; --edge: #d0d7de;
  --pass: #0a5cb8; --fail: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --back: #12161b; --text: #e6edf3; --faint: #9aa5b1; --edge: #3a434d; --pass: #6cb6ff; --fail: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; line-height: 1.3; }
h2 { font-size: 1.1rem; margin-top: 2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dt, caption, .axis { color: var(--faint); }
dd { margin: 0; }
.pass { color: var(--pass); fill: var(--pass); }
.fail { color: var(--fail); fill: var(--fail); font-weight: bold; }
svg { display: block; overflow: visible; font-size: 14px; }
text { fill: var(--text); }
text.axis { fill: var(--faint); font-size: 12px; }
text.pass { fill: var(--pass); }
text.fail { fill: var(--fail); }
.grid { stroke: var(--edge); }
.limit { stroke: var(--text); stroke-width: 3; }
line.error { stroke: var(--fail); stroke-width: 2; }
line.noise { stroke: var(--pass); stroke-width: 2; }
circle.error { fill: var(--fail); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; }
th, td { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--edge); text-align: left; vertical-align: top; }
th.number, td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.words { min-width: 14rem; white-space: pre-line; }
th { white-space: nowrap; }
tbody th { min-width: 6rem; max-width: 16rem; white-space: normal; }
td.pass, td.fail { white-space: nowrap; }
"""


@dataclass(frozen=True)
class Html(Report):
    """One page that holds all: the verdict, a chart, every figure; it opens offline, on a phone and in the dark."""

    def write(self, verdict: Verdict) -> str:
        """Give the page."""
        page = element("html", _head(verdict), _body(verdict), lang="en")
        ET.indent(page, space=" ")
        return f"<!DOCTYPE html>\n{ET.tostring(page, encoding='unicode', method='html')}\n"


def _head(verdict: Verdict) -> ET.Element:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", f"{outcome(verdict)}: {verdict.artifact}"),
        element("style", _STYLE),
    )


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
            element("div", _table(checks), class_="scroll", role="region", tabindex="0", aria_label="All figures"),
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
    return element("dl", *(part for name, text in facts.items() for part in (element("dt", name), element("dd", text))))


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
    yield element(
        "dl", *(part for word, text in lines for part in (element("dt", word or "note"), element("dd", text)))
    )
    drawn = depth_chart(verdict.divergence)
    if drawn is not None:
        said = "Error of each tensor from first to last; the line without marks is the noise of the source."
        yield element("figure", element("figcaption", said), drawn, style="margin: 0")


def _table(checks: Sequence[Check]) -> ET.Element:
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
