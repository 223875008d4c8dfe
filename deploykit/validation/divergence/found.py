"""What was found: each tensor of the artifact that has a counterpart in the reference, and where they part."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A tensor of the artifact, held against its counterpart in the reference."""

    tensor: str
    node: str
    """Name of the node that gives it."""
    operator: str
    module: str
    """Path of the module that it is from, ``encoder.layer.3.attention.output``; empty where the file does not say."""
    line: str
    """The line of Python that it is from, ``net.py:41  x = self.dense(x)``; empty where the file does not say."""
    counterpart: str
    """What it is called in the reference."""
    matched: str
    """How the counterpart was found: by ``name``, ``structure``, ``scope`` or ``value``."""
    error: float
    """RMS error against the reference, in relation to the RMS of its values."""
    floor: float
    """The reference's own RMS error, in the same unit."""
    ratio: float
    """The noise ratio: error over floor, of the whole or of the largest element, whichever is worse."""
    before: float
    """The largest noise ratio of what it is computed from; 0 where that is not known."""
    growth: float
    """By what factor it makes the error larger than it comes in, beyond what the reference's own noise grows."""
    form: str = ""
    """How its shape differs from its counterpart's, where it does; the error is infinite then."""


@dataclass(frozen=True)
class Divergence:
    """Where an artifact and its reference part."""

    steps: tuple[Layer, ...]
    """Every tensor that has a counterpart, in the order of execution."""
    first: Layer | None
    """The first that leaves the noise floor; None where none does."""
    last_right: Layer | None
    """What it is computed from, and still agrees; None where nothing of that kind was matched."""
    between: tuple[str, ...]
    """Nodes between the two that have no counterpart: the fault may be in one of them."""
    limit: float
    """The noise ratio up to which a tensor agrees."""
    tensors: int
    """Real tensors that the artifact computes, matched or not."""
    windows: int
    """Runs that the tensors were spread over, to keep within the memory bound."""
    peak_bytes: int
    """The most bytes of tensors that one window held, of both sides."""
    notes: tuple[str, ...] = ()
