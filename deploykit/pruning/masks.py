"""Which channels went, by the names of the source's parameters, and a torch module that is cut by it.

A mask file is an .npz: ``layer1.0.conv1.weight/0`` holds a bool for each place along axis 0 of that parameter, True
where it stays. PyTorch's exporter keeps the names of parameters, and in a node's metadata that of the module: so of a
normalization that was folded into a convolution as well.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import ModelError, UsageError, nearest
from deploykit.pruning.cut import Removal
from deploykit.tensors import Array

Model = Any
Module = Any

_SCOPES = "pkg.torch.onnx.name_scopes"
_NORMALIZED = ("weight", "bias", "running_mean", "running_var")


def masks_of(model: Model, removal: Removal) -> dict[str, Array]:
    """Say what stays of every weight that is cut.

    Args:
        model: the graph before it is cut.
        removal: what is cut.
    """
    weights = model.graph.initializers
    found = {
        f"{name}/{at}": _mask(kept, removal.sizes[name, at])
        for (name, at), kept in removal.stays.items()
        if name in weights
    }
    for node in model.graph:
        kept = removal.kept(node.inputs[1], 0) if node.op_type == "Conv" else None
        if kept is not None and (folded := _folded(node)):
            mask = _mask(kept, removal.before(node.inputs[1], 0))
            found |= {f"{folded}.{part}/0": mask for part in _NORMALIZED}
    return found


def _mask(kept: Array, size: int) -> Array:
    mask = np.zeros(size, bool)
    mask[kept] = True
    return mask


def _folded(node: Any) -> str:
    """Name the module of a node, where that is another than the one that its weight belongs to."""
    try:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    except (ValueError, SyntaxError):
        return ""
    module = str(scopes[-2]) if len(scopes) > 1 else ""
    return module if module and module != node.inputs[1].name.rpartition(".")[0] else ""


def cut_module(module: Module, masks: str | Path | Mapping[str, Array]) -> Module:
    """Cut a torch module in place, to train it on: what ``deploykit prune --mask`` wrote says what stays.

    Numbers of channels that ``forward`` itself names are the caller's to change.

    Args:
        module: the source that the model was converted from.
        masks: the file, or its arrays by name.

    Raises:
        UsageError: the masks are those of another module.
    """
    import torch

    given = masks if isinstance(masks, Mapping) else dict(np.load(masks))
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    cut = 0
    for name, kept in given.items():
        place, _, axis = name.rpartition("/")
        if place not in own:
            continue
        owner, attribute = module.get_submodule(place.rpartition(".")[0]), place.rpartition(".")[2]
        tensor = getattr(owner, attribute)
        if tensor.shape[int(axis)] != len(kept):
            raise UsageError(
                f"{place} has {tensor.shape[int(axis)]} places along axis {axis}, and its mask {len(kept)}",
                fix="give the module that the model was converted from, as it was then",
            )
        with torch.no_grad():
            smaller = tensor.index_select(int(axis), torch.from_numpy(np.flatnonzero(kept)).to(tensor.device))
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        setattr(owner, attribute, torch.nn.Parameter(smaller, tensor.requires_grad) if is_parameter else smaller)
        cut += 1
    if given and not cut:
        raise UsageError(
            f"the module has no parameter '{min(given)}'{nearest(min(given), own)}",
            fix="give the module that the model was converted from",
        )
    for name, part in module.named_modules():
        _count(part, name)
    return module


def _count(part: Module, name: str) -> None:
    """Have a module say how many channels it has."""
    for attribute, number in _numbers(part):
        if number < 1:
            raise ModelError(f"nothing would be left of {name}", fix="prune less")
        setattr(part, attribute, number)


def _numbers(part: Module) -> Iterator[tuple[str, int]]:
    from torch import nn

    if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        out, into = part.weight.shape[:2]
        whole = part.groups > 1 and into == 1  # of a depthwise convolution groups go, else the same of each
        groups = out * part.groups // part.out_channels if whole else part.groups
        yield from (("out_channels", out), ("in_channels", into * groups), ("groups", groups))
    elif isinstance(part, nn.Linear):
        yield from (("out_features", part.weight.shape[0]), ("in_features", part.weight.shape[1]))
    elif hasattr(part, "num_features") and getattr(part, "running_mean", None) is not None:
        yield "num_features", len(part.running_mean)
