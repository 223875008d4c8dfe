"""``deploykit seal``."""

from pathlib import Path
from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.grouping import grouped
from deploykit.cli.options import BoundOptions, Debug, Json, bounds
from deploykit.cli.output import show


@grouped
def command(
    artifact: Annotated[Path | None, typer.Argument(help="The .onnx file; the latest made here if left out.")] = None,
    source: Annotated[
        Path | None, typer.Option(help="The model that it was made from, to make sure that it is still the same file.")
    ] = None,
    *,
    asked: BoundOptions,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Prove an ONNX file once more, and record what was proved: checksums, versions, verdict.

    Writes MODEL.seal.json beside it, for verify, which judges by the same bounds. It is a record of checksums, not a
    signature: it finds what was changed, and not who has written it.

    \b
    deploykit seal model.onnx
    deploykit seal model.onnx --source model.pt2
    deploykit seal int8.onnx --min-agreement 97% --min-sqnr 15
    """
    del debug
    with console.progress() as step:
        made = deploykit.seal(artifact, source=source, step=step, **bounds(asked))
    show(made, console.show_seal, as_json=as_json)
