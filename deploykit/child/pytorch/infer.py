"""Infer the inputs of a module that come without a description, by running it on candidates."""

import inspect
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit.child.pytorch.candidates import ROWS, Plan
from deploykit.child.pytorch.consumers import consumers, layers
from deploykit.child.pytorch.guesses import plans
from deploykit.child.pytorch.search import Found, Search
from deploykit.child.pytorch.trial import Trials, as_array, last_rows, undisturbed
from deploykit.errors import UsageError
from deploykit.tensors import Array, Tensors, TensorSpec

_SCALARS = ("int", "float", "bool", "str", "number")


@dataclass(frozen=True)
class Inferred:
    """Inputs that a module was seen to run on."""

    specs: tuple[TensorSpec, ...]
    """In the order of forward; the batch axis is named batch, the other axes have sizes."""
    example: Tensors
    """A batch of two, by name; float32 where the spec says bfloat16, which numpy does not have."""
    keywords: frozenset[str]
    """The inputs that must be passed by keyword."""
    notes: tuple[str, ...]
    """What was inferred and why, in plain words."""


@dataclass(frozen=True)
class _Parameters:
    names: tuple[str, ...]
    keywords: frozenset[str] = frozenset()
    scalars: Mapping[str, str] = field(default_factory=dict)
    """Those that can't be tensors, and their types."""


def infer_inputs(module: Any, *, budget_s: float = 20.0) -> Inferred:
    """Find inputs that a module runs on; the module and the random numbers stay as they were.

    Args:
        module: an ``nn.Module``, eager, scripted, traced or compiled.
        budget_s: seconds after which the search ends.

    Raises:
        UsageError: nothing that was tried fits, or forward needs arguments that are no tensors.
    """
    module = _unwrapped(module)
    deadline = time.monotonic() + budget_s
    _refuse_lazy(module)
    with undisturbed(module):
        return _brought(module, deadline) or _searched(module, deadline)


def _searched(module: Any, deadline: float) -> Inferred:
    wanted = _parameters(module)
    if not wanted.names:
        raise UsageError(
            f"{_title(module)}.forward takes no inputs, so there is nothing to convert",
            fix="wrap it in a module whose forward takes the tensors, and give --input 'x:float32[batch,3,224,224]'",
        )
    options = plans(wanted.names, consumers(module, wanted.names, deadline), layers(module))
    if wanted.scalars:
        raise _needs_scalars(module, wanted, options[0])
    search = Search(Trials(module, wanted.keywords, deadline))
    found = search.run(options)
    if found is None:
        raise _nothing_fits(module, options[0], search)
    example = last_rows(found.plan.feed(found.sizes), found.plan.axes)
    return Inferred(found.plan.specs(found.sizes), example, wanted.keywords, _notes(found, search))


def _notes(found: Found, search: Search) -> tuple[str, ...]:
    sizes = ["x".join(map(str, other)) for other in search.others(found)]
    also = f"also runs at {' and '.join(sizes)}; " if sizes else ""
    notes = [
        f"{spec} inferred: {guess.why}; {also}give --input to say otherwise"
        for spec, guess in zip(found.plan.specs(found.sizes), found.plan.guesses.values(), strict=True)
    ]
    if not found.independent:
        notes.append(
            "the outputs of one row depend on the other rows: the batch may be another axis, or the model is random"
        )
    return tuple(notes)


def _brought(module: Any, deadline: float) -> Inferred | None:
    for source in ("dummy_inputs", "example_input_array"):
        arrays: Tensors = {}
        with suppress(Exception):  # a property of the user's, which may raise anything
            arrays, keywords = _named(module, getattr(module, source, None))
        if not arrays or not all(array.ndim and len(array) for array in arrays.values()):
            continue
        three = {name: np.take(array, np.arange(ROWS) % len(array), axis=0) for name, array in arrays.items()}
        axes: dict[str, int | None] = dict.fromkeys(three, 0)
        outcome = Trials(module, keywords, deadline).attempt(three, axes)
        if outcome.fits:
            specs = tuple(TensorSpec(name, str(a.dtype), ("batch", *a.shape[1:])) for name, a in arrays.items())
            notes = tuple(f"{spec} taken from the module's {source}; give --input to say otherwise" for spec in specs)
            return Inferred(specs, last_rows(three, axes), keywords, notes)
    return None


