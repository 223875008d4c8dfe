"""Spread tensors over several runs, so that those of one run stay within a memory bound."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from deploykit.errors import UsageError

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_LEAST = 1000


@dataclass(frozen=True)
class Wanted:
    """A tensor that one run gives."""

    name: str
    size: int
    """Its elements."""
    every: int
    """Of how many elements one is kept: 1 unless the tensor alone is over the bound."""


def windows(sizes: Mapping[str, int], bytes_each: Mapping[str, int], most: int) -> Iterator[tuple[Wanted, ...]]:
    """Cut tensors into windows, in order.

    Args:
        sizes: elements of each tensor.
        bytes_each: bytes that one element of it takes, on both sides together.
        most: bytes that one window may hold.
    """
    window: list[Wanted] = []
    held = 0
    for name, size in sizes.items():
        every = max(1, math.ceil(size * bytes_each[name] / most))
        needs = math.ceil(size / every) * bytes_each[name]
        if window and held + needs > most:
            yield tuple(window)
            window, held = [], 0
        window.append(Wanted(name, size, every))
        held += needs
    if window:
        yield tuple(window)


def sampled(planned: Iterable[tuple[Wanted, ...]]) -> list[str]:
    """Give the names of the tensors of which only a part is kept."""
    return [one.name for window in planned for one in window if one.every > 1]


def bytes_of(text: str | int, option: str = "--max-memory") -> int:
    """Read ``1GB``, ``512 MiB`` or a number of bytes.

    Raises:
        UsageError: it is none, or too small to hold anything.
    """
    match = re.fullmatch(r"\s*(?P<number>\d+(?:\.\d*)?)\s*(?P<unit>[a-zA-Z]*)\s*", str(text))
    if match is None or match["unit"].lower() not in _UNITS:
        raise UsageError(f"'{text}' is no amount of memory", fix=f"{option} 1GB, or 500MB")
    found = int(float(match["number"]) * _UNITS[match["unit"].lower()])
    if found < _LEAST:
        raise UsageError(f"{text} is too little memory to hold a tensor", fix=f"{option} 1GB, or 500MB")
    return found
