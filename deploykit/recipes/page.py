"""The page of a run: one file that tells a colleague what was made, how, and how near it is to its source."""

import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import deploykit
from deploykit.passes import Layer
from deploykit.recipes import Found, Made, Run, Taken
from deploykit.recipes.front import front
from deploykit.recipes.lineage import tree
from deploykit.recipes.searching import mark
from deploykit.timing.words import times, told
from deploykit.validation.reports import save
from deploykit.validation.reports._depth import depth_chart
from deploykit.validation.reports._markup import document, element, listed_facts, scrolled
from deploykit.validation.reports._words import number, outcome, worst_first
from deploykit.validation.reports.html import figures_table

_PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "numpy", "torch", "tensorflow-cpu", "tensorflow")
_ROW = 46


def write(made: Run, path: Path) -> None:
    """Write the page whole or not at all.

    Raises:
        UsageError: the place can't be written to.
    """
    save(page(made), path)


def page(made: Run) -> str:
    """Give the text of the page."""
    word = "proved" if made.passed else "FAILED"
    title = f"{word}: {len(made.artifacts)} artifact{'s' if len(made.artifacts) > 1 else ''} of {made.source.name}"
    body = element(
        "body",
        element(
            "main",
            element("h1", element("span", word, class_=_kind(made.passed)), title.removeprefix(word)),
            listed_facts(_about(made)),
            *(_searched(made.searched) if made.searched else _summary(made.artifacts)),
            *_picture(made.artifacts),
            element("h2", "Lineage"),
            tree(made),
            element("h2", "Source"),
            listed_facts([*_facts(made.converted), *(_facts(made.recorded) if made.recorded else ())]),
            *(part for one in made.artifacts for part in _section(one)),
            element("h2", "Versions"),
            listed_facts(_versions()),
        ),
    )
    return document(title, body)


def _kind(passed: bool) -> str:
    return "pass" if passed else "fail"


def _about(made: Run) -> Iterator[tuple[str, str]]:
    yield "source", str(made.source)
    if made.recipe is not None:
        yield "recipe", str(made.recipe)
    yield from (("wrote", str(path)) for path in made.written)
    yield "machine", next((one.speed.cpu for one in made.artifacts if one.speed), platform.machine())


def _summary(artifacts: Sequence[Made]) -> Iterator[ET.Element]:
    titles = ("artifact", "result", "size", "latency", "verdict", "file")
    rows = []
    for one in artifacts:
        ratio = one.speed.rows[1].ratio if one.speed else None
        verdict = one.verdict
        place = str(one.path) if one.passed else "not written"
        cells = (
            f"{one.bytes / 1e6:.3g} MB", times(ratio) if ratio else "not timed",
            "; ".join(one.missed) or (outcome(verdict) if verdict else ""), place,
        )  # fmt: skip
        kinds = ("number", "number", "words", "words")
        result = element("td", one.word, class_=_kind(one.passed))
        rows.append(
            element(
                "tr",
                element("th", one.name, scope="row"),
                result,
                *(element("td", cell, class_=kind) for cell, kind in zip(cells, kinds, strict=True)),
            )
        )
    caption = "Latency is in that of the converted source, measured in turns in this run, with its 95% interval."
    yield element("h2", "Artifacts")
    yield scrolled(_table(caption, titles, rows), "Artifacts")


def _table(caption: str, titles: Sequence[str], rows: Sequence[ET.Element]) -> ET.Element:
    head = element("thead", element("tr", *(element("th", title, scope="col") for title in titles)))
    return element("table", element("caption", caption), head, element("tbody", *rows))


