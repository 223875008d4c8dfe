"""A run as a table in Markdown: for GitHub's summary of a step."""

from collections.abc import Iterator

from deploykit.recipes import Run
from deploykit.timing.words import times
from deploykit.validation.reports._words import line, number


def markdown(made: Run) -> str:
    """Give the text."""
    return "\n".join([*_lines(made), "", ""])


def _lines(made: Run) -> Iterator[str]:
    yield f"### {'✅' if made.passed else '❌'} deploykit run: {_safe(made.source.name)}"
    yield ""
    yield "| artifact | verdict | size | times the latency | why |"
    yield "|---|---|---:|---:|---|"
    for one in made.artifacts:
        ratio = one.speed.rows[1].ratio if one.speed is not None else None
        checks = one.verdict.checks if one.verdict is not None else ()
        why = "; ".join(one.missed) or "; ".join(check.said for check in checks[:2])
        cells = (_safe(one.name), f"{'✅' if one.passed else '❌'} {one.word}", f"{number(one.bytes / 1e6)} MB")
        yield f"| {' | '.join([*cells, times(ratio) if ratio else '', _safe(why)])} |"
    if made.written:
        yield ""
        yield f"Written: {', '.join(_safe(str(path)) for path in made.written)}."


def _safe(text: str) -> str:
    """Give a text as one line that Markdown shows as it is, in a cell of a table too."""
    return "".join(f"\\{each}" if each in "\\`*_{}[]<>#|~&" else each for each in line(text))
