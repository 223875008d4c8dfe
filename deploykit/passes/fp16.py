"""From float32 to float16."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from deploykit.passes import Applied, Layer, Pass, Work


@dataclass(frozen=True)
class Fp16(Pass):
    """Computes in float16 where the numbers fit and the proof holds; the rest stays in float32."""

    suffix: ClassVar[str] = "fp16"
    precision: ClassVar[str | None] = "float16"
    io: bool = field(default=False, metadata={"help": "whether inputs and outputs become float16 too"})

    def apply(self, source: Path, work: Work) -> Applied:
        """Halve it; proved where every tensor of float16 is rounded to it, which onnxruntime's CPU does not do."""
        from deploykit.halving.halve import halve
        from deploykit.rounding import FLOAT16

        made = halve(source, FLOAT16, work, ports=self.io)
        return Applied(made.path, made.done, made.notes, tuple(Layer(*fate) for fate in made.fates))
