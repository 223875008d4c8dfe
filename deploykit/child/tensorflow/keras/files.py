"""Open a Keras file: a ``.keras`` archive, or HDF5 with a whole model or with weights for a factory's model."""

import json
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras

from deploykit.artifact import Format
from deploykit.child.factory import make
from deploykit.child.said import said
from deploykit.child.tensorflow.keras.code import own_code, with_functions
from deploykit.child.tensorflow.keras.old import modern, slashed
from deploykit.child.tensorflow.keras.saved import put_saved, shapes_below
from deploykit.child.tensorflow.keras.trust import audit, without_training
from deploykit.child.tensorflow.keras.weights import attribute, put, read_layers
from deploykit.child.tensorflow.model import Source
from deploykit.errors import DeploykitError, ModelError, UsageError

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

_SHOWN = 12
_LONGEST = 300
_KERAS3 = 3


@dataclass(frozen=True)
class Opened:
    """A Keras model with its weights, and what there is to say of its loading."""

    model: Any
    notes: tuple[str, ...] = ()


def open_keras(source: Source) -> Opened:
    """Load a Keras file, with the factory's model where one is named.

    Raises:
        ModelError: the file is damaged, no Keras file, or does not fit the model.
        UsageError: it holds weights only and no factory is named, or it needs classes of the user's.
        Refused: it holds code that the user has not agreed to run.
    """
    openers: dict[str, Callable[[Source], Opened]] = {Format.KERAS: _archive, Format.KERAS_H5: _hdf5}
    try:
        return openers[source.format](source)
    except (DeploykitError, MemoryError):
        raise
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, json.JSONDecodeError) as error:
        raise ModelError(
            f"{source.path} is damaged or cut off: {said(error)}",
            fix="copy it again, or save the model again",
        ) from error
    except Exception as error:
        raise ModelError(
            f"{source.path} can't be loaded by Keras {keras.__version__}: {_told(error)}",
            fix="save it again with the Keras that made it, as a SavedModel, and convert that; "
            "or give the code and take the weights: --factory file.py:callable",
        ) from error


def _archive(source: Source) -> Opened:
    with zipfile.ZipFile(source.path) as archive, tempfile.TemporaryDirectory() as folder:
        names = archive.namelist()
        _whole_archive(archive, names, source.path)
        if source.factory:
            return _with_factory(source, Path(archive.extract(WEIGHTS, folder)))
        custom = own_code(source)
        stored = json.loads(archive.read(CONFIG))
        version = _major(json.loads(archive.read(METADATA)).get("keras_version") if METADATA in names else None)
        config = _readable(stored, version, source, custom)
        # Keras goes by the suffix, and where memory is short it writes beside the file.
        path = Path(folder, "model.keras")
        if config == stored:
            path.symlink_to(Path(source.path).resolve())
        else:
            _rewritten(archive, config, path)
        model = keras.saving.load_model(path, custom_objects=custom, compile=False, safe_mode=not source.trust_pickle)
    _see_that_built(model, source.path)
    return Opened(model, _renamings(stored))


def _whole_archive(archive: zipfile.ZipFile, names: list[str], path: str) -> None:
    missing = [name for name in (CONFIG, WEIGHTS) if name not in names and name.replace(".h5", ".npz") not in names]
    if missing:
        raise ModelError(
            f"{path} has no {missing[0]}, but only {', '.join(names[:_SHOWN])}",
            fix="save the whole model again: model.save('model.keras')",
        )
    damaged = archive.testzip()  # Keras passes over a wrong checksum, and would load what is left of the weights
    if damaged:
        raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")


