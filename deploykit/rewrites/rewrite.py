"""What a rewrite is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploykit.rewrites.scope import Scope

Node = Any


@dataclass(frozen=True)
class Rewrite:
    """One kind of change: what it leaves answers as before, with no more nodes and no more bytes."""

    name: str
    """What a user calls it: ``deploykit optimize --without NAME``."""
    ops: frozenset[str]
    """Operators of the standard domain that it looks at; with none it looks at a graph as a whole."""
    apply: Callable[[Node, Scope], bool]
    """Change the graph at a node; whether it did. What nothing reads any more is removed by the caller."""


@dataclass(frozen=True)
class Whole:
    """A change to a graph as a whole."""

    name: str
    apply: Callable[[Scope], bool]


def rewrite(name: str, *ops: str) -> Callable[[Callable[[Node, Scope], bool]], Rewrite]:
    """Make a rewrite of a function."""
    return lambda function: Rewrite(name, frozenset(ops), function)
