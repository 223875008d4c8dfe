"""``deploykit init``: the recipe to begin with."""

import json
from dataclasses import dataclass
from pathlib import Path

from deploykit.artifact import Artifact, Format, staging
from deploykit.errors import UsageError
from deploykit.recipes.recipe import NAME, read

_TEXT = """\
# What deploykit run makes, and of what. Paths are from this folder.
source = {source}
{inputs}{data}
[[artifact]]
name  = "small"
steps = ["simplify"]
{int8}"""

_INT8 = """
[[artifact]]
name  = "int8"
steps = ["simplify", {{ int8 = {{ target = "auto" }} }}]
[artifact.require]
min_agreement = 0.99            # of the decisions of the source
# max_latency_ratio = 0.5       # of the latency of the converted source, measured in the same run
# max_size_mb = 12
"""
_FORMATS_OF_WEIGHTS = (Format.STATE_DICT, Format.SAFETENSORS)


@dataclass(frozen=True)
class Started:
    """A recipe that was written."""

    path: Path
    notes: tuple[str, ...]


def init(
    model: str | Path, output: str | Path = NAME, *, data: str | Path | None = None, force: bool = False
) -> Started:
    """Write a recipe for a model.

    Args:
        model: the source.
        output: the file to write.
        data: samples like those in use; with them the recipe makes an artifact in int8 too.
        force: whether it may replace a recipe.

    Raises:
        UsageError: there is a recipe, or no such model.
        ModelError: the model is none.
    """
    source, target = Artifact.open(model), Path(output)
    if target.suffix != ".toml":
        raise UsageError(f"the recipe {target} does not end in .toml", fix=f"-o {target}.toml")
    if target.exists() and not force:
        raise UsageError(f"there is a recipe {target} already", fix="--force writes over it, or name another with -o")
    if data is not None and not Path(str(data)).exists() and ":" not in str(data):
        raise UsageError(f"there are no samples {data}", fix="name a file, a folder or file.py:function")
    notes = tuple(_notes(source, data))
    text = _TEXT.format(
        source=_quoted(source.path, target),
        inputs="" if source.format is Format.ONNX else _INPUTS + _extra(source),
        data=f"data = {{ validation = {_quoted(Path(data), target)} }}\n" if data is not None else _NO_DATA,
        int8=_INT8.format() if data is not None else "".join(f"#{line}\n" for line in _INT8.format().split("\n")[1:-1]),
    )
    with staging(target.parent) as stage:
        (stage.folder / target.name).write_text(text, encoding="utf-8")
        stage.commit(target.name)
    read(target)  # a recipe that can't be followed would be a bug of this one
    return Started(target, notes)


_INPUTS = '# input = ["x:float32[batch,3,224,224]"]    # where the source does not say it itself\n'
_NO_DATA = '# data = { calibration = "calib.npz", validation = "val.npz", labels = "val.npz:y" }\n'


def _extra(source: Artifact) -> str:
    if source.format in _FORMATS_OF_WEIGHTS:
        return '# factory = "net.py:Net"    # what makes the module: the file holds weights alone\n'
    if source.format is Format.TORCH_PICKLE:
        return "# trust_pickle = true    # loading it runs code from the file\n"
    return ""


def _quoted(path: Path, target: Path) -> str:
    """Write a path as the recipe has it: from its own folder where it lies below, else whole."""
    place, folder = path.resolve(), target.resolve().parent
    return json.dumps(str(place.relative_to(folder) if place.is_relative_to(folder) else place), ensure_ascii=False)


def _notes(source: Artifact, data: str | Path | None) -> list[str]:
    found = []
    if source.format in _FORMATS_OF_WEIGHTS:
        found.append(f"{source.path.name} holds weights alone: name what makes the module, as factory = 'net.py:Net'")
    if source.format is Format.TORCH_PICKLE:
        found.append(f"{source.path.name} is a pickle: loading it runs code, which trust_pickle = true allows")
    if data is None:
        found.append("without samples there is no int8: give --data, or name them in the recipe")
    return found
