"""Standard output and standard error: JSON, errors, and what goes on."""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import GenericAlias
from typing import Any

from deploykit.child import Step
from deploykit.console.pieces import terminal
from deploykit.errors import DeploykitError


def plain(value: Any) -> Any:
    """Turn a result into what JSON can hold; tensors' descriptions become their text form."""
    from deploykit.tensors import TensorSpec

    if isinstance(value, (TensorSpec, Path, GenericAlias, type)):
        return value.__name__ if isinstance(value, type) and not isinstance(value, GenericAlias) else str(value)
    if is_dataclass(value) and not isinstance(value, type):
        shown = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return {**shown, "passed": value.passed} if hasattr(value, "passed") else shown
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def print_json(content: Any) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json.dumps(plain(content), indent=2) + "\n")


def print_error(error: DeploykitError) -> None:
    """Print an error and its fix on standard error."""
    sys.stderr.write("\n".join(error.lines()) + "\n")


def error_json(error: DeploykitError) -> dict[str, Any]:
    """Describe an error for ``--json``."""
    verdict = getattr(error, "verdict", None)
    return {
        "error": {"kind": type(error).__name__, "message": error.message, "details": error.details, "fix": error.fix},
        "exit_code": error.exit_code,
        **({"verdict": plain(verdict)} if verdict is not None else {}),
    }


@contextmanager
def progress() -> Iterator[Step]:
    """Give a function that shows what goes on now: a spinner on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    console = terminal(stderr=True)
    with console.status("starting") as status:
        yield lambda words: status.update(f"{words} ...")
