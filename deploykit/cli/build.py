"""``deploykit build``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.grouping import grouped
from deploykit.cli.options import BoundOptions, Data, Debug, Image, Json, Labels, MaxDrop, Seed, bounds, share
from deploykit.cli.output import show
from deploykit.errors import UsageError

if TYPE_CHECKING:
    from deploykit.engines.options import Options
    from deploykit.passes import Pass

Model = Annotated[Path | None, typer.Argument(help="The .onnx file; the latest made here if left out.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="The .engine file to write.")]


@dataclass(frozen=True)
class Precisions:
    """What the engine computes in, where the file is in float32."""

    fp16: Annotated[bool, typer.Option("--fp16", help="In float16, as quantize --fp16 makes it.")] = False
    bf16: Annotated[bool, typer.Option("--bf16", help="In bfloat16.")] = False
    int8: Annotated[bool, typer.Option("--int8", help="In int8 as TensorRT has it, calibrated with --data.")] = False
    synthetic_calibration: Annotated[
        bool, typer.Option("--synthetic-calibration", help="Calibrate with inputs that are made up.")
    ] = False


@dataclass(frozen=True)
class Builder:
    """How the engine is built."""

    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="Build a TensorRT engine; there is no other kind yet.")
    ] = True
    backend: Annotated[
        str, typer.Option(metavar="NAME", help="tensorrt, tensorrt-rtx, or auto: the one that is installed.")
    ] = "auto"
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:SHAPES",
            help="The smallest, usual and largest shape of an input: 'x:1x3x224x224,8x3x224x224,32x3x224x224'."
            " Repeatable. Derived from the signature and the golden if left out.",
        ),
    ] = None
    targets: Annotated[
        str | None,
        typer.Option("--for", metavar="TARGETS", help="Devices that it shall run on: sm86,sm89,sm120 (RTX)."),
    ] = None
    workspace: Annotated[str | None, typer.Option(metavar="SIZE", help="What a layer may take for its work: 2GB.")] = (
        None
    )
    level: Annotated[
        int | None, typer.Option(min=0, max=5, help="How long full TensorRT looks for better kernels.")
    ] = None
    timing_cache: Annotated[
        Path | None, typer.Option("--timing-cache", metavar="FILE", help="Keeps what was timed, for the next build.")
    ] = None
    sparse: Annotated[bool, typer.Option("--sparse", help="Use kernels for weights with two zeros in four.")] = False
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Run on all devices from Ampere on.")
    ] = False
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Let later versions of TensorRT load it.")
    ] = False


AllowUnproved = Annotated[
    bool, typer.Option("--allow-unproved", help="Exit 0 though there was no device to run the engine on.")
]


@grouped
def command(
    model: Model = None,
    output: Output = None,
    *,
    precisions: Precisions,
    builder: Builder,
    data: Data = None,
    image: Image = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Use at most so many of --data.")] = None,
    seed: Seed = 0,
    budget: BoundOptions,
    max_drop: MaxDrop = None,
    labels: Labels = None,
    allow_unproved: AllowUnproved = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Build a TensorRT engine, and prove it where a GPU is; without one it exits 1, for nothing was proved.

    Exit 4: --backend tensorrt, and then validate and bench of an engine, need a GPU, and there is none.

    Writes MODEL.engine in the current folder, and beside it MODEL.engine.json, which says what the engine is and what
    its layers compute in, and its golden, so that deploykit validate MODEL.engine can prove it where a GPU is. What
    TensorRT refuses is listed before anything is built, all at once. With --fp16, --bf16 and --int8 the ONNX file in
    that precision is made and proved first, and stays as MODEL.engine.onnx. A model without a golden is its own source:
    its golden is recorded with --data, or else with inputs that are made up.

    \b
    deploykit build --for sm86,sm89,sm120
    deploykit build model.onnx --fp16 --for sm89 --shape 'x:1x3x224x224,8x3x224x224,32x3x224x224'
    deploykit build model.onnx --int8 --data calib.npz --allow-unproved
    deploykit build model.onnx --backend tensorrt --timing-cache timing.cache --level 5
    """
    del debug
    with console.progress() as step:
        made = deploykit.build(
            model,
            output,
            to=_precision(precisions),
            options=_options(builder),
            max_drop=share("--max-drop", max_drop),
            labels=labels,
            samples=samples,
            seed=seed,
            data=data,
            image=image,
            step=step,
            **bounds(budget),
        )
    show(made, console.show_engine, as_json=as_json)
    if not (made.passed or allow_unproved):
        raise typer.Exit(1)


def _precision(asked: Precisions) -> "Pass | str | None":
    chosen = [name for name in ("fp16", "bf16", "int8") if getattr(asked, name)]
    if len(chosen) > 1:
        raise UsageError(f"an engine has one precision, and --{' and --'.join(chosen)} are named", fix="name one")
    if asked.synthetic_calibration and chosen != ["int8"]:
        raise UsageError("--synthetic-calibration is for --int8", fix="leave it out")
    if chosen != ["int8"]:
        return chosen[0] if chosen else None
    from deploykit.passes import PASSES

    return PASSES.make("int8", target="tensorrt", synthetic_calibration=asked.synthetic_calibration)


def _options(asked: Builder) -> "Options":
    from deploykit.engines.options import TARGETS, Options, targets_of

    if asked.targets is not None and not targets_of(asked.targets):
        raise UsageError("--for names no device", fix=f"some of {', '.join(TARGETS)}, or leave it out")
    return Options(
        asked.backend,
        asked.shape or (),
        asked.workspace,
        asked.level,
        targets_of(asked.targets),
        asked.timing_cache,
        asked.sparse,
        asked.hardware_compatible,
        asked.version_compatible,
    )
