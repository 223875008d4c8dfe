"""``deploykit quantize``: fewer bits, within the budget that the user sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from deploykit.backends import Loading
from deploykit.child import Step, silent
from deploykit.optimization import Optimization, optimize
from deploykit.passes import PASSES, Pass
from deploykit.validation import Demand
from deploykit.validation.demand import Bounds
from deploykit.validation.evidence import SAMPLES

CALIBRATION_SAMPLES = 512
"""How many of the user's samples integers are calibrated and judged with when nothing else is said."""


def quantize(  # noqa: PLR0913 - the options of the command
    model: str | Path | None = None,
    output: str | Path | None = None,
    *,
    to: Pass | str = "int8",
    min_agreement: float | None = None,
    min_sqnr: float | None = None,
    max_drop: float | None = None,
    labels: str | Path | None = None,
    allow_undecided: bool = False,
    atol: Sequence[str | float] = (),
    rtol: Sequence[str | float] = (),
    keep_slower: bool = False,
    samples: int | None = None,
    seed: int = 0,
    step: Step = silent,
    **loading: Unpack[Loading],
) -> Optimization:
    """Let an ONNX file compute in fewer bits, and prove that it keeps its budget.

    Args:
        model: an ONNX file in float32; the latest made in this folder where it is not given.
        output: the file to write; the model's name with what was done, in the current folder, where it is not given.
        to: ``fp16``, ``bf16``, ``int8``, ``dynamic`` or ``weight_only``, or such a pass with its options.
        min_agreement: share of the decisions that integers must keep.
        min_sqnr: signal to quantization noise in dB that the outputs must keep.
        max_drop: accuracy that may be lost, as a share of the samples; needs labels.
        labels: the right class of each sample: ``y.npy``, ``data.npz:y``, ``table.csv:y``.
        allow_undecided: whether it passes where there are too few samples to tell.
        atol: a fixed tolerance: ``1e-3`` for all outputs, ``"logits=1e-3"`` for one.
        rtol: the same in relation to the source's values; both add up.
        keep_slower: whether a result stays that is not faster on this machine.
        samples: at most so many of the user's samples; 512 for integers, else 32.
        seed: of synthesized inputs.
        step: takes a sentence about what goes on.
        loading: ``data`` to calibrate and to judge with.

    Raises:
        NotEquivalent: the budget can't be kept; nothing is written.
        DeploykitError: the model can't be read, or not be quantized.
    """
    chosen = PASSES.parse(to) if isinstance(to, str) else to
    bounds: Bounds = {"min_agreement": min_agreement, "min_sqnr": min_sqnr, "allow_undecided": allow_undecided}
    bounds |= {"atol": atol, "rtol": rtol}
    return optimize(
        model,
        output,
        passes=["simplify", chosen] if chosen.lossy else [chosen],
        demand=Demand.of(bounds, max_drop, labels),
        keep_slower=keep_slower,
        samples=samples or (CALIBRATION_SAMPLES if chosen.lossy else SAMPLES),
        seed=seed,
        step=step,
        **loading,
    )
