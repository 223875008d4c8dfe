"""deploykit takes a trained model to a deployable artifact, and proves at every step that it is still the same model.

Every command is a function: ``convert``, ``optimize``, ``validate``, ``bench``, ``inspect``, ``seal``, ``verify``,
``doctor``, ``plugins``. They are imported when they are first used, so that ``import deploykit`` costs nothing.
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
    from deploykit.errors import DeploykitError
    from deploykit.examination import examine as doctor
    from deploykit.inspection import inspect
    from deploykit.listing import plugins
    from deploykit.optimization import Optimization, optimize
    from deploykit.optimization.calibration import calibrate
    from deploykit.optimization.pruning import prune
    from deploykit.optimization.quantizing import quantize
    from deploykit.pruning.masks import cut_module
    from deploykit.sealing import Seal, Verification, seal, verify
    from deploykit.validation import Verdict, validate

__all__ = [
    "Asked",
    "Bench",
    "Conversion",
    "DeploykitError",
    "Optimization",
    "Seal",
    "Verdict",
    "Verification",
    "bench",
    "calibrate",
    "convert",
    "cut_module",
    "doctor",
    "inspect",
    "optimize",
    "plugins",
    "prune",
    "quantize",
    "seal",
    "validate",
    "verify",
]

_PLACES = {
    "Asked": ("deploykit.backends", "Asked"),
    "Bench": ("deploykit.benchmarking", "Bench"),
    "Conversion": ("deploykit.conversion", "Conversion"),
    "DeploykitError": ("deploykit.errors", "DeploykitError"),
    "Optimization": ("deploykit.optimization", "Optimization"),
    "Seal": ("deploykit.sealing", "Seal"),
    "Verdict": ("deploykit.validation", "Verdict"),
    "Verification": ("deploykit.sealing", "Verification"),
    "bench": ("deploykit.benchmarking", "bench"),
    "calibrate": ("deploykit.optimization.calibration", "calibrate"),
    "convert": ("deploykit.conversion", "convert"),
    "cut_module": ("deploykit.pruning.masks", "cut_module"),
    "doctor": ("deploykit.examination", "examine"),
    "inspect": ("deploykit.inspection", "inspect"),
    "optimize": ("deploykit.optimization", "optimize"),
    "plugins": ("deploykit.listing", "plugins"),
    "prune": ("deploykit.optimization.pruning", "prune"),
    "quantize": ("deploykit.optimization.quantizing", "quantize"),
    "seal": ("deploykit.sealing", "seal"),
    "validate": ("deploykit.validation", "validate"),
    "verify": ("deploykit.sealing", "verify"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'deploykit' has no attribute '{name}'")
    place, own = _PLACES[name]
    return getattr(importlib.import_module(place), own)
