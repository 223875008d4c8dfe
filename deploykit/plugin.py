"""Plug-ins: a frozen dataclass in a file, found by the file's name.

A role (exporter, pass, backend, metric) is a package. Every public file in it holds one frozen dataclass
derived from the role's class; its fields are its options. Listing imports nothing; asking for one imports
that one. To add a plug-in is to add a file.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Generic, TypeVar, cast, get_type_hints

from deploykit.errors import UsageError, nearest
from deploykit.typed import filled

Role = TypeVar("Role")


@dataclass(frozen=True)
class Option:
    """One field of a plug-in, as a user sets it."""

    name: str
    kind: type
    default: Any
    text: str


@dataclass(frozen=True)
class Registry(Generic[Role]):
    """The plug-ins of one role: the public files of ``package``, each with one class of ``role``."""

    package: str
    role: type[Role]
    word: str
    """What a user calls one of them: ``backend``."""

    def names(self) -> tuple[str, ...]:
        """List the plug-ins by name, without importing any."""
        path = importlib.import_module(self.package).__path__
        return tuple(sorted(module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_")))

    def kind(self, name: str) -> type[Role]:
        """Import one plug-in and give its class.

        Raises:
            UsageError: there is none of that name.
        """
        if name not in self.names():
            raise UsageError(
                f"there is no {self.word} '{name}'{nearest(name, self.names())}",
                fix=f"one of {', '.join(self.names())}",
            )
        module = importlib.import_module(f"{self.package}.{name}")
        found = [
            member
            for member in vars(module).values()
            if inspect.isclass(member) and issubclass(member, self.role) and member.__module__ == module.__name__
        ]
        if len(found) != 1 or not is_dataclass(found[0]):
            message = f"{module.__name__} must hold exactly one dataclass derived from {self.role.__name__}"
            raise TypeError(message)
        return found[0]

    def make(self, name: str, **options: object) -> Role:
        """Build one plug-in from its options.

        Raises:
            UsageError: there is no such plug-in, or it has no such option.
        """
        kind = self.kind(name)
        known = [option.name for option in options_of(kind)]
        for option in options:
            if option not in known:
                raise UsageError(
                    f"{name} has no option '{option}'{nearest(option, known)}",
                    fix=f"its options are: {', '.join(known)}" if known else "it has no options",
                )
        return kind(**options)

    def configured(self, name: str, options: Mapping[str, Any]) -> Role:
        """Build one plug-in from options as a recipe or a text has them, each read by the type of its field.

        Raises:
            UsageError: there is no such plug-in, it has no such option, or a value does not fit.
        """
        problems: list[str] = []
        found = filled(self.kind(name), options, name, problems)
        if problems:
            raise UsageError(
                f"{name} can't be done so: {problems[0]}", fix=f"deploykit list {name} shows its options",
                details=problems[1:],
            )  # fmt: skip
        return cast("Role", found)

    def parse(self, text: str) -> Role:
        """Build one plug-in from its text form: ``int8:target=cpu,keep=conv1+conv2``.

        Raises:
            UsageError: it can't be read.
        """
        name, _, options = text.partition(":")
        pairs = [one.partition("=") for one in options.split(",") if one.strip()]
        if not all(sign for _, sign, _ in pairs):
            raise UsageError(f"'{text}' can't be read", fix=f"{name}:option=value,option=value")
        return self.configured(name.strip(), {key.strip(): value.strip() for key, _, value in pairs})


def options_of(kind: type) -> tuple[Option, ...]:
    """List the options of a plug-in class, with their types, defaults and descriptions."""
    hints = get_type_hints(kind)
    return tuple(
        Option(
            field.name,
            hints[field.name],
            None if field.default is MISSING else field.default,
            str(field.metadata.get("help", "")),
        )
        for field in fields(kind)
    )


def name_of(plugin: object) -> str:
    """Give the name of a plug-in: that of its file."""
    return type(plugin).__module__.rpartition(".")[2]


def spelled(plugin: Any) -> str:
    """Write a plug-in with the options that are not as usual: ``fp16:io=true,keep=conv1+conv2``."""
    set_ = [
        (one.name, value) for one in options_of(type(plugin)) if (value := getattr(plugin, one.name)) != one.default
    ]
    words = ",".join(f"{name}={_spelled(value)}" for name, value in set_)
    return f"{name_of(plugin)}:{words}" if words else name_of(plugin)


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
