"""``deploykit init``."""

from pathlib import Path
from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.options import Data, Debug, Json
from deploykit.cli.output import show


def command(
    model: Annotated[Path, typer.Argument(help="The source.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.toml", help="The recipe to write.")] = Path(
        "deploykit.toml"
    ),
    *,
    data: Data = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe that is there.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a recipe for a model, to be changed and run.

    \b
    deploykit init model.pt2
    deploykit init model.pt2 --data val.npz
    deploykit run
    """
    del debug
    made = deploykit.init(model, output, data=data, force=force)
    show(made, console.show_recipe, as_json=as_json)
