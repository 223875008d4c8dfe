"""``deploykit verify``."""

from pathlib import Path
from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.options import Debug, Json
from deploykit.cli.output import show


def command(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="SEAL|ARTIFACT",
            help="The .seal.json, or the .onnx file that it lies beside; the latest made here if left out.",
        ),
    ] = None,
    files_only: Annotated[bool, typer.Option("--files-only", help="Compare the files, and run nothing.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Prove that the files of a seal are those that were sealed, and still pass; exit 1 when they do not.

    \b
    deploykit verify
    deploykit verify model.onnx
    deploykit verify model.seal.json --files-only
    """
    del debug
    with console.progress() as step:
        found = deploykit.verify(path, files_only=files_only, step=step)
    show(found, console.show_verification, as_json=as_json)
    if not found.passed:
        raise typer.Exit(1)
