"""What a number of samples can prove: intervals for rates and for drops, and how many samples a decision takes.

All bounds are two-sided at 95%, and are score intervals: they hold the values that a score test does not reject. They
never leave 0 to 1, and say something sensible of 10 right ones out of 10, where the textbook interval has no width.
"""

import math
from dataclasses import dataclass

import numpy as np

Z = 1.959963984540054
"""The normal distribution has 2.5% above this."""

TAIL = 0.025
"""What may happen by chance on one side, as in the intervals."""

_MOST = 10**7
"""More samples than this are no answer: the rate is too near to its bound to tell."""
_STEPS = 80
"""Halvings that bring a bound to the last digit of a float64."""


@dataclass(frozen=True)
class Interval:
    """What a figure may be, at 95%."""

    low: float
    high: float

    def __str__(self) -> str:
        """Give both ends, as a report shows them: ``0.973 to 0.998``."""
        return f"{self.low:.3g} to {self.high:.3g}"


@dataclass(frozen=True)
class Rate:
    """So many of so many; a sample may be a share of a hit."""

    hits: float
    total: int

    @property
    def value(self) -> float:
        """The share of hits, NaN where there was nothing to hit."""
        return self.hits / self.total if self.total else math.nan

    @property
    def interval(self) -> Interval:
        """What the rate may be."""
        return wilson(self.hits, self.total)


def wilson(hits: float, total: int) -> Interval:
    """Bound a rate by the score interval of Wilson.

    E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927). Samples that
    count as a share of a hit vary less than whole ones, so that the interval is then too wide rather than too narrow.
    """
    if not total:
        return Interval(0.0, 1.0)
    rate, weight = hits / total, Z * Z / total
    centre = (rate + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(rate * (1 - rate) / total + weight / (4 * total))
    return Interval(
        0.0 if hits <= 0 else max(0.0, centre - half),
        1.0 if hits >= total else min(1.0, centre + half),
    )


def reaches(found: Rate, bound: float) -> bool | None:
    """Say whether a rate is at least ``bound``: yes, no, or None where the samples are too few to tell.

    Yes where Wilson's interval is above the bound. No where it is below, and as few hits as these come by chance in
    2.5% of all cases at most, by the binomial distribution. Near 1 Wilson's upper end alone is too low: 15 of 16 would
    rule out 0.99, of which every seventh draw of 16 has a miss. (Brown, Cai and DasGupta, Interval Estimation for a
    Binomial Proportion, Statistical Science 16, 2001.)
    """
    interval = found.interval
    if found.total and interval.low >= bound:
        return True
    below = interval.high < bound and binomial_tail(math.ceil(found.hits), found.total, bound) <= TAIL
    return False if below else None


def needed_to_reach(found: Rate, bound: float) -> int | None:
    """Give the samples that would settle ``reaches`` at the rate found; None where no number in sight would.

    Wilson's interval touches a bound p when the score test does: n (rate - p)^2 = z^2 p (1 - p). So it takes
    n = z^2 p (1 - p) / (rate - p)^2, and under the bound as many again and again until the binomial agrees.
    """
    if not found.total or found.value == bound:
        return None
    gap = (found.value - bound) ** 2
    count = math.ceil(min(_MOST + 1.0, Z * Z * bound * (1 - bound) / gap)) if gap else _MOST + 1
    count = max(count, found.total + 1)
    while found.value < bound and count <= _MOST and reaches(Rate(found.value * count, count), bound) is None:
        count += max(1, count // 10)
    return count if count <= _MOST else None


def binomial_tail(hits: int, total: int, rate: float) -> float:
    """Give the chance of at most ``hits`` out of ``total``, each with the chance ``rate``."""
    if hits >= total or rate <= 0:
        return 1.0
    if rate >= 1 or hits < 0:
        return 0.0
    number = np.arange(1, hits + 1)
    steps = np.log((total - number + 1) / number) + math.log(rate) - math.log1p(-rate)
    logs = total * math.log1p(-rate) + np.concatenate([[0.0], np.cumsum(steps)])
    return min(1.0, math.fsum(np.exp(logs)))


def mcnemar(lost: int, gained: int) -> float:
    """Give the chance that as uneven a change comes of two equally good models: McNemar's exact test, two-sided.

    Q. McNemar, Note on the Sampling Error of the Difference Between Correlated Proportions, Psychometrika 12 (1947).
    Only samples that one model has right and the other wrong tell anything, and of two equal models each is as often
    the better one: the binomial distribution with 1/2.

    Args:
        lost: samples that were right before and are wrong now.
        gained: samples that were wrong before and are right now.
    """
    return min(1.0, 2 * binomial_tail(min(lost, gained), lost + gained, 0.5))


@dataclass(frozen=True)
class Pairs:
    """The same samples judged twice: how many were lost, and how many gained, of all."""

    lost: int
    gained: int
    total: int

    @property
    def drop(self) -> float:
        """The share of right ones before, less that after."""
        return (self.lost - self.gained) / self.total if self.total else math.nan

    @property
    def interval(self) -> Interval:
        """What the drop may be, by the score interval of Tango.

        T. Tango, Equivalence Test and Confidence Interval for the Difference in Proportions for the Paired-Sample
        Design, Statistics in Medicine 17 (1998). It is to a drop what Wilson's is to a rate: with nothing lost and
        nothing gained it still has the width that so many samples leave open.
        """
        if not self.total:
            return Interval(-1.0, 1.0)
        return Interval(self._where(Z), self._where(-Z))

    def within(self, most: float) -> bool | None:
        """Say whether the drop is at most ``most``: yes, no, or None where the samples are too few to tell.

        No takes McNemar's exact test too: to have dropped by more than a bound is at least to have dropped.
        """
        interval = self.interval
        if self.total and interval.high <= most:
            return True
        return False if interval.low > most and mcnemar(self.lost, self.gained) <= 2 * TAIL else None

    def needed(self, most: float) -> int | None:
        """Give the samples that would settle ``within`` at the shares found; None where no number in sight would.

        The square of the statistic grows as the samples do: n z^2 / T^2. Over the bound, as many again and again
        until McNemar's test agrees.
        """
        score = self._score(most) if self.total else 0.0
        if abs(score) * math.sqrt(_MOST) < Z * math.sqrt(self.total):
            return None
        times = max(1 + 1 / self.total, (Z / score) ** 2)
        while self.drop > most and times * self.total <= _MOST and self._times(times).within(most) is None:
            times *= 1.1
        return math.ceil(times * self.total) if times * self.total <= _MOST else None

    def _times(self, factor: float) -> "Pairs":
        return Pairs(round(self.lost * factor), round(self.gained * factor), round(self.total * factor))

    def _where(self, score: float) -> float:
        """Find the drop of a score: the score falls as the drop grows."""
        low, high = -1.0, 1.0
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._score(middle) > score else (low, middle)
        return (low + high) / 2

    def _score(self, drop: float) -> float:
        """Give Tango's statistic: what was found, less what the drop would give, over its deviation under that drop."""
        free = drop * (1 - drop)
        linear = (2 * self.total - self.lost + self.gained) * drop - self.lost - self.gained
        root = math.sqrt(max(0.0, linear * linear + 8 * self.total * self.gained * free))
        gained = (root - linear) / (4 * self.total)
        apart = self.lost - self.gained - self.total * drop
        spread = self.total * (2 * gained + free)
        return apart / math.sqrt(spread) if spread > 0 else math.copysign(math.inf, apart) if apart else 0.0
