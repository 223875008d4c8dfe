"""Run TensorFlow, Keras and TFLite sources in a child process, and export them there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, Backend, described
from deploykit.backends._child import ChildSession, example_from
from deploykit.child import Child, Step, silent
from deploykit.errors import require
from deploykit.tensors import TensorSpec


@dataclass(frozen=True)
class TensorFlow(Backend):
    """TensorFlow on the CPU, Keras and the TFLite interpreter with it, in a process of its own."""

    formats: ClassVar[frozenset[Format]] = frozenset(
        {Format.SAVED_MODEL, Format.KERAS, Format.KERAS_H5, Format.GRAPH_DEF, Format.TFLITE}
    )

    @contextmanager
    def load(self, artifact: Artifact, asked: Asked, step: Step = silent) -> Iterator[ChildSession]:
        """Start the child, load the source in it, settle its inputs and run it once."""
        if asked.python is None:
            require("tensorflow")
            require("tf2onnx")
        folder = str(artifact.path.resolve().parent)
        with Child("tensorflow", python=asked.python, paths=(folder,), step=step) as child:
            inputs = self._load(child, artifact, asked)
            data = example_from(asked, [TensorSpec.parse(text) for text in inputs], child)
            yield ChildSession(child, child.call("start", "running the source once", data=data))

    def _load(self, child: Child, artifact: Artifact, asked: Asked) -> list[str]:
        """Have the source loaded, and give its inputs as text."""
        specs, fixed = described(asked)
        source = {
            "path": str(artifact.path),
            "format": str(artifact.format),
            "factory": asked.factory,
            "factory_args": asked.factory_args,
            "trust_pickle": asked.trust_pickle,
            "custom_objects": asked.custom_objects,
            "signature": asked.signature,
            "graph_inputs": list(asked.graph_inputs),
            "graph_outputs": list(asked.graph_outputs),
        }
        inputs: list[str] = child.call(
            "load",
            f"loading {artifact.path.name} in tensorflow",
            source=source,
            inputs=[str(spec) for spec in specs],
            fixed=fixed,
            static=asked.static,
            nchw=asked.layout == "nchw",
        )
        return inputs
