"""The worker of TensorRT's process: builds an engine, or loads one and runs it."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.child.tensorrt.building import build
from deploykit.errors import DeploykitError, ModelError
from deploykit.tensors import write_npz


class Worker:
    """Takes the orders of the parent."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Take what steps are said to."""
        self._say = say
        self._engine: Any = None

    def build(self, module: str, onnx: str, target: str, options: dict[str, Any]) -> dict[str, Any]:
        """Build an engine; see ``building.build``."""
        return build(_module(module), onnx, target, options, self._say)

    def load(self, module: str, path: str) -> dict[str, Any]:
        """Load an engine on the device that is here."""
        from deploykit.child.tensorrt.running import Engine

        trt = _module(module)
        self._engine = Engine(trt, path)
        return {"version": trt.__version__, "inputs": self._engine.inputs, "outputs": self._engine.outputs}

    def layers(self) -> str:
        """Give what the inspector says of the engine that is loaded."""
        text: str = self._engine.layers()
        return text

    def run(self, cases: Sequence[tuple[str, str]], mode: str) -> list[list[str] | None]:
        """Run calls from files to files; give for each why it failed, or None."""
        if mode != "source":
            raise ModelError("an engine has no float64", fix="compare with the model that it was built from")
        return [self._ran(given, found) for given, found in cases]

    def _ran(self, given: str, found: str) -> list[str] | None:
        with np.load(given, allow_pickle=False) as file:
            case = {name: file[name] for name in file.files}
        try:
            write_npz(Path(found), self._engine.run(case))
        except DeploykitError as error:
            return [error.message, *error.details]
        return None


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise ModelError(
            f"{name} is installed, but does not load: {error}", fix="reinstall it: pip install --force-reinstall"
        ) from error
