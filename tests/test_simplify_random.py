"""Graphs made by chance of what only moves elements and of what layers are made of: they answer as before."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_simplify import answers, model, simplified

_SIZE = 24
"""Elements of one sample, whatever its shape."""
_SHAPES = ((2, 3, 4), (4, 6), (24,), (1, 24), (2, 2, 6), (3, 8), (2, 1, 12))
STEPS = st.sampled_from(
    ["reshape", "computed", "transpose", "squeeze", "add", "mul", "zero", "one", "expand", "matmul", "concat", "cast"]
)


class Chain:
    """A graph that grows by one step after the other; the batch is free."""

    def __init__(self, shape: tuple[int, ...], rng: np.random.Generator) -> None:
        self.lines: list[str] = []
        self.weights: dict[str, Any] = {}
        self.shape, self.rng, self.value, self.count = shape, rng, "x", 0

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def weight(self, array: Any) -> str:
        name = self.name()
        self.weights[name] = np.asarray(array)
        return name

    def put(self, op: str, *inputs: str) -> None:
        self.value, taken = self.name(), ", ".join(inputs)
        self.lines.append(f"{self.value} = {op}({taken})")

    def floats(self, *shape: int) -> str:
        return self.weight(self.rng.standard_normal(shape).astype(np.float32))

    def take(self, step: str) -> None:
        getattr(self, f"_{step}")()

    def _reshape(self) -> None:
        self.shape = _SHAPES[self.rng.integers(len(_SHAPES))]
        self.put("Reshape", self.value, self.weight(np.array([-1, *self.shape], np.int64)))

    def _computed(self) -> None:
        source = self.value
        self.shape = _SHAPES[self.rng.integers(len(_SHAPES))]
        self.put("Shape", source)
        self.put("Gather", self.value, self.weight(np.array([0], np.int64)))
        self.put("Concat<axis=0>", self.value, self.weight(np.array(self.shape, np.int64)))
        self.put("Reshape", source, self.value)

    def _transpose(self) -> None:
        order = self.rng.permutation(len(self.shape))
        self.put(f"Transpose<perm={[0, *(int(at) + 1 for at in order)]}>", self.value)
        self.shape = tuple(self.shape[at] for at in order)

    def _squeeze(self) -> None:
        axis = self.weight(np.array([1], np.int64))
        one = self.shape[0] == 1 and len(self.shape) > 1
        self.put("Squeeze" if one else "Unsqueeze", self.value, axis)
        self.shape = self.shape[1:] if one else (1, *self.shape)

    def _add(self) -> None:
        self.put("Add", self.value, self.floats(self.shape[-1]))

    def _mul(self) -> None:
        self.put("Mul", self.floats(), self.value)

    def _zero(self) -> None:
        self.put("Add", self.weight(np.zeros(self.shape, np.float32)), self.value)

    def _one(self) -> None:
        self.put("Div", self.value, self.weight(np.ones(1, np.float32)))

    def _expand(self) -> None:
        source = self.value
        self.put("Shape", source)
        self.put("Expand", self.floats(self.shape[-1]), self.value)
        self.put("Sub", source, self.value)

    def _matmul(self) -> None:
        size = self.shape[-1]
        self.put("MatMul", self.value, self.floats(size, size))

    def _concat(self) -> None:
        source = self.value
        self.put("Neg", source)
        self.put("Concat<axis=0>", self.value, source)

    def _cast(self) -> None:
        self.put("Cast<to=11>", self.value)
        self.put("Cast<to=1>", self.value)


@settings(max_examples=60, derandomize=True)
@given(st.sampled_from(_SHAPES), st.lists(STEPS, min_size=2, max_size=9), st.integers(0, 1000))
def test_chains_made_by_chance_answer_as_before(shape: tuple[int, ...], steps: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = Chain(shape, rng)
    for step in steps:
        chain.take(step)
    inner, outer = ",".join(map(str, shape)), ",".join(map(str, chain.shape))
    text = f"g (float[n,{inner}] x) => (float[m,{outer}] y) {{ {'  '.join(chain.lines)}  y = Relu({chain.value}) }}"
    proto = model(text, **chain.weights)
    made, _ = simplified(proto)
    assert len(made.graph.node) <= len(proto.graph.node)
    for batch in (1, 3):
        feed = {"x": rng.standard_normal((batch, *shape)).astype(np.float32)}
        (one,), (other,) = answers(proto, feed), answers(made, feed)
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(one).max())))
