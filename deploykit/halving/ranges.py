"""How large the numbers of a graph get, measured on the samples: what a float of 16 bits has to hold.

The graph itself takes the largest and the smallest number of each tensor, so that none of them leaves the runtime, and
memory does not grow with the samples.
"""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import ModelError, needs
from deploykit.halving.graph import Graph, read
from deploykit.halving.schema import is_float
from deploykit.rounding import MOVES, Half
from deploykit.tensors import Array

NOTHING = -1e30
"""Under this a number is minus infinity in words: what exporters hide a score with, and is no size of anything."""
LONG_SUMS = frozenset(
    [
        "CumSum",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "LogSoftmax",
        "LpNormalization",
        "MeanVarianceNormalization",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
        "RMSNormalization",
        "Softmax",
    ]
)
"""Operators that add up as many terms as the axis is long."""
_ALONG = {"Softmax": -1, "LogSoftmax": -1, "LayerNormalization": -1, "RMSNormalization": -1, "LpNormalization": -1}
"""The axis of operators that give as many numbers as they take, where nothing is said."""


@dataclass
class Ranges:
    """What was measured."""

    largest: dict[str, float] = field(default_factory=dict)
    """The largest magnitude of each tensor, by name; zero for one that was always zero."""
    terms: dict[str, int] = field(default_factory=dict)
    """How many terms the sums behind a tensor have, by its name."""


def measure(path: Path, half: Half, calls: Iterable[Mapping[str, Array]], folder: Path) -> Ranges:
    """Run a model and say how large its numbers get.

    Args:
        path: the model.
        half: what is asked for.
        calls: inputs by name.
        folder: where a copy may lie for a while.

    Raises:
        ModelError: it can't be read, or onnxruntime refuses it.
    """
    copy = folder / "measured.onnx"
    taps, sums, written = _written(read(path, half), copy)
    gc.collect()  # a model is cyclic, and would keep its weights beside those of the session
    found = Ranges()
    try:
        for answer in _run(copy, calls):
            _take_in(found, taps, sums, answer)
    finally:
        for file in written:
            file.unlink()
    return found


@dataclass(frozen=True)
class _Sum:
    """A node that adds up."""

    taken: str
    given: str
    terms: Callable[[list[int], list[int]], int]


def _written(graph: Graph, copy: Path) -> tuple[list[str], list[_Sum], tuple[Path, ...]]:
    """Write a copy that gives the ends of each tensor, and the shapes around sums; each right behind what is asked."""
    import onnx

    from deploykit.onnx_io import save

    written = save(graph.model, copy, external=True)
    sums = [
        _Sum(node.inputs[0].name, node.outputs[0].name, partial(terms, node.op_type, _axis_or_groups(node)))
        for node in graph.nodes
        if node.op_type in LONG_SUMS and is_float(node.inputs[0])
    ]
    proto = onnx.load(str(copy), load_external_data=False)
    taps = list(_taps(graph))
    number = {name: place for place, name in enumerate(taps)}
    shaped = {name for one in sums for name in (one.taken, one.given)}
    ports = [value.name for value in graph.model.graph.inputs]
    nodes = list(proto.graph.node)
    del proto.graph.node[:], proto.graph.output[:]
    for node, names in ((None, ports), *((node, list(node.output)) for node in nodes)):
        if node is not None:
            proto.graph.node.append(node)
        for name in names:
            ops = [*(("ReduceMax", "ReduceMin") if name in number else ()), *(("Shape",) if name in shaped else ())]
            for op in ops:
                made = f"deploykit.{op}.{name}"
                keep = {} if op == "Shape" else {"keepdims": 0}
                proto.graph.node.append(onnx.helper.make_node(op, [name], [made], **keep))
                proto.graph.output.append(onnx.ValueInfoProto(name=made))
    onnx.save(proto, str(copy))
    return taps, sums, written


def _taps(graph: Graph) -> Iterator[str]:
    """Give the tensors that are measured: what is only moved is as large as before."""
    yield from (value.name for value in graph.model.graph.inputs if is_float(value))
    for node in graph.nodes:
        if node.op_type not in MOVES:
            yield from (output.name for output in node.outputs if is_float(output) and output.name)


def _run(path: Path, calls: Iterable[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
    with needs("onnxruntime"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Another layout or a fused node would hide tensors that are asked for; and what is packed is in memory twice.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False
    # In the order of the file: each tensor is looked at when it is made, and not all of them in the end.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(
            "onnxruntime refuses the model with its tensors to look at, so nothing says how large they get",
            fix="deploykit validate shows whether it runs at all",
            details=[str(error).splitlines()[0]],
        ) from error
    known = {one.name for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    for call in calls:
        feed = {name: array for name, array in call.items() if name in known}
        # A call may fail, as there is no largest number of an empty tensor; the proof runs it too.
        with suppress(Exception):
            yield dict(zip(names, session.run(names, feed), strict=True))


def _take_in(found: Ranges, taps: list[str], sums: list[_Sum], answer: Mapping[str, Array]) -> None:
    for name in taps:
        ends = (float(answer[f"deploykit.{op}.{name}"]) for op in ("ReduceMax", "ReduceMin"))
        sizes = [abs(end) for end in ends if np.isfinite(end) and end > NOTHING]
        found.largest[name] = max(found.largest.get(name, 0.0), *sizes, 0.0)
    for one in sums:
        shapes = (answer[f"deploykit.Shape.{name}"].tolist() for name in (one.taken, one.given))
        found.terms[one.given] = max(found.terms.get(one.given, 0), one.terms(*shapes))


def terms(kind: str, axis: int, taken: list[int], given: list[int]) -> int:
    """Say how many terms a sum has.

    Args:
        kind: the operator.
        axis: its axis, or how many groups a GroupNormalization has.
        taken: the shape of what goes in.
        given: the shape of what comes out.
    """
    if not prod(taken) or not prod(given):
        return 0
    if kind in _ALONG:
        return prod(taken[axis:]) if kind in ("LayerNormalization", "RMSNormalization") else prod(taken[axis:][:1])
    if kind == "GroupNormalization":
        return prod(taken[1:]) // axis
    if kind in ("InstanceNormalization", "MeanVarianceNormalization"):
        return prod(taken[2:])
    return max(taken, default=1) if kind == "CumSum" else prod(taken) // prod(given)


def _axis_or_groups(node: Any) -> int:
    name = "num_groups" if node.op_type == "GroupNormalization" else "axis"
    return int(node.attributes[name].as_int()) if name in node.attributes else _ALONG.get(node.op_type, 0)