def _named(module: Any, example: Any) -> tuple[dict[str, Array], frozenset[str]]:
    import torch

    if isinstance(example, Mapping):
        tensors = {name: value for name, value in example.items() if isinstance(value, torch.Tensor)}
        return {name: as_array(tensor) for name, tensor in tensors.items()}, frozenset(tensors)
    several = example if isinstance(example, list | tuple) else [example]
    if not all(isinstance(value, torch.Tensor) for value in several):
        return {}, frozenset()
    names = list(inspect.signature(module.forward).parameters)
    return dict(zip(names, map(as_array, several), strict=False)), frozenset()


def _parameters(module: Any) -> _Parameters:
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        arguments = [one for one in module.forward.schema.arguments[1:] if not one.has_default_value()]
        scalars = {one.name: str(one.type) for one in arguments if str(one.type) not in ("Tensor", "Optional[Tensor]")}
        return _Parameters(tuple(one.name for one in arguments), scalars=scalars)
    every = inspect.signature(module.forward).parameters
    kinds = {name: one.kind for name, one in every.items() if one.kind is not one.VAR_KEYWORD}
    chosen = [name for name in kinds if every[name].default is inspect.Parameter.empty]
    fixed = [name for name in chosen if kinds[name] is not inspect.Parameter.VAR_POSITIONAL]
    names = fixed or chosen or [name for name in kinds if name == getattr(module, "main_input_name", name)][:1]
    return _Parameters(
        tuple(names),
        frozenset(
            name for name in names if kinds[name] is inspect.Parameter.KEYWORD_ONLY or next(iter(kinds)) not in names
        ),
        {name: kind for name in names if (kind := _type_name(every[name].annotation)) in _SCALARS},
    )


def _type_name(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")


def _unwrapped(module: Any) -> Any:
    import torch

    while True:
        inner = getattr(module, "_orig_mod", None)
        if isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            inner = module.module
        if inner is None:
            return module
        module = inner


def _refuse_lazy(module: Any) -> None:
    import torch

    lazy = [
        name for name, one in module.named_parameters() if isinstance(one, torch.nn.parameter.UninitializedParameter)
    ]
    if lazy:
        raise UsageError(
            f"'{lazy[0]}' of {type(module).__name__} has no shape yet, so the model has no weights to convert",
            fix="run the model once on real inputs before saving it, so that its lazy layers take their shapes",
        )


def _nothing_fits(module: Any, plan: Plan, search: Search) -> UsageError:
    names = ", ".join(plan.guesses)
    timed = ["the search ended when its time was used up"] if search.out_of_time else []
    lines = search.error.strip().splitlines()[:3]
    return UsageError(
        f"no inputs were found that {_title(module)}.forward({names}) runs on",
        fix=f"say what they are, with the sizes that it was trained with, as in  {_input_line(plan)}",
        details=[f"to that the model says: {' '.join(lines)[:400] or 'none'}", *timed],
    )


def _needs_scalars(module: Any, wanted: _Parameters, plan: Plan) -> UsageError:
    name, kind = next(iter(wanted.scalars.items()))
    lines = [_input_line(plan, wanted.scalars), *(f"--input {scalar}=VALUE" for scalar in wanted.scalars)]
    return UsageError(
        f"{_title(module)}.forward needs '{name}', which is no tensor but {kind}",
        fix=f"say what goes in, for example:  {'  '.join(filter(None, lines))}",
    )


def _input_line(plan: Plan, without: Mapping[str, str] = {}) -> str:
    specs = plan.specs(next(plan.conventional()))
    return "  ".join(f"--input '{spec}'" for spec in specs if spec.name not in without)


def _title(module: Any) -> str:
    return str(getattr(module, "original_name", type(module).__name__))
