"""Sizes of axes that are not known before a model runs: sums of products of symbols, such as ``2*batch*seq+1``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Monomial: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Sum:
    """A polynomial with whole coefficients over symbols, each of them a size, and so 0 or more."""

    terms: tuple[tuple[Monomial, int], ...]
    """Each product of symbols, in order, with its factor; at least one has a symbol."""

    def __add__(self, other: "Size") -> "Size":
        """Add, to a number too: arrays of sizes are added by numpy."""
        return _sum([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __sub__(self, other: "Size") -> "Size":
        """Subtract."""
        return self + other * -1

    def __rsub__(self, other: int) -> "Size":
        """Subtract from a number."""
        return self * -1 + other

    def __mul__(self, other: "Size") -> "Size":
        """Multiply."""
        pairs = ((one, two) for one in self.terms for two in _terms(other))
        return _sum((tuple(sorted(one[0] + two[0])), one[1] * two[1]) for one, two in pairs)

    __rmul__ = __mul__

    def __str__(self) -> str:
        """Write it, the same for the same polynomial."""
        return "+".join("*".join([*([str(factor)] if factor != 1 or not names else []), *names])
                        for names, factor in self.terms)  # fmt: skip

    @property
    def symbol(self) -> str | None:
        """The symbol, where it is nothing but one."""
        (names, factor), *more = self.terms
        return names[0] if not more and factor == 1 and len(names) == 1 else None

    @property
    def positive(self) -> bool:
        """Whether it can't be negative, whatever the symbols are."""
        return all(factor >= 0 for _, factor in self.terms)


Size: TypeAlias = int | Sum


def symbol(name: str) -> Sum:
    """Give the size that has a name."""
    return Sum((((name,), 1),))


def quotient(size: Size, by: Size) -> Size | None:
    """Divide by a product where nothing is left over; None where that can't be told."""
    if isinstance(size, int) and isinstance(by, int):
        return size // by if by and size % by == 0 else None
    divisors = _terms(by)
    if len(divisors) != 1 or not divisors[0][1]:
        return None
    parts = [_divided(term, divisors[0]) for term in _terms(size)]
    return None if None in parts else _sum(part for part in parts if part is not None)


def product(sizes: Iterable[Size]) -> Size:
    """Multiply sizes."""
    result: Size = 1
    for size in sizes:
        result = result * size
    return result


def _divided(term: tuple[Monomial, int], by: tuple[Monomial, int]) -> tuple[Monomial, int] | None:
    left = list(term[0])
    for name in by[0]:
        if name not in left:
            return None
        left.remove(name)
    return (tuple(left), term[1] // by[1]) if term[1] % by[1] == 0 else None


def _terms(size: Size) -> tuple[tuple[Monomial, int], ...]:
    return size.terms if isinstance(size, Sum) else (((), int(size)),)


def _sum(terms: Iterable[tuple[Monomial, int]]) -> Size:
    total: dict[Monomial, int] = {}
    for names, factor in terms:
        total[names] = total.get(names, 0) + factor
    return _size({names: factor for names, factor in total.items() if factor})


def _size(terms: Mapping[Monomial, int]) -> Size:
    if not set(terms) - {()}:
        return terms.get((), 0)
    return Sum(tuple(sorted(terms.items())))
