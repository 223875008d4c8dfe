"""Markdown: one screen for the summary of a CI job."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deploykit.validation.divergence.words import told
from deploykit.validation.reports import Report
from deploykit.validation.reports._words import compared, line, method, number, outcome, result, short, worst_first
from deploykit.validation.verdict import Check, Verdict

_ROWS = 20
_NOTES = 5
_LENGTH = 240
_TABLE = (
    "| | output | found | asked for | measured | max abs | SQNR dB |",
    "|---|---|---|---|--:|--:|--:|",
)
_SPECIAL = re.compile(r"[\\`*_\[\]<>|~&$#]")


@dataclass(frozen=True)
class Markdown(Report):
    """Markdown of GitHub's flavour, for ``$GITHUB_STEP_SUMMARY``: one screen, the worst first."""

    def write(self, verdict: Verdict) -> str:
        """Give the text, which ends with an empty line: summaries are appended to each other."""
        return "\n".join([*_lines(verdict), "", ""])


def _lines(verdict: Verdict) -> Iterator[str]:
    checks = worst_first(verdict)
    failed = sum(not check.passed for check in checks)
    yield f"### {'✅' if verdict.passed else '❌'} {outcome(verdict)}: {_safe(verdict.artifact)}"
    yield ""
    came = f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed"
    yield f"Against {_safe(verdict.reference)}: **{came}**, {compared(verdict)}."
    yield f"The noise floor is {_safe(method(verdict))}."
    yield ""
    yield from _TABLE
    yield from map(_row, checks[:_ROWS])
    yield from _rest(checks)
    yield from _divergence(verdict)
    yield from _notes(verdict.notes)


def _row(check: Check) -> str:
    mark = f"{'✅' if check.passed else '❌'} {result(check)}"
    numbers = (check.value, check.figures.get("max_abs"), check.figures.get("sqnr"))
    return f"| {' | '.join([mark, *map(_safe, (check.what, check.why, check.rule)), *map(number, numbers)])} |"


def _rest(checks: Sequence[Check]) -> Iterator[str]:
    rest = checks[_ROWS:]
    if rest:
        failed = sum(not check.passed for check in rest)
        yield ""
        yield f"And {len(rest)} more, {failed} of them failed." if failed else f"And {len(rest)} more, all passed."


def _divergence(verdict: Verdict) -> Iterator[str]:
    for word, text in told(verdict.divergence) if verdict.divergence is not None else ():
        yield ""
        yield f"**{word or 'note'}** {_safe(text)}"


def _notes(notes: Sequence[str]) -> Iterator[str]:
    for note in notes[:_NOTES]:
        yield ""
        yield f"**note** {_safe(note)}"
    if len(notes) > _NOTES:
        yield ""
        yield f"And {len(notes) - _NOTES} more notes."


def _safe(text: str) -> str:
    """Give a text as one line that Markdown shows as it is, in a cell of a table too."""
    return _SPECIAL.sub(r"\\\g<0>", short(line(text), _LENGTH))
