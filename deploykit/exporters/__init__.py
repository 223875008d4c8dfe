"""Exporters: what turns a running source into an ONNX file. One file each; each holds one frozen dataclass."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, Session
from deploykit.plugin import Registry

OPSET = 20
"""What onnxruntime since 1.17 and TensorRT since 10.5 both take."""


@dataclass(frozen=True)
class Exporter(ABC):
    """Turns a running source into an ONNX file, in one or several ways."""

    formats: ClassVar[frozenset[Format]]
    newest: ClassVar[int] = 1000
    """The newest opset that it writes itself; what is asked beyond that, onnx converts to."""
    exporter: str = field(default="auto", metadata={"help": "which of the framework's exporters; auto tries each"})
    opset: int = field(default=OPSET, metadata={"help": "ai.onnx opset to write"})

    @abstractmethod
    def ways(self, source: Format) -> tuple[str, ...]:
        """List the ways to export a source, the preferred one first.

        Raises:
            UsageError: there is no such exporter, or it does not take this format or opset.
        """

    @abstractmethod
    def export(self, session: Session, target: Path, way: str) -> list[str]:
        """Write the source as ONNX in one way; weights may lie in a file beside the target.

        Returns:
            What the user should know of it.

        Raises:
            ModelError: it can't be done so.
        """

    def reproducer(self, source: Artifact, asked: Asked, session: Session) -> str | None:  # noqa: ARG002
        """Give a script that shows a failing export without deploykit, or None where none is needed."""
        return None


EXPORTERS = Registry("deploykit.exporters", Exporter, "exporter")
