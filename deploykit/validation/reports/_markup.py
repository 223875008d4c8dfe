"""Elements of XML and HTML, from a tree and not from text: no name can break out of it."""

from collections.abc import Iterable
from xml.etree import ElementTree as ET

from deploykit.validation.reports._words import visible

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
circle.front { fill: var(--pass); }
circle.point { fill: none; stroke: var(--faint); stroke-width: 2; }
.scroll { overflow-x: auto; }
.tree, .tree ul { list-style: none; margin: 0; padding-left: 1.2rem; border-left: 1px solid var(--edge); }
.tree { padding-left: 0; border: 0; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; }
th, td { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--edge); text-align: left; vertical-align: top; }
th.number, td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.words { min-width: 14rem; white-space: pre-line; }
th { white-space: nowrap; }
tbody th { min-width: 6rem; max-width: 16rem; white-space: normal; }
td.pass, td.fail { white-space: nowrap; }
"""


def element(tag: str, *children: ET.Element | str, **attributes: str) -> ET.Element:
    """Make an element of its parts; ``class_`` is the attribute class, ``aria_label`` is aria-label."""
    made = ET.Element(tag, {_attribute(name): visible(value) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, ET.Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + visible(child)
        else:
            made.text = (made.text or "") + visible(child)
    return made


def _attribute(name: str) -> str:
    return name.removesuffix("_").replace("_", "-")


def document(title: str, body: ET.Element) -> str:
    """Give the text of a page: it opens offline, on a phone and in the dark, and loads and runs nothing."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", title),
        element("style", _STYLE),
    )
    page = element("html", head, body, lang="en")
    ET.indent(page, space=" ")
    return f"<!DOCTYPE html>\n{ET.tostring(page, encoding='unicode', method='html')}\n"


def listed_facts(facts: Iterable[tuple[str, str]]) -> ET.Element:
    """List names and what they are."""
    return element("dl", *(part for name, text in facts for part in (element("dt", name), element("dd", text))))


def scrolled(table: ET.Element, label: str) -> ET.Element:
    """Let a wide table scroll by itself, by keyboard too."""
    return element("div", table, class_="scroll", role="region", tabindex="0", aria_label=label)
