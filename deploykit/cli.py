"""The command line: parse, call the API, show the result, choose the exit code."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import deploykit
from deploykit import console, exits
from deploykit.errors import UsageError
from deploykit.options import (
    Atol,
    Baseline,
    Count,
    Custom,
    Debug,
    Factory,
    FactoryArgs,
    GraphInputs,
    GraphOutputs,
    Html,
    Image,
    Inputs,
    Json,
    Junit,
    Key,
    Labels,
    Layout,
    Locate,
    Markdown,
    MaxDrop,
    MaxMemory,
    MinAgreement,
    MinSqnr,
    Python,
    Rtol,
    Samples,
    Seed,
    Static,
    Trust,
    Undecided,
    UpdateBaseline,
)

app = typer.Typer(
    name="deploykit",
    help="Take a trained model to a deployable artifact, and prove at every step that it is still the same model.",
    epilog="Exit codes: 0 done and proved, 1 not equivalent, 2 wrong usage, 3 the model can't be read or converted,"
    " 4 a package is missing, 5 refused as unsafe.",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"deploykit {deploykit.__version__}")
        raise typer.Exit


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="The trained model: of PyTorch, Keras, TensorFlow or TFLite, or .onnx.")
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The .onnx file to write.")] = None,
    inputs: Inputs = None,
    data: Samples = None,
    image: Image = None,
    samples: Count = 32,
    seed: Seed = 0,
    factory: Factory = None,
    factory_args: FactoryArgs = None,
    trust_pickle: Trust = False,
    python: Python = None,
    static: Static = False,
    signature: Key = None,
    custom_objects: Custom = None,
    graph_inputs: GraphInputs = None,
    graph_outputs: GraphOutputs = None,
    layout: Layout = None,
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
            samples=samples,
            seed=seed,
            step=step,
            factory=factory,
            factory_args=factory_args,
            trust_pickle=trust_pickle,
            python=python,
            inputs=inputs or (),
            data=data,
            image=image,
            static=static,
            signature=signature,
            custom_objects=str(custom_objects) if custom_objects else None,
            graph_inputs=_names(graph_inputs),
            graph_outputs=_names(graph_outputs),
            layout=layout,
        )
    _show(made, console.show_conversion, as_json)


@app.command()
def validate(
    artifact: Annotated[Path | None, typer.Argument(help="The .onnx file; the latest made here if left out.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="A source, an .onnx or a golden; the artifact's own golden if left out.")
    ] = None,
    inputs: Inputs = None,
    data: Samples = None,
    image: Image = None,
    samples: Count = 32,
    seed: Seed = 0,
    min_agreement: MinAgreement = None,
    min_sqnr: MinSqnr = None,
    max_drop: MaxDrop = None,
    labels: Labels = None,
    allow_undecided: Undecided = False,
    atol: Atol = None,
    rtol: Rtol = None,
    baseline: Baseline = None,
    update_baseline: UpdateBaseline = False,
    locate: Locate = False,
    max_memory: MaxMemory = "1GB",
    junit: Junit = None,
    markdown: Markdown = None,
    html: Html = None,
    factory: Factory = None,
    factory_args: FactoryArgs = None,
    trust_pickle: Trust = False,
    python: Python = None,
    static: Static = False,
    signature: Key = None,
    custom_objects: Custom = None,
    graph_inputs: GraphInputs = None,
    graph_outputs: GraphOutputs = None,
    layout: Layout = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Prove that an ONNX file still answers as its source does; exit 1 when it does not.

    Without --against the golden beside the file is enough: no framework is needed.

    \b
    deploykit validate
    deploykit validate model.onnx
    deploykit validate model.onnx --against weights.pt --factory net.py:Net --data samples.npz
    deploykit validate model.onnx --against weights.pt --factory net.py:Net --locate
    deploykit validate model.onnx --atol 1e-4 --atol logits=1e-3
    deploykit validate int8.onnx --against model.onnx --data val.npz --labels val.npz:y --max-drop 0.5%
    deploykit validate model.onnx --junit verdict.xml --html verdict.html --baseline last.json
    """
    del debug
    with console.progress() as step:
        verdict = deploykit.validate(
            artifact,
            against,
            samples=samples,
            seed=seed,
            min_agreement=min_agreement,
            min_sqnr=min_sqnr,
            max_drop=_share("--max-drop", max_drop),
            labels=labels,
            allow_undecided=allow_undecided,
            atol=atol or (),
            rtol=rtol or (),
            baseline=baseline,
            update_baseline=update_baseline,
            locate=locate,
            max_memory=max_memory,
            step=step,
            factory=factory,
            factory_args=factory_args,
            trust_pickle=trust_pickle,
            python=python,
            inputs=inputs or (),
            data=data,
            image=image,
            static=static,
            signature=signature,
            custom_objects=str(custom_objects) if custom_objects else None,
            graph_inputs=_names(graph_inputs),
            graph_outputs=_names(graph_outputs),
            layout=layout,
        )
    from deploykit.reporting import publish

    annotations = publish(verdict, {"junit": junit, "markdown": markdown, "html": html}, os.environ)
    _show(verdict, console.show_verdict, as_json)
    typer.echo(annotations, nl=False, err=as_json)
    if not verdict.passed:
        raise typer.Exit(1)


@app.command()
def inspect(
    artifact: Annotated[Path | None, typer.Argument(help="Any model file; the latest made here if left out.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what is in a model file: signature, operators, parameters, precision, lineage, what loads it.

    \b
    deploykit inspect model.onnx
    deploykit inspect model.pt --json
    """
    del debug
    _show(deploykit.inspect(artifact), console.show_inspection, as_json)


@app.command()
def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Show installed frameworks, onnxruntime's providers, and what this CPU means for int8."""
    del debug
    _show(deploykit.doctor(), console.show_examination, as_json)


@app.command("list")
def list_plugins(
    name: Annotated[str | None, typer.Argument(help="One of them, to see its options.")] = None, as_json: Json = False
) -> None:
    """List exporters, backends and metrics, or the options of one."""
    found = deploykit.plugins(name)
    _show({"plugins": found} if as_json else found, console.show_plugins, as_json)


def _share(option: str, text: str | None) -> float | None:
    """Read 0.005 and 0.5%."""
    if text is None:
        return None
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise UsageError(f"{option} {text} is no share", fix=f"{option} 0.005, or {option} 0.5%") from None


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _show(result: Any, show: Callable[[Any], None], as_json: bool) -> None:
    try:
        if as_json:
            console.print_json(result)
        else:
            show(result)
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has gone; typer would end with 1, which here means not equivalent
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the command line; errors become a message and their exit code, a bug its traceback and 70."""
    exits.main(run)


def run(arguments: list[str]) -> int:
    """Run one command and give its exit code; only bugs raise."""
    return exits.run(app, arguments)
