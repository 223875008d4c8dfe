"""What results are printed of: facts, tables, numbers."""

import math
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDE = 160


def new_table(*titles: str) -> "Table":
    """Start a table; the columns whose title ends with ``>`` hold numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title.rstrip(">"), justify="right" if title.endswith(">") else "left", overflow="fold")
    return table


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Print lines of a name and what it is."""
    console = terminal()
    for name, text in rows:
        console.print(f"[bold]{name:<9}[/] {escaped(text)}", soft_wrap=True)


def terminal(*, stderr: bool = False) -> "Console":
    """Give where rich prints: as wide as the terminal, else a fixed width."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _WIDE)


def escaped(text: str) -> str:
    """Write text that is not rich's markup."""
    from rich.markup import escape

    return escape(text)


def number(value: float | None) -> str:
    """Write a number with three digits; nothing for None."""
    return "" if value is None else f"{value:.3g}"


def rate(value: float) -> str:
    """Write 8.24, 59.2 and 176,233."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"


def size(count: float) -> str:
    """Write a number of bytes: ``25.6 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
