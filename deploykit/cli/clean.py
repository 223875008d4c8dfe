"""``deploykit clean``."""

from pathlib import Path
from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.options import Debug, Json
from deploykit.cli.output import show


def command(
    folder: Annotated[Path, typer.Argument(help="The folder whose steps go.")] = Path(),
    *,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove what the steps of earlier runs have made in .deploykit/; artifacts stay.

    \b
    deploykit clean
    """
    del debug
    show({"freed_bytes": deploykit.clean(folder)}, console.show_freed, as_json=as_json)
