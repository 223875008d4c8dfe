"""Nodes that runtimes fuse into one kernel: a cast between them would keep them apart, so they stay on one side.

product     MatMul | Gemm | Conv  →  Add of a weight  →  BatchNormalization  →  Relu | Clip | LeakyRelu | ...
GELU        x, Erf(x / sqrt 2) or Tanh(...)  →  Add 1  →  Mul x  →  Mul 0.5
SiLU        x, Sigmoid(x)  →  Mul x
norm        x, ReduceMean(x)  →  Sub  →  Pow, ReduceMean, Add epsilon, Sqrt, Div  →  Mul scale  →  Add shift
attention   MatMul  →  scale, mask  →  Softmax  →  guard against NaN  →  MatMul
"""

from collections.abc import Iterator
from typing import Any

from deploykit.halving.graph import Graph

_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
_BEHIND_A_PRODUCT = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "BatchNormalization",
        "Relu",
        "Clip",
        "LeakyRelu",
        "PRelu",
        "Elu",
        "HardSigmoid",
        "HardSwish",
        "Sigmoid",
        "Tanh",
    ]
)
_BEFORE_SOFTMAX = frozenset(
    ["Add", "Sub", "Mul", "Div", "Where", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Identity", "Max", "Clip"]
)
_BEHIND_SOFTMAX = frozenset(
    ["IsNaN", "Where", "Dropout", "Identity", "Reshape", "Mul", "Transpose", "Squeeze", "Unsqueeze"]
)
_CURVES = frozenset({"Erf", "Tanh", "Sigmoid"})
_ARITHMETIC = frozenset(
    ["Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "ReduceMean", "ReduceSum", "Identity"]
)
_DEEP = 8
"""Nodes on the way from one end of a pattern to the other."""


def groups(graph: Graph) -> list[set[int]]:
    """Give the groups of nodes, by number, that stay together; groups that share a node are one."""
    found = [set(own) for number in range(len(graph.nodes)) if len(own := _pattern(graph, number)) > 1]
    return _merged(found)


def _pattern(graph: Graph, number: int) -> set[int]:
    kind = graph.nodes[number].op_type
    if kind in _PRODUCTS:
        return {number, *_behind_product(graph, number)}
    if kind in _CURVES:
        return _around(graph, number)
    if kind == "ReduceMean":
        return _norm(graph, number)
    if kind == "Softmax":
        before = _until_product(graph, number, _before, _BEFORE_SOFTMAX)
        return {number, *before, *_until_product(graph, number, _behind, _BEHIND_SOFTMAX)}
    return set()


def _behind_product(graph: Graph, number: int) -> Iterator[int]:
    """Follow a product to where its result is read more than once, or by something of another kind."""
    for _ in range(3):
        after = _behind(graph, number)
        if len(after) != 1 or graph.nodes[after[0]].op_type not in _BEHIND_A_PRODUCT:
            return
        node = graph.nodes[after[0]]
        if node.op_type in ("Add", "Sub", "Mul") and not any(_is_weight(value) for value in node.inputs):
            return
        number = after[0]
        yield number


def _until_product(graph: Graph, number: int, way: Any, through: frozenset[str]) -> set[int]:
    """Go on through some kinds of nodes to matrix products; nothing where there is none."""
    passed, ends, ahead = set[int](), set[int](), [number]
    for _ in range(_DEEP):
        reached = {one for here in ahead for one in way(graph, here)} - passed
        ends |= {one for one in reached if graph.nodes[one].op_type == "MatMul"}
        ahead = [one for one in reached if graph.nodes[one].op_type in through and graph.ports[one]]
        passed |= set(ahead)
    if not ends:
        return set()
    return ends | {one for one in passed if way is _behind or _leads(graph, one, ends, through)}


def _leads(graph: Graph, number: int, ends: set[int], through: frozenset[str]) -> bool:
    """Tell whether a node before a Softmax comes from one of the products, and not from a mask."""
    ahead = {number}
    for _ in range(_DEEP):
        ahead = {one for here in ahead for one in _before(graph, here)}
        if ahead & ends:
            return True
        ahead = {one for one in ahead if graph.nodes[one].op_type in through}
    return False


def _around(graph: Graph, number: int) -> set[int]:
    """Take the nodes between the x that goes into a curve and the Mul in which both meet again."""
    above = _climb(graph, number)
    below, ahead = [number], number
    for _ in range(3):
        after = _behind(graph, ahead)
        if len(after) != 1 or graph.nodes[after[0]].op_type not in ("Add", "Mul"):
            break
        ahead = after[0]
        below.append(ahead)
    sources = {value for one in (number, *above) for value in graph.nodes[one].inputs}
    meets = [
        place
        for place, one in enumerate(below[1:], 1)
        if graph.nodes[one].op_type == "Mul" and any(value in sources for value in graph.nodes[one].inputs)
    ]
    if not meets:
        return set()
    end = meets[-1]
    if end + 1 < len(below) and any(_is_weight(value) for value in graph.nodes[below[end + 1]].inputs):
        end += 1  # the half of a GELU that comes last
    return {*above, *below[: end + 1]}


def _climb(graph: Graph, number: int) -> list[int]:
    """Go up through what goes into a curve: products with constants, and the powers in a tanh."""
    found: list[int] = []
    ahead = number
    for _ in range(5):
        before = [one for one in _before(graph, ahead) if graph.nodes[one].op_type in ("Mul", "Div", "Add", "Pow")]
        inner = [one for one in before if any(_is_weight(value) for value in graph.nodes[one].inputs)]
        inner = inner or [one for one in before if graph.nodes[number].op_type == "Tanh" and len(before) == 1]
        if not inner or (found and graph.nodes[number].op_type != "Tanh"):
            return found
        if graph.nodes[inner[0]].op_type == "Add" and graph.nodes[number].op_type != "Tanh":
            return found  # a bias: x comes after it
        ahead = inner[0]
        found.append(ahead)
    return found


def _norm(graph: Graph, number: int) -> set[int]:
    """Take a normalization that is written out, from its first mean on."""
    source = graph.nodes[number].inputs[0]
    apart = [
        one
        for one in _behind(graph, number)
        if graph.nodes[one].op_type == "Sub" and any(value is source for value in graph.nodes[one].inputs)
    ]
    if not apart:
        return set()
    found, ahead = {number, *apart}, set(apart)
    for _ in range(_DEEP):
        ahead = {one for here in ahead for one in _behind(graph, here) if graph.nodes[one].op_type in _ARITHMETIC}
        ahead = {one for one in ahead if _stays(graph, one, found)}
        found |= ahead
        if any(graph.nodes[one].op_type == "Add" and found & set(_before(graph, one)) for one in ahead) and any(
            graph.nodes[one].op_type in ("Div", "Mul") for one in found
        ):
            continue
    return found if any(graph.nodes[one].op_type == "Sqrt" for one in found) else set()


def _stays(graph: Graph, number: int, found: set[int]) -> bool:
    """Tell whether all that a node reads is a weight, or of the group."""
    return all(_is_weight(value) or value.producer() is not None for value in graph.nodes[number].inputs) and all(
        one in found for one in _before(graph, number)
    )


def _merged(found: list[set[int]]) -> list[set[int]]:
    home: dict[int, set[int]] = {}
    for group in found:
        whole = set(group).union(*(home[one] for one in group if one in home))
        home |= dict.fromkeys(whole, whole)
    return list({id(group): group for group in home.values()}.values())


def _before(graph: Graph, number: int) -> list[int]:
    nodes = (value.producer() for value in graph.nodes[number].inputs if value is not None)
    return [graph.number[node] for node in nodes if node in graph.number]


def _behind(graph: Graph, number: int) -> list[int]:
    users = (user for value in graph.nodes[number].outputs for user, _ in value.uses())
    return list(dict.fromkeys(graph.number[user] for user in users if user in graph.number))


def _is_weight(value: Any) -> bool:
    return value is not None and value.const_value is not None
