"""``deploykit calibrate``."""

from pathlib import Path
from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.options import Data, Debug, Image, Json
from deploykit.cli.output import show
from deploykit.errors import UsageError


def command(
    files: Annotated[
        list[Path] | None, typer.Argument(help="The .onnx file that is to be quantized; with --merge, files of ranges.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The .json file to write.")] = None,
    *,
    merge: Annotated[bool, typer.Option("--merge", help="Make one file of ranges of several.")] = False,
    data: Data = None,
    image: Image = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="Use at most so many samples of --data; 512 if left out.")
    ] = None,
    target: Annotated[str, typer.Option(help="auto, cpu, cpu-avx2, tensorrt or openvino.")] = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the ranges of a model's values on samples, for quantize --int8 --calibration.

    Large data can be calibrated in parts, on many machines: the files are counts, which add up to what one run over
    all of the data would have found.

    \b
    deploykit calibrate model.onnx --data shard0.npz -o shard0.json
    deploykit calibrate --merge shard0.json shard1.json -o all.json
    deploykit quantize model.onnx --int8 --calibration all.json --data val.npz
    """
    del debug
    given = files or []
    with console.progress() as step:
        if merge:
            made = deploykit.calibrate(None, output, merge=_several(given), step=step)
        else:
            model = _one(given)
            made = deploykit.calibrate(model, output, target=target, samples=samples, data=data, image=image, step=step)
    show(made, console.show_calibration, as_json=as_json)


def _one(given: list[Path]) -> Path | None:
    if len(given) > 1:
        raise UsageError(
            f"one model is calibrated, and {len(given)} files are named", fix="--merge, for files of ranges"
        )
    return given[0] if given else None


def _several(given: list[Path]) -> list[Path]:
    if len(given) < 2:  # noqa: PLR2004
        raise UsageError("--merge makes one file of several", fix="deploykit calibrate --merge a.json b.json")
    return given
