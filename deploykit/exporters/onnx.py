"""Take an ONNX file as the source: check it, and raise its opset where that is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploykit.artifact import Format
from deploykit.backends import Session
from deploykit.backends.onnxruntime import OrtSession
from deploykit.errors import UsageError
from deploykit.exporters import Exporter


@dataclass(frozen=True)
class OnnxExporter(Exporter):
    """An ONNX file as it is; the runner checks it, sets its versions and proves it."""

    formats: ClassVar[frozenset[Format]] = frozenset({Format.ONNX})

    def ways(self, source: Format) -> tuple[str, ...]:
        """There is one way: to copy it."""
        if self.exporter not in ("auto", "onnx"):
            raise UsageError(f"{source} needs no exporter '{self.exporter}'", fix="leave --exporter out")
        return ("onnx",)

    def export(self, session: Session, target: Path, way: str) -> list[str]:  # noqa: ARG002
        """Write the source again at the target; its weights are streamed, not held."""
        from deploykit.onnx_io import load, save

        assert isinstance(session, OrtSession)
        session.unload()  # the weights are read here, and need not be there twice
        save(load(session.path), target, external=True)  # so that who reads it again need not hold the weights
        return []
