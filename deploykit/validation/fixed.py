"""Tolerances that the user fixes, for all outputs or for one: ``1e-3``, ``logits=1e-3``."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deploykit.errors import UsageError, nearest


@dataclass(frozen=True)
class Fixed:
    """The artifact may be off by ``atol + rtol * |source|``, as in ``numpy.isclose``."""

    atol: float
    rtol: float

    def __str__(self) -> str:
        """Say the rule."""
        return f"within {self.atol:g} + {self.rtol:g} |source|" if self.rtol else f"within {self.atol:g}"


@dataclass(frozen=True)
class Tolerances:
    """What the user fixes, by output; the empty name stands for every other one."""

    atol: Mapping[str, float] = field(default_factory=dict)
    rtol: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, atol: Sequence[str], rtol: Sequence[str]) -> "Tolerances":
        """Read ``1e-3`` and ``logits=1e-3``.

        Raises:
            UsageError: something is no number of zero or more, or is said twice.
        """
        return cls(_parsed("--atol", atol), _parsed("--rtol", rtol))

    def check(self, outputs: Iterable[str]) -> None:
        """Make sure that every name is one of an output.

        Raises:
            UsageError: one is not.
        """
        known = list(outputs)
        for name in (*self.atol, *self.rtol):
            if name and name not in known:
                raise UsageError(
                    f"there is no output '{name}'{nearest(name, known)}", fix=f"its outputs are: {', '.join(known)}"
                )

    def of(self, name: str) -> Fixed | None:
        """Give what is fixed for an output, or None where the noise ratio is to judge."""
        found = [given.get(name, given.get("")) for given in (self.atol, self.rtol)]
        return None if found == [None, None] else Fixed(found[0] or 0.0, found[1] or 0.0)


def _parsed(option: str, texts: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if name in found:
            raise UsageError(f"{option} is given twice for {name or 'all outputs'}", fix=f"give {option} once for each")
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = math.nan
        if not 0 <= found[name] < math.inf:
            raise UsageError(
                f"{option} {text} is no tolerance: '{number}'", fix=f"{option} 1e-3, or {option} logits=1e-3"
            )
    return found
