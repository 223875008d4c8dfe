"""How much is done for the accuracy of integers, as data: each effort is one row."""

from dataclasses import dataclass

from deploykit.errors import UsageError, nearest


@dataclass(frozen=True)
class Effort:
    """What is done before layers go back to float."""

    name: str
    says: str
    """In words, for the user."""
    method: str = "auto"
    """Of calibration, where the user names none."""
    searches: bool = True
    """Whether the scales of weights are searched for, and biases make up for what rounding shifts."""
    evens: bool = True
    """Whether the channels of tensors are evened (``evening``)."""
    settles: bool = False
    """Whether weights are rounded by what it does to the output (``descent``)."""


EFFORTS = {
    one.name: one
    for one in (
        Effort("low", "ranges and scales of the first look", method="mse", searches=False, evens=False),
        Effort("normal", "scales searched for, biases corrected, channels evened"),
        Effort("high", "weights rounded by what it does to the output, too: minutes", settles=True),
    )
}


def effort_of(name: str) -> Effort:
    """Give what an effort does.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in EFFORTS:
        raise UsageError(f"there is no effort '{name}'{nearest(name, EFFORTS)}", fix=f"--effort {', '.join(EFFORTS)}")
    return EFFORTS[name]
