"""deploykit takes a trained model to a deployable artifact, and proves at every step that it is still the same model.

Every command is a function: ``convert``, ``optimize``, ``quantize``, ``build``, ``validate``, ``bench``, ``inspect``,
``seal``, ``verify``, ``doctor``, ``plugins``, ``run``. They are imported when they are first used, so that ``import
deploykit`` costs nothing.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# onnxruntime 1.29 and newer reports to a collector from its import on; only this, set before it, stops it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"

if TYPE_CHECKING:
    from deploykit.backends import Asked
    from deploykit.benchmarking import Bench, bench
    from deploykit.conversion import Conversion, convert
    from deploykit.engines import Built, build
    from deploykit.errors import DeploykitError
    from deploykit.examination import examine as doctor
    from deploykit.inspection import inspect
    from deploykit.listing import plugins
    from deploykit.optimization import Optimization, optimize
    from deploykit.optimization.calibration import calibrate
    from deploykit.optimization.pruning import prune
    from deploykit.optimization.quantizing import quantize
    from deploykit.pruning.masks import cut_module
    from deploykit.recipes import Recipe, Run, clean, plan, run
    from deploykit.recipes.recipe import recipe
    from deploykit.recipes.starting import init
    from deploykit.sealing import Seal, Verification, seal, verify
    from deploykit.validation import Verdict, validate

__all__ = [
    "Asked",
    "Bench",
    "Built",
    "Conversion",
    "DeploykitError",
    "Optimization",
    "Recipe",
    "Run",
    "Seal",
    "Verdict",
    "Verification",
    "bench",
    "build",
    "calibrate",
    "clean",
    "convert",
    "cut_module",
    "doctor",
    "init",
    "inspect",
    "optimize",
    "plan",
    "plugins",
    "prune",
    "quantize",
    "recipe",
    "run",
    "seal",
    "validate",
    "verify",
]

_PLACES = {
    "Asked": ("deploykit.backends", "Asked"),
    "Bench": ("deploykit.benchmarking", "Bench"),
    "Built": ("deploykit.engines", "Built"),
    "Conversion": ("deploykit.conversion", "Conversion"),
    "DeploykitError": ("deploykit.errors", "DeploykitError"),
    "Optimization": ("deploykit.optimization", "Optimization"),
    "Recipe": ("deploykit.recipes", "Recipe"),
    "Run": ("deploykit.recipes", "Run"),
    "Seal": ("deploykit.sealing", "Seal"),
    "Verdict": ("deploykit.validation", "Verdict"),
    "Verification": ("deploykit.sealing", "Verification"),
    "bench": ("deploykit.benchmarking", "bench"),
    "build": ("deploykit.engines", "build"),
    "calibrate": ("deploykit.optimization.calibration", "calibrate"),
    "clean": ("deploykit.recipes", "clean"),
    "convert": ("deploykit.conversion", "convert"),
    "cut_module": ("deploykit.pruning.masks", "cut_module"),
    "doctor": ("deploykit.examination", "examine"),
    "init": ("deploykit.recipes.starting", "init"),
    "inspect": ("deploykit.inspection", "inspect"),
    "optimize": ("deploykit.optimization", "optimize"),
    "plan": ("deploykit.recipes", "plan"),
    "plugins": ("deploykit.listing", "plugins"),
    "prune": ("deploykit.optimization.pruning", "prune"),
    "quantize": ("deploykit.optimization.quantizing", "quantize"),
    "recipe": ("deploykit.recipes.recipe", "recipe"),
    "run": ("deploykit.recipes", "run"),
    "seal": ("deploykit.sealing", "seal"),
    "validate": ("deploykit.validation", "validate"),
    "verify": ("deploykit.sealing", "verify"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'deploykit' has no attribute '{name}'")
    place, own = _PLACES[name]
    return getattr(importlib.import_module(place), own)
