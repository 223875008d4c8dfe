"""``deploykit doctor``."""

import deploykit
from deploykit import console
from deploykit.cli.options import Debug, Json
from deploykit.cli.output import show


def command(as_json: Json = False, debug: Debug = False) -> None:
    """Show installed frameworks, onnxruntime's providers, and what this CPU means for int8."""
    del debug
    show(deploykit.doctor(), console.show_examination, as_json=as_json)
