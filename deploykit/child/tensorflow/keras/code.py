"""The code that a Keras model may use: the user's own file, and bytecode in a model that the user trusts."""

import base64
import binascii
import dis
import inspect
import marshal
import math
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deploykit.child.factory import module_from
from deploykit.child.tensorflow.model import Source
from deploykit.errors import ModelError

_KINDS = (
    *(keras.Operation, keras.Loss, keras.Metric, keras.Initializer, keras.Regularizer, keras.DTypePolicy),
    *(keras.constraints.Constraint, keras.optimizers.Optimizer),
)


def own_code(source: Source) -> dict[str, Any]:
    """Import the file that the user names and give its classes and functions, by every name they may go by.

    Raises:
        UsageError: there is no such file, or it fails.
    """
    if source.custom_objects is None:
        return {}
    before = set(keras.saving.get_custom_objects())
    path = Path(source.custom_objects)
    offered = {name: value for name, value in vars(module_from(path)).items() if _is_own(value, path.resolve().parent)}
    registered = {name: value for name, value in keras.saving.get_custom_objects().items() if name not in before}
    by_registered_name = {keras.saving.get_registered_name(value): value for value in offered.values()}
    by_own_name = {value.__name__: value for value in offered.values()}
    return {**by_own_name, **by_registered_name, **registered, **offered}


def _is_own(value: Any, folder: Path) -> bool:
    """Whether a file may name it: what the user wrote, not what the user's file imports from anywhere."""
    if inspect.isfunction(value):
        return Path(value.__code__.co_filename).resolve().is_relative_to(folder)
    return inspect.isclass(value) and (issubclass(value, _KINDS) or sys.modules[value.__module__] in _beside(folder))


def _beside(folder: Path) -> list[types.ModuleType]:
    files = ((module, getattr(module, "__file__", None)) for module in list(sys.modules.values()))
    return [module for module, file in files if file and Path(file).resolve().parent == folder]


def with_functions(config: Any, source: Source, custom: dict[str, Any]) -> Any:
    """Put a name in the place of each piece of bytecode, and the function into ``custom`` under that name.

    Keras itself would give the function no ``tf``, ``np`` or ``K`` to refer to.

    Raises:
        ModelError: it was compiled by another version of Python.
    """
    if isinstance(config, list):
        return [with_functions(part, source, custom) for part in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") != "__lambda__":
        return {key: with_functions(value, source, custom) for key, value in config.items()}
    name = f"deploykit>lambda_{len(custom)}"
    custom[name] = _revived(config["config"], source.path, dict(custom))
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": name}


def _revived(packed: Any, path: str, custom: Mapping[str, Any]) -> Callable[..., Any]:
    if isinstance(packed, dict) and "code" not in packed:
        packed = packed["value"]
    parts = [packed[key] for key in ("code", "defaults", "closure")] if isinstance(packed, dict) else packed
    text, defaults, closure = (parts, None, None) if isinstance(parts, str) else parts
    try:
        compiled = base64.b64decode(text.encode("ascii"), validate=False)
    except (UnicodeEncodeError, binascii.Error):
        compiled = text.encode("raw_unicode_escape")
    if not _is_of_this_python(compiled):
        raise ModelError(
            f"a Lambda layer of {path} was compiled by another version of Python than this one",
            fix=[
                "use the Python that saved it: --python",
                "or save the model with a layer of its own in the place of the Lambda",
            ],
        )
    code = marshal.loads(compiled)  # noqa: S302 - the user trusts the file, else _danger had refused it
    names = {"tf": tf, "K": tf.keras.backend, "keras": keras, "np": np, "math": math, **custom}
    cells = tuple(map(types.CellType, closure)) if closure else None
    return types.FunctionType(code, names, code.co_name, tuple(defaults) if defaults else None, cells)


def _is_of_this_python(compiled: bytes) -> bool:
    """Whether a compiled function is one of this interpreter's, as far as it can be told: marshal names no version.

    The number of integers before the instructions differs from 3.8 to 3.10, and the instructions in every version;
    those of another one can end the process instead of raising.
    """
    integers = 5
    start = 1 + 4 * integers
    if compiled[:1] not in {b"c", b"\xe3"} or compiled[start : start + 1] not in {b"s", b"\xf3"}:
        return False
    length = int.from_bytes(compiled[start + 1 : start + 5], "little")
    instructions = compiled[start + 5 : start + 5 + length][::2]
    known = set(dis.opmap.values())
    return dis.opmap["RESUME"] in instructions[:8] and all(code in known for code in instructions)
