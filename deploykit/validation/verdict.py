"""The verdict: for each output what was compared, by which rule, and whether it passed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploykit.validation.divergence.found import Divergence


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and how it came out."""

    what: str
    """The name of an output, or ``inputs``, ``outputs``, ``run``."""
    passed: bool
    rule: str
    """What was asked for: ``noise ratio at most 10``."""
    why: str
    """What was found, in plain words."""
    value: float | None = None
    limit: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    samples: tuple[int, ...] = ()
    """The samples that are decided otherwise than by the source, by their numbers from 0."""
    undecided: bool = False
    """Whether there were too few samples to tell; it then passes only where the user says that this is enough."""
    by_shape: Mapping[str, float] = field(default_factory=dict)
    """What was measured in the calls of each input shape; over the limit it fails there."""

    @property
    def said(self) -> str:
        """What was looked at, and what was found."""
        return f"{self.what}: {self.why}"


@dataclass(frozen=True)
class Verdict:
    """Whether an artifact answers as its source does; it passes only if something was compared and all of it passes."""

    artifact: str
    reference: str
    """What it was compared with."""
    checks: tuple[Check, ...]
    samples: int
    values: int
    """How many numbers were compared."""
    shapes: tuple[str, ...]
    method: str
    """How the noise floor was found: ``float64`` or ``ulp``."""
    notes: tuple[str, ...] = ()
    lossy: bool = False
    """Whether it was judged by what it lost: what passes is within its budget, and not the same model."""
    divergence: "Divergence | None" = None
    """Where the artifact and its source part, where that was looked for."""

    @property
    def passed(self) -> bool:
        """Whether all checks passed, at least one number was compared, and at least one sample."""
        return bool(self.checks) and self.values > 0 and self.samples > 0 and all(check.passed for check in self.checks)

    @property
    def undecided(self) -> bool:
        """Whether it does not pass only because there were too few samples to tell: nothing was found wrong."""
        return bool(self.failures) and all(check.undecided for check in self.failures)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)