def _picture(artifacts: Sequence[Made]) -> Iterator[ET.Element]:
    """Draw the latency of each artifact, with its interval; the upright line is that of the source."""
    timed = [(one, ratio) for one in artifacts if one.speed and (ratio := one.speed.rows[1].ratio)]
    if not timed:
        return
    most = max(1.0, *(ratio.high for _, ratio in timed)) * 1.05
    parts = []
    for row, (one, ratio) in enumerate(timed):
        top = row * _ROW
        low, value, high = (f"{100 * each / most:.2f}%" for each in (ratio.low, ratio.value, ratio.high))
        parts.append(
            element(
                "g",
                element("text", one.name, x="0", y=str(top + 14)),
                element("text", times(ratio), x="100%", y=str(top + 14), text_anchor="end", class_="axis"),
                element("rect", x="0", y=str(top + 20), width=value, height="12", class_="bar pass"),
                element("line", x1=low, x2=high, y1=str(top + 26), y2=str(top + 26), class_="limit"),
            )
        )
    height = _ROW * len(timed)
    at = f"{100 / most:.2f}%"
    drawn = element(
        "svg", element("title", "Latency of each artifact, in that of the converted source", id="latency-title"),
        *parts, element("line", x1=at, x2=at, y1="0", y2=str(height), class_="grid"),
        role="img", aria_labelledby="latency-title", width="100%", height=str(height),
    )  # fmt: skip
    yield element("h2", "Latency")
    said = "Shorter is faster. The thin line is the converted source, the thick one the 95% interval."
    yield element("figure", element("figcaption", said), drawn, style="margin: 0")


def _searched(rows: Sequence[Found]) -> Iterator[ET.Element]:
    """Draw what a search has found, latency across and accuracy up, and list it."""
    yield element("h2", "Search")
    told = [
        element(
            "tr", element("th", one.name, scope="row"),
            element("td", "proved" if one.passed else "FAILED", class_=_kind(one.passed)),
            element("td", f"{one.accuracy:.2%}" if one.accuracy is not None else "", class_="number"),
            element("td", number(one.sqnr), class_="number"),
            element("td", times(one.latency) if one.latency else "", class_="number"),
            element("td", f"{one.bytes / 1e6:.3g} MB", class_="number"),
            element("td", mark(one)),
        )
        for one in rows
    ]  # fmt: skip
    drawn = front(rows)
    if drawn is not None:
        said = (
            "To the left is faster, up is more accurate, a smaller circle is a smaller file. Filled: the Pareto front."
        )
        yield element("figure", element("figcaption", said), drawn, style="margin: 0")
    titles = ("combination", "result", "accuracy", "SQNR dB", "latency", "size", "")
    yield scrolled(
        _table("Accuracy is the share of the decisions that stayed, where there are no labels.", titles, told), "Search"
    )


def _section(one: Made) -> Iterator[ET.Element]:
    yield element("h2", one.name)
    if one.missed:
        yield element("ul", *(element("li", line, class_="fail") for line in one.missed))
    yield listed_facts(fact for taken in one.steps for fact in _facts(taken))
    if one.speed is not None:
        yield element("p", "; ".join(told(one.speed)))
    if one.verdict is not None:
        label = f"Figures of {one.name}"
        yield scrolled(figures_table(worst_first(one.verdict)), label)
    yield from _depth(one)
    layers = next((taken.told.layers for taken in reversed(one.steps) if taken.told.layers), ())
    if layers:
        yield scrolled(_layers(layers), f"Layers of {one.name}")


def _depth(one: Made) -> Iterator[ET.Element]:
    """Draw the error along the net; each drawing of the page has names of its own."""
    drawn = depth_chart(one.depth) if one.depth is not None else None
    if drawn is not None:
        for part in drawn.iter():
            for name in ("id", "aria-labelledby"):
                if name in part.attrib:
                    part.set(name, " ".join(f"{word}-{one.name}" for word in part.attrib[name].split()))
        said = "Error of each tensor against the converted source, first to last; the line without marks is its noise."
        yield element("figure", element("figcaption", said), drawn, style="margin: 1rem 0")


def _facts(taken: Taken) -> Iterator[tuple[str, str]]:
    spent = "done before" if taken.cached else f"{sum(taken.told.seconds.values()):.1f} s"
    yield taken.title, "; ".join(part for part in (taken.told.done, spent) if part)
    yield from (("note", note) for note in taken.told.notes)


def _layers(layers: Sequence[Layer]) -> ET.Element:
    rows = [
        element(
            "tr", element("th", one.name, scope="row"), element("td", one.operator),
            element("td", one.fate, class_="words"), element("td", number(one.alone), class_="number"),
        )
        for one in layers
    ]  # fmt: skip
    caption = "What became of each layer; dB is what the outputs keep where it alone is changed, if that was measured."
    return _table(caption, ("layer", "operator", "fate", "dB"), rows)


def _versions() -> Iterator[tuple[str, str]]:
    yield "deploykit", deploykit.__version__
    yield "python", platform.python_version()
    for name in _PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
