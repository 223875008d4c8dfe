"""Trials of the benchmark of verdicts: an artifact that is known to be wrong, or right, and what is said of it.

A fault counts where it changes some output by 100 noise floors on inputs that the golden knows nothing of: RMS over
one sample. An artifact is right where no output is as far off as that, on the same inputs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.verdict_faults import Fault, planted
from benchmarks.verdict_graphs import places
from benchmarks.verdict_peers import Judged, Peers, judged
from benchmarks.verdict_ready import Ready, effect, session
from benchmarks.verdict_right import HALVED, STATIC, Right

MATTERS = 100.0
"""Noise floors from which on a change is a fault."""
HALF = 2.0**13
"""How much coarser float16 is than float32."""
AIMS = (1.15, 1.15, 10.0, 100.0)
"""Where its size can be chosen, a fault is made so many times larger than what just matters."""
_TRIES = 8
_LARGEST = 1e4
"""Standard deviations of its tensor by which a value is changed at most."""


@dataclass(frozen=True)
class Trial:
    """One artifact, and what the three rules say of it."""

    net: str
    kind: str
    where: str
    effect: float
    """How far it is from the source on other inputs, in noise floors."""
    judged: Judged

    @property
    def is_right(self) -> bool:
        """Whether what was made to be right is so on other inputs, by the precision that it computes in."""
        return self.effect < MATTERS * (HALF if self.kind == HALVED else 1)

    @property
    def plain(self) -> dict[str, Any]:
        """The trial for JSON."""
        return {**vars(self), "judged": asdict(self.judged)}


@dataclass
class Found:
    """What came of one net."""

    net: str
    floors: dict[str, float]
    faults: list[Trial] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    """How many faults of each kind did not matter."""
    rights: list[Trial] = field(default_factory=list)
    unmade: list[str] = field(default_factory=list)
    """What no right artifact could be made of, and why."""
    seconds: float = 0.0

    def __str__(self) -> str:
        """Say it in a line."""
        missed = sum(one.judged.deploykit or one.judged.crash for one in self.faults)
        alarms = sum(one.is_right and not one.judged.deploykit for one in self.rights)
        return (
            f"{self.net:12} {len(self.faults):4} faults, {missed} missed"
            f"   {len(self.rights):3} right, {alarms} false alarms   {self.seconds:.0f} s"
        )

    @property
    def plain(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            **vars(self),
            "faults": [one.plain for one in self.faults],
            "rights": [one.plain for one in self.rights],
        }


@dataclass(frozen=True)
class Wrong:
    """A fault of some size, planted."""

    model: Any
    effect: float
    size: float


@dataclass(frozen=True)
class Plot:
    """Where faults of one kind are planted, and how many."""

    kind: str
    quota: int
    models: Mapping[str, Any]
    """The right files by what they are called, each an ``onnx.ModelProto``."""

    def faults(self, rng: np.random.Generator) -> Iterator[tuple[str, Fault]]:
        """Give faults for each of the files in turn."""
        streams = {name: places(model, self.kind, rng) for name, model in self.models.items()}
        while streams:
            for name in list(streams):
                fault = next(streams[name], None)
                if fault is None:
                    del streams[name]
                else:
                    yield name, fault


def trials(right: Ready, peers: Peers, plot: Plot, rng: np.random.Generator) -> Iterator[Trial | None]:
    """Plant faults of one kind until so many matter, and have each judged; None for each that does not matter."""
    import onnx

    path = right.onnx.with_name(f"{right.kind.name}.fault.onnx")
    counted = 0
    for tried, (name, fault) in enumerate(plot.faults(rng)):
        if counted == plot.quota or tried > 3 * plot.quota:
            return
        wrong = mattering(right, plot.models[name], fault, MATTERS * AIMS[tried % len(AIMS)])
        if wrong is None:
            yield None
            continue
        counted += 1
        onnx.save(wrong.model, path)
        where = f"{fault.where} by {wrong.size:.3g}" if fault.scales else fault.where
        yield Trial(right.kind.name, plot.kind, f"{name}, {where}", wrong.effect, judged(path, right.golden, peers))


def mattering(right: Ready, model: Any, fault: Fault, aim: float) -> Wrong | None:
    """Plant a fault, with an effect near the aim where its size can be chosen; None where it does not matter."""
    size, best = 0.01, None
    for _ in range(_TRIES if fault.scales else 1):
        wrong = planted(model, fault, size)
        found = _effect(right, wrong)
        if found >= MATTERS and (best is None or found < best.effect):
            best = Wrong(wrong, found, size)
        if not fault.scales or aim / 1.3 <= found <= aim * 1.3 or not found or size > _LARGEST:
            break
        size *= float(np.clip(aim / found, 1e-4, 1e4))
    return best


def _effect(right: Ready, model: Any) -> float:
    try:
        running = session(model.SerializeToString())
    except Exception:  # noqa: BLE001 - onnxruntime's errors have no class in common
        return float("inf")
    return effect(right, running)


def attempt(right: Ready, peers: Peers, one: Right, path: Path) -> Trial:
    """Have a right artifact judged, on single samples where its batch is fixed."""
    single = one.kind == STATIC
    with one.within():
        found = effect(right.single if single else right, session(str(path)))
        said = judged(path, one.golden, peers.single if single else peers)
    return Trial(right.kind.name, one.kind, one.where, found, said)
