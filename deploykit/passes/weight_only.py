"""Keep weights in 8 or 4 bits, and compute in float: for models whose time goes into reading their weights."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from deploykit.errors import UsageError
from deploykit.passes import Applied, Pass, Work
from deploykit.passes._guard import Candidate, Guard, check_seconds, layers_of, nodes_named
from deploykit.passes._known import Known
from deploykit.quantization.blocks import blocks_stand_in, find_matrices, place_blocks
from deploykit.quantization.reading import read
from deploykit.quantization.sensitivity import Switchable
from deploykit.quantization.tables import find_tables, place_row_blocks, tables_stand_in
from deploykit.quantization.targets import target_of
from deploykit.quantization.weighted import Model

_BLOCKS = (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class WeightOnly(Pass):
    """Rounds the weights of large products, and tables of words, in blocks, for onnxruntime's MatMulNBits."""

    suffix: ClassVar[str] = "weights"
    lossy: ClassVar[bool] = True
    bits: int = field(default=4, metadata={"help": "8 or 4"})
    block: int = field(default=32, metadata={"help": "weights that share a scale: 16, 32, 64, 128 or 256"})
    keep: tuple[str, ...] = field(default=(), metadata={"help": "nodes that stay in float, by name"})
    time_budget: float = field(default=600.0, metadata={"help": "seconds for the search of what stays in float"})

    @property
    def precision(self) -> str:
        """Named by the bits of the weights."""
        return f"int{self.bits}"

    @property
    def hastens(self) -> bool:
        """It is, where it is for this kind of machine."""
        return True

    def check(self, *, made_up: bool) -> None:  # noqa: ARG002
        """Make sure that there is a kernel for such blocks."""
        check_seconds(self.time_budget)
        if self.bits not in (4, 8) or self.block not in _BLOCKS:
            raise UsageError(
                f"there are no weights of {self.bits} bits in blocks of {self.block}",
                fix=f"8 or 4 bits, blocks of {', '.join(map(str, _BLOCKS))}",
            )

    def apply(self, source: Path, work: Work) -> Applied:
        """Write the weights in blocks, and give back to float what harms most while the budget is missed."""
        model = read(source)
        nodes_named(model, self.keep)
        nodes, left = find_matrices(model, target_of("cpu"), self.keep)
        if not nodes:
            raise UsageError(
                f"there is no product with a large constant matrix in {source.name}",
                fix="--int8 --data calib.npz, for convolutions",
                details=[f"{name}: {why}" for name, why in list(left.items())[:5]],
            )
        tables = find_tables(model, nodes, self.keep, self.block)
        prepare = partial(self._stand_in, [node.name for node in nodes], [node.name for node in tables])
        write = partial(self._write, source, work)
        guard = Guard(partial(read, source), prepare, work, self.time_budget, write, Known.of(self, work))
        best = guard.search(frozenset(self.keep))
        told = layers_of(guard.read(), best, None, guard.alone)
        layers = tuple(replace(one, fate=self.precision) if one.fate == "int8" else one for one in told)
        done = sum(layer.fate == self.precision for layer in layers)
        words = f"{done} of {len(layers)} layers have weights of {self.bits} bits, in blocks of {self.block}"
        return Applied(best.path, words, tuple(guard.said()), layers, guard.settled)

    def _write(self, source: Path, work: Work, excluded: frozenset[str]) -> Candidate:
        model = read(source)
        nodes, left = find_matrices(model, target_of("cpu"), excluded)
        tables = find_tables(model, nodes, excluded, self.block)
        chosen = frozenset(node.name for node in (*nodes, *tables))
        place_row_blocks(model, tables, self.bits, self.block)
        place_blocks(model, nodes, self.bits, self.block)
        return Candidate(work.write(model), excluded, chosen, left)

    def _stand_in(self, names: Collection[str], tables: Collection[str], model: Model) -> list[Switchable]:
        rows = [node for node in model.graph if node.name in tables]
        matrices = blocks_stand_in(model, target_of("cpu"), names, self.bits, self.block)
        return [*matrices, *tables_stand_in(model, rows, self.bits, self.block)]
