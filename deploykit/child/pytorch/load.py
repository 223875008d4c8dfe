"""Load a PyTorch source: .pt2 archive, TorchScript, pickled module, or weights into a factory's module."""

import importlib
import importlib.util
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from deploykit.artifact import Format
from deploykit.child.factory import lend_main, make
from deploykit.child.said import line_of
from deploykit.errors import DeploykitError, ModelError, Refused, UsageError, nearest

NESTED = ("state_dict", "model_state_dict", "model", "ema", "ema_state_dict", "net", "weights", "module")
"""Where training scripts put the weights in a checkpoint, the likeliest first."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning put before every name."""

_SHOWN = 12


@dataclass(frozen=True)
class Source:
    """A source file and all that the user said of how to load it."""

    path: str
    format: str
    factory: str | None = None
    factory_args: str | None = None
    trust_pickle: bool = False


@dataclass(frozen=True)
class Loaded:
    """A model in memory, in eval mode, and what there is to say of its loading."""

    model: Any
    notes: tuple[str, ...] = ()


def load(source: Source) -> Loaded:
    """Load a source on the CPU, in eval mode.

    Raises:
        ModelError: the file is damaged, or its weights don't fit the factory's module.
        UsageError: a factory is missing, or does not give a module.
        Refused: loading would run code that the user has not agreed to.
    """
    loaders: dict[str, Callable[[Source], Loaded]] = {
        Format.TORCH_EXPORT: _exported,
        Format.TORCHSCRIPT: _scripted,
        Format.TORCH_PICKLE: _pickled,
        Format.STATE_DICT: _weights,
        Format.SAFETENSORS: _weights,
    }
    try:
        return loaders[source.format](source)
    except (DeploykitError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"{source.path} can't be loaded by torch {torch.__version__}: {line_of(error)}",
            fix="save it again with the torch that made it, or use that torch's interpreter with --python",
        ) from error


def _exported(source: Source) -> Loaded:
    if _names_transformers(source.path):
        # Its outputs are of a class that only the import of that package makes known to torch.
        importlib.import_module("transformers.modeling_outputs")
    return Loaded(torch.export.load(source.path))


def _names_transformers(path: str) -> bool:
    if importlib.util.find_spec("transformers") is None:
        return False
    with zipfile.ZipFile(path) as archive:
        texts = (archive.read(name) for name in archive.namelist() if name.endswith(".json"))
        return any(b"transformers.modeling_outputs" in text for text in texts)


def _scripted(source: Source) -> Loaded:
    module = torch.jit.load(source.path, map_location="cpu")
    if source.factory:  # the archive has its code: the factory wraps it, to take its state as an input for example
        module = make(nn.Module, source.factory, source.factory_args, module)
    return Loaded(*_evaluated(module))


def _pickled(source: Source) -> Loaded:
    if not source.trust_pickle:
        raise Refused(f"{source.path} holds a pickle that runs code", fix="add --trust-pickle if you trust the file")
    if source.factory:
        lend_main(source.factory)
    try:
        content = torch.load(source.path, map_location="cpu", weights_only=False)
    except (AttributeError, ModuleNotFoundError) as error:
        raise ModelError(
            f"{source.path} needs code that is not here: {line_of(error)}",
            fix=[
                "run in the folder where the model's code can be imported, or set PYTHONPATH",
                "a class of the training script itself (__main__): add  --factory train.py:TheClass",
            ],
        ) from error
    if isinstance(content, nn.Module):
        return Loaded(*_evaluated(content))
    nested = [value for value in content.values() if isinstance(value, nn.Module)] if isinstance(content, dict) else []
    if nested:
        return Loaded(*_evaluated(nested[0]))
    return _into_factory(source, content)


def _weights(source: Source) -> Loaded:
    return _into_factory(source, _read_weights(source))


def _read_weights(source: Source) -> Any:
    if source.format == Format.SAFETENSORS:
        from safetensors.torch import load_file

        return load_file(source.path)
    # Mapped, the weights are not held twice while they are copied into the module.
    return torch.load(source.path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source.path))


