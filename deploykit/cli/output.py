"""Standard output: a result as a person reads it, or as JSON."""

import os
import sys
from collections.abc import Callable
from typing import Any

from deploykit import console


def show(result: Any, how: Callable[[Any], None], *, as_json: bool) -> None:
    """Print a result.

    Args:
        result: what the API gave.
        how: prints it for a person.
        as_json: whether it becomes one JSON object instead.
    """
    try:
        if as_json:
            console.print_json(result)
        else:
            how(result)
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has gone; typer would end with 1, which here means not equivalent
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
