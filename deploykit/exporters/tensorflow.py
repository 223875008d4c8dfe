"""Export TensorFlow, Keras and TFLite sources with tf2onnx, in the child process that holds the source."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploykit.artifact import Format
from deploykit.backends import Session
from deploykit.backends._child import ChildSession
from deploykit.backends.tensorflow import TensorFlow
from deploykit.errors import UsageError, nearest
from deploykit.exporters import Exporter

_WAYS = ("tf2onnx",)
_OLDEST_OPSET = 13


@dataclass(frozen=True)
class TensorFlowExporter(Exporter):
    """tf2onnx, on the frozen graph of the source, or on the TFLite file."""

    formats: ClassVar[frozenset[Format]] = TensorFlow.formats
    newest: ClassVar[int] = 18

    def ways(self, source: Format) -> tuple[str, ...]:
        """List the exporters that can take a format at the opset asked for: there is one."""
        if self.exporter not in ("auto", *_WAYS):
            raise UsageError(
                f"{source} is not taken by an exporter '{self.exporter}'{nearest(self.exporter, _WAYS)}",
                fix="--exporter tf2onnx, or leave it out",
            )
        if self.opset < _OLDEST_OPSET:
            raise UsageError(
                f"{source} is exported at opset {_OLDEST_OPSET} and newer, not {self.opset}",
                fix=f"--opset {_OLDEST_OPSET}",
            )
        return _WAYS

    def export(self, session: Session, target: Path, way: str) -> list[str]:
        """Have the child write the source."""
        assert isinstance(session, ChildSession)
        return session.export(target, way, self.opset)
