"""How a verdict looks."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from deploykit.console.pieces import escaped, facts, new_table, number, terminal

if TYPE_CHECKING:
    from deploykit.validation.verdict import Check, Verdict


def show_verdict(verdict: "Verdict") -> None:
    """Print a verdict: a line for each output, the worst first, and pass or fail."""
    table = new_table("output", "noise ratio>", "limit>", "max abs>", "SQNR dB>", "", "found")
    for check in sorted(verdict.checks, key=lambda one: (one.passed, -(one.value or 0))):
        table.add_row(
            check.what,
            *((number(check.value), number(check.limit)) if check.rule.startswith("noise ratio") else ("", "")),
            number(check.figures.get("max_abs")),
            number(check.figures.get("sqnr")),
            _result(check),
            escaped(check.why if check.rule.startswith("noise ratio") else f"{check.why} ({check.rule})"),
        )
    console = terminal()
    console.print(table)
    for note in verdict.notes:
        console.print(f"[bold]note[/]      {escaped(note)}", soft_wrap=True)
    facts(_diverged(verdict))
    equal = "within its budget" if verdict.lossy else "equal"
    word = f"[bold green]{equal}[/]" if verdict.passed else "[bold red]NOT EQUAL[/]"
    if verdict.undecided:
        word = "[bold yellow]UNDECIDED[/]"
    console.print(
        f"{word}: {escaped(verdict.artifact)} against {escaped(verdict.reference)}, {verdict.values} values of "
        f"{verdict.samples} samples in {len(set(verdict.shapes))} shapes",
        soft_wrap=True,
    )


def _result(check: "Check") -> str:
    if check.undecided:
        return "[yellow]undecided[/]"
    return "[green]pass[/]" if check.passed else "[red]FAIL[/]"


def _diverged(verdict: "Verdict") -> Iterable[tuple[str, str]]:
    from deploykit.validation.divergence.words import told

    return told(verdict.divergence) if verdict.divergence is not None else ()
