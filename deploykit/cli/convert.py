"""``deploykit convert``."""

from pathlib import Path
from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.grouping import grouped
from deploykit.cli.options import SAMPLES, Debug, Json, SampleOptions, SourceOptions, loading
from deploykit.cli.output import show


@grouped
def command(
    source: Annotated[
        Path, typer.Argument(help="The trained model: of PyTorch, Keras, TensorFlow or TFLite, or .onnx.")
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The .onnx file to write.")] = None,
    *,
    taken: SampleOptions,
    origin: SourceOptions,
    exporter: Annotated[str, typer.Option(help="auto, dynamo or torchscript.")] = "auto",
    opset: Annotated[
        int | None, typer.Option(min=7, help="ai.onnx opset to write; if nothing is said 20, and 18 for TensorFlow.")
    ] = None,
    for_runtime: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Keep the file loadable in this onnxruntime, as in 1.19.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Convert a trained model to ONNX and prove that it is the same model.

    Writes MODEL.onnx and, beside it, MODEL.golden.npz: the evidence that validate needs. Neither appears unless the
    proof succeeds.

    \b
    deploykit convert model.pt2
    deploykit convert weights.pt --factory net.py:Net --factory-args '{"num_classes": 10}'
    deploykit convert model.pt --trust-pickle --input 'x:float32[batch,3,224,224]'
    deploykit convert bert.pt --factory bert.py:make \\
        --input 'input_ids:int64[batch,seq]' --input 'attention_mask:int64[batch,seq]'
    deploykit convert model.keras
    deploykit convert saved_model/ --signature serving_default --layout nchw
    deploykit convert frozen.pb --inputs image --outputs logits --input keep_prob=1
    """
    del debug
    with console.progress() as step:
        made = deploykit.convert(
            source,
            output,
            exporter=exporter,
            opset=opset,
            for_runtime=for_runtime,
            samples=taken.samples or SAMPLES,
            seed=taken.seed,
            step=step,
            **loading(taken, origin),
        )
    show(made, console.show_conversion, as_json=as_json)
