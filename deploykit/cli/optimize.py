"""``deploykit optimize``."""

from pathlib import Path
from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.grouping import grouped
from deploykit.cli.options import Debug, Json, SampleOptions, samples_of
from deploykit.cli.output import show
from deploykit.cli.quantize import Halves, quantizers

Model = Annotated[Path | None, typer.Argument(help="The .onnx file; the latest made here if left out.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="The .onnx file to write.")]
Without = Annotated[
    list[str] | None, typer.Option(metavar="REWRITE", help="A rewrite to leave out, as in 'scales'. Repeatable.")
]


@grouped
def command(
    model: Model = None,
    output: Output = None,
    without: Without = None,
    *,
    fp16: Annotated[bool, typer.Option("--fp16", help="Compute in float16 too, as quantize --fp16 does.")] = False,
    fp16_io: Annotated[bool, typer.Option("--fp16-io", help="Take and give float16 too.")] = False,
    taken: SampleOptions,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make an ONNX file smaller and faster, and prove that it is still the same model.

    Writes MODEL.simplified.onnx in the current folder, and its golden. It is held to the answers of the source that the
    model was converted from; neither file appears unless the proof succeeds.

    \b
    deploykit optimize
    deploykit optimize model.onnx -o small.onnx
    deploykit optimize model.onnx --fp16
    deploykit optimize model.onnx --without scales
    """
    from deploykit.passes.simplify import Simplify

    del debug
    halves = quantizers(Halves(fp16=fp16, fp16_io=fp16_io))
    chain = [Simplify(tuple(without or ())), *halves]
    with console.progress() as step:
        made = deploykit.optimize(model, output, passes=chain, step=step, **samples_of(taken))
    show(made, console.show_optimization, as_json=as_json)
