"""What a Keras file may make the interpreter do: nothing but build Keras's own layers, unless the user says more.

A description names classes and functions, and may hold bytecode. All of it is looked at here, as text, before
anything is made of it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from deploykit.child.tensorflow.model import Source
from deploykit.errors import Refused, UsageError, nearest

Config = dict[str, Any]

_VALUES = {"__tensor__", "__numpy__", "__keras_tensor__", "__bytes__", "__slice__", "__ellipsis__", "__typespec__"}

_OUTSIDE = {"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
"""Layers of Keras that are a way to other code: a SavedModel at a path, a pickled module, functions."""

_PLACES = (
    *("keras.layers", "keras.models", "keras.ops", "keras.activations", "keras.initializers", "keras.regularizers"),
    *("keras.constraints", "keras.dtype_policies", "keras.quantizers", "keras.losses", "keras.metrics", "keras.random"),
    *("keras.optimizers", "keras.src"),
)
"""Where Keras keeps what models are made of; from keras.utils, say, a file could have a function write a file."""

_BY_NAME = (
    *(keras.activations, keras.initializers, keras.regularizers, keras.constraints),
    *(keras.losses, keras.metrics, keras.optimizers),
)
"""Where Keras looks for what a description names without saying where it is."""

_TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")


def without_training(config: Any, custom: Mapping[str, Any]) -> Any:
    """Leave out losses, metrics and the like that only training has a use for, where they are not Keras's own."""
    if isinstance(config, list):
        return [without_training(part, custom) for part in config]
    if not isinstance(config, dict):
        return config
    return {
        key: without_training(value, custom)
        for key, value in config.items()
        if key != "compile_config" and not (key.endswith(_TRAINING_ONLY) and _is_foreign(value, custom))
    }


def _is_foreign(value: Any, custom: Mapping[str, Any]) -> bool:
    if not isinstance(value, dict) or "class_name" not in value:
        return False
    known = value.get("registered_name") in custom or value["class_name"] in custom
    return not known and not str(value.get("module", "")).startswith(("keras", "builtins"))


def audit(config: Config, source: Source, custom: Mapping[str, Any]) -> None:
    """See that a description names nothing that is unknown, or that runs code of the file.

    Raises:
        Refused: it holds code, or leads out of the file, and the user does not trust it.
        UsageError: it needs a class or a function that the user has to give.
    """
    found = list(_objects(config, ""))
    if not source.trust_pickle:
        _refuse(source.path, [f"{reason}, in {where}" for one, where in found if (reason := _danger(one))])
    unknown = [(kind, name, where) for one, where in found for kind, name in _unknown(one, custom)]
    if unknown:
        _missing(source, unknown, custom)


def _objects(value: Any, where: str) -> Iterator[tuple[Config, str]]:
    """List everything that a description has made, with the layer that it is in."""
    if isinstance(value, list):
        for part in value:
            yield from _objects(part, where)
    elif isinstance(value, dict):
        config = value.get("config")
        if isinstance(value.get("class_name"), str):
            own = value.get("name") or (config.get("name") if isinstance(config, dict) else None)
            where = f"the layer '{own}'" if isinstance(own, str) else where or f"the {value['class_name']}"
            yield value, where
        for part in value.values():
            yield from _objects(part, where)


def _danger(one: Config) -> str | None:
    name, config = one["class_name"], one.get("config")
    if name == "__lambda__" or (name == "Lambda" and isinstance((config or {}).get("function"), list)):
        return "run Python bytecode of the file"
    if name in _OUTSIDE:
        return f"load code from elsewhere ({name})"
    if isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
        return f"read the file {config['vocabulary']}"
    module = str(one.get("module") or "")
    if module.startswith("keras.") and not _in_place(module):
        return f"use {module}.{config if name == 'function' else name}, which is no part of a model"
    return None


def _in_place(module: str) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in _PLACES)


def _refuse(path: str, reasons: list[str]) -> None:
    if reasons:
        raise Refused(
            f"to load {path} would {reasons[0]}",
            fix=[
                "add --trust-pickle if you trust the file",
                "or save the model with a layer of your own there, and name its file: --custom-objects layers.py",
            ],
            details=reasons[1:],
        )


def _unknown(one: Config, custom: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name a class or function that neither Keras nor the user has."""
    class_name, module = one["class_name"], one.get("module")
    if class_name in _VALUES or class_name == "__lambda__" or "config" not in one:
        return
    is_function = class_name == "function"
    name = str(one["config"]) if is_function else str(one.get("registered_name") or class_name)
    if name in custom or class_name in custom or name in keras.saving.get_custom_objects():
        return
    if not _is_keras(module, str(one["config"]) if is_function else class_name):
        yield "function" if is_function else "class", name


def _is_keras(module: Any, name: str) -> bool:
    if module == "builtins":
        return any(hasattr(place, name) for place in _BY_NAME)
    if not isinstance(module, str) or (module != "keras" and not module.startswith("keras.")):
        return False
    if module.startswith("keras.src."):
        return True  # Keras itself makes nothing of it but classes of its own that can be saved
    found: Any = keras
    for part in (*module.split(".")[1:], name):
        found = getattr(found, part, None)
    return found is not None


def _missing(source: Source, unknown: list[tuple[str, str, str]], custom: Mapping[str, Any]) -> None:
    kind, name, where = unknown[0]
    own = name.rpartition(">")[2]
    details = list(dict.fromkeys(f"{kind} {name}, for {where}" for kind, name, where in unknown))
    if source.custom_objects:
        raise UsageError(
            f"{source.custom_objects} has no {kind} '{own}', which {where} of {source.path} "
            f"needs{nearest(own, custom)}",
            fix=f"add it to {source.custom_objects}, or import it there",
            details=details[1:],
        )
    raise UsageError(
        f"{source.path} needs the {kind} '{own}', for {where}, which is not Keras's own",
        fix="name the Python file that defines it: --custom-objects file.py",
        details=details[1:],
    )
