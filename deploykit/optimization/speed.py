"""Honest speed: is a result really faster than the model that came in?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deploykit import machine
from deploykit.child import Step
from deploykit.errors import NotEquivalent
from deploykit.optimization.chain import Stage
from deploykit.tensors import Array
from deploykit.timing import Comparison, measure
from deploykit.timing.words import told

_SECONDS = 6.0


def compared(before: Path, after: Path, name: Path, calls: Iterable[Mapping[str, Array]], step: Step) -> Comparison:
    """Time a result, which is going to have that name, against the model that it was made from, on the first call."""
    step("timing it against the model that came in")
    found = measure([before, after], next(iter(calls)), seconds=_SECONDS, step=step)
    first, second = found.rows
    return replace(found, rows=(first, replace(second, artifact=str(name))))


def is_faster(found: Comparison) -> bool:
    """Tell whether the second file is faster with confidence."""
    ratio = found.rows[1].ratio
    return ratio is not None and ratio.faster


def refusal(found: Comparison, stages: Sequence[Stage]) -> NotEquivalent:
    """Say that a result is not faster, and why that may be."""
    return NotEquivalent(
        f"{next(told(found))}; nothing was written",
        fix=["--keep-slower, where its size is what counts", "or leave the model in float"],
        details=[*_reasons(stages), *(f"{stage.applied}: {stage.done}" for stage in stages)],
    )


def _reasons(stages: Sequence[Stage]) -> Iterator[str]:
    if not machine.sums_bytes():
        yield "this CPU has no instructions for sums of products of 8 bits (VNNI, AMX, dot products)"
    layers = next((stage.layers for stage in reversed(stages) if stage.layers), ())
    floats = [layer for layer in layers if layer.fate.startswith("float")]
    if floats:
        yield f"{len(floats)} of {len(layers)} layers are in float: {', '.join(one.name for one in floats[:3])}"
    else:
        yield "all layers are in integers: the model is so small that rounding its tensors costs what that gains"
