"""The source in float64 arithmetic, and the source moved by one unit in the last place: two ways to the noise floor."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_REAL = (torch.float32, torch.float16, torch.bfloat16)


@contextmanager
def in_float64(model: Any) -> Iterator[None]:
    """Run a module in float64: its weights in place, the default dtype, and the dtypes that an exported graph names.

    The memory it takes is that of the weights in float64, and no copy beside it. Afterwards every tensor has its own
    dtype again, with the value it had: float32 to float64 and back loses nothing.
    """
    kept = {
        id(tensor): (tensor, tensor.dtype)
        for tensor in (*model.parameters(), *model.buffers())
        if tensor.dtype in _REAL
    }
    default = torch.get_default_dtype()
    nodes = [(node, node.args, node.kwargs) for node in _named_dtypes(model)]
    try:
        for tensor, _ in kept.values():
            tensor.data = tensor.data.double()
        torch.set_default_dtype(torch.float64)
        for node, args, kwargs in nodes:
            node.args, node.kwargs = _swapped(args, _UP), _swapped(kwargs, _UP)
        if nodes:
            model.recompile()
        yield
    finally:
        torch.set_default_dtype(default)
        for node, args, kwargs in nodes:
            node.args, node.kwargs = args, kwargs
        if nodes:
            model.recompile()
        for tensor, dtype in kept.values():
            tensor.data = tensor.data.to(dtype)


_UP = dict.fromkeys(_REAL, torch.float64)


def _named_dtypes(model: Any) -> list[Any]:
    if not isinstance(model, torch.fx.GraphModule):
        return []
    return [
        node
        for node in model.graph.nodes
        if any(part in _UP for part in (*node.args, *node.kwargs.values()) if isinstance(part, torch.dtype))
    ]


def _swapped(arguments: Any, table: dict[torch.dtype, torch.dtype]) -> Any:
    return torch.fx.node.map_aggregate(arguments, lambda part: table.get(part, part) if _is_dtype(part) else part)


def _is_dtype(part: Any) -> bool:
    return isinstance(part, torch.dtype)


@contextmanager
def weights_moved(model: Any, seed: int) -> Iterator[None]:
    """Move every real weight to a neighbouring number of its dtype, up or down by chance, and back afterwards."""
    weights = [
        (tensor, seed + zlib.crc32(name.encode()))
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if tensor.dtype in _REAL
    ]
    for tensor, own in weights:
        tensor.data = moved(tensor.data, own)
    try:
        yield
    finally:
        for tensor, own in weights:
            tensor.data = moved(tensor.data, own, back=True)


def moved(tensor: torch.Tensor, seed: int, *, back: bool = False) -> torch.Tensor:
    """Give the tensor with each real value at a neighbouring number, up or down by chance; zeros stay.

    With ``back`` it undoes the same call without: the smallest numbers, which moving turned to zero, stay zero.
    """
    if tensor.dtype not in _REAL:
        return tensor
    generator = torch.Generator().manual_seed(seed % 2**31)
    up = torch.rand(tensor.shape, generator=generator) < 0.5  # noqa: PLR2004
    towards = torch.where(up != back, torch.inf, -torch.inf).to(tensor.dtype)
    return torch.where(tensor == 0, tensor, torch.nextafter(tensor, towards))
