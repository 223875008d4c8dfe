"""Take out of a graph what it does not need."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploykit.passes import Applied, Pass, Work


@dataclass(frozen=True)
class Simplify(Pass):
    """Folds, merges and removes nodes; what the model answers stays the same.

    A rewrite that breaks the model is left out, and the notes say so.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"float32", "float16", "int8", "int4"})
    suffix: ClassVar[str] = "simplified"
    without: tuple[str, ...] = ()
    """Names of rewrites to leave out."""

    def __post_init__(self) -> None:
        """Make sure that there are rewrites of these names, before anything runs."""
        from deploykit.rewrites import check_names

        check_names(self.without)

    def apply(self, source: Path, work: Work) -> Applied:
        """Rewrite the graph, with all rewrites but those that break it."""
        tried = _Tried(source, work)
        made, used = tried.without(self.without)
        if work.judge(made.path).passed or not used:
            return made
        work.step(f"{source.name} is not the same model after all rewrites: trying which it is")
        left_out = tried.guilty(self.without, used)
        better, _ = tried.without((*self.without, *left_out))
        why = "; ".join(check.said for check in work.judge(made.path).failures[:1])
        notes = (f"left out {', '.join(left_out)}: with {'it' if len(left_out) == 1 else 'them'} {why}",)
        return Applied(better.path, better.done, notes) if left_out else made


@dataclass(frozen=True)
class _Tried:
    """Files made of one source with some of the rewrites."""

    source: Path
    work: Work

    def without(self, names: Iterable[str]) -> tuple[Applied, tuple[str, ...]]:
        """Rewrite with all but these, and say which of the others did something."""
        from deploykit.onnx_io import every_node, load
        from deploykit.rewrites import rewrite

        model = load(self.source)
        before = len(list(every_node(model)))
        used = rewrite(model, frozenset(names))
        after = len(list(every_node(model)))
        return Applied(self.work.write(model), f"{before} nodes became {after}"), used

    def guilty(self, known: tuple[str, ...], used: tuple[str, ...]) -> tuple[str, ...]:
        """Find the rewrites without which the model stays the same: one, or as few as can be; none if it never is."""
        for name in used:
            if self._passes((*known, name)):
                return (name,)
        if not self._passes((*known, *used)):
            return ()
        left_out = list(used)
        for name in used:
            fewer = [one for one in left_out if one != name]
            if self._passes((*known, *fewer)):
                left_out = fewer
        return tuple(left_out)

    def _passes(self, names: tuple[str, ...]) -> bool:
        return self.work.judge(self.without(names)[0].path).passed
