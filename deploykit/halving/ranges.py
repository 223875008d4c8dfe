"""How large the numbers of a graph get, measured on the samples: what a float of 16 bits has to hold.

The graph itself takes the largest and the smallest number of each tensor, so that none of them leaves the runtime, and
memory does not grow with the samples.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import ModelError, needs
from deploykit.halving.graph import Graph
from deploykit.halving.schema import is_float
from deploykit.rounding import MOVES
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


def measure(graph: Graph, calls: Iterable[Mapping[str, Array]], folder: Path) -> Ranges:
    """Run a model and say how large its numbers get.

    Args:
        graph: the model, which is not changed.
        calls: inputs by name.
        folder: where a copy may lie for a while.

    Raises:
        ModelError: onnxruntime refuses it.
    """
    import onnx

    from deploykit.onnx_io import save

    copy = folder / "measured.onnx"
    written = save(graph.model, copy, external=True)
    proto = onnx.load(str(copy), load_external_data=False)
    taps = list(_taps(graph))
    sums = [node for node in graph.nodes if node.op_type in LONG_SUMS and is_float(node.inputs[0])]
    del proto.graph.output[:]
    names: list[str] = []
    for number, name in enumerate(taps):
        for op in ("ReduceMax", "ReduceMin"):
            names.append(f"deploykit.{op}.{number}")
            proto.graph.node.append(onnx.helper.make_node(op, [name], [names[-1]], keepdims=0))
    for node in sums:
        for value in (node.inputs[0], node.outputs[0]):
            made = f"deploykit.Shape.{value.name}"
            if made not in names:
                names.append(made)
                proto.graph.node.append(onnx.helper.make_node("Shape", [value.name], [made]))
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    onnx.save(proto, str(copy))
    del proto
    found = Ranges()
    try:
        for answer in _run(copy, names, calls):
            _take_in(found, taps, sums, answer)
    finally:
        for file in written:
            file.unlink()
    return found


def _taps(graph: Graph) -> Iterator[str]:
    """Give the tensors that are measured: what is only moved is as large as before."""
    yield from (value.name for value in graph.model.graph.inputs if is_float(value))
    for node in graph.nodes:
        if node.op_type not in MOVES:
            yield from (output.name for output in node.outputs if is_float(output) and output.name)


def _run(path: Path, names: list[str], calls: Iterable[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
    with needs("onnxruntime"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Another layout or a fused node would hide tensors that are asked for; and what is packed is in memory twice.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(
            "onnxruntime refuses the model with its tensors to look at, so nothing says how large they get",
            fix="deploykit validate shows whether it runs at all",
            details=[str(error).splitlines()[0]],
        ) from error
    known = {one.name for one in session.get_inputs()}
    for call in calls:
        feed = {name: array for name, array in call.items() if name in known}
        # A call may fail, as there is no largest number of an empty tensor; the proof runs it too.
        with suppress(Exception):
            yield dict(zip(names, session.run(names, feed), strict=True))


def _take_in(found: Ranges, taps: list[str], sums: list[Any], answer: Mapping[str, Array]) -> None:
    for number, name in enumerate(taps):
        ends = (float(answer[f"deploykit.{op}.{number}"]) for op in ("ReduceMax", "ReduceMin"))
        sizes = [abs(end) for end in ends if np.isfinite(end) and end > NOTHING]
        found.largest[name] = max(found.largest.get(name, 0.0), *sizes, 0.0)
    for node in sums:
        shapes = [answer[f"deploykit.Shape.{value.name}"].tolist() for value in (node.inputs[0], node.outputs[0])]
        name = node.outputs[0].name
        found.terms[name] = max(found.terms.get(name, 0), terms(node, *shapes))


def terms(node: Any, taken: list[int], given: list[int]) -> int:
    """Say how many terms a sum has, from the shapes of what goes in and what comes out."""
    kind = node.op_type
    if not prod(taken) or not prod(given):
        return 0
    if kind in _ALONG:
        axis = _axis(node)
        return prod(taken[axis:]) if kind in ("LayerNormalization", "RMSNormalization") else prod(taken[axis:][:1])
    if kind == "GroupNormalization":
        return prod(taken[1:]) // int(node.attributes["num_groups"].as_int())
    if kind in ("InstanceNormalization", "MeanVarianceNormalization"):
        return prod(taken[2:])
    return max(taken, default=1) if kind == "CumSum" else prod(taken) // prod(given)


def _axis(node: Any) -> int:
    return int(node.attributes["axis"].as_int()) if "axis" in node.attributes else _ALONG[node.op_type]