def _rewritten(archive: zipfile.ZipFile, config: Any, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as changed:
        changed.writestr(CONFIG, json.dumps(config))
        for name in archive.namelist():
            if name != CONFIG and not name.endswith("/"):
                with archive.open(name) as old, changed.open(name, "w", force_zip64=True) as new:
                    shutil.copyfileobj(old, new, 1 << 20)


def _readable(stored: Any, version: int, source: Source, custom: dict[str, Any]) -> Any:
    """Give a description as Keras 3 takes it, after all that it names was looked at."""
    legacy = version < _KERAS3 or source.format == Format.KERAS_H5
    config = without_training(modern(stored, version, custom) if legacy else stored, custom)
    audit(config, source, custom)
    return with_functions(config, source, custom)


def _hdf5(source: Source) -> Opened:
    with h5py.File(source.path) as file:
        if "model_config" in file.attrs:
            return _whole(file, source)
        if attribute(file, "layer_names"):
            return _weights_only(file, source)
        if shapes_below(file):
            return _with_factory(source, Path(source.path))
        held = [f"{name}: {_kind(file[name])}" for name in list(file)[:_SHOWN] if name in file]
        raise ModelError(
            f"{source.path} is an HDF5 file, but no Keras model: it holds "
            f"{', '.join(list(file)[:_SHOWN]) or 'nothing'}",
            fix="give the file that model.save('model.h5') wrote",
            details=held,
        )


def _whole(file: h5py.File, source: Source) -> Opened:
    _same_layout(file, source)
    if source.factory:
        return _weights_only(file["model_weights"], source)
    custom = own_code(source)
    stored = json.loads(file.attrs["model_config"], object_hook=_plain)
    written_by = file.attrs.get("keras_version")
    if _major(written_by) < 2:  # noqa: PLR2004
        raise ModelError(
            f"{source.path} was written by Keras {written_by}, whose layers Keras 3 does not know",
            fix="load it with Keras 2.2 and save it again, or give the code and take the weights: "
            "--factory file.py:callable",
        )
    config = _readable(stored, _major(written_by), source, custom)
    model = keras.saving.deserialize_keras_object(config, custom_objects=custom, safe_mode=not source.trust_pickle)
    _see_that_built(model, source.path)
    notes = put(read_layers(file["model_weights"]), model, source.path, "the architecture in the same file")
    return Opened(model, (*_renamings(stored), *notes))


def _same_layout(file: h5py.File, source: Source) -> None:
    backend = file.attrs.get("backend", "tensorflow")
    if (backend.decode() if isinstance(backend, bytes) else backend) == "theano":
        raise ModelError(
            f"{source.path} was written by Keras on Theano, whose convolutions are mirrored",
            fix="load it with Keras 2.2 on TensorFlow and save it again",
        )


def _see_that_built(model: Any, path: str) -> None:
    if not model.built:
        raise ModelError(
            f"{path} does not say what goes into the model, so its weights have no place",
            fix=[
                "call the model once before it is saved",
                "or give a function that makes the model and calls it: --factory file.py:callable",
            ],
        )


def _weights_only(group: h5py.Group, source: Source) -> Opened:
    _same_layout(group, source)
    layers = read_layers(group)
    tensors = [(name, data.shape) for layer in layers.values() for name, data in layer]
    model = _made(source, [f"{name}: {list(shape)}" for name, shape in tensors])
    return Opened(model, put(layers, model, source.path, f"the model of {source.factory}"))


def _with_factory(source: Source, weights: Path) -> Opened:
    with h5py.File(weights) as file:
        shapes = shapes_below(file)
    model = _made(source, [f"{name}: {list(shape)}" for name, shape in shapes.items()])
    put_saved(weights, model, source.path, f"the model of {source.factory}")
    return Opened(model)


def _made(source: Source, held: list[str]) -> Any:
    if not source.factory:
        raise UsageError(
            f"{source.path} holds weights only ({len(held)} tensors), not the architecture of the model",
            fix="name the function or class that makes the model: --factory package.module:callable"
            " or --factory path/to/file.py:callable",
            details=held[:_SHOWN],
        )
    own_code(source)
    model = make(keras.Model, source.factory, source.factory_args)
    if not model.built or not model.weights:
        raise UsageError(
            f"the model of {source.factory} is not built: its layers have no weights that could be loaded",
            fix="let the function call the model once, or build it: model.build((None, 224, 224, 3))",
        )
    return model


def _renamings(stored: Any) -> tuple[str, ...]:
    names = sorted(set(slashed(stored)))
    more = f" and {len(names) - 1} others" if len(names) > 1 else ""
    return (f"Keras 3 allows no slash in a layer's name: '{names[0]}'{more} has '_' instead",) if names else ()


def _major(version: Any) -> int:
    text = version.decode() if isinstance(version, bytes) else str(version)
    number = re.match(r"\d+", text)
    return int(number[0]) if number else 2  # files of Keras 2 need not say it


def _plain(part: dict[str, Any]) -> Any:
    """Give lists for what the JSON of Keras 2 marks as tuples and shapes."""
    return part["items"] if part.get("class_name") in {"__tuple__", "TensorShape"} and "items" in part else part


def _kind(part: Any) -> str:
    if isinstance(part, h5py.Dataset):
        return f"{part.dtype} {list(part.shape)}"
    by_pandas = " of pandas" if "pandas_type" in part.attrs else ""
    return f"a group{by_pandas} with {', '.join(list(part)[:_SHOWN]) or 'nothing'}"


def _told(error: Exception) -> str:
    """Give the line of Keras's error that tells most: it puts the innermost last, behind whole descriptions."""
    text = re.split(r"Exception encountered: |Error encountered:", re.sub(r"\x1b\[\d*m", "", str(error)))[-1]
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Exception encountered when")]
    line = lines[0].strip() if lines else type(error).__name__
    return f"{type(error).__name__}: {line[:_LONGEST]}{'...' if len(line) > _LONGEST else ''}"
