"""How good a calibration is: what its samples did not show, and what the ranges that were chosen leave out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from deploykit.quantization.calibrating import Calibration
from deploykit.quantization.ranges import Choice, choose
from deploykit.quantization.targets import Target

_CALLS = 4
"""Fewer tell nothing of what the last of them still changed."""
_LAST = 0.8
_MANY = 0.1
_MUCH = 0.01
"""Share of a tensor's values outside of its range from which it is worth a look."""


@dataclass(frozen=True)
class Health:
    """What there is to say of a calibration; kept with it as its ``report``."""

    samples: int
    synthetic: bool
    """Whether the samples were made up."""
    tensors: int
    growing: tuple[str, ...]
    """Tensors whose range still grew at the last fifth of the samples."""
    constant: tuple[str, ...]
    """Tensors that never changed."""
    constant_channels: Mapping[str, int]
    """So many channels of a tensor never changed where they were looked at; those with none are left out."""
    saturation: Mapping[str, float]
    """Share of a tensor's values outside of its range, which are clipped; those with none are left out."""

    @classmethod
    def of(cls, found: Calibration, choices: Mapping[str, Choice]) -> Self:
        """Look at a calibration, and at the ranges that were chosen from it."""
        counts = found.counts.items()
        constant = tuple(name for name, one in counts if one.lowest == one.highest)
        channels = {name: one.constant for name, one in found.channels.items() if name not in constant}
        outside = {name: one.outside for name, one in choices.items() if one.outside}
        return cls(
            found.samples,
            found.synthetic,
            len(found.counts),
            tuple(name for name, one in counts if one.calls >= _CALLS and one.grew_at > _LAST * one.calls),
            constant,
            {name: count for name, count in channels.items() if count},
            dict(sorted(outside.items(), key=lambda one: -one[1])),
        )

    def said(self) -> Iterator[str]:
        """Say what the user should know of it."""
        if self.synthetic:
            yield f"calibrated with {self.samples} samples that were made up: real ones may be quite different"
        if len(self.growing) > _MANY * self.tensors:
            yield (
                f"the ranges of {len(self.growing)} of {self.tensors} tensors were still growing at the last samples"
                f" ({', '.join(self.growing[:3])}): more samples may help"
            )
        if self.constant:
            yield f"{len(self.constant)} of {self.tensors} tensors never change: {', '.join(self.constant[:3])}"
        if self.constant_channels:
            worst = max(self.constant_channels, key=lambda name: self.constant_channels[name])
            count = sum(self.constant_channels.values())
            which = f"'{worst}'" if len(self.constant_channels) == 1 else f"{len(self.constant_channels)} tensors"
            most = "" if len(self.constant_channels) == 1 else f", most in '{worst}'"
            yield f"{count} channel{'s' if count > 1 else ''} of {which} never change on these samples{most}"
        yield from self._saturated()

    def _saturated(self) -> Iterator[str]:
        if not self.saturation:
            return
        worst, share = next(iter(self.saturation.items()))
        much = sum(one > _MUCH for one in self.saturation.values())
        more = f"; {much} tensors have more than {_MUCH:.0%}" if much > 1 else ""
        yield (
            f"clipped at the ends of their ranges: values of {len(self.saturation)} of {self.tensors} tensors, at most"
            f" {100 * share:.2g}% of them ('{worst}'){more}"
        )


def chosen(found: Calibration, target: Target, method: str = "auto") -> dict[str, Choice]:
    """Choose the range of each tensor of a calibration, as a target needs it."""
    return {
        name: choose(counts, levels=target.activation_levels, symmetric=target.symmetric, method=method)
        for name, counts in found.counts.items()
    }
