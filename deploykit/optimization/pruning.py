"""``deploykit prune``: fewer channels, within the budget that the user sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from deploykit.backends import Loading
from deploykit.child import Step, silent
from deploykit.errors import UsageError
from deploykit.optimization import Optimization, optimize
from deploykit.passes.prune import Prune
from deploykit.validation import Demand
from deploykit.validation.demand import Bounds

SAMPLES = 1024
"""How many of the user's samples are fitted to and judged by when nothing else is said."""


def prune(  # noqa: PLR0913 - the options of the command
    model: str | Path | None = None,
    output: str | Path | None = None,
    *,
    pattern: str = "channel",
    amount: float | None = None,
    target_macs: float | None = None,
    target_latency: float | None = None,
    uniform: bool = False,
    importance: str = "reconstruction",
    refit: bool = True,
    mask: str | Path | None = None,
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
    """Take channels out of an ONNX file, fit what is left, and prove that it keeps its budget.

    With a bound and no goal, as much goes as the bound allows; with neither, 30% of the channels.

    Args:
        model: an ONNX file in float32; the latest made in this folder where it is not given.
        output: the file to write; ``MODEL.pruned.onnx`` in the current folder where it is not given.
        pattern: ``channel``; ``2:4``, which sparse tensor cores make use of; or ``unstructured``, any weights.
        amount: share of the channels, or of the weights, that go; channels where they harm least, so that as many
            multiplications are left as without that share of each layer.
        target_macs: share of the multiplications that may stay, instead.
        target_latency: share of the latency that may stay, measured on this machine, instead.
        uniform: the same share of every layer, whatever it harms.
        importance: which channels go: ``reconstruction``, ``wanda`` or ``magnitude``; see ``deploykit.pruning``.
        refit: whether what is left is fitted to the values that the source has on the samples.
        mask: an .npz to write which channels stay into, by parameter, for ``deploykit.cut_module``.
        min_agreement: share of the decisions that must stay.
        min_sqnr: signal to noise in dB that the outputs must keep.
        max_drop: accuracy that may be lost, as a share of the samples; needs labels.
        labels: the right class of each sample: ``y.npy``, ``data.npz:y``, ``table.csv:y``.
        allow_undecided: whether it passes where there are too few samples to tell.
        atol: a fixed tolerance: ``1e-3`` for all outputs, ``"logits=1e-3"`` for one.
        rtol: the same in relation to the source's values; both add up.
        keep_slower: whether a result stays that is not faster on this machine.
        samples: at most so many of the user's samples; 1024 where nothing is said. What is left is fitted to one half
            of them, and judged by the other.
        seed: of synthesized inputs.
        step: takes a sentence about what goes on.
        loading: ``data`` to look at, to fit to and to judge with.

    Raises:
        NotEquivalent: the budget can't be kept, or the result is not faster; nothing is written.
        DeploykitError: the model can't be read, or nothing of it can go.
    """
    goals = {"amount": amount, "target_macs": target_macs, "target_latency": target_latency}
    named = {name: goal for name, goal in goals.items() if goal is not None}
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} are two goals", fix="name one of them")
    bounded = pattern == "channel" and any(bound is not None for bound in (min_agreement, min_sqnr, max_drop))
    largest = bounded and not named
    chosen = Prune(
        pattern, **named, largest=largest, uniform=uniform, importance=importance, refit=refit, mask=str(mask or "")
    )
    bounds: Bounds = {"min_agreement": min_agreement, "min_sqnr": min_sqnr, "allow_undecided": allow_undecided}
    return optimize(
        model,
        output,
        passes=["simplify", chosen],
        demand=Demand.of(bounds | {"atol": atol, "rtol": rtol}, max_drop, labels),
        keep_slower=keep_slower,
        samples=samples or SAMPLES,
        seed=seed,
        step=step,
        **loading,
    )
