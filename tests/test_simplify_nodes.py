"""ONNX's own test of every operator: with some or all of its operands known, it still gives what onnxruntime gave."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from deploykit.onnx_io.weights import serialized
from deploykit.rewrites import rewrite
from deploykit.tensors import Array

Proto = Any
_EVERY = 8
"""Of the cases one in so many is taken, of the operators that rewrites know all."""
_KNOWN = (
    *("reshape", "squeeze", "slice", "gather_", "concat", "transpose", "expand", "cast_", "where", "range", "constant"),
    *("shape", "size", "flatten", "identity", "dropout", "pad", "clip", "batchnorm", "gelu", "layer_norm", "lstm"),
    *(
        "conv",
        "gemm",
        "matmul",
        "_add",
        "_sub",
        "_mul",
        "_div",
        "and",
        "or",
        "if",
        "loop",
        "scan",
        "tile",
        "split",
        "grid",
    ),
)
_PARTS = 2


def cases(part: int) -> Iterator[tuple[str, Proto, dict[str, Array]]]:
    """Give a part of the cases whose inputs are all tensors: name, model, inputs."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    assert len(found) > 1800
    taken = [one for at, one in enumerate(found) if at % _EVERY == 0 or any(word in one.name for word in _KNOWN)]
    for one in taken[part::_PARTS]:
        inputs = one.data_sets[0][0]
        if all(isinstance(array, np.ndarray) for array in inputs):
            yield (
                one.name,
                one.model,
                {value.name: array for value, array in zip(one.model.graph.input, inputs, strict=False)},
            )


def variants(feed: dict[str, Array]) -> Iterator[tuple[str, ...]]:
    """Give the inputs that are to be known: none, all but the first, the whole numbers, and all."""
    names = tuple(feed)
    whole = tuple(name for name in names if feed[name].dtype.kind in "iub")
    yield from dict.fromkeys([(), names[1:], whole, names])


def known(model: Proto, feed: dict[str, Array], names: Sequence[str]) -> Proto:
    """Give a model in which some of the inputs are weights."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    kept = [value for value in made.graph.input if value.name not in names]
    del made.graph.input[:]
    made.graph.input.extend(kept)
    made.graph.initializer.extend(onnx.numpy_helper.from_array(feed[name], name) for name in names)
    return made


def answers(model: Proto, feed: dict[str, Array]) -> list[Any] | None:
    """Run a model as it is; None where onnxruntime refuses it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return list(session.run(None, {value.name: feed[value.name] for value in session.get_inputs()}))
    except Exception:  # noqa: BLE001 - onnxruntime's errors have no class of their own
        return None


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if one is None or one.dtype != other.dtype or one.shape != other.shape:
        return one is other
    if one.dtype.kind not in "fc":
        return bool((one == other).all())
    # onnxruntime computes chains of float16 in float32, and where it rounds in between depends on the chain.
    near = 4e-3 if one.dtype == np.float16 else 1e-5
    return bool(np.allclose(one, other, rtol=near, atol=near / 4, equal_nan=True))


def checked(name: str, model: Proto, feed: dict[str, Array], fixed: tuple[str, ...]) -> str | None:
    """Rewrite a case; say what is wrong then, '' for nothing, None where onnxruntime does not run it."""
    import onnx
    import onnx_ir

    before = known(model, feed, fixed)
    wanted = answers(before, feed)
    if wanted is None:
        return None
    graph = onnx_ir.serde.deserialize_model(before)
    size = serialized(graph, {}).ByteSize()
    rewrite(graph)
    made = serialized(graph, {})
    onnx.checker.check_model(made)
    if not same(wanted, answers(made, feed)):
        return f"{name} with {fixed} known: other answers"
    grown = made.ByteSize() - size
    if grown > 100:
        return f"{name} with {fixed} known: {grown} bytes more"
    return f"{name} with {fixed} known: a second run changes it" if rewrite(graph) else ""


@pytest.mark.parametrize("part", range(_PARTS))
@pytest.mark.filterwarnings("ignore")
def test_the_cases_of_onnx_give_what_they_gave(part: int) -> None:
    found = [checked(name, model, feed, fixed) for name, model, feed in cases(part) for fixed in variants(feed)]
    assert sum(one is not None for one in found) > 300
    assert [one for one in found if one] == []
