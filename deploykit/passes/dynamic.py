"""Compute products of matrices in integers whose ranges are found at run time: no calibration is needed."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from deploykit.errors import UsageError
from deploykit.passes import Applied, Pass, Work
from deploykit.passes._guard import Candidate, Guard, layers_of, nodes_named
from deploykit.passes._known import Known
from deploykit.quantization.reading import read
from deploykit.quantization.running import at_run_time, find_products, place_products
from deploykit.quantization.targets import Target, target_of


@dataclass(frozen=True)
class Dynamic(Pass):
    """Rounds weights to int8, and what they are multiplied with at run time: for transformers and LSTMs."""

    suffix: ClassVar[str] = "int8"
    precision: ClassVar[str] = "int8"
    lossy: ClassVar[bool] = True
    keep: tuple[str, ...] = field(default=(), metadata={"help": "nodes that stay in float, by name"})
    target: str = field(default="auto", metadata={"help": "auto, cpu or cpu-avx2"})
    time_budget: float = field(default=600.0, metadata={"help": "seconds for the search of what stays in float"})

    @property
    def hastens(self) -> bool:
        """It is, where it is for this kind of machine."""
        return True

    def check(self, *, made_up: bool) -> None:  # noqa: ARG002
        """Make sure that the target has such kernels."""
        target = target_of(self.target)
        if not target.name.startswith("cpu"):
            raise UsageError(
                f"{target.name} has no kernels with ranges at run time", fix="--target cpu, or --int8 without --dynamic"
            )

    def apply(self, source: Path, work: Work) -> Applied:
        """Write the products in integers, and give back to float what harms most while the budget is missed."""
        target = target_of(self.target)
        model = read(source)
        nodes_named(model, self.keep, source)
        products, left = find_products(model, target, self.keep)
        if not products:
            raise UsageError(
                f"there is nothing in {source.name} that has kernels with ranges at run time",
                fix="--int8 without --dynamic, with --data, for convolutions",
                details=[f"{name}: {why}" for name, why in list(left.items())[:5]],
            )
        names = frozenset(node.name for node in products)
        prepare = partial(at_run_time, target=target, names=names)
        write = partial(_write, source, target, work)
        guard = Guard(partial(read, source), prepare, work, self.time_budget, write, Known.of(self, work, target.name))
        best = guard.search(frozenset(self.keep))
        layers = tuple(layers_of(guard.read(), best, None, guard.alone))
        int8 = sum(layer.fate == "int8" for layer in layers)
        return Applied(
            best.path,
            f"{int8} of {len(layers)} layers with weights in int8, ranges at run time",
            tuple(guard.said()),
            layers,
            guard.settled,
        )


def _write(source: Path, target: Target, work: Work, excluded: frozenset[str]) -> Candidate:
    model = read(source)
    products, left = find_products(model, target, excluded)
    chosen = frozenset(node.name for node in products)
    place_products(model, products, target)
    return Candidate(work.write(model), excluded, chosen, left)
