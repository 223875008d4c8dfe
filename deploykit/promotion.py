"""Put a model that was proved in its place, with its golden: both or neither; and write it in the journal."""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

from deploykit import workspace
from deploykit.artifact import Staging, sha256
from deploykit.errors import UsageError


def promote(
    stage: Staging, target: Path, written: Iterable[str], golden: str | None, made: tuple[str, Path]
) -> list[Path]:
    """Move a model and its golden from the stage to their place; what only the older model of that name used goes.

    Args:
        stage: where they were made, beside their place.
        target: the model's place.
        written: names of the files of the model in the stage, with that of the target.
        golden: name of the golden in the stage; None where it is in its place already.
        made: the command that made it, and from what.

    Returns:
        The files of the model, the model file first.
    """
    from deploykit.onnx_io import external_files

    # Of what lies beside an older model, only what save names so is its own: other models may share the rest.
    own = [one for one in target.parent.glob("*.data") if one.name.startswith(f"{target.stem}.")]
    before = set(external_files(target)).intersection(own) if own and target.exists() else set()
    names = sorted(written, key=lambda name: name == target.name)
    stage.commit(*([golden] if golden else []), *names)
    beside = [target.parent / name for name in names if name != target.name]
    for stale in before.difference(beside):
        stale.unlink(missing_ok=True)
    step, source = made
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    workspace.write(workspace.Entry(str(target), sha256(target), step, str(source), now))
    return [target, *beside]


def output_path(output: str | Path | None, name: str, source: Path) -> Path:
    """Settle where a model is written.

    Args:
        output: what the user named: a file, or a folder; None for the current one.
        name: of the file, where the user has named none.
        source: what it is made from, which must not be overwritten.

    Raises:
        UsageError: it is no name of an ONNX file, or the source itself.
    """
    target = Path(output) if output else Path(name)
    if target.is_dir():
        target /= name
    if target.suffix != ".onnx":
        raise UsageError(f"the output {target} does not end in .onnx", fix=f"-o {target}.onnx")
    if target.resolve() == source.resolve():
        raise UsageError(f"the output {target} is the source itself", fix="name another file with -o")
    return target
