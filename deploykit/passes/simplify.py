"""Take out of a graph what it does not need."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploykit.passes import Applied, Pass, Work


@dataclass(frozen=True)
class Simplify(Pass):
    """Folds, merges and removes nodes; what the model answers stays the same."""

    accepts: ClassVar[frozenset[str]] = frozenset({"float32", "float16", "int8", "int4"})
    suffix: ClassVar[str] = "simplified"

    def apply(self, source: Path, work: Work) -> Applied:
        """Remove what nothing reads, and what is there twice."""
        from onnx_ir.passes import Sequential
        from onnx_ir.passes.common import (
            CommonSubexpressionEliminationPass,
            DeduplicateInitializersPass,
            IdentityEliminationPass,
            RemoveUnusedNodesPass,
        )

        from deploykit.onnx_io import load

        model = load(source)
        before = sum(1 for _ in model.graph.all_nodes())
        rewrites = (
            IdentityEliminationPass(),
            CommonSubexpressionEliminationPass(),
            DeduplicateInitializersPass(),
            RemoveUnusedNodesPass(),
        )
        model = Sequential(*rewrites)(model).model
        after = sum(1 for _ in model.graph.all_nodes())
        return Applied(work.write(model), f"{before} nodes became {after}")
