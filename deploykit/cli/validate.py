"""``deploykit validate``."""

import os
from pathlib import Path
from typing import Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.grouping import grouped
from deploykit.cli.options import (
    SAMPLES,
    Baseline,
    BoundOptions,
    Debug,
    Html,
    Json,
    Junit,
    Labels,
    Locate,
    Markdown,
    MaxDrop,
    MaxMemory,
    SampleOptions,
    SourceOptions,
    UpdateBaseline,
    bounds,
    loading,
    share,
)
from deploykit.cli.output import show


@grouped
def command(
    artifact: Annotated[Path | None, typer.Argument(help="The .onnx file; the latest made here if left out.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="A source, an .onnx or a golden; the artifact's own golden if left out.")
    ] = None,
    *,
    taken: SampleOptions,
    asked: BoundOptions,
    max_drop: MaxDrop = None,
    labels: Labels = None,
    locate: Locate = False,
    max_memory: MaxMemory = "1GB",
    baseline: Baseline = None,
    update_baseline: UpdateBaseline = False,
    junit: Junit = None,
    markdown: Markdown = None,
    html: Html = None,
    origin: SourceOptions,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Prove that an ONNX file still answers as its source does; exit 1 when it does not.

    Without --against the golden beside the file is enough: no framework is needed.

    \b
    deploykit validate
    deploykit validate model.onnx
    deploykit validate model.onnx --against weights.pt --factory net.py:Net --data samples.npz
    deploykit validate model.onnx --against weights.pt --factory net.py:Net --locate
    deploykit validate model.onnx --atol 1e-4 --atol logits=1e-3
    deploykit validate int8.onnx --against model.onnx --data val.npz --labels val.npz:y --max-drop 0.5%
    deploykit validate model.onnx --junit verdict.xml --html verdict.html --baseline last.json
    """
    del debug
    from deploykit.reporting import check_places, publish

    reports = {"junit": junit, "markdown": markdown, "html": html}
    check_places(reports | ({"baseline": baseline} if update_baseline else {}), (artifact, against, taken.data, labels))
    with console.progress() as step:
        verdict = deploykit.validate(
            artifact,
            against,
            samples=taken.samples or SAMPLES,
            seed=taken.seed,
            max_drop=share("--max-drop", max_drop),
            labels=labels,
            locate=locate,
            max_memory=max_memory,
            baseline=baseline,
            update_baseline=update_baseline,
            step=step,
            **bounds(asked),
            **loading(taken, origin),
        )
    annotations = publish(verdict, reports, os.environ)
    show(verdict, console.show_verdict, as_json=as_json)
    typer.echo(annotations, nl=False, err=as_json)
    if not verdict.passed:
        raise typer.Exit(1)
