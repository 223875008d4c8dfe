"""The artifact's graph as the search needs it: its real tensors in order, and where in the source each is from."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """A node of the main graph whose result depends on the inputs."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    """Tensors that depend on the inputs of the graph, by position; empty text for weights and what is left out."""
    weights: tuple[str, ...]
    """What else goes in: initializers and constants."""
    outputs: tuple[str, ...]
    module: str = ""
    function: str = ""
    """The node of the exported program, or the operator's number, that it is from: ``relu_1``."""
    line: str = ""


@dataclass(frozen=True)
class Graph:
    """The main graph of an ONNX file, without what depends on weights only."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    weights: Mapping[str, str]
    """What tells each weight from others of its shape."""
    notes: tuple[str, ...]


def graph_of(model: Any) -> Graph:
    """Read the graph of an ``onnx_ir.Model``; bodies of If, Loop and Scan are left out, and that is said."""
    model.graph.sort()  # some passes put their nodes at the end
    weights = model.graph.initializers
    live = {value.name for value in model.graph.inputs if value.name not in weights}
    steps: list[Step] = []
    for node in model.graph:
        reads = {value.name for value in node.inputs if value is not None} | set(_captured(node))
        if reads & live or (not reads and node.op_type.startswith("Random")):
            live |= {value.name for value in node.outputs if value.name}
            steps.append(_step(node, live))
    return Graph(
        tuple(value.name for value in model.graph.inputs if value.name not in weights),
        tuple(value.name for value in model.graph.outputs),
        tuple(steps),
        {name: _mark(value.const_value) for name, value in weights.items() if value.const_value is not None},
        tuple(_skipped(model)),
    )


def _step(node: Any, live: set[str]) -> Step:
    names = [value.name if value is not None else "" for value in node.inputs]
    said = origin_of(node)
    return Step(
        node.name or "",
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}",
        tuple(name if name in live else "" for name in names),
        tuple(name for name in names if name and name not in live),
        tuple(value.name for value in node.outputs if value.name),
        *said,
    )


def _bodies(node: Any) -> Iterator[Any]:
    for attribute in node.attributes.values():
        if attribute.type.name == "GRAPH":
            yield attribute.value
        elif attribute.type.name == "GRAPHS":
            yield from attribute.value


def _captured(node: Any) -> Iterator[str]:
    """Give the names that the bodies of a node read, of the outer graph or their own."""
    for body in _bodies(node):
        for inner in body.all_nodes():
            yield from (value.name for value in inner.inputs if value is not None)
        yield from (value.name for value in body.outputs)


def _skipped(model: Any) -> Iterator[str]:
    kinds = [node.op_type for node in model.graph if any(True for _ in _bodies(node))]
    if kinds:
        names = " and ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        yield f"the bodies of {names} were skipped: only what they give to the main graph was compared"
    calls = sum((node.domain, node.op_type, node.overload) in model.functions for node in model.graph)
    if calls:
        yield f"the bodies of {calls} calls of the file's own functions were skipped"


def _mark(tensor: Any) -> str:
    """Tell a weight by its shape and first bytes."""
    if tensor.dtype.name == "STRING":
        return str(tensor.shape)
    head = tensor.numpy().reshape(-1)[:64].tobytes()
    return f"{list(tensor.shape)} {head.hex()}"


_TORCH = "pkg.torch.onnx."
_SCRIPTED = re.compile(r"^/(?P<scopes>(?:[^/]+/)*)(?P<function>[^/]+)$")
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in [^\n]+(?:\n\s+(?P<code>[^\n]+))?')
_NOT_THE_USERS = re.compile(r"site-packages/|dist-packages/|/lib/python3|^torch/|deploykit/child/|^<")


def origin_of(node: Any) -> tuple[str, str, str]:
    """Give what an exporter of PyTorch says of a node: path of the module, function there, line of Python."""
    scopes = node.metadata_props.get(f"{_TORCH}name_scopes")
    if scopes is not None:
        path = _listed(scopes)
        return (path[-2] if len(path) > 1 else ""), (path[-1] if path else ""), _line(node)
    scripted = _SCRIPTED.match(node.name or "")
    if scripted is None:
        return "", "", ""
    return _joined(scripted["scopes"].strip("/").split("/")), scripted["function"], ""


def _listed(text: str) -> list[str]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return []
    return [str(part) for part in found] if isinstance(found, list) else []


def _joined(scopes: list[str]) -> str:
    """Join scopes as the tracing exporter names them, /layer1/layer1.0/conv1: children of a list repeat its name."""
    path: list[str] = []
    for scope in scopes:
        if path and scope.startswith(f"{path[-1]}."):
            path[-1] = scope
        elif scope:
            path.append(scope)
    return ".".join(path)


def _line(node: Any) -> str:
    """Give the deepest line of the user's own code; nothing where all is PyTorch's."""
    frames = list(_FRAME.finditer(node.metadata_props.get(f"{_TORCH}stack_trace", "")))
    own = [frame for frame in frames if not _NOT_THE_USERS.search(frame["file"])]
    if not own:
        return ""
    frame = own[-1]
    place = f"{frame['file'].rpartition('/')[2]}:{frame['line']}"
    return f"{place}  {frame['code'].strip()}" if frame["code"] else place
