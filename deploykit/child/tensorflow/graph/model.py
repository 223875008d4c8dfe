"""A source that can be frozen into a graph: all of TensorFlow but TFLite."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from deploykit.child.tensorflow.export.to_onnx import to_onnx
from deploykit.child.tensorflow.graph.cutting import apart
from deploykit.child.tensorflow.graph.exact import in_float64, moved
from deploykit.child.tensorflow.graph.session import running
from deploykit.child.tensorflow.model import Frozen, Model, Order, Run
from deploykit.tensors import TensorSpec


class GraphModel(Model):
    """A source that can be frozen into a graph: all of TensorFlow but TFLite."""

    @abstractmethod
    def freeze(self, inputs: tuple[TensorSpec, ...]) -> Frozen:
        """Give the graph with its weights as constants, traced with these inputs where it has to be traced."""

    @contextmanager
    def variant(self, mode: str, inputs: tuple[TensorSpec, ...]) -> Iterator[Run]:
        """Give the frozen graph in float64, or with its weights moved."""
        with running(self._changed(mode, inputs)) as run:
            yield run

    def _changed(self, mode: str, inputs: tuple[TensorSpec, ...]) -> Frozen:
        frozen = apart(self.freeze(inputs))
        return in_float64(frozen) if mode == "exact" else moved(frozen, seed=1)

    def export(self, order: Order) -> list[str]:
        """Write the frozen graph with tf2onnx."""
        return to_onnx(self.freeze(order.inputs), order)
