"""What a comparison says, in plain words."""

from collections.abc import Iterator

from deploykit.timing import Comparison, Ratio


def told(made: Comparison, *, batches: int = 1) -> Iterator[str]:
    """Say of every file but the first whether it is faster, slower, or whether that can't be told.

    Args:
        made: the comparison.
        batches: of how many sizes it is one; of several each line says its own.
    """
    first = made.rows[0].artifact
    where = f"at batch {made.batch} " if batches > 1 else ""
    for row in made.rows[1:]:
        assert row.ratio is not None
        yield where + _said(row.artifact, first, row.ratio)


def _said(own: str, first: str, ratio: Ratio) -> str:
    if ratio.faster:
        return f"{own} is {times(Ratio(1 / ratio.value, 1 / ratio.high, 1 / ratio.low))} times as fast as {first}"
    if ratio.slower:
        return f"{own} is slower than {first}: a call takes {times(ratio)} times as long"
    return f"no difference between {own} and {first} can be told: a call takes {times(ratio)} times as long"


def times(ratio: Ratio) -> str:
    """Write a ratio and its interval, ``0.42 (0.40 to 0.45)``; with three decimals where the interval is narrow."""
    digits = 3 if ratio.high - ratio.low < _NARROW else 2
    return f"{ratio.value:.{digits}f} ({ratio.low:.{digits}f} to {ratio.high:.{digits}f})"


_NARROW = 0.03
