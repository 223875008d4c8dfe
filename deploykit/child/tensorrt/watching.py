"""What a builder says: its log, its refusals, and how far it is. TensorRT takes one logger in a process."""

import time
from collections.abc import Callable
from typing import Any

from deploykit.child.tensorrt.layers import BEGINNING

_PAUSE = 0.1
"""Seconds between two words on how far it is: whoever hears them takes the core for that long."""
_KEPT = 200
"""Messages of errors and warnings that are kept."""


def log_of(trt: Any) -> Any:
    """Make a logger that keeps errors, warnings and the list of layers, and prints nothing."""
    severity = trt.ILogger.Severity
    worse = {severity.INTERNAL_ERROR: "error", severity.ERROR: "error", severity.WARNING: "warning"}

    class Log(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.said: list[tuple[str, str]] = []
            self.layers = ""

        def log(self, severity: Any, message: str) -> None:
            kind = worse.get(severity)
            if kind is not None and len(self.said) < _KEPT:
                self.said.append((kind, message))
            elif kind is None and message.startswith(BEGINNING):
                self.layers += message + "\n"

        def of(self, kind: str) -> list[str]:
            return list(dict.fromkeys(text for one, text in self.said if one == kind))

    return Log()


def monitor_of(trt: Any, say: Callable[[str], None]) -> Any:
    """Make a progress monitor that says now and then how much of the work is done."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()
            self._phases: dict[str, tuple[str | None, int, int]] = {}
            self._last, self._told = -1, -_PAUSE

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._phases[name] = (parent, 0, max(steps, 1))
            self._tell(name)

        def step_complete(self, name: str, step: int) -> bool:
            parent, _, steps = self._phases.get(name, (None, 0, 1))
            self._phases[name] = (parent, min(step + 1, steps), steps)
            self._tell(name)
            return True

        def phase_finish(self, name: str) -> None:
            self._phases.pop(name, None)

        def _tell(self, name: str) -> None:
            done = round(100 * share(self._phases))
            now = time.monotonic()
            if done > self._last and now - self._told >= _PAUSE:
                self._last, self._told = done, now
                say(f"building {bar(done)} {done:3d}% {name}")

    return Monitor()


def share(phases: dict[str, tuple[str | None, int, int]]) -> float:
    """Give how much is done, 0 to 1: a phase within another fills the step that the other is at.

    Args:
        phases: by name, the phase that it is in, the steps that are done, and how many there are.
    """
    within = {parent for parent, _, _ in phases.values() if parent is not None}
    inner = [name for name in phases if name not in within]
    return max((_up(phases, name) for name in inner), default=0.0)


def _up(phases: dict[str, tuple[str | None, int, int]], name: str) -> float:
    done = 0.0
    at: str | None = name
    while at is not None and at in phases:
        parent, step, steps = phases[at]
        done = min((step + done) / steps, 1.0)
        at = parent
    return done


_WIDTH = 20


def bar(percent: int) -> str:
    """Draw how much is done."""
    full = percent * _WIDTH // 100
    return "━" * full + "─" * (_WIDTH - full)
