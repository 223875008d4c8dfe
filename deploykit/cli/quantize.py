"""``deploykit quantize``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.grouping import grouped
from deploykit.cli.options import Debug, Json, SampleOptions, samples_of
from deploykit.cli.output import show
from deploykit.errors import UsageError

if TYPE_CHECKING:
    from deploykit.passes import Pass

Model = Annotated[Path | None, typer.Argument(help="The .onnx file, in float32; the latest made here if left out.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="The .onnx file to write.")]


@dataclass(frozen=True)
class Quantizers:
    """What the numbers become, and how."""

    fp16: Annotated[bool, typer.Option("--fp16", help="To float16, where the numbers fit and the proof holds.")] = False
    bf16: Annotated[bool, typer.Option("--bf16", help="To bfloat16, for TensorRT; onnxruntime does not run it.")] = (
        False
    )
    fp16_io: Annotated[
        bool, typer.Option("--fp16-io", help="Inputs and outputs too; without it they stay float32.")
    ] = False


@grouped
def command(
    model: Model = None,
    output: Output = None,
    *,
    asked: Quantizers,
    taken: SampleOptions,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Let an ONNX file compute in fewer bits, and prove how near it is to its source.

    Writes MODEL.fp16.onnx, half the size, and its golden. How large its numbers get is measured on the samples; what
    does not fit, or loses too much, stays in float32, and is named. Neither file appears unless the proof succeeds.

    \b
    deploykit quantize --fp16
    deploykit quantize model.onnx --fp16 --data val.npz -o half.onnx
    deploykit quantize model.onnx --bf16
    """
    del debug
    passes = quantizers(asked)
    if len(passes) != 1:
        raise UsageError(
            "quantize takes one type" + (", and none is named" if not passes else ", and two are named"),
            fix="--fp16 or --bf16",
        )
    with console.progress() as step:
        made = deploykit.optimize(model, output, passes=passes, step=step, **samples_of(taken))
    show(made, console.show_optimization, as_json=as_json)


def quantizers(asked: Quantizers) -> list["Pass | str"]:
    """Give the passes that were asked for.

    Raises:
        UsageError: inputs and outputs are to become float16, and nothing else is.
    """
    from deploykit.passes.bf16 import Bf16
    from deploykit.passes.fp16 import Fp16

    if asked.fp16_io and not asked.fp16:
        raise UsageError("--fp16-io is for a model in float16", fix="give --fp16 too")
    return [*([Fp16(io=asked.fp16_io)] if asked.fp16 else []), *([Bf16()] if asked.bf16 else [])]
