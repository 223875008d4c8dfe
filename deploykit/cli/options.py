"""The options of the command line: groups that several commands take, and what one takes much of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from deploykit.errors import UsageError

if TYPE_CHECKING:
    from deploykit.backends import Loading
    from deploykit.validation.demand import Bounds

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback behind an error.")]


Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="SAMPLES",
        help="Samples: .npz, .npy, .csv, .parquet, .safetensors, a folder of arrays or images, or"
        " file.py:function; arrays by name, first axis = samples.",
    ),
]
Image = Annotated[
    str | None,
    typer.Option(metavar="STEPS", help="How images of --data are prepared: 'resize=256,crop=224,scale=255,mean=...'."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the synthesized inputs.")]


@dataclass(frozen=True)
class SampleOptions:
    """What goes into the model."""

    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME:DTYPE[DIMS]",
            help="An input, as in 'x:float32[batch,3,224,224]'; a word in place of a number is a dynamic axis."
            " Repeatable: by keyword where it is named as a parameter of forward, else in order. NAME=VALUE gives an"
            " argument that is no tensor.",
        ),
    ] = None
    data: Data = None
    image: Image = None
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=1, help="Use at most so many samples of --data: 32, and 512 for integers."),
    ] = None
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=SIZES",
            help="Sizes at which a dynamic axis is tried: 'batch=1,8,32', or 'x:1x3x224x224,8x3x224x224'. Repeatable.",
        ),
    ] = None
    seed: Seed = 0


@dataclass(frozen=True)
class SourceOptions:
    """How a source is loaded."""

    factory: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE:CALLABLE", help="What makes the module: package.module:callable or file.py:callable."
        ),
    ] = None
    factory_args: Annotated[
        str | None, typer.Option(metavar="JSON", help="Its arguments: '{\"num_classes\": 10}'.")
    ] = None
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Load a pickle, which runs code from the file.")
    ] = False
    python: Annotated[
        str | None, typer.Option(metavar="PATH", help="Run the framework in another Python interpreter.")
    ] = None
    static: Annotated[bool, typer.Option("--static", help="Fix the batch axis too.")] = False
    signature: Annotated[
        str | None, typer.Option("--signature", metavar="KEY", help="Signature of a SavedModel or .tflite.")
    ] = None
    custom_objects: Annotated[
        Path | None,
        typer.Option("--custom-objects", metavar="FILE.py", help="Classes and functions that a Keras file names."),
    ] = None
    graph_inputs: Annotated[
        str | None, typer.Option("--inputs", metavar="A,B", help="Operations of a frozen GraphDef that are its inputs.")
    ] = None
    graph_outputs: Annotated[
        str | None,
        typer.Option("--outputs", metavar="A,B", help="Operations of a frozen GraphDef that are its outputs."),
    ] = None
    layout: Annotated[
        str | None, typer.Option(metavar="nchw", help="Take images channels first, where TensorFlow has them last.")
    ] = None


@dataclass(frozen=True)
class BoundOptions:
    """What an artifact is asked in the place of the usual rules."""

    min_agreement: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Share of the decisions that must stay; int8 is judged so: 0.99 or 99%."),
    ] = None
    min_sqnr: Annotated[
        float | None, typer.Option(metavar="DB", help="Signal to quantization noise that must stay.")
    ] = None
    allow_undecided: Annotated[
        bool,
        typer.Option("--allow-undecided", help="Pass where there are too few samples to tell, and nothing is wrong."),
    ] = False
    atol: Annotated[
        list[str] | None,
        typer.Option(metavar="[OUTPUT=]X", help="A fixed tolerance in the place of the noise ratio."),
    ] = None
    rtol: Annotated[
        list[str] | None, typer.Option(metavar="[OUTPUT=]X", help="The same in relation to the source's values.")
    ] = None


def bounds(asked: BoundOptions) -> "Bounds":
    """Give them as the API takes them."""
    return {
        "min_agreement": share("--min-agreement", asked.min_agreement),
        "min_sqnr": asked.min_sqnr,
        "allow_undecided": asked.allow_undecided,
        "atol": asked.atol or (),
        "rtol": asked.rtol or (),
    }


def share(option: str, text: str | None) -> float | None:
    """Read 0.005 and 0.5%.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise UsageError(f"{option} {text} is no share", fix=f"{option} 0.005, or {option} 0.5%") from None


def loading(taken: SampleOptions, source: SourceOptions) -> "Loading":
    """Give both as the API takes them."""
    return {
        "factory": source.factory,
        "factory_args": source.factory_args,
        "trust_pickle": source.trust_pickle,
        "python": source.python,
        "inputs": taken.inputs or (),
        "shapes": taken.shapes or (),
        "data": taken.data,
        "image": taken.image,
        "static": source.static,
        "signature": source.signature,
        "custom_objects": str(source.custom_objects) if source.custom_objects else None,
        "graph_inputs": names(source.graph_inputs),
        "graph_outputs": names(source.graph_outputs),
        "layout": source.layout,
    }


def names(text: str | None) -> tuple[str, ...]:
    """Read ``a,b``."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


SAMPLES = 32
"""How many of the user's samples are used when nothing else is said."""


class Taken(TypedDict):
    """What goes into an ONNX file, as the API takes it."""

    samples: int | None
    seed: int
    inputs: Sequence[str]
    shapes: Sequence[str]
    data: Path | None
    image: str | None


def samples_of(taken: SampleOptions) -> Taken:
    """Give what goes into an ONNX file as the API takes it."""
    return {
        "samples": taken.samples,
        "seed": taken.seed,
        "inputs": taken.inputs or (),
        "shapes": taken.shapes or (),
        "data": taken.data,
        "image": taken.image,
    }


Locate = Annotated[
    bool,
    typer.Option(
        "--locate", help="Say which tensor differs first; done by itself where the proof against --against fails."
    ),
]
MaxMemory = Annotated[
    str, typer.Option("--max-memory", metavar="SIZE", help="What the tensors looked at may take at a time: 500MB.")
]
MaxDrop = Annotated[
    str | None, typer.Option(metavar="SHARE", help="Accuracy that may be lost, with --labels: 0.005 or 0.5%.")
]
Labels = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The right class of each sample: y.npy, data.npz:y, table.csv:y.")
]
Baseline = Annotated[
    Path | None, typer.Option(metavar="FILE.json", help="The verdict of the last run: what has moved since fails.")
]
UpdateBaseline = Annotated[
    bool, typer.Option("--update-baseline", help="Write this verdict to --baseline, where it passes.")
]
Junit = Annotated[Path | None, typer.Option(metavar="FILE.xml", help="Write a JUnit report.")]
Markdown = Annotated[
    Path | None, typer.Option(metavar="FILE.md", help="Write it in Markdown; GitHub's step summary gets it anyway.")
]
Html = Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write it as one page with charts.")]
