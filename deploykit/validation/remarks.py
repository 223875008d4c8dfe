"""What a golden does not prove, in plain words: inputs that were guessed, calls and numbers that tell nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deploykit.golden import Case, Golden
from deploykit.samples.purpose import unexplained
from deploykit.tensors import Array

_MOST = 0.5
"""Share of the values of an integer output at the ends of its range from which there is something to say."""


def remarks(golden: Golden, graph: Any = None) -> tuple[str, ...]:
    """Say what a golden does not prove, a line each.

    Args:
        golden: the evidence; its cases are gone through one at a time.
        graph: the ``onnx_ir.Model`` that its inputs were made up from; None where they are the user's.
    """
    lines = [_not_finite(golden, spec.name) for spec in golden.signature.outputs]
    if graph is not None:
        lines += [_saturated(golden, graph, spec.name) for spec in golden.signature.outputs]
        lines.append(_guessed(unexplained(graph, golden.signature.inputs)))
    return tuple(line for line in lines if line)


def _guessed(names: Sequence[str]) -> str:
    said = (
        "the graph does not say what these whole numbers are, and only 0 and 1 were tried; give real ones with --data"
    )
    return f"{', '.join(names)}: {said}" if names else ""


def telling(golden: Golden) -> Golden:
    """Leave out the calls to which the source gives no number, as sizes that a model's strides use up; say so.

    Such a call proves nothing, and a runtime that stumbles over empty tensors is no wrong artifact. A golden that
    has nothing else is as it was: what judges it says so.
    """
    kept = tuple(case for case in golden.cases if _tells(case))
    if not kept or len(kept) == len(golden.cases):
        return golden
    silent = [shapes for shapes, case in zip(golden.shapes, golden.cases, strict=True) if not _tells(case)]
    note = f"left out, since the source gives no number there: {'; '.join(silent)}"
    return replace(golden, cases=kept, notes=(*golden.notes, note))


def _tells(case: Case) -> bool:
    return any(array.size and not _where_nan(array).all() for array in case.outputs.values())


def _not_finite(golden: Golden, name: str) -> str:
    nan = infinite = total = 0
    for array in _answers(golden, name):
        total += array.size
        if array.dtype.kind in "fc":
            nan += int(_where_nan(array).sum())
            infinite += int(np.isinf(array).sum())
    words = " or ".join(word for word, count in (("NaN", nan), ("infinite", infinite)) if count)
    return words and f"{name}: {nan + infinite} of {total} values are {words} in the source too, and prove nothing"


def _saturated(golden: Golden, graph: Any, name: str) -> str:
    """Say where most values of a quantized output are at an end of its range, which hides errors that go farther."""
    if name not in golden.quanta and not _is_quantized(graph, name):
        return ""
    total = ends = 0
    dtype = ""
    for array in _answers(golden, name):
        if array.dtype.kind not in "iu":
            return ""
        limits, dtype = np.iinfo(array.dtype), array.dtype.name
        total += array.size
        ends += int(np.isin(array, (limits.min, limits.max)).sum())
    if ends <= _MOST * total:
        return ""
    return (
        f"{name}: {ends} of {total} values are at the ends of {dtype} on inputs that were made up, where an error does"
        " not show; give real ones with --data"
    )


def _is_quantized(graph: Any, name: str) -> bool:
    value = next((value for value in graph.graph.outputs if value.name == name), None)
    producer = value.producer() if value is not None else None
    return producer is not None and producer.op_type == "QuantizeLinear"


def _answers(golden: Golden, name: str) -> Iterator[Array]:
    return (case.outputs[name] for case in golden.cases if name in case.outputs)


def _where_nan(array: Array) -> Array:
    return np.isnan(array) if array.dtype.kind in "fc" else np.zeros(array.shape, np.bool_)
