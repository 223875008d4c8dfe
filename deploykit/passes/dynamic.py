"""Compute products of matrices in integers whose ranges are found at run time: no calibration is needed."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from deploykit.errors import UsageError
from deploykit.passes import Applied, Pass, Work
from deploykit.passes._draft import Contest, written_aside
from deploykit.passes._guard import Candidate, Guard, check_seconds, layers_of, nodes_named
from deploykit.passes._known import Known
from deploykit.quantization.evening import even
from deploykit.quantization.reading import read
from deploykit.quantization.running import at_run_time, find_products, place_products
from deploykit.quantization.sensitivity import Switchable
from deploykit.quantization.tables import find_tables, place_rows, tables_stand_in
from deploykit.quantization.targets import Target, target_of
from deploykit.quantization.weighted import Model, Node


@dataclass(frozen=True)
class Dynamic(Pass):
    """Rounds weights and tables of words to int8, and what weights meet at run time: for transformers and LSTMs."""

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
        check_seconds(self.time_budget)
        target = target_of(self.target)
        if not target.name.startswith("cpu"):
            raise UsageError(
                f"{target.name} has no kernels with ranges at run time", fix="--target cpu, or --int8 without --dynamic"
            )

    def apply(self, source: Path, work: Work) -> Applied:
        """Write the products in integers, and give back to float what harms most while the budget is missed."""
        target = target_of(self.target)
        model = read(source)
        nodes_named(model, self.keep)
        products, left = find_products(model, target, self.keep)
        if not products:
            raise UsageError(
                f"there is nothing in {source.name} that has kernels with ranges at run time",
                fix="--int8 without --dynamic, with --data, for convolutions",
                details=[f"{name}: {why}" for name, why in list(left.items())[:5]],
            )
        products_, rows = (
            frozenset(map(_name, products)),
            frozenset(map(_name, find_tables(model, products, self.keep))),
        )
        contest = Contest(_Products(source, target), work, frozenset(self.keep))
        if not work.made_up:  # which channels are large is to be seen in samples as they are in use
            contest.tried(_smoothed(contest.best, products_, work))
        read_best = partial(read, contest.best.source)
        prepare = partial(_stand_in, target=target, products=products_, tables=rows)
        known = Known.of(self, work, target.name)
        guard = Guard(read_best, prepare, work, self.time_budget, contest.write, known)
        best = guard.search(frozenset(self.keep))
        layers = tuple(layers_of(guard.read(), best, None, guard.alone))
        int8 = sum(layer.fate == "int8" for layer in layers)
        return Applied(
            best.path,
            f"{int8} of {len(layers)} layers with weights in int8, ranges at run time",
            (*contest.said(), *guard.said()),
            layers,
            guard.settled,
        )


@dataclass(frozen=True)
class _Products:
    source: Path
    target: Target
    did: tuple[str, ...] = ()

    def write(self, work: Work, excluded: frozenset[str]) -> Candidate:
        model = read(self.source)
        products, left = find_products(model, self.target, excluded)
        tables = find_tables(model, products, excluded)
        chosen = frozenset(map(_name, (*products, *tables)))
        place_rows(model, tables)
        place_products(model, products, self.target)
        return Candidate(work.write(model), excluded, chosen, left)


def _smoothed(draft: _Products, names: frozenset[str], work: Work) -> _Products | None:
    model, done = even(partial(read, draft.source), names, draft.target, work.calls, work.folder, work.step)
    return replace(draft, source=written_aside(model, work), did=(done.said,)) if done.said else None


def _stand_in(model: Model, target: Target, products: Collection[str], tables: Collection[str]) -> list[Switchable]:
    rows = [node for node in model.graph if node.name in tables]
    return [*at_run_time(model, target, products), *tables_stand_in(model, rows)]


def _name(node: Node) -> str:
    return str(node.name)
