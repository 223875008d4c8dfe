"""``deploykit list``: the plug-ins that there are, and their options."""

from dataclasses import dataclass
from typing import Any

from deploykit.errors import UsageError, nearest
from deploykit.plugin import Option, Registry, options_of


@dataclass(frozen=True)
class Listed:
    """One plug-in."""

    role: str
    name: str
    text: str
    """What its class says of itself, in one sentence."""
    options: tuple[Option, ...]


def plugins(name: str | None = None) -> tuple[Listed, ...]:
    """List every plug-in, or those of one name.

    Raises:
        UsageError: there is none of that name.
    """
    found = [
        Listed(registry.word, one, (registry.kind(one).__doc__ or "").splitlines()[0], options_of(registry.kind(one)))
        for registry in _registries()
        for one in registry.names()
    ]
    if name is None:
        return tuple(found)
    chosen = tuple(one for one in found if one.name == name)
    if not chosen:
        names = sorted({one.name for one in found})
        raise UsageError(f"there is no plug-in '{name}'{nearest(name, names)}", fix=f"one of {', '.join(names)}")
    return chosen


def _registries() -> tuple[Registry[Any], ...]:
    from deploykit.backends import BACKENDS
    from deploykit.exporters import EXPORTERS
    from deploykit.metrics import METRICS
    from deploykit.passes import PASSES
    from deploykit.validation.reports import REPORTS

    return EXPORTERS, PASSES, BACKENDS, METRICS, REPORTS
