"""Options that several commands take: said once, as the fields of a dataclass."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take options in groups; typer itself knows only one parameter for each option.

    Args:
        command: a function for typer. A parameter whose type is a dataclass becomes the fields of that class, in its
            place and in their order; the command gets them as one value.

    Returns:
        The function to register, with the same name and docstring.
    """
    own = inspect.signature(command).parameters.values()
    groups: dict[str, Any] = {one.name: one.annotation for one in own if is_dataclass(one.annotation)}
    spread = [part for one in own for part in (_fields(one.annotation) if one.name in groups else [one])]

    @functools.wraps(command)
    def spread_out(**values: Any) -> None:
        made = {
            name: group(**{part.name: values.pop(part.name) for part in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **made)

    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in spread]
    spread_out.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    spread_out.__annotations__ = {one.name: one.annotation for one in keywords}
    return spread_out


def _fields(group: Any) -> list[inspect.Parameter]:
    """Give the fields of a dataclass, all with defaults, as parameters."""
    return [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
        for one in fields(group)
    ]
