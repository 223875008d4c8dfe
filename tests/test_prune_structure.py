"""What is cut is what would have been zero: the smaller graph is the source with the removed channels silenced."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.pruning.cut import Removal, cut
from deploykit.pruning.groups import Grouping, find_groups
from deploykit.tensors import Array
from tests.prune_graphs import BLOCKS, HEADS, SIZE, Block, chained, residual

CASES = np.random.default_rng(0).normal(size=(3, 3, SIZE, SIZE)).astype(np.float32)


def answer(model: Any) -> Array:
    import onnx_ir
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(onnx_ir.to_proto(model).SerializeToString(), options)
    found: Array = session.run(None, {"x": CASES})[0]
    return found


def read(proto: Any) -> Any:
    import onnx_ir

    return onnx_ir.from_proto(proto)


def chosen(found: Grouping, share: float, seed: int) -> Removal:
    """Choose units of every group by lot, but not all."""
    rng = np.random.default_rng(seed)
    gone = [rng.permutation(group.size)[: min(int(share * group.size), group.size - 1)] for group in found.groups]
    return Removal.of(found, gone)


def silenced(proto: Any, removal: Removal) -> Array:
    """Run the source with everything that has to do with a removed channel set to zero in its weights."""
    import onnx_ir

    model = read(proto)
    weights = model.graph.initializers
    for (name, at), kept in ((one, kept) for one, kept in removal.stays.items() if one[0] in weights):
        value = weights[name]
        array = value.const_value.numpy().copy()
        if array.dtype == np.float32:
            lost = np.setdiff1d(np.arange(array.shape[at]), kept)
            array[(slice(None),) * at + (lost,)] = 0
            value.const_value = onnx_ir.tensor(array, name=name)
    return answer(model)


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4),
    st.sampled_from(HEADS),
    st.floats(0.2, 0.8),
    st.integers(0, 1000),
)
def test_a_cut_graph_answers_as_the_source_with_those_channels_silenced(
    blocks: list[Block], head: Block, share: float, seed: int
) -> None:
    proto = chained(blocks, head, seed=seed)
    model = read(proto)
    found = find_groups(model)
    removal = chosen(found, share, seed)
    expected = silenced(proto, removal)
    cut(model, removal)
    got = answer(model)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 2e-5 * max(np.abs(expected).max(), 1e-3)


@pytest.mark.parametrize("block", [*BLOCKS, *HEADS], ids=lambda block: str(block.__name__))
def test_the_channels_of_every_block_are_found(block: Block) -> None:
    model = read(chained([block], HEADS[0]) if block in BLOCKS else chained([residual], block))
    found = find_groups(model)
    inner = [value for (value, _), why in found.kept.items() if not value.is_initializer() and "output" in why]
    before = sum(value.const_value.size for value in model.graph.initializers.values())
    cut(model, chosen(found, 0.5, 0))
    after = sum(value.const_value.size for value in model.graph.initializers.values())
    assert len(inner) >= 1
    assert after < 0.75 * before
