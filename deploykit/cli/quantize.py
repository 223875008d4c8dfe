"""``deploykit quantize``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from deploykit.errors import UsageError

if TYPE_CHECKING:
    from deploykit.passes import Pass

Model = Annotated[Path | None, typer.Argument(help="The .onnx file, in float32; the latest made here if left out.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="The .onnx file to write.")]


@dataclass(frozen=True)
class Halves:
    """Floats of 16 bits."""

    fp16: Annotated[bool, typer.Option("--fp16", help="To float16, where the numbers fit and the proof holds.")] = False
    bf16: Annotated[bool, typer.Option("--bf16", help="To bfloat16, for TensorRT; onnxruntime does not run it.")] = (
        False
    )
    fp16_io: Annotated[
        bool, typer.Option("--fp16-io", help="Inputs and outputs too; without it they stay float32.")
    ] = False


@dataclass(frozen=True)
class Integers:
    """Integers, and how they are found."""

    int8: Annotated[bool, typer.Option("--int8", help="To int8, calibrated with --data.")] = False
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="With --int8: ranges are found at run time, for transformers and LSTMs.")
    ] = False
    weight_only: Annotated[
        int | None, typer.Option(metavar="8|4", help="Weights alone, of large products, in so many bits.")
    ] = None
    block: Annotated[int | None, typer.Option(metavar="N", help="Weights that share a scale, with --weight-only.")] = (
        None
    )
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="auto (reads the CPU), cpu, cpu-avx2, tensorrt or openvino.")
    ] = None
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help="auto, minmax, average, percentile, entropy or mse.")
    ] = None
    effort: Annotated[
        str | None,
        typer.Option(
            metavar="low|normal|high",
            help="low: ranges and scales of the first look. normal: scales of weights searched for, biases corrected,"
            " channels equalized or smoothed where it pays. high: weights rounded by what it does to their layer's"
            " output, too; how many minutes that takes is said after the first layer.",
        ),
    ] = None
    keep: Annotated[list[str] | None, typer.Option(metavar="NODE", help="A node that stays in float. Repeatable.")] = (
        None
    )
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Ranges that were saved, instead of samples.")
    ] = None
    save_calibration: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write the ranges there.")] = None
    synthetic_calibration: Annotated[
        bool, typer.Option("--synthetic-calibration", help="Calibrate with inputs that are made up.")
    ] = False
    time_budget: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="For the search of what has to stay in float.")
    ] = None


@grouped
def command(
    model: Model = None,
    output: Output = None,
    *,
    halves: Halves,
    integers: Integers,
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
    """Let an ONNX file compute in fewer bits, and prove how near it is to its source.

    Writes MODEL.fp16.onnx or MODEL.int8.onnx in the current folder, and its golden. With --fp16 what does not fit, or
    loses too much, stays in float32, and is named. With --int8 the layers that harm most go back to float until the
    budget is kept. Neither file appears unless the proof succeeds.

    \b
    deploykit quantize --int8 --data calib.npz
    deploykit quantize model.onnx --int8 --data images/ --image 'resize=256,crop=224' --min-agreement 98%
    deploykit quantize model.onnx --int8 --data val.npz --labels val.npz:y --max-drop 0.5%
    deploykit quantize bert.onnx --int8 --dynamic
    deploykit quantize bert.onnx --weight-only 4 --block 32
    deploykit quantize model.onnx --fp16 --data val.npz -o half.onnx
    deploykit quantize model.onnx --bf16
    """
    del debug
    chosen = quantizers(halves, integers)
    if len(chosen) != 1:
        raise UsageError(
            "quantize takes one type" + (", and none is named" if not chosen else ", and two are named"),
            fix="--int8, --weight-only 8 or 4, --fp16 or --bf16",
        )
    with console.progress() as step:
        made = deploykit.quantize(
            model,
            output,
            to=chosen[0],
            max_drop=share("--max-drop", max_drop),
            labels=labels,
            keep_slower=keep_slower,
            step=step,
            **bounds(budget),
            **samples_of(taken),
        )
    show(made, console.show_optimization, as_json=as_json)


def quantizers(halves: Halves, integers: Integers | None = None) -> list["Pass"]:
    """Give the passes that were asked for, with their options.

    Raises:
        UsageError: an option says nothing about them.
    """
    from deploykit.passes import PASSES

    if halves.fp16_io and not halves.fp16:
        raise UsageError("--fp16-io is for a model in float16", fix="give --fp16 too")
    found = [PASSES.make("fp16", io=halves.fp16_io)] if halves.fp16 else []
    found += [PASSES.make("bf16")] if halves.bf16 else []
    return [*found, *_in_integers(integers)] if integers is not None else found


def _in_integers(asked: Integers) -> list["Pass"]:
    from deploykit.passes import PASSES

    if asked.dynamic and not asked.int8:
        raise UsageError("--dynamic is a way to int8", fix="--int8 --dynamic")
    names = [*(["dynamic" if asked.dynamic else "int8"] if asked.int8 else [])]
    names += ["weight_only"] if asked.weight_only is not None else []
    given = _given(asked)
    for option in given:
        if not any(option in _options(name) for name in names):
            word = "weight-only" if option == "bits" else option.replace("_", "-")
            what = "--" + " --".join(names) if names else "floats of 16 bits"
            raise UsageError(f"--{word} says nothing about {what}", fix=f"leave --{word} out, or name what it is for")
    return [
        PASSES.make(name, **{key: value for key, value in given.items() if key in _options(name)}) for name in names
    ]


def _options(name: str) -> set[str]:
    from deploykit.passes import PASSES
    from deploykit.plugin import options_of

    return {one.name for one in options_of(PASSES.kind(name))}


def _given(asked: Integers) -> dict[str, Any]:
    """Give the options that were set, as the passes name them."""
    every = {
        "bits": asked.weight_only,
        "block": asked.block,
        "target": asked.target,
        "method": asked.method,
        "effort": asked.effort,
        "keep": tuple(asked.keep) if asked.keep else None,
        "calibration": str(asked.calibration) if asked.calibration else None,
        "save_calibration": str(asked.save_calibration) if asked.save_calibration else None,
        "synthetic_calibration": asked.synthetic_calibration or None,
        "time_budget": asked.time_budget,
    }
    return {name: value for name, value in every.items() if value is not None}
