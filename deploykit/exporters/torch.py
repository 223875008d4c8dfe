"""Export PyTorch sources with torch's own exporters, in the child process that holds the source."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, Session, described
from deploykit.backends._child import ChildSession
from deploykit.backends.torch import Torch
from deploykit.errors import UsageError, nearest
from deploykit.exporters import Exporter

_WAYS = ("dynamo", "torchscript")
_DYNAMO_OPSET = 18
_TORCHSCRIPT_OPSET = 20


@dataclass(frozen=True)
class TorchExporter(Exporter):
    """``torch.onnx.export``: dynamo first, tracing where that fails; TorchScript archives are traced."""

    formats: ClassVar[frozenset[Format]] = Torch.formats

    def ways(self, source: Format) -> tuple[str, ...]:
        """List the exporters that can take a format at the opset asked for."""
        possible = {
            Format.TORCH_EXPORT: ("dynamo",),
            Format.TORCHSCRIPT: ("torchscript", "frozen"),
        }.get(source, _WAYS)
        if self.exporter not in ("auto", *_WAYS):
            raise UsageError(
                f"there is no exporter '{self.exporter}'{nearest(self.exporter, _WAYS)}",
                fix="--exporter auto, dynamo or torchscript",
            )
        if self.exporter != "auto" and self.exporter not in possible:
            raise UsageError(f"{source} is not taken by the {self.exporter} exporter", fix=f"--exporter {possible[0]}")
        chosen = possible if self.exporter == "auto" else (self.exporter,)
        fitting = tuple(way for way in chosen if self._fits(way))
        if not fitting:
            raise UsageError(
                f"the {chosen[0]} exporter does not write opset {self.opset}",
                fix=f"dynamo writes opset {_DYNAMO_OPSET} and newer, torchscript 7 to {_TORCHSCRIPT_OPSET}",
            )
        return fitting

    def _fits(self, way: str) -> bool:
        return self.opset >= _DYNAMO_OPSET if way == "dynamo" else self.opset <= _TORCHSCRIPT_OPSET

    def export(self, session: Session, target: Path, way: str) -> list[str]:
        """Have the child write the source."""
        assert isinstance(session, ChildSession)
        return session.export(target, way, self.opset)

    def reproducer(self, source: Artifact, asked: Asked, session: Session) -> str | None:
        """Give a script that loads the source and calls ``torch.onnx.export`` on it, and nothing else."""
        sizes = session.sizes()
        tensors = [_tensor(str(spec.dtype), spec.sized(sizes)) for spec in session.signature.inputs]
        names = [spec.name for spec in session.signature.inputs]
        _, fixed = described(asked)
        return _SCRIPT.format(
            source=source.path.name,
            load=_load(source, asked),
            inputs=", ".join(f'"{name}": {tensor}' for name, tensor in zip(names, tensors, strict=True)),
            fixed="".join(f', "{name}": {text}' for name, text in fixed.items()),
            opset=self.opset,
            call='model, tuple(inputs.values()), "model.onnx", dynamo=False'
            if source.format is Format.TORCHSCRIPT
            else 'model, kwargs=inputs, f="model.onnx", dynamo=True',
        )


def _tensor(dtype: str, shape: tuple[int, ...]) -> str:
    return f"torch.ones({list(shape)}, dtype=torch.{dtype})"


def _load(source: Artifact, asked: Asked) -> str:
    path = str(source.path.resolve())
    if source.format is Format.TORCHSCRIPT:
        return f'model = torch.jit.load("{path}", map_location="cpu")'
    if source.format is Format.TORCH_EXPORT:
        return f'model = torch.export.load("{path}").module()'
    if asked.factory is None:
        return f'model = torch.load("{path}", map_location="cpu", weights_only=False)'
    place, _, name = asked.factory.rpartition(":")
    if place.endswith(".py"):
        file = Path(place).resolve()
        imported = f'import sys\n\nsys.path.insert(0, "{file.parent}")\nfrom {file.stem} import {name}'
    else:
        imported = f"from {place} import {name}"
    arguments = f"**{asked.factory_args}" if asked.factory_args else ""
    return f"{imported}\n\nmodel = {name}({arguments})  # the export does not depend on the weights"


_SCRIPT = '''"""Shows what stops the export of {source}, without deploykit."""

import torch

{load}
model.eval()
inputs = {{{inputs}{fixed}}}
torch.onnx.export({call}, opset_version={opset})
'''
