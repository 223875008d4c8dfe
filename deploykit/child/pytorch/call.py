"""Call a model with named tensors and get named tensors back, whatever its arguments and outputs are nested in.

A name is a path: ``batch.image`` is ``forward(batch={"image": ...})``, ``hidden.0`` the first of a list ``hidden``.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch

from deploykit.errors import UsageError, nearest


@dataclass(frozen=True)
class Call:
    """How named tensors become the arguments of a forward, with the arguments that are fixed."""

    names: tuple[str, ...]
    positional: tuple[str, ...]
    """Top names that are passed in order."""
    keywords: tuple[str, ...]
    """Top names that are passed by name."""
    fixed: Mapping[str, Any]

    def arguments(self, tensors: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Nest flat tensors into ``args`` and ``kwargs``."""
        tree: dict[str, Any] = {}
        for name in self.names:
            place = tree
            *path, last = name.split(".")
            for part in path:
                place = place.setdefault(part, {})
            place[last] = tensors[name]
        whole = {**{name: _listed(value) for name, value in tree.items()}, **self.fixed}
        return tuple(whole[name] for name in self.positional), {name: whole[name] for name in self.keywords}


def _listed(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    values = {name: _listed(value) for name, value in tree.items()}
    return tuple(values.values()) if all(name.isdigit() for name in values) else values


def parameters(model: Any) -> dict[str, inspect.Parameter]:
    """List the parameters of a model's forward, without ``self``."""
    if isinstance(model, torch.jit.ScriptModule):
        return {
            argument.name: inspect.Parameter(
                argument.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=argument.default_value if argument.has_default_value() else inspect.Parameter.empty,
            )
            for argument in model.forward.schema.arguments[1:]
        }
    return dict(inspect.signature(model.forward).parameters)


def bind(model: Any, names: Sequence[str], fixed: Mapping[str, str]) -> Call:
    """Decide which name goes to which argument: by keyword where it is a parameter of forward, else in order.

    Args:
        model: a module.
        names: the names of the tensors, dotted where they are nested.
        fixed: arguments that are no tensors, as text: ``{"sr": "16000"}``.

    Raises:
        UsageError: there are more names than parameters, or a required parameter has none.
    """
    known = parameters(model)
    tops = list(dict.fromkeys(name.split(".")[0] for name in (*names, *fixed)))
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())
    takes_more = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in known.values())
    slots = [name for name, parameter in known.items() if parameter.kind not in (_VAR_POSITIONAL, _VAR_KEYWORD)]
    unknown = [name for name in tops if name not in slots]
    free = [name for name in slots if name not in tops]
    if len(unknown) > len(free) and not (takes_any or takes_more):
        raise UsageError(
            f"forward has no parameter '{unknown[0]}'{nearest(unknown[0], free)}",
            fix=f"its parameters are: {', '.join(slots)}",
        )
    if takes_any and not takes_more and len(unknown) > len(free):
        unknown = []
    filled = dict(zip(free, unknown, strict=False))  # unknown names take the free parameters in order
    owners = {name: slot for slot, name in filled.items()}
    _require(known, slots, {owners.get(name, name) for name in tops})
    in_order = [filled.get(slot, slot) for slot in slots]
    last = max((in_order.index(name) for name in unknown if name in in_order), default=-1)
    positional = tuple(name for name in in_order[: last + 1] if name in tops)
    if len(positional) != last + 1:
        raise UsageError(
            f"the inputs {', '.join(unknown)} can't be placed", fix=f"use forward's own names: {', '.join(slots)}"
        )
    positional += tuple(name for name in unknown if name not in in_order)
    by_name = tuple(name for name in tops if name not in positional)
    return Call(tuple(names), positional, by_name, {name: _literal(text) for name, text in fixed.items()})


def renamed(model: Any, call: Call) -> tuple[str, ...]:
    """Say which inputs go by another name than forward's own parameter."""
    pairs = zip(call.positional, parameters(model), strict=False)
    return tuple(
        f"'{name}' is no parameter of forward: it is passed as '{own}', and keeps its name in the ONNX file"
        for name, own in pairs
        if name != own
    )


_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD


def _require(known: Mapping[str, inspect.Parameter], slots: Sequence[str], given: set[str]) -> None:
    for name in slots:
        if known[name].default is inspect.Parameter.empty and name not in given:
            raise UsageError(
                f"forward needs '{name}', and no input of that name is given",
                fix=f"add  --input '{name}:float32[batch,...]'  or, for a value that stays the same,"
                f"  --input {name}=VALUE",
            )


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def flatten(value: Any, taken: Sequence[str] = ()) -> dict[str, torch.Tensor]:
    """Name every tensor in a model's output: ``logits``, ``hidden.0``; a lone tensor is ``output``.

    Args:
        value: tensors in tuples, lists, mappings and dataclasses; what is no tensor is passed over.
        taken: names of inputs, which an output can't have: it gets ``_out`` behind.
    """
    flat: dict[str, torch.Tensor] = {}
    _walk(value, "", flat)
    if set(flat) == {""}:
        flat = {"output": flat[""]}
    elif all(name.split(".")[0].isdigit() for name in flat):
        flat = {f"output_{name}": tensor for name, tensor in flat.items()}
    return {f"{name}_out" if name in taken else name: tensor for name, tensor in flat.items()}


def left_out(value: Any, path: str = "") -> list[str]:
    """List what a model gives that is no tensor, and so can't be an output: ``past_key_values (DynamicCache)``."""
    if value is None or isinstance(value, torch.Tensor):
        return []
    parts = _parts(value)
    if not parts and not (isinstance(value, (Mapping, tuple, list)) and not value):
        return [f"{path or 'output'} ({type(value).__name__})"]
    return [line for name, part in parts for line in left_out(part, f"{path}.{name}" if path else name)]


def _walk(value: Any, path: str, flat: dict[str, torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        flat[path] = value
        return
    for name, part in _parts(value):
        _walk(part, f"{path}.{name}" if path else str(name), flat)


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(str(name), part) for name, part in value.items()]
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    if hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return [(str(number), part) for number, part in enumerate(value)]
    return []


def flat_forward(original: Callable[..., Any], call: Call) -> Callable[..., tuple[torch.Tensor, ...]]:
    """Make of a model, or its forward, a forward that takes the named tensors in order and gives a flat tuple."""

    def forward(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        args, kwargs = call.arguments(dict(zip(call.names, tensors, strict=True)))
        return tuple(flatten(original(*args, **kwargs), call.names).values())

    forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name.replace(".", "_"), inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in call.names]
    )
    return forward
