"""``deploykit seal``."""

from pathlib import Path
from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.options import Debug, Json
from deploykit.cli.output import show


def command(
    artifact: Annotated[Path | None, typer.Argument(help="The .onnx file; the latest made here if left out.")] = None,
    source: Annotated[
        Path | None, typer.Option(help="The model that it was made from, to make sure that it is still the same file.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Prove an ONNX file once more, and record what was proved: checksums, versions, verdict.

    Writes MODEL.seal.json beside it, for verify. It is a record of checksums, not a signature: it finds what was
    changed, and not who has written it.

    \b
    deploykit seal model.onnx
    deploykit seal model.onnx --source model.pt2
    """
    del debug
    with console.progress() as step:
        made = deploykit.seal(artifact, source=source, step=step)
    show(made, console.show_seal, as_json=as_json)
