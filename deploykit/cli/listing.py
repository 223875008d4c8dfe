"""``deploykit list``."""

from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.options import Json
from deploykit.cli.output import show


def command(
    name: Annotated[str | None, typer.Argument(help="One of them, to see its options.")] = None, as_json: Json = False
) -> None:
    """List exporters, backends and metrics, or the options of one."""
    found = deploykit.plugins(name)
    show({"plugins": found} if as_json else found, console.show_plugins, as_json=as_json)
