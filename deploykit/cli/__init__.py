"""The command line: parse, call the API, show the result, choose the exit code. One file for each command."""

from typing import Annotated

import typer

import deploykit
from deploykit.cli import (
    bench,
    build,
    calibrate,
    clean,
    convert,
    doctor,
    exits,
    init,
    inspect,
    listing,
    optimize,
    prune,
    quantize,
    running,
    seal,
    validate,
    verify,
)

app = typer.Typer(
    name="deploykit",
    help="Take a trained model to a deployable artifact, and prove at every step that it is still the same model.",
    epilog="Exit codes: 0 done and proved, 1 not equivalent or unproved, 2 wrong usage, 3 the model can't be read or"
    " converted, 4 a package or a GPU is missing, 5 refused as unsafe.",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"deploykit {deploykit.__version__}")
        raise typer.Exit


app.command("convert")(convert.command)
app.command("optimize")(optimize.command)
app.command("calibrate")(calibrate.command)
app.command("quantize")(quantize.command)
app.command("build")(build.command)
app.command("prune")(prune.command)
app.command("validate")(validate.command)
app.command("bench")(bench.command)
app.command("seal")(seal.command)
app.command("verify")(verify.command)
app.command("inspect")(inspect.command)
app.command("doctor")(doctor.command)
app.command("list")(listing.command)
app.command("init")(init.command)
app.command("run")(running.command)
app.command("clean")(clean.command)


def main() -> None:
    """Run the command line; errors become a message and their exit code, a bug its traceback and 70."""
    exits.main(run)


def run(arguments: list[str]) -> int:
    """Run one command and give its exit code; only bugs raise."""
    return exits.run(app, arguments)
