"""A verdict as JSON can hold it, and back."""

from collections.abc import Mapping
from typing import Any

from deploykit import typed
from deploykit.validation.verdict import Check, Verdict


def stored(verdict: Verdict) -> dict[str, Any]:
    """Give the fields of a verdict; numbers that JSON does not have become texts that ``float`` reads back."""
    content: dict[str, Any] = typed.stored(verdict)
    return content


def read_verdict(content: Mapping[str, Any]) -> Verdict:
    """Read a verdict back from its fields.

    Raises:
        KeyError: a field is not there.
        ValueError: one does not hold what it should.
        TypeError: the same.
        AttributeError: the same.
    """
    return Verdict(
        str(content["artifact"]),
        str(content["reference"]),
        tuple(map(_read_check, content["checks"])),
        int(content["samples"]),
        int(content["values"]),
        tuple(map(str, content["shapes"])),
        str(content["method"]),
        tuple(map(str, content.get("notes", ()))),
        lossy=bool(content.get("lossy", False)),
    )


def _read_check(content: Mapping[str, Any]) -> Check:
    return Check(
        str(content["what"]),
        passed=bool(content["passed"]),
        rule=str(content["rule"]),
        why=str(content["why"]),
        value=_read_float(content["value"]),
        limit=_read_float(content["limit"]),
        figures={str(name): float(value) for name, value in content["figures"].items()},
        samples=tuple(map(int, content.get("samples", ()))),
        undecided=bool(content.get("undecided", False)),
        by_shape={str(shape): float(value) for shape, value in content.get("by_shape", {}).items()},
    )


def _read_float(value: Any) -> float | None:
    return None if value is None else float(value)
