"""The options of the command line: what several commands take, and what one takes much of."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback behind an error.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME:DTYPE[DIMS]",
        help="An input, as in 'x:float32[batch,3,224,224]'; a word in place of a number is a dynamic axis. Repeatable:"
        " by keyword where it is named as a parameter of forward, else in order. NAME=VALUE gives an argument that is"
        " no tensor.",
    ),
]
Samples = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="SAMPLES",
        help="Samples: .npz, .npy, .csv, .parquet, .safetensors, a folder of arrays or images, or file.py:function;"
        " arrays by name, first axis = samples.",
    ),
]
Image = Annotated[
    str | None,
    typer.Option(metavar="STEPS", help="How images of --data are prepared: 'resize=256,crop=224,scale=255,mean=...'."),
]
Count = Annotated[int, typer.Option("--samples", min=1, help="Use at most so many samples of --data.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the synthesized inputs.")]
Factory = Annotated[
    str | None,
    typer.Option(metavar="PLACE:CALLABLE", help="What makes the module: package.module:callable or file.py:callable."),
]
FactoryArgs = Annotated[str | None, typer.Option(metavar="JSON", help="Its arguments: '{\"num_classes\": 10}'.")]
Trust = Annotated[bool, typer.Option("--trust-pickle", help="Load a pickle, which runs code from the file.")]
Python = Annotated[str | None, typer.Option(metavar="PATH", help="Run the framework in another Python interpreter.")]
Key = Annotated[str | None, typer.Option("--signature", metavar="KEY", help="Signature of a SavedModel or .tflite.")]
Custom = Annotated[
    Path | None,
    typer.Option("--custom-objects", metavar="FILE.py", help="Classes and functions that a Keras file names."),
]
GraphInputs = Annotated[
    str | None, typer.Option("--inputs", metavar="A,B", help="Operations of a frozen GraphDef that are its inputs.")
]
GraphOutputs = Annotated[
    str | None, typer.Option("--outputs", metavar="A,B", help="Operations of a frozen GraphDef that are its outputs.")
]
Layout = Annotated[
    str | None, typer.Option(metavar="nchw", help="Take images channels first, where TensorFlow has them last.")
]
Static = Annotated[bool, typer.Option("--static", help="Fix the batch axis too.")]

Atol = Annotated[
    list[str] | None, typer.Option(metavar="[OUTPUT=]X", help="A fixed tolerance in the place of the noise ratio.")
]
Rtol = Annotated[
    list[str] | None, typer.Option(metavar="[OUTPUT=]X", help="The same in relation to the source's values.")
]
MinAgreement = Annotated[
    float | None,
    typer.Option(min=0, metavar="SHARE", help="Share of the decisions that must stay; int8 is judged so: 0.99."),
]
MinSqnr = Annotated[float | None, typer.Option(metavar="DB", help="Signal to quantization noise that must stay.")]
MaxDrop = Annotated[
    str | None, typer.Option(metavar="SHARE", help="Accuracy that may be lost, with --labels: 0.005 or 0.5%.")
]
Labels = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The right class of each sample: y.npy, data.npz:y, table.csv:y.")
]
Undecided = Annotated[
    bool, typer.Option("--allow-undecided", help="Pass where there are too few samples to tell, and nothing is wrong.")
]
Baseline = Annotated[
    Path | None, typer.Option(metavar="FILE.json", help="The verdict of the last run: what has moved since fails.")
]
UpdateBaseline = Annotated[
    bool, typer.Option("--update-baseline", help="Write this verdict to --baseline, where it passes.")
]
Locate = Annotated[
    bool,
    typer.Option(
        "--locate", help="Say which tensor differs first; done by itself where the proof against --against fails."
    ),
]
MaxMemory = Annotated[
    str, typer.Option("--max-memory", metavar="SIZE", help="What the tensors looked at may take at a time: 500MB.")
]
Junit = Annotated[Path | None, typer.Option(metavar="FILE.xml", help="Write a JUnit report.")]
Markdown = Annotated[
    Path | None, typer.Option(metavar="FILE.md", help="Write it in Markdown; GitHub's step summary gets it anyway.")
]
Html = Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write it as one page with charts.")]