def _into_factory(source: Source, content: Any) -> Loaded:
    weights, notes = find_weights(content, source.path)
    if not source.factory:
        raise UsageError(
            f"{source.path} holds weights only ({len(weights)} tensors), not the code of the model",
            fix="name the function or class that makes the model: --factory package.module:callable"
            " or --factory path/to/file.py:callable",
            details=[f"{name}: {list(tensor.shape)}" for name, tensor in list(weights.items())[:_SHOWN]],
        )
    module = make(nn.Module, source.factory, source.factory_args)
    expected = module.state_dict()
    weights, more = _without_prefix(weights, expected)
    _compare(weights, expected, source)
    kinds = {(str(weights[name].dtype), str(expected[name].dtype)) for name in expected if name in weights}
    more += tuple(
        f"{had.removeprefix('torch.')} weights of the file became {has.removeprefix('torch.')}"
        for had, has in sorted(kinds)
        if had != has
    )
    module.load_state_dict(weights, strict=False)  # _compare was the strict part, with a better message
    return Loaded(_evaluated(module)[0], (*notes, *more))


def find_weights(content: Any, path: str) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Find the state_dict in what a file holds, also where it is nested in a checkpoint.

    Raises:
        ModelError: there are no weights in it.
    """
    if _is_weights(content):
        return dict(content), ()
    if isinstance(content, Mapping):
        places = [key for key in (*NESTED, *content) if _is_weights(content.get(key))]
        deeper = [key for key in NESTED if isinstance(content.get(key), Mapping)]
        if places:
            place = places[0]
            others = sorted(set(places) - {place})
            note = f"weights taken from '{place}'" + (f" (also there: {', '.join(others)})" if others else "")
            return dict(content[place]), (note,)
        for key in deeper:
            return find_weights(content[key], path)
        held = ", ".join(repr(key) for key in list(content)[:_SHOWN])
    else:
        held = type(content).__name__
    raise ModelError(f"{path} holds no weights, but {held}", fix="save model.state_dict() and give that file")


def _is_weights(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(key, str) for key in content)
        and any(isinstance(value, torch.Tensor) for value in content.values())
        and not any(isinstance(value, Mapping) for key, value in content.items() if key != "_metadata")
        and all(isinstance(value, torch.Tensor) or key.endswith("_extra_state") for key, value in content.items())
    )


def _without_prefix(
    weights: dict[str, torch.Tensor], expected: Iterable[str]
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    expected = set(expected)
    stripped = ""
    names = set(weights)
    while not names & expected:
        prefix = next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in names)), None)
        if prefix is None:
            return weights, ()
        stripped += prefix
        names = {name.removeprefix(prefix) for name in names}
    if not stripped:
        return weights, ()
    return {name.removeprefix(stripped): tensor for name, tensor in weights.items()}, (f"'{stripped}' left off names",)


def _compare(weights: Mapping[str, torch.Tensor], expected: Mapping[str, Any], source: Source) -> None:
    # Files older than torch 0.4.1 lack the counters of BatchNorm; torch itself loads them so.
    missing = [name for name in expected if name not in weights and not name.endswith(".num_batches_tracked")]
    unexpected = [name for name in weights if name not in expected]
    shapes = [
        f"{name}: the file has {list(weights[name].shape)}, the module {list(expected[name].shape)}"
        for name in expected
        if name in weights and isinstance(expected[name], torch.Tensor) and weights[name].shape != expected[name].shape
    ]
    if not (missing or unexpected or shapes):
        return
    details = [
        *_listed("missing in the file", missing),
        *_listed("not in the module", [name + nearest(name, missing) for name in unexpected]),
        *_listed("of another shape", shapes),
    ]
    raise ModelError(
        f"the weights of {source.path} do not fit the module of {source.factory}: {len(missing)} missing, "
        f"{len(unexpected)} unexpected, {len(shapes)} of another shape",
        fix="give the factory that the weights were trained with, or its arguments: "
        "--factory-args '{\"num_classes\": 10}'",
        details=details,
    )


def _listed(title: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = [f"  ... and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return [f"{title}:", *(f"  {name}" for name in names[:_SHOWN]), *more]


def _evaluated(module: Any) -> tuple[Any, tuple[str, ...]]:
    """Put a module into eval mode, and say so where it was not."""
    module = getattr(module, "_orig_mod", module)  # torch.compile's wrapper
    if isinstance(module, nn.DataParallel):
        module = module.module
    training = module.training or any(child.training for child in module.modules())
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(requires_grad=False)
    return module, ("the model was in train mode: put into eval",) if training else ()
