"""What every TensorFlow source is to the worker: inputs as declared, the source itself to run, a graph to export."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from deploykit.tensors import Array, Tensors, TensorSpec

Run = Callable[[Tensors], Tensors]
"""Takes arrays by input name and gives arrays by output name."""


@dataclass(frozen=True)
class Source:
    """A source file or folder and all that the user said of how to load it."""

    path: str
    format: str
    factory: str | None = None
    factory_args: str | None = None
    trust_pickle: bool = False
    custom_objects: str | None = None
    """A Python file with the classes and functions that a Keras file names."""
    signature: str | None = None
    """The key of a SavedModel's signature, or of a TFLite file's."""
    graph_inputs: Sequence[str] = ()
    """Operations or tensors of a GraphDef that are its inputs."""
    graph_outputs: Sequence[str] = ()


@dataclass(frozen=True)
class Port:
    """An input as the source declares it."""

    name: str
    dtype: str
    """As numpy names it, or ``string``, ``resource``, ``variant``."""
    shape: tuple[int | None, ...] | None
    """None in place of a size is free; None for the whole: not even the number of axes is known."""
    assumed: bool = False
    """Whether the source does not say the dtype, and this is what most take."""


@dataclass(frozen=True)
class Frozen:
    """A graph with its weights as constants: what tf2onnx takes."""

    graph_def: Any
    inputs: Mapping[str, str]
    """The placeholder of each input, as a tensor's name: ``{"image": "image:0"}``."""
    outputs: Mapping[str, str]
    """The tensor of each output."""
    weights: Mapping[str, Array] = field(default_factory=dict)
    """Constants too large for a graph, by the name of the placeholder that stands for each."""


@dataclass(frozen=True)
class Order:
    """What to export: where the file goes, at which opset, with which inputs."""

    target: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    """Sizes where they are fixed; a name in place of a size is a dynamic axis. NHWC, as the source has them."""
    nchw: tuple[str, ...] = ()
    """Inputs of four axes that the ONNX file takes with the channels first."""


class Model(ABC):
    """A loaded source."""

    inputs: tuple[Port, ...]
    """In the source's order."""
    notes: tuple[str, ...] = ()
    """What the user should know of how it was loaded."""

    @abstractmethod
    def run(self, tensors: Tensors) -> Tensors:
        """Run the source itself; outputs by name, in the source's order. The framework's own errors pass."""

    @abstractmethod
    def variant(self, mode: str, inputs: tuple[TensorSpec, ...]) -> AbstractContextManager[Run]:
        """Give the source in other arithmetic.

        Args:
            mode: ``exact`` in float64, ``moved`` with its weights one unit in the last place away.
            inputs: what goes in.

        Raises:
            ModelError: it can't be had.
        """

    @abstractmethod
    def export(self, order: Order) -> list[str]:
        """Write the source as ONNX, large weights in a file beside it; give what there is to say of it.

        Raises:
            ModelError: it can't be exported.
        """

    def fix(self, values: Tensors) -> None:
        """Hold some inputs at a value for good: they are inputs no more.

        Raises:
            UsageError: a source of this kind can't.
        """
        raise NotImplementedError

    def quanta(self) -> dict[str, float]:
        """Give the size of one quantum of each quantized output, in the output's own unit."""
        return {}

    def limit(self) -> float | None:
        """Give the largest noise ratio of a right artifact, where the source's own arithmetic is coarse; or None."""
        return None

    def random_inputs(self) -> tuple[str, ...]:
        """List the inputs without axes that steer what is drawn at random, such as ``keep_prob``."""
        return ()


def operation(tensor: str) -> str:
    """Give the operation that a tensor's name, or a node's input, is of: ``conv`` of ``conv:0`` and of ``^conv``."""
    return tensor.removeprefix("^").partition(":")[0]
