"""Match what a PyTorch source gives, module by module, with the tensors of an ONNX file made of it.

Values come first: a tensor whose fingerprint agrees is the same tensor. What is wrong agrees with nothing, and there
the exporter's own notes tell which module and which operation of it a node was made from.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from deploykit.child.heard import Heard
from deploykit.child.prints import Print
from deploykit.validation.divergence.graph import Graph, Step
from deploykit.validation.divergence.structure import Match

ALIKE = 1e-3
"""How far fingerprints of the same tensor may be apart: it only has to be known again, errors are judged later."""
_TIGHT = 1e-5
"""How far they are apart where nothing is wrong; a normalization may change its input by little more."""

_FOLDED = re.compile(r"BatchNorm|InstanceNorm|Dropout|Identity")
"""Classes of modules that a converter may work into the weights of the module before, or leave out."""
_MOVES = frozenset({"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Cast"})
"""What gives the values that go in: such tensors may have a counterpart in common."""
_SAME_OPERATORS = {"concat": "cat", "gemm": "addmm", "conv": "convolution", "conv2d": "convolution"}


@dataclass(frozen=True)
class Tap(Heard):
    """A tensor that the source gave while it ran, and its fingerprint."""

    print: Print


def match_modules(graph: Graph, taps: Sequence[Tap], prints: Mapping[str, Print]) -> dict[str, Match]:
    """Find which of the source's tensors each tensor of an artifact is.

    Args:
        graph: the artifact's.
        taps: what the source gave, in order.
        prints: fingerprints of the artifact's real tensors, by name, in order.

    Returns:
        For each tensor that has a counterpart, its key and how it was found.
    """
    found = _Scopes(graph, prints)
    for tap in taps:
        found.output(tap)
    modules = _folded(graph, [tap for tap in _modules(taps) if tap.print.shape])
    for tap in modules:
        found.by_value(tap, found.within(tap.path))
    for tap in taps:
        found.by_value(tap, found.named(tap))
    found.anywhere([tap for tap in taps if tap.print.telling])
    for tap in modules:
        found.by_place(tap)
    found.by_operator([tap for tap in taps if tap.kind in ("operation", "node")])
    return found.same


def _modules(taps: Sequence[Tap]) -> Iterator[Tap]:
    """Give the first tensor of every module that ran once; of an exported graph, the last node of each module."""
    calls: dict[str, int] = {}
    last: dict[str, Tap] = {}
    for tap in taps:
        calls[tap.path] = max(calls.get(tap.path, 0), tap.call if tap.kind == "module" else 0)
        if tap.kind == "node" and tap.key.endswith(" 0") and not tap.name.startswith("getitem"):
            last[tap.path] = tap
    whole = [tap for tap in taps if tap.kind == "module" and tap.key.endswith(" 0") and not calls[tap.path]]
    yield from (tap for tap in (*whole, *last.values()) if tap.path)


def _folded(graph: Graph, modules: list[Tap]) -> list[Tap]:
    """Put a normalization in the place of the module before it, where the file has no node of its own for it."""
    paths = {step.module for step in graph.steps}
    by_key = {tap.key: tap for tap in modules}
    gone: set[str] = set()
    placed: dict[str, str] = {}
    for tap in modules:
        before = by_key.get(tap.after)
        if _FOLDED.search(tap.name) and before is not None and not _has(paths, tap.path):
            placed[tap.key] = placed.get(before.key, before.path)
            gone.add(before.key)
    return [replace(tap, path=placed.get(tap.key, tap.path)) for tap in modules if tap.key not in gone]


def _has(paths: set[str], path: str) -> bool:
    return any(one == path or one.startswith(f"{path}.") for one in paths)


@dataclass
class _Scopes:
    """What is matched so far."""

    graph: Graph
    prints: Mapping[str, Print]
    same: dict[str, Match] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    """Keys of the source's tensors that are matched."""
    seen: set[Print] = field(default_factory=set)
    """And their fingerprints: a module gives the very tensor of its last part."""

    def __post_init__(self) -> None:
        self.makers: dict[str, Step] = {name: step for step in self.graph.steps for name in step.outputs}

    def within(self, path: str) -> list[str]:
        """Give the tensors of a module, those of its parts too, the last first."""
        own = [name for name in self.prints if _is_in(self.makers[name].module, path)]
        return own[::-1]

    def named(self, tap: Tap) -> list[str]:
        """Give the tensors that a node of the exported graph became."""
        own = [name for name in self.prints if self.makers[name].function == tap.name]
        return own[::-1] if tap.kind == "node" else []

    def output(self, tap: Tap) -> None:
        """Match an output of the whole by its name."""
        if tap.kind == "output" and tap.name in self.prints and tap.name in self.graph.outputs:
            self._take(tap.name, tap, "name")

    def by_value(self, tap: Tap, names: Sequence[str]) -> None:
        """Match the last of these tensors that is alike; very much alike, and in the same layout, before others."""
        if self._known(tap):
            return
        far = {name: tap.print.distance(self.prints[name]) for name in names if name not in self.same}
        alike = [name for name in far if far[name] <= ALIKE]
        best = min(
            alike,
            key=lambda name: (not tap.print.laid_out_as(self.prints[name], ALIKE), far[name] > _TIGHT),
            default=None,
        )
        if best is not None:
            self._take(best, tap, "scope")

    def anywhere(self, taps: Sequence[Tap]) -> None:
        """Match what is left by values alone: the tensor that is nearest, in the same layout before another."""
        sized: dict[int, list[Tap]] = {}
        for tap in taps:
            sized.setdefault(math.prod(tap.print.shape), []).append(tap)
        for name, own in self.prints.items():
            if name in self.same or not own.telling:
                continue
            best = min(sized.get(math.prod(own.shape), []), key=lambda tap: self._rank(tap, own), default=None)
            if best is None or best.print.distance(own) > ALIKE:
                continue
            if self.makers[name].operator in _MOVES or not self._known(best):
                self._take(name, best, "value")

    def _rank(self, tap: Tap, own: Print) -> tuple[bool, bool, float, bool]:
        """Order the source's tensors by how well one of the artifact's fits."""
        far = tap.print.distance(own)
        return far > ALIKE, not tap.print.laid_out_as(own, ALIKE), far, self._known(tap)

    def _known(self, tap: Tap) -> bool:
        return tap.key in self.taken or tap.print in self.seen

    def by_place(self, tap: Tap) -> None:
        """Match the last tensor of a module that has the shape of what it gives, whatever its values are."""
        if self._known(tap):
            return
        own = [name for name in self.within(tap.path) if name not in self.same]
        straight = [name for name in own if self.prints[name].shape == tap.print.shape]
        turned = [name for name in own if sorted(self.prints[name].shape) == sorted(tap.print.shape)]
        alone = [name for name in own if len(own) == 1 and len(self.prints[name].shape) == len(tap.print.shape)]
        for name in (straight or turned or alone)[:1]:
            self._take(name, tap, "scope")

    def by_operator(self, taps: Sequence[Tap]) -> None:
        """Match operations between modules by their order, where both sides have as many of a kind in a module."""
        scoped = any(tap.path for tap in taps)
        ours: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
        theirs: dict[tuple[str, str], list[Tap]] = {}
        for name in self.prints:
            step = self.makers[name]
            place = (step.module if scoped else "", _operator(step.function or step.operator))
            ours.setdefault(place, {})[step.module, step.function or name] = name  # the last that a function became
        for tap in taps if scoped else self._unfolded(taps):
            if tap.key.endswith(" 0"):
                theirs.setdefault((tap.path, _operator(tap.name)), []).append(tap)
        for place, names in ours.items():
            others = theirs.get(place, [])
            if len(names) == len(others):
                self._in_order(tuple(names.values()), others)

    def _unfolded(self, taps: Sequence[Tap]) -> list[Tap]:
        """Put a normalization in the place of the convolution right before it, where the file has none of its own."""
        if any(step.operator == "BatchNormalization" for step in self.graph.steps):
            return list(taps)
        found: list[Tap] = []
        for tap in taps:
            if tap.name.endswith("batch_norm") and found and tap.key.endswith(" 0"):
                found[-1] = replace(tap, name=found[-1].name)
            else:
                found.append(tap)
        return found

    def _in_order(self, names: Sequence[str], taps: Sequence[Tap]) -> None:
        for name, tap in zip(names, taps, strict=True):
            if name not in self.same and tap.key not in self.taken and self.prints[name].shape == tap.print.shape:
                self._take(name, tap, "scope")

    def _take(self, name: str, tap: Tap, how: str) -> None:
        self.same[name] = (tap.key, how)
        self.taken.add(tap.key)
        self.seen.add(tap.print)


def _is_in(module: str, path: str) -> bool:
    return module == path or module.startswith(f"{path}.")


def _operator(name: str) -> str:
    plain = re.sub(r"_\d+$", "", name.lower()).strip("_")
    return _SAME_OPERATORS.get(plain, plain)
