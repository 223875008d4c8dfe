"""What a search for what stays in float has measured: kept as it goes, so that a rerun goes on from there.

A search may take long, and be killed. Each effect and each verdict is written when it is known; the calibration, when
it is whole. The same command on the same files finds it again, and measures only what is not there.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from deploykit.errors import UsageError
from deploykit.passes import Pass, Work
from deploykit.plugin import spelled
from deploykit.quantization.calibrating import Calibration
from deploykit.quantization.sensitivity import Effect
from deploykit.workspace import Found

_SEARCH = "search.json"
_RANGES = "ranges.json"


@dataclass
class Known:
    """What is known of a search."""

    found: Found
    effects: dict[str, Effect] = field(default_factory=dict)
    """Of each layer alone, by its name."""
    verdicts: dict[frozenset[str], bool] = field(default_factory=dict)
    """Whether the budget is kept with these nodes in float."""
    before: tuple[int, int] = (0, 0)
    """So many effects and verdicts are of a run before this one."""
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, one: Pass, work: Work, *also: str) -> Self:
        """Read what a run before has left of the same search.

        Args:
            one: the pass; the time that it may take, and what else it writes, are its own matter.
            work: what it works with.
            also: what else the result hangs on.
        """
        given: Any = one
        own = {"time_budget": 0.0, "save_calibration": ""}
        text = spelled(replace(given, **{name: value for name, value in own.items() if hasattr(one, name)}))
        known = cls(work.found((text, *also)))
        try:
            kept = json.loads((known.found.place / _SEARCH).read_text())
            known.effects = {name: Effect(**about) for name, about in kept["effects"].items()}
            known.verdicts = {frozenset(names): bool(passed) for names, passed in kept["verdicts"]}
        except FileNotFoundError:
            return known
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            known.notes.append(_damaged(_SEARCH))
            known.effects, known.verdicts = {}, {}
        known.before = len(known.effects), len(known.verdicts)
        return known

    def measured(self, effect: Effect) -> None:
        """Keep the effect of a layer."""
        self.effects[effect.name] = effect
        self._keep()

    def judged(self, excluded: frozenset[str], *, passed: bool) -> None:
        """Keep a verdict."""
        self.verdicts[excluded] = passed
        self._keep()

    def best(self) -> frozenset[str] | None:
        """Give the fewest nodes that were in float when the budget was kept; None where it never was."""
        return min((names for names, passed in self.verdicts.items() if passed), key=len, default=None)

    def _keep(self) -> None:
        kept = {
            "effects": {name: asdict(effect) for name, effect in self.effects.items()},
            "verdicts": [[sorted(names), passed] for names, passed in self.verdicts.items()],
        }
        self.found.keep(_SEARCH, lambda path: path.write_text(json.dumps(kept)))

    def calibration(self) -> Calibration | None:
        """Give the calibration of the run before; None where it did not come to its end."""
        path = self.found.place / _RANGES
        if not path.exists():
            return None
        try:
            found = Calibration.read(path)
        except UsageError:
            self.notes.append(_damaged(_RANGES))
            return None
        self.notes.append(f"resumed: the calibration with {found.samples} samples is of the run before")
        return found

    def calibrated(self, found: Calibration) -> None:
        """Keep a calibration."""
        self.found.keep(_RANGES, found.write)

    def said(self, layers: int) -> Iterator[str]:
        """Say what is not of this run.

        Args:
            layers: how many there are to be measured.
        """
        yield from self.notes
        effects, verdicts = self.before
        if effects:
            choices = f"{verdicts} choice{'s' if verdicts > 1 else ''}"
            yield f"resumed: {effects} of {layers} layers were measured before, and {choices} of them judged"


def _damaged(name: str) -> str:
    return f"{name} of the run before is damaged: what it had was measured anew"


def digest(path: str) -> str:
    """Give the sha256 of a file that an option names; nothing where there is none."""
    from deploykit.artifact import sha256

    return sha256(Path(path)) if path and Path(path).is_file() else ""
