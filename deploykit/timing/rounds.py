"""Time models against each other in rounds, so that whatever else goes on hits all of them alike."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from deploykit.child import Step, silent
from deploykit.timing.ratio import ratio_of

Call = Callable[[], object]
Load = Callable[[], Call]
"""Loads a model, runs it once so that there is room for its tensors, and gives what runs it again."""

LEAST = 8
"""Rounds that are run at least, whatever they take: of fewer the interval is too narrow."""
NARROW = 0.02
"""Width of an interval, in relation to the ratio, with which the rounds end."""
TURN = 0.02
"""Seconds that a turn lasts at least."""
_WARM = 0.1
"""Seconds of warming up before the first round, and two calls at least."""
_SLOW = 0.1
"""Seconds of a call over which the caches don't matter, and the first of a turn counts."""


@dataclass(frozen=True)
class Times:
    """What each model took."""

    calls: tuple[tuple[float, ...], ...]
    """Seconds of every call that counts, for each model."""
    rounds: tuple[tuple[float, ...], ...]
    """Seconds of a call, for each round and in it for each model."""


def alternate(
    loads: Sequence[Load],
    *,
    seconds: float,
    seed: int = 0,
    step: Step = silent,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Run models in turns, until their ratios are known or the time is over.

    Each round loads all of them anew, in an order of chance: where a model lies in memory moves its latency by a
    percent or two, and of one load that would look like a difference between two copies of a file. (T. Mytkowicz et
    al., Producing Wrong Data Without Doing Anything Obviously Wrong!, ASPLOS 2009; T. Kalibera and R. Jones, Rigorous
    Benchmarking in Reasonable Time, ISMM 2013: repeat at the level that varies.) Then each has a turn, and one more in
    the reverse order, so that what grows evenly meanwhile adds the same to all. A turn lasts ``TURN`` seconds or one
    call, and before it a call that does not count brings the model back into the caches; the round's figure is the
    mean over both turns of their medians.

    It ends after 8, 16, 32 ... rounds where every ratio to the first has an interval that is narrow (``NARROW``); else
    with the first round after ``seconds`` are over, of ``LEAST`` at least. To look seldom, and at the width alone,
    keeps the interval honest: it does not end because a difference shows. (Y. S. Chow and H. Robbins, On the Asymptotic
    Theory of Fixed-Width Sequential Confidence Intervals for the Mean, Annals of Mathematical Statistics 36, 1965.)

    Args:
        loads: the models; the first is what the others are compared with. One alone runs until the time is over.
        seconds: about how long all of it may take.
        seed: of the order.
        step: takes a sentence about what goes on.
        clock: gives seconds.
    """
    rng = np.random.default_rng(seed)
    began, look, rounds = clock(), LEAST, list[tuple[float, ...]]()
    with _uncollected():
        step("warming up")
        models = [_Model(load, clock) for load in loads]
        while len(rounds) < LEAST or clock() - began < seconds:
            step(f"timing, round {len(rounds) + 1}")
            rounds.append(_round(models, rng))
            if len(rounds) == look:
                if _are_narrow(rounds):
                    break
                look *= 2
    return Times(tuple(tuple(model.seconds) for model in models), tuple(rounds))


class _Model:
    """A model, and how often it is run in a turn."""

    def __init__(self, load: Load, clock: Callable[[], float]) -> None:
        self.seconds: list[float] = []
        self.load, self._clock = load, clock
        call, began, warm = load(), clock(), list[float]()
        while len(warm) < 2 or clock() - began < _WARM:  # noqa: PLR2004
            warm.append(self._timed(call))
        usual = median(warm)
        self._count = max(1, round(TURN / usual)) if usual else 1
        self._unread = 0 if usual > _SLOW else 1

    def turn(self, call: Call) -> float:
        """Run it for a turn, and give the median."""
        for _ in range(self._unread):
            call()
        taken = [self._timed(call) for _ in range(self._count)]
        self.seconds += taken
        return median(taken)

    def _timed(self, call: Call) -> float:
        start = self._clock()
        call()
        return self._clock() - start


def _round(models: Sequence[_Model], rng: np.random.Generator) -> tuple[float, ...]:
    order = rng.permutation(len(models)).tolist()
    calls = {place: models[place].load() for place in order}
    there = {place: models[place].turn(calls[place]) for place in order}
    back = {place: models[place].turn(calls[place]) for place in reversed(order)}
    return tuple(fmean((there[place], back[place])) for place in range(len(models)))


def _are_narrow(rounds: Sequence[tuple[float, ...]]) -> bool:
    first, *others = zip(*rounds, strict=True)
    return bool(others) and all(ratio_of(one, first).width <= NARROW for one in others)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python's collector from running in the middle of a call."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
