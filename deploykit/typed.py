"""Dataclasses from tables and texts: a recipe, options written as text, results that were stored as JSON.

A field is read by its type. All that does not fit is collected, so that a user sees every mistake of a file at once.
"""

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from deploykit.errors import nearest


def filled(kind: type, table: Mapping[str, Any], at: str, problems: list[str]) -> Any:
    """Make a dataclass of a table; where something does not fit, say it in ``problems`` and give None.

    A field may have a reader of its own in its metadata, ``{"read": function of (value, at, problems)}``, and another
    name, ``{"name": "for"}``.

    Args:
        kind: the dataclass.
        table: its fields by name.
        at: where the table stands, as the user knows it: ``the recipe`` for all of it, ``artifact 2.require``.
        problems: takes a sentence about each key that is not known, each value that does not fit, each that lacks.
    """
    before, inside = len(problems), "" if at.startswith("the ") else f"{at}."
    hints = get_type_hints(kind)
    known = {one.metadata.get("name", one.name): one for one in fields(kind)}
    problems.extend(
        f"{at} has no '{name}'{nearest(name, known) or '; it has ' + (', '.join(known) or 'no options')}"
        for name in table
        if name not in known
    )
    found = {}
    for name, one in known.items():
        if name in table:
            read = one.metadata.get("read") or _reader(hints[one.name])
            found[one.name] = read(table[name], f"{inside}{name}", problems)
        elif one.default is MISSING and one.default_factory is MISSING:
            problems.append(f"{at} lacks '{name}'")
    return kind(**found) if len(problems) == before else None


def stored(value: Any) -> Any:
    """Give a value as JSON can hold it, and ``filled`` reads it back; numbers that JSON has not become texts."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: stored(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): stored(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [stored(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def value_of(hint: Any, value: Any, at: str, problems: list[str]) -> Any:
    """Turn a value into what a type asks for; where it does not fit, say so in ``problems`` and give None."""
    options = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        rest = [one for one in options if one is not types.NoneType]
        return None if value is None else value_of(rest[0], value, at, problems)
    if get_origin(hint) is tuple or get_origin(hint) is Sequence:
        return _tuple(options[0], value, at, problems)
    if is_dataclass(hint) or get_origin(hint) is Mapping:
        return _table(hint, options, value, at, problems)
    read = _PLAIN.get(hint)
    try:
        return read(value) if read is not None else value
    except _Misfit as error:
        problems.append(f"{at} is {value!r}, and must be {error}")
        return None


def _reader(hint: Any) -> Any:
    return lambda value, at, problems: value_of(hint, value, at, problems)


def _tuple(part: Any, value: Any, at: str, problems: list[str]) -> tuple[Any, ...]:
    parts = value.split("+") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        problems.append(f"{at} is {value!r}, and must be a list")
        return ()
    return tuple(value_of(part, one, f"{at} {number}", problems) for number, one in enumerate(parts, 1))


def _table(hint: Any, options: tuple[Any, ...], value: Any, at: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(f"{at} is {value!r}, and must be a table")
        return None
    if is_dataclass(hint):
        return filled(cast("type", hint), value, at, problems)
    return {str(key): value_of(options[1], one, f"{at}.{key}", problems) for key, one in value.items()}


class _Misfit(Exception):
    """What a value must be, and is not."""


def _bool(value: Any) -> bool:
    found = {"true": True, "false": False}.get(value) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise _Misfit("true or false")
    return found


def _int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not value.strip().lstrip("+-").isdecimal():
        raise _Misfit("a whole number")
    return int(value)


def _float(value: Any) -> float:
    """Read 0.5, '0.5%', and what JSON has no number for: 'inf'."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        return float(str(value).removesuffix("%")) / (100 if str(value).endswith("%") else 1)
    except ValueError:
        raise _Misfit("a number, or a share such as '0.5%'") from None


def _str(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str):
        raise _Misfit("a text in quotation marks")
    return value


def _path(value: Any) -> Path:
    return Path(_str(value))


_PLAIN: dict[Any, Any] = {bool: _bool, int: _int, float: _float, str: _str, Path: _path}
