"""``deploykit inspect``."""

from pathlib import Path
from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.options import Debug, Json
from deploykit.cli.output import show


def command(
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
    show(deploykit.inspect(artifact), console.show_inspection, as_json=as_json)
