"""``deploykit prune``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.grouping import grouped
from deploykit.cli.options import (
    BoundOptions,
    Debug,
    Json,
    Labels,
    MaxDrop,
    SampleOptions,
    bounds,
    samples_of,
    share,
)
from deploykit.cli.output import show

Model = Annotated[Path | None, typer.Argument(help="The .onnx file, in float32; the latest made here if left out.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="The .onnx file to write.")]


@dataclass(frozen=True)
class Goals:
    """How much goes, and what."""

    pattern: Annotated[
        str, typer.Option(metavar="NAME", help="channel; 2:4, for sparse tensor cores; or unstructured.")
    ] = "channel"
    amount: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Channels, or weights, that go: 0.3 or 30%, which is usual.")
    ] = None
    target_macs: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Multiplications that may stay, instead: 0.6.")
    ] = None
    target_latency: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Latency that may stay, measured here, instead: 0.7.")
    ] = None
    uniform: Annotated[bool, typer.Option("--uniform", help="The same share of every layer, whatever it harms.")] = (
        False
    )
    importance: Annotated[
        str, typer.Option(metavar="NAME", help="What goes first: reconstruction, wanda or magnitude.")
    ] = "reconstruction"
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Write which channels stay, by parameter, to train on.")
    ] = None
    no_refit: Annotated[bool, typer.Option("--no-refit", help="Leave the other weights as they are.")] = False


@grouped
def command(
    model: Model = None,
    output: Output = None,
    *,
    goals: Goals,
    taken: SampleOptions,
    budget: BoundOptions,
    max_drop: MaxDrop = None,
    labels: Labels = None,
    keep_slower: Annotated[
        bool, typer.Option("--keep-slower", help="Write it though it is not faster on this machine.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take out of an ONNX file the channels that matter least, and prove how near it is to its source.

    Writes MODEL.pruned.onnx in the current folder, and its golden: a smaller dense graph with the same inputs and
    outputs. Channels go with all that depends on them; what is left is fitted to the values that the source has on
    --data, without training. With a bound and no goal, as much goes as the bound allows. Neither file appears unless
    the proof succeeds.

    \b
    deploykit prune --data calib.npz
    deploykit prune model.onnx --data calib.npz --target-macs 0.6 --min-agreement 90%
    deploykit prune model.onnx --data val.npz --labels val.npz:y --max-drop 1%
    deploykit prune model.onnx --data calib.npz --target-latency 0.7
    deploykit prune model.onnx --data calib.npz --pattern 2:4
    """
    del debug
    with console.progress() as step:
        made = deploykit.prune(
            model,
            output,
            pattern=goals.pattern,
            amount=share("--amount", goals.amount),
            target_macs=share("--target-macs", goals.target_macs),
            target_latency=share("--target-latency", goals.target_latency),
            uniform=goals.uniform,
            importance=goals.importance,
            mask=goals.mask,
            refit=not goals.no_refit,
            max_drop=share("--max-drop", max_drop),
            labels=labels,
            keep_slower=keep_slower,
            step=step,
            **bounds(budget),
            **samples_of(taken),
        )
    show(made, console.show_pruning, as_json=as_json)
