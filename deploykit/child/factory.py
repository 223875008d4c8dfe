"""Make a model with the user's own code: ``package.module:callable`` or ``file.py:callable``."""

import functools
import importlib
import importlib.util
import json
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from deploykit.child.said import line_of, said
from deploykit.errors import UsageError, nearest


def make(kind: type, factory: str, arguments: str | None, *first: Any) -> Any:
    """Call ``package.module:callable`` or ``file.py:callable``, with JSON arguments, for a model.

    Args:
        kind: what it must give, ``torch.nn.Module`` or ``keras.Model``.
        factory: where the callable is.
        arguments: a JSON object of keyword arguments, or a list.
        first: what it gets before them.

    Raises:
        UsageError: the factory can't be found, its arguments are no JSON, it fails, or gives something else.
    """
    module = _module_of(factory)
    name = factory.rpartition(":")[2]
    made: Any = module
    for part in name.split("."):
        if not hasattr(made, part):
            raise UsageError(
                f"{factory.rpartition(':')[0]} has no '{name}'{nearest(name, vars(module))}",
                fix="name a function or class of it: --factory file.py:callable",
            )
        made = getattr(made, part)
    if callable(made) and not isinstance(made, kind):
        made = _called(functools.partial(made, *first), factory, arguments)
    if not isinstance(made, kind):
        wanted = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise UsageError(
            f"{factory} gives no {wanted}, but this: {type(made).__name__}",
            fix="name a function that returns the model, or its class",
        )
    return made


def _called(callable_: Any, factory: str, arguments: str | None) -> Any:
    try:
        given = json.loads(arguments) if arguments else {}
    except json.JSONDecodeError as error:
        raise UsageError(
            f"--factory-args is no JSON: {error}", fix="write it as in  --factory-args '{\"num_classes\": 10}'"
        ) from error
    if not isinstance(given, (dict, list)):
        raise UsageError(f"--factory-args is neither an object nor a list: {arguments}", fix='write {"name": value}')
    try:
        return callable_(**given) if isinstance(given, dict) else callable_(*given)
    except TypeError as error:
        raise UsageError(
            f"{factory} can't be called so: {said(error)}",
            fix="give the arguments it needs: --factory-args '{\"num_classes\": 10}'",
        ) from error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise UsageError(
            f"{factory} fails: {said(error)}",
            fix=f"mend {frame.filename}:{frame.lineno}, or give other --factory-args",
        ) from error


def _module_of(factory: str) -> ModuleType:
    place, separator, name = factory.rpartition(":")
    if not separator or not place or not name:
        raise UsageError(
            f"'{factory}' names no callable", fix="write package.module:callable or path/to/file.py:callable"
        )
    if place.endswith(".py"):
        return module_from(Path(place))
    sys.path.insert(0, str(Path.cwd()))  # the user names it, and so it goes before what is installed
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and not place.startswith(error.name):
            raise UsageError(
                f"{place} needs {error.name}, which is not installed", fix=f"install {error.name}"
            ) from error
        raise UsageError(
            f"there is no module {place}",
            fix="run in the folder that holds it, or give the file: --factory file.py:name",
        ) from error
    except Exception as error:
        raise UsageError(f"{place} fails when imported: {line_of(error)}", fix=f"mend {place}") from error


def module_from(path: Path) -> ModuleType:
    """Import a Python file of the user's, and let it import what stands beside it.

    Raises:
        UsageError: it is not there, or fails.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}", fix="give the path of the Python file that defines the model")
    sys.path.insert(0, str(path.resolve().parent))  # what stands beside it can be imported by it
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(
            f"{path} fails when imported: {said(error)}",
            fix=f"mend {path}; what trains belongs under if __name__ == '__main__':",
        ) from error
    return module


def lend_main(factory: str) -> None:
    """Let a pickle that was made in a script (``__main__``) find that script's classes."""
    main = sys.modules["__main__"]
    for name, value in vars(_module_of(factory)).items():
        if not hasattr(main, name):
            setattr(main, name, value)
