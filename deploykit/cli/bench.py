"""``deploykit bench``."""

from pathlib import Path
from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.options import Data, Debug, Image, Json, Seed
from deploykit.cli.output import show
from deploykit.errors import UsageError


def command(
    artifacts: Annotated[
        list[Path] | None,
        typer.Argument(
            help="The .onnx files; each is compared with the first. The latest made here if left out.",
            metavar="ARTIFACT",
        ),
    ] = None,
    *,
    batch: Annotated[
        str, typer.Option(metavar="SIZES", help="Samples in a call, each size a comparison by itself: 1,8,32.")
    ] = "1",
    threads: Annotated[int, typer.Option(help="Threads that may work on one operator.")] = 1,
    seconds: Annotated[float, typer.Option(help="About how long a comparison may take; 8 rounds are always run.")] = 10,
    data: Data = None,
    image: Image = None,
    shapes: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS=SIZE", help="Size of a dynamic axis, where inputs are made up: 'seq=128'."),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time ONNX files against each other: latency, throughput, memory, and whether a difference can be told.

    They run in turns, and are loaded anew for each round, so that a busy machine slows all of them alike. Each ratio
    has its 95% interval; what is not wholly to one side of 1 is called no difference. Exits 0 whichever is faster.

    \b
    deploykit bench
    deploykit bench model.onnx int8.onnx
    deploykit bench model.onnx int8.onnx --batch 1,8 --threads 4 --seconds 30
    deploykit bench bert.onnx bert.int8.onnx --shapes seq=128 --json
    """
    del debug
    with console.progress() as step:
        made = deploykit.bench(
            artifacts or (),
            batch=_sizes(batch),
            threads=threads,
            seconds=seconds,
            seed=seed,
            step=step,
            data=data,
            image=image,
            shapes=shapes or (),
        )
    show(made, console.show_bench, as_json=as_json)


def _sizes(text: str) -> tuple[int, ...]:
    """Read 1,8,32."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--batch {text} is no list of sizes", fix="--batch 1, or --batch 1,8,32") from None
