"""Match the tensors of two ONNX files: by name, and by structure where a pass has renamed them or put nodes between."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from deploykit.validation.divergence.graph import Graph, Step

Match = tuple[str, str]
"""Name of the counterpart, and how it was found."""

_CARRIES = frozenset({"Identity", "Cast", "QuantizeLinear", "DequantizeLinear", "Dropout"})
"""What gives its first input on, but for rounding."""
_UNARY = _CARRIES | {
    "Relu",
    "LeakyRelu",
    "Clip",
    "Sigmoid",
    "Tanh",
    "Elu",
    "Gelu",
    "HardSwish",
    "Softplus",
    "Neg",
    "Abs",
}
"""What a pass, or a fault, may leave out: the next operator then reads what went in."""
_CLIPS = frozenset({"Relu", "Clip"})
"""What quantization does as well, by its zero point and its range: quantizers leave it out."""
SCALED = ".scaled"
"""What a pass adds to the name of a tensor whose channels it scales: that has no counterpart."""
_HOPS = 3
_KEPT, _FEW = 0.75, 2
"""Names that both files have are trusted where this share of them is of the same operator, or all but so few:
exporters number tensors, so that ``val_12`` may be another one in another file."""


def match_graphs(ours: Graph, theirs: Graph) -> dict[str, Match]:
    """Find the counterpart of every tensor of an artifact in the file that it was made from.

    Args:
        ours: the artifact's graph.
        theirs: the reference's.

    Returns:
        For each tensor of ours that has one, the name of its counterpart and how it was found.
    """
    found = _Matching(ours, theirs)
    named = _named(ours, theirs)
    operators = {name: step.operator for step in theirs.steps for name in step.outputs}
    for step in ours.steps:
        name = step.outputs[0]
        if SCALED in name:
            continue
        if name in named and step.operator == operators[name]:
            found.by_name(step, named)
        elif step.operator in _CARRIES and name not in named:
            found.carry(step)
        elif not found.follow(step):
            found.by_name(step, named)
    outputs = {name: (name, "name") for name in ours.outputs if name in theirs.outputs}
    return {**found.same, **outputs}


def _named(ours: Graph, theirs: Graph) -> set[str]:
    """Give the names that mean the same in both files; none where names were given anew."""
    makers = {name: step.operator for step in theirs.steps for name in step.outputs}
    pairs = [(name, step.operator == makers[name]) for step in ours.steps for name in step.outputs if name in makers]
    alike = sum(same for _, same in pairs)
    if alike < min(_KEPT * len(pairs), len(pairs) - _FEW):
        return {name for name in ours.outputs if name in theirs.outputs}
    return {name for name, _ in pairs}


@dataclass
class _Matching:
    """What is matched so far."""

    ours: Graph
    theirs: Graph
    same: dict[str, Match] = field(default_factory=dict)
    claimed: set[str] = field(default_factory=set)
    readers: dict[str, list[Step]] = field(default_factory=dict)
    """The nodes of theirs that read a tensor."""
    followed_by: dict[str, set[str]] = field(default_factory=dict)
    """The operators of ours that read a tensor."""

    def __post_init__(self) -> None:
        self.same = {name: (name, "name") for name in self.ours.inputs if name in self.theirs.inputs}
        for step in self.theirs.steps:
            for name in dict.fromkeys(filter(None, step.inputs)):
                self.readers.setdefault(name, []).append(step)
        for step in self.ours.steps:
            for name in filter(None, step.inputs):
                self.followed_by.setdefault(name, set()).add(step.operator)

    def by_name(self, step: Step, named: set[str]) -> None:
        """Match what a node gives with the tensors of the same names."""
        names = [name for name in step.outputs if name in named]
        self.same.update({name: (name, "name") for name in names})
        self.claimed.update(names)

    def carry(self, step: Step) -> None:
        """Match what a node gives with what goes in; where quantization does the work of a Relu, with the Relu's."""
        if step.inputs[0] not in self.same:
            return
        counterpart = self.same[step.inputs[0]][0]
        readers = self.readers.get(counterpart, [])
        own = self.followed_by.get(step.outputs[0], set())
        if step.operator == "DequantizeLinear" and not own & _CLIPS and {one.operator for one in readers} <= _CLIPS:
            counterpart = readers[0].outputs[0] if len(readers) == 1 else counterpart
        self.same[step.outputs[0]] = (counterpart, "structure")

    def follow(self, step: Step) -> bool:
        """Match a node by its operator and by what goes into it, and say whether that could be done."""
        known = [self.same[name][0] if name in self.same else None for name in step.inputs]
        if not any(known):
            return False
        candidates = [other for other in self._candidates(step, known) if other.outputs[0] not in self.claimed]
        if not candidates:
            return False
        best = max(candidates, key=lambda other: self._likeness(step, other, known))
        for name, other in zip(step.outputs, best.outputs, strict=False):
            self.same[name] = (other, "structure")
            self.claimed.add(other)
        return True

    def _candidates(self, step: Step, known: Sequence[str | None]) -> Iterator[Step]:
        seen: set[int] = set()
        for name in filter(None, known):
            for reached in self._reached(name):
                for other in self.readers.get(reached, []):
                    if other.operator == step.operator and id(other) not in seen and self._fits(other, known):
                        seen.add(id(other))
                        yield other

    def _fits(self, other: Step, known: Sequence[str | None]) -> bool:
        """Whether everything known that goes in can be what goes into the other, in whatever order."""
        reached = [set(self._reached(name)) for name in known if name is not None]
        inputs = set(filter(None, other.inputs))
        return all(one & inputs for one in reached) and len(reached) <= len(list(filter(None, other.inputs)))

    def _reached(self, name: str) -> Iterator[str]:
        """Give a tensor, and what unary operators make of it."""
        ahead = [(name, 0)]
        while ahead:
            here, hops = ahead.pop(0)
            yield here
            if hops < _HOPS:
                ahead += [(step.outputs[0], hops + 1) for step in self.readers.get(here, []) if step.operator in _UNARY]

    def _likeness(self, step: Step, other: Step, known: Sequence[str | None]) -> tuple[int, int, int]:
        """Rank a candidate: by inputs in the same place, by the names of its weights, by what is in them."""
        placed = sum(name is not None and name == theirs for name, theirs in zip(known, other.inputs, strict=False))
        names = len(set(step.weights) & set(other.weights))
        marks = _marks(step, self.ours.weights) & _marks(other, self.theirs.weights)
        return placed, names, len(marks)


def _marks(step: Step, weights: Mapping[str, str]) -> set[str]:
    return {weights[name] for name in step.weights if name in weights}
