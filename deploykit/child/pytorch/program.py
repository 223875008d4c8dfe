"""The inputs of a torch.export archive: their names, sizes and the example that it carries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from deploykit.child.example import BATCH, fill
from deploykit.errors import UsageError
from deploykit.tensors import Dim, Tensors, TensorSpec


@dataclass(frozen=True)
class ProgramInputs:
    """What an exported program takes."""

    specs: tuple[TensorSpec, ...]
    example: Tensors
    arguments: Callable[[Mapping[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
    notes: tuple[str, ...]


def program_inputs(program: torch.export.ExportedProgram, asked: Sequence[TensorSpec]) -> ProgramInputs:
    """Read the inputs of an exported program; they were settled when it was exported.

    Raises:
        UsageError: the user asks for other inputs than it has.
    """
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    leaves = list(program.graph_signature.user_inputs)
    names = [leaf for leaf in leaves if isinstance(leaf, str) and isinstance(nodes[leaf].meta["val"], torch.Tensor)]
    symbols: dict[str, str] = {}
    specs = tuple(_spec(name, nodes[name].meta["val"], symbols) for name in names)
    _agree(specs, asked)
    given = program.example_inputs
    if given is None:
        sizes = {axis: BATCH if axis == "batch" else 16 for axis in symbols.values()}
        example = {spec.name: fill(spec, sizes, 2) for spec in specs}
    else:
        flat = pytree.tree_leaves(given)
        example = {
            leaf: np.asarray(value.detach().cpu().numpy())
            for leaf, value in zip(leaves, flat, strict=True)
            if leaf in names
        }
    structure = program.call_spec.in_spec

    def arguments(tensors: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        values = [tensors.get(leaf, None) if isinstance(leaf, str) else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(values, structure)
        return args, kwargs

    fixed = not any(isinstance(dim, str) for spec in specs for dim in spec.dims)
    notes = (
        ("the archive was exported with fixed sizes, and so is the artifact; dynamic_shapes at its export frees them",)
        if fixed and specs
        else ()
    )
    return ProgramInputs(specs, example, arguments, notes)


def _spec(name: str, value: torch.Tensor, symbols: dict[str, str]) -> TensorSpec:
    dims: list[Dim] = []
    for axis, size in enumerate(value.shape):
        if isinstance(size, int):
            dims.append(size)
        else:
            dims.append(symbols.setdefault(str(size), "batch" if axis == 0 else f"{name}_{axis}"))
    return TensorSpec(name, str(value.dtype).removeprefix("torch."), tuple(dims))


def _agree(specs: Sequence[TensorSpec], asked: Sequence[TensorSpec]) -> None:
    if not asked or (len(specs) == len(asked) and all(map(_same, specs, asked))):
        return
    raise UsageError(
        f"the archive takes {', '.join(map(str, specs))}, not {', '.join(map(str, asked))}",
        fix="leave --input out: a torch.export archive carries its inputs; other sizes need another torch.export",
    )


def _same(spec: TensorSpec, asked: TensorSpec) -> bool:
    """Tell whether a description says what the archive says; a dynamic axis may have another name."""
    return (spec.name, spec.dtype, len(spec.dims)) == (asked.name, asked.dtype, len(asked.dims)) and all(
        isinstance(want, str) if isinstance(dim, str) else dim == want
        for dim, want in zip(spec.dims, asked.dims, strict=True)
    )
