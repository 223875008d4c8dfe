"""``deploykit run``."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import deploykit
from deploykit import console
from deploykit.cli.grouping import grouped
from deploykit.cli.options import (
    BoundOptions,
    Debug,
    Json,
    Labels,
    MaxDrop,
    SampleOptions,
    SourceOptions,
    loading,
    names,
    share,
)
from deploykit.cli.output import show
from deploykit.cli.quantize import Halves, Integers, quantizers
from deploykit.errors import NotEquivalent, UsageError

if TYPE_CHECKING:
    from deploykit.recipes import Recipe, Run, Search
    from deploykit.recipes.recipe import Require

NAME = "deploykit.toml"


@grouped
def command(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="A recipe (.toml), or a model; deploykit.toml of this folder if left out."),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="Where the artifacts go; the folder of the recipe if left out."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write what was made, and how, on one page.")
    ] = None,
    search: Annotated[
        bool,
        typer.Option("--search", help="Try the passes that make sense; write the fastest as SOURCE.best.onnx."),
    ] = False,
    executor: Annotated[
        str | None,
        typer.Option(metavar="dask:ADDRESS", help="Have the steps done by the workers of a dask scheduler."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the steps, and which of them were done; run nothing.")
    ] = False,
    halves: Halves,
    integers: Integers,
    taken: SampleOptions,
    source: SourceOptions,
    budget: BoundOptions,
    max_drop: MaxDrop = None,
    labels: Labels = None,
    keep_slower: Annotated[
        bool, typer.Option("--keep-slower", help="Keep it though it is not faster on this machine.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take a source to proved artifacts, by a recipe; what was done before is not done again.

    Every step is proved against the original source. Where one fails, its artifact stops there, and the others go on.
    Exits 1 where an artifact was not made, or misses what the recipe requires of it. Steps are kept in .deploykit/; a
    run that was killed goes on where it stopped. deploykit init writes a recipe.

    \b
    deploykit run
    deploykit run deploykit.toml --report report.html
    deploykit run --dry-run
    deploykit run model.pt2 --int8 --data val.npz --report report.html
    deploykit run model.pt2 --search --data val.npz --labels val.npz:y --max-drop 0.5% --time-budget 1800
    deploykit run --executor dask:tcp://scheduler:8786
    """
    del debug
    given, drop = (halves, integers, taken, source, budget), share("--max-drop", max_drop)
    if search and quantizers(halves, replace(integers, target=None, time_budget=None)):
        raise UsageError("--search tries what there is, and a pass is named too", fix="leave one of them out")
    if recipe is None or recipe.suffix == ".toml":
        if (not search and given != _USUAL) or max_drop or labels or keep_slower:
            raise UsageError(
                "a recipe says itself what is made of which source, and options would say it twice",
                fix="write them in the recipe, or name a model: deploykit run model.pt --int8 --data val.npz",
            )
        asked: Path | Recipe = recipe or Path(NAME)
    else:
        asked = _of_model(recipe, given, drop, labels, keep_slower=keep_slower, searched=search)
    if dry_run:
        show(deploykit.plan(asked), console.show_plan, as_json=as_json)
        return
    with console.progress() as step:
        made = deploykit.run(
            asked, output=output, report=report, search=_search(given, drop) if search else None, executor=executor,
            step=step,
        )  # fmt: skip
    _summarize(made)
    show(made, console.show_run, as_json=as_json)
    if not made.passed:
        raise typer.Exit(NotEquivalent.exit_code)


def _summarize(made: "Run") -> None:
    """Add a table to the summary of the step, where GitHub Actions runs this."""
    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if place:
        from deploykit.recipes.summary import markdown
        from deploykit.reporting import append

        append(markdown(made), Path(place))


Given = tuple[Halves, Integers, SampleOptions, SourceOptions, BoundOptions]
_USUAL: Given = (Halves(), Integers(), SampleOptions(), SourceOptions(), BoundOptions())


def _of_model(
    model: Path, given: Given, drop: float | None, labels: Path | None, *, keep_slower: bool, searched: bool
) -> "Recipe":
    """Give the recipe that the options stand for."""
    from deploykit.passes import PASSES
    from deploykit.recipes.recipe import Recipe, Samples, Wanted

    halves, integers, taken, source, _ = given
    steps = (
        PASSES.make("simplify"),
        *quantizers(halves, replace(integers, target=None, time_budget=None) if searched else integers),
    )
    require = _required(given, drop)
    wanted = Wanted(steps[-1].suffix, steps, require, keep_slower)
    data = Samples(
        validation=_text(taken.data), labels=_text(labels), image=taken.image, samples=taken.samples,
    )  # fmt: skip
    asked = {name: value for name, value in loading(taken, source).items() if name in _SAME and value}
    return Recipe(
        str(model), (wanted,), data, input=tuple(taken.inputs or ()), shapes=tuple(taken.shapes or ()),
        inputs=names(source.graph_inputs), outputs=names(source.graph_outputs), seed=taken.seed,
        **asked,  # type: ignore[arg-type]
    )  # fmt: skip


def _required(given: Given, drop: float | None) -> "Require":
    from deploykit.recipes.recipe import Require

    budget = given[-1]
    if budget.atol or budget.rtol:
        raise UsageError("--atol and --rtol are not for a chain of steps", fix="deploykit validate takes them")
    return Require(
        min_agreement=share("--min-agreement", budget.min_agreement),
        min_sqnr=budget.min_sqnr,
        max_drop=drop,
        allow_undecided=budget.allow_undecided,
    )


def _search(given: Given, drop: float | None) -> "Search":
    from deploykit.recipes.searching import SECONDS, Search

    integers = given[1]
    return Search(integers.target or "auto", integers.time_budget or SECONDS, _required(given, drop))


_SAME = ("factory", "factory_args", "trust_pickle", "python", "static", "signature", "custom_objects", "layout")
"""What the API and a recipe call the same."""


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None
