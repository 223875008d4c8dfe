"""What TensorRT says when it does not build an engine, in the words of who has to change something."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploykit.engines.graph import Graph
from deploykit.engines.lint import Refusal
from deploykit.errors import ModelError

_MOST = 100
"""Refusals that are listed; a model has rarely more than a few kinds."""

_KNOWN = (
    (
        r"within workspace limit",
        "a layer needs more memory for its work than --workspace gives",
        "--workspace 2GB, or leave it out",
    ),
    (
        r"for Turing|HW-specific datatypes",
        "a device of --for does not have the types of this model",
        "leave it out of --for, or give --fp16 or --int8",
    ),
    (
        r"holds a shape",
        "the size of a tensor must not depend on the values of an input",
        "export the model with that shape fixed",
    ),
    (
        r"negative|non-negative|must be positive|kernel.*(?:exceed|larger|greater)",
        "a layer does not work at the smallest shape",
        "give the shapes that are in use: --shape 'x:1x3x64x64,8x3x224x224,32x3x224x224'",
    ),
)
"""What a message matches, what it means, and what to do."""
_NOISE = re.compile(r"catchCudaError")
_PLACE = re.compile(r"\s*In \w+ at /?[\w/.]+:\d+")


def listed(path: Path, refused: Sequence[Refusal]) -> ModelError:
    """Say all that can't be built of a file, and each way out once."""
    lines = [one.said for one in refused[:_MOST]]
    more = [f"and {len(refused) - _MOST} more"] if len(refused) > _MOST else []
    count = f"{len(refused)} places" if len(refused) > 1 else "one place"
    return ModelError(
        f"TensorRT does not take {path}, in {count}",
        fix=list(dict.fromkeys(one.fix for one in refused)),
        details=[*lines, *more],
    )


def parsed(graph: Graph, told: Sequence[Mapping[str, Any]]) -> tuple[Refusal, ...]:
    """Give what the parser refused, with the source's modules."""
    return tuple(_parsed(graph, one) for one in told)


def _parsed(graph: Graph, told: Mapping[str, Any]) -> Refusal:
    own = [node for node in graph.nodes if node.name == told["name"] or node.builder_name == told["name"]]
    number = told["node"]
    if not own and 0 <= number < len(graph.nodes):
        own = [graph.nodes[number]]
    why = "; ".join(_cleaned([told["why"]])) or "TensorRT's parser refuses it"
    fix = "write that module with other operators and convert again, or leave that node out of the engine"
    node = own[0] if own and own[0].operator == (told["operator"] or own[0].operator) else None
    if node is None:
        return Refusal(told["name"] or str(number), told["operator"], why, fix)
    return Refusal(node.name, node.operator, why, fix, node.module)


def failed(path: Path, told: Sequence[str]) -> ModelError:
    """Say why the builder gave no engine."""
    lines = _cleaned(told)
    text = "\n".join(told)
    for pattern, why, fix in _KNOWN:
        if re.search(pattern, text):
            return ModelError(f"TensorRT builds no engine of {path}: {why}", fix=fix, details=lines)
    return ModelError(
        f"TensorRT builds no engine of {path}",
        fix=["mend what the lines above name", "or try it in another precision, or with another --level"],
        details=lines or ["it does not say why"],
    )


def _cleaned(told: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(_lines(told)))


def _lines(told: Sequence[str]) -> Iterator[str]:
    for text in told:
        for line in text.splitlines():
            if not _NOISE.search(line) and line.strip():
                yield _PLACE.sub("", line).strip()
