"""From float32 to bfloat16."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploykit.passes import Applied, Layer, Pass, Work


@dataclass(frozen=True)
class Bf16(Pass):
    """Computes in bfloat16 where the proof holds, for TensorRT; all numbers fit, with 8 bits of precision."""

    suffix: ClassVar[str] = "bf16"
    precision: ClassVar[str | None] = "bfloat16"

    def apply(self, source: Path, work: Work) -> Applied:
        """Halve it; onnxruntime computes in float32 and rounds every tensor of bfloat16 to it."""
        from deploykit.halving.halve import halve
        from deploykit.rounding import BFLOAT16

        made = halve(source, BFLOAT16, work, ports=False)
        return Applied(made.path, made.done, made.notes, tuple(Layer(*fate) for fate in made.fates))
