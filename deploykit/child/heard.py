"""Where a tensor is from that a source gave while it was listened to: both sides of the search speak of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Heard:
    """One tensor that was given while the source ran."""

    key: str
    """The same in every run: where it is from, and which call of it this was."""
    path: str
    """Of the module, as ``named_modules`` has it."""
    kind: str
    """``module``, ``operation``, ``node`` (of an exported graph) or ``output``."""
    name: str
    """The class of the module, the operator, the node of the graph, or the output."""
    call: int
    """Which call of this module or operator it was, from 0."""
    after: str
    """Key of the module's tensor that went into this module, where one did."""
