"""What is decided by an output: a class for each sample or pixel, yes or no, or nothing.

A lossy artifact is asked whether it still decides as its source does, and the output has to be read for that: by its
shape, by the source's values over all samples, and by its name where they leave it open. Scores of classes and
features of an embedding can look alike, so what was taken for what is said in words, and the user can overrule it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from deploykit.errors import UsageError
from deploykit.tensors import Array

_MOST_CLASSES = 100_000
_MOST_PIXEL_CLASSES = 256
_CLOSE = 0.01
"""How far sums and lengths may be from 1: a thousand float16 probabilities add up no better."""
_MANY = 64
"""Columns from which values that fill -1..1 and never leave it are a tanh, not scores."""
_FULL = 0.9
_COLOURS = 3
_HALF, _SETTLED = 0.5, 0.4
"""Distance from 1/2 of what a mask has settled."""

_SCORES = re.compile(
    "logits?|probs?|probabilit(y|ies)|softmax|scores?|class(es)?|labels?|(binary)?masks?|seg(mentation)?"
)
_OTHER = re.compile(
    "embed|embeddings?|features?|hidden|pooler|pooled|latents?|states?|b?box(es)?|landmarks?|keypoints?|depth|flow|pose"
    "|images?"
)
"""Words in the names of outputs that decide something, and of such as do not."""


class Kind(StrEnum):
    """What is decided."""

    CLASSES = "classes"
    """One class for each sample: the largest score."""
    PIXELS = "pixels"
    """One class for each pixel, or a mask where there is one score."""
    BINARY = "binary"
    """Yes or no for each value."""
    NONE = "none"
    """Nothing: an embedding, a regression, an image."""


@dataclass(frozen=True)
class Rule:
    """How decisions are read off an output."""

    kind: Kind
    axis: int = -1
    """The axis of the scores."""
    threshold: float | None = None
    """Over this is yes, where there is one score only."""

    def scores(self, array: Array) -> Array:
        """Give the scores as samples x positions x classes; a single score stands beside its threshold."""
        real = array if array.dtype == np.float32 else array.astype(np.float64)
        if self.threshold is None:
            last = np.moveaxis(real, self.axis, -1)
            return last.reshape(len(last), -1, last.shape[-1])
        flat = real.reshape(len(real), -1, 1)
        return np.concatenate([np.full_like(flat, self.threshold), flat], axis=-1)


@dataclass(frozen=True)
class Reading:
    """What an output was taken for."""

    rule: Rule | None
    """None where nothing is decided by it."""
    words: str


def possible(shape: Sequence[int], kind: Kind | None = None) -> tuple[Rule, ...]:
    """List the rules that a shape allows, so that all may be followed until every value was seen.

    Args:
        shape: of the output, the first axis being the samples.
        kind: what the user says it is.

    Raises:
        UsageError: no output of this shape can be what the user says.
    """
    found = _by_shape(tuple(shape), kind)
    if kind is None or kind is Kind.NONE or found:
        return found
    raise UsageError(
        f"an output of shape {list(shape)} can't be read as {kind}",
        fix=f"{Kind.CLASSES} takes [n, classes], {Kind.PIXELS} [n, classes, height, width] or the classes last, "
        f"{Kind.BINARY} any shape, {Kind.NONE} decides nothing",
    )


def _by_shape(shape: tuple[int, ...], kind: Kind | None) -> tuple[Rule, ...]:
    yes = Kind.BINARY
    if kind is Kind.BINARY or (kind is None and shape and shape[1:] in {(), (1,)}):
        return (Rule(yes, threshold=0.0), Rule(yes, threshold=0.5))
    flat = 2
    if kind is Kind.CLASSES or (kind is None and len(shape) == flat):
        fits = len(shape) >= flat and flat <= shape[-1] <= _MOST_CLASSES
        return (Rule(Kind.CLASSES),) if fits else ()
    pixels = 4
    if kind is Kind.NONE or len(shape) != pixels:
        return ()
    axis = _channels(shape)
    if shape[axis] == 1:
        return (Rule(Kind.PIXELS, axis, 0.0), Rule(Kind.PIXELS, axis, 0.5))
    return (Rule(Kind.PIXELS, axis),) if 1 < shape[axis] <= _MOST_PIXEL_CLASSES else ()


def _channels(shape: tuple[int, ...]) -> int:
    """Find the axis of the channels: the one that leaves a square picture, else the smaller."""
    if (shape[2] == shape[3]) != (shape[1] == shape[2]):
        return 1 if shape[2] == shape[3] else 3
    return 1 if shape[1] <= shape[3] else 3


class Looks:
    """Looks at the source's values, batch by batch, and says at the end what they are."""

    def __init__(self, name: str = "", kind: Kind | None = None) -> None:
        """Take the name of the output, and what the user says it is."""
        words = re.split(r"[^a-z]+", name.lower())
        self._named = any(map(_SCORES.fullmatch, words))
        self._other = [word for word in words if _OTHER.fullmatch(word)]
        self._kind = kind
        self._rules: tuple[Rule, ...] | None = None
        self._shape: tuple[int, ...] = ()
        self._real = self._sums = self._logs = self._unit = True
        self._low, self._high = np.inf, -np.inf
        self._settled = self._values = 0

    def add(self, reference: Array) -> tuple[Rule, ...]:
        """Look at a batch of the source's answers, and give the rules that are still possible.

        Raises:
            UsageError: the answers can't be what the user says.
        """
        if self._rules is None:
            takes = "cUSO" if self._kind else "iubcUSO"
            self._real = reference.dtype.kind not in takes
            self._shape = reference.shape
            self._rules = possible(reference.shape, self._kind) if self._real else ()
        if self._rules and reference.size:
            with np.errstate(over="ignore"):  # a mask of -3e38 adds up to minus infinity, which is no 1 either
                self._look(self._rules[0].scores(reference), single=self._rules[0].threshold is not None)
        return self._rules

    def _look(self, scores: Array, *, single: bool) -> None:
        rows = scores[..., 1:] if single else scores
        rows = rows[np.isfinite(rows).all(axis=-1)]
        if not rows.size:
            return
        self._settled += int(np.count_nonzero(np.abs(rows - _HALF) > _SETTLED)) if single else 0
        self._values += rows.size
        self._low, self._high = min(self._low, float(rows.min())), max(self._high, float(rows.max()))
        if not single:
            self._sums &= self._low >= -_CLOSE and _near_one(rows.sum(axis=-1))
            self._unit &= _near_one(np.linalg.norm(rows, axis=-1))
            self._logs &= self._high <= _CLOSE and _near_one(np.exp(np.minimum(rows, 0)).sum(axis=-1))

    def reading(self) -> Reading:
        """Say what the output is, after all values were seen."""
        rules = self._rules or ()
        if self._kind is Kind.NONE:
            return Reading(None, "no decisions, as you say")
        if not rules:
            why = f"{list(self._shape)} is no shape of scores" if self._real else "no real numbers"
            return Reading(None, f"no decisions: {why}")
        if self._low > self._high:
            return Reading(None, "no decisions: no finite value")
        return self._single(rules) if rules[0].threshold is not None else self._several(rules[0])

    def _single(self, rules: tuple[Rule, ...]) -> Reading:
        """Tell a probability from a logit."""
        sign, half = rules
        what = "a mask of" if sign.kind is Kind.PIXELS else "single"
        told = bool(self._kind) or self._named
        if self._other and not told:
            return self._by_name()
        if sign.kind is Kind.PIXELS and not (told or self._is_mask()):
            return Reading(
                None, "no decisions: one channel, as of an image, and not most of it near 0 or 1 as of a mask"
            )
        if self._low >= 0 and self._high <= 1:
            return Reading(half, f"{what} probabilities: all within 0..1, over 0.5 is yes")
        if self._low < 0 < self._high or told:
            return Reading(sign, f"{what} logits: over 0 is yes")
        return Reading(None, f"no decisions: all from {self._low:.3g} to {self._high:.3g}, of one sign")

    def _is_mask(self) -> bool:
        return self._low >= 0 and self._high <= 1 and 2 * self._settled > self._values

    def _several(self, rule: Rule) -> Reading:
        """Tell scores of classes from features, boxes and images."""
        count = self._shape[rule.axis]
        what = f"{count} classes" + (" for each pixel" if rule.kind is Kind.PIXELS else "")
        if self._sums:
            return Reading(rule, f"probabilities of {what}: they add up to 1")
        if self._logs:
            return Reading(rule, f"log probabilities of {what}")
        if self._kind or self._named:
            return Reading(rule, f"scores of {what}, as {'you say' if self._kind else 'its name says'}")
        if self._other:
            return self._by_name()
        why = self._unlike_scores(rule, count)
        return Reading(None, f"no decisions: {why}") if why else Reading(rule, f"logits of {what}")

    def _unlike_scores(self, rule: Rule, count: int) -> str | None:
        if self._low == self._high:
            return f"constant {self._low:.3g}"
        if self._unit:
            return "vectors of length 1, as of an embedding"
        if self._low >= 0:
            return "never negative, as features and images are, and they do not add up to 1"
        bounded = self._low >= -1 and self._high <= 1 and self._high - self._low > 2 * _FULL
        if bounded and (count >= _MANY or rule.kind is Kind.PIXELS):
            return "within -1..1, as after a tanh"
        return self._unlike_classes_of_pixels(rule, count) if rule.kind is Kind.PIXELS else None

    def _unlike_classes_of_pixels(self, rule: Rule, count: int) -> str | None:
        if count == _COLOURS:
            return "3 channels, as of an image"
        height, width = (size for axis, size in enumerate(self._shape) if axis not in {0, rule.axis})
        return "more channels than pixels in a row, as of features" if count > min(height, width) else None

    def _by_name(self) -> Reading:
        return Reading(None, f"no decisions: it is called {', '.join(self._other)}")


def recognize(reference: Array, name: str = "", kind: Kind | None = None) -> Reading:
    """Say what an output is, from all of the source's answers at once.

    Raises:
        UsageError: the answers can't be what the user says.
    """
    looks = Looks(name, kind)
    looks.add(reference)
    return looks.reading()


def _near_one(values: Array) -> bool:
    return bool(np.all(np.abs(values - 1) <= _CLOSE))
