"""What the benchmark of convert compares: for each model a command of deploykit's and one of its framework's own."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.keras_models import MODELS as KERAS_MODELS
from benchmarks.models import MODELS as TORCH_MODELS
from benchmarks.watched import run

ROOT = Path(__file__).parents[1]
TORCH_OPSET = 20
"""deploykit's own choice where nothing is said."""
TF2ONNX_OPSET = 18
"""The newest that tf2onnx writes."""
DEPLOYKIT = str(Path(sys.executable).with_name("deploykit"))

_TORCH = [sys.executable, "-m", "benchmarks.bare"]
_KERAS = [sys.executable, "-m", "benchmarks.keras_models"]


@dataclass(frozen=True)
class Case:
    """One model, ready to be converted by both sides; ``OUT`` in a command is the file to write."""

    name: str
    weights: int
    """Bytes of them."""
    framework: int
    """Peak bytes of a process that only imports the framework."""
    ours: list[str]
    bare: list[str]
    most_time: float
    """What the ratio of both times may be."""
    most_weights: float | None
    """What our peak may be over the framework's, in weights; None where nothing is asked."""


def torch_case(name: str, folder: Path) -> Case:
    """Prepare a PyTorch model's state_dict, beside the bare ``torch.onnx.export(dynamo=True)`` of it."""
    weights = folder / f"{name}.pt"
    run([*_TORCH, "save", name, str(weights)], ROOT)
    framework = run([*_TORCH, "import", name], ROOT).peak
    model = TORCH_MODELS[name]
    factory = f"{ROOT / 'benchmarks' / 'models.py'}:{model.factory.__name__}"
    inputs = [word for text in model.described for word in ("--input", text)]
    ours = [DEPLOYKIT, "convert", str(weights), "-o", "OUT", "--factory", factory, *inputs]
    ours += ["--opset", str(TORCH_OPSET), "--exporter", "dynamo", "--json"]
    bare = [*_TORCH, "export", name, str(weights), "OUT", str(TORCH_OPSET)]
    return Case(name, weights.stat().st_size, framework, ours, bare, 1.3, 3.0)


def keras_case(name: str, folder: Path) -> Case:
    """Prepare a Keras model's SavedModel, beside ``python -m tf2onnx.convert`` of it."""
    run([*_KERAS, "save", name, str(folder)], ROOT)
    framework = run([*_KERAS, "import"], ROOT).peak
    saved = str(folder / name)
    ours = [DEPLOYKIT, "convert", saved, "-o", "OUT", "--opset", str(TF2ONNX_OPSET), "--json"]
    bare = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", saved, "--output", "OUT"]
    bare += ["--opset", str(TF2ONNX_OPSET)]
    return Case(name, (folder / f"{name}.keras").stat().st_size, framework, ours, bare, 1.2, None)


CASES: dict[str, Callable[[str, Path], Case]] = {
    **dict.fromkeys(TORCH_MODELS, torch_case),
    **dict.fromkeys(KERAS_MODELS, keras_case),
}
