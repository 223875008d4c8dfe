"""Changes to a graph as a whole: constants, what is there twice, and what nothing reads."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from deploykit.rewrites.facts import OPAQUE, STANDARD
from deploykit.rewrites.rewrite import Whole
from deploykit.rewrites.running import CHANCE
from deploykit.rewrites.scope import Scope
from deploykit.tensors import Array

Node = Any
Value = Any

_NODE_BYTES = 64
"""What a node takes in a file, at the least."""


def lift(scope: Scope) -> bool:
    """Make initializers of Constant nodes."""
    import onnx_ir

    changed = False
    for node in list(scope.graph):
        tensor = _tensor(node) if node.op_type == "Constant" and node.domain in STANDARD else None
        value = node.outputs[0] if tensor is not None else None
        if tensor is None or value is None or value.is_graph_output():
            continue
        new = onnx_ir.Value(name=value.name, const_value=tensor)
        new.type, new.shape = onnx_ir.TensorType(tensor.dtype), tensor.shape
        value.name = scope.names.new(f"{value.name}_node")
        tensor.name = new.name
        scope.graph.register_initializer(new)
        value.replace_all_uses_with(new)
        scope.graph.remove(node)
        changed = True
    return changed


def _tensor(node: Node) -> Any:
    import onnx_ir

    (name, one), *_ = node.attributes.items()
    if one.is_ref() or name not in {"value", "value_int", "value_ints", "value_float", "value_floats"}:
        return None
    if name == "value":
        return one.value if one.value.dtype != onnx_ir.DataType.STRING else None
    return onnx_ir.tensor(np.array(one.value, dtype=np.int64 if "int" in name else np.float32))


def fold(scope: Scope) -> bool:
    """Put what is always the same in the place of the nodes that compute it, where the file does not grow by it."""
    place = {node: at for at, node in enumerate(scope.graph)}
    known = dict(_computed(scope))
    folded = [value for group in _groups(known) for value in _paying(group, known, place)]
    for value in folded:
        name = value.name
        value.name = scope.names.new(f"{name}_node")
        scope.names.taken.discard(name)
        value.replace_all_uses_with(scope.weight(known[value], name))
    return bool(folded)


def _computed(scope: Scope) -> Iterator[tuple[Value, Array]]:
    """Give the values that are known, and read by a node whose own are not."""
    for node in scope.graph:
        if node.op_type in OPAQUE or node.op_type == "Constant":
            continue
        for value in node.outputs:
            array = scope.constant(value) if value.uses() and not value.is_graph_output() else None
            if array is not None and any(_reads(user, scope) for user in value.consumers()):
                yield value, array


def _reads(user: Node, scope: Scope) -> bool:
    return any(scope.constant(value) is None or value.is_graph_output() for value in user.outputs)


def _groups(known: Mapping[Value, Array]) -> Iterable[list[Value]]:
    """Put the values together that come from the same weights: these only go with all of them."""
    groups: list[tuple[set[Value], list[Value]]] = []
    for value, array in known.items():
        large = array.nbytes > _NODE_BYTES
        sources = {one for one in _behind(value)[1] if one.const_value.nbytes > _NODE_BYTES} if large else set()
        apart = [group for group in groups if not group[0] & sources]
        joined = [group for group in groups if group[0] & sources]
        weights = sources.union(*(group[0] for group in joined))
        groups = [*apart, (weights, [*(one for group in joined for one in group[1]), value])]
    return [values for _, values in groups]


def _paying(group: list[Value], known: Mapping[Value, Array], place: Mapping[Node, int]) -> list[Value]:
    """Give those values of a group that take no more than the nodes and weights that go with them."""
    if sum(known[value].nbytes for value in group) <= _freed(group, place):
        return group
    return [value for value in group if known[value].nbytes <= max(_NODE_BYTES, _freed([value], place))]


def _freed(group: list[Value], place: Mapping[Node, int]) -> int:
    """Count the bytes of what goes where these values are constants."""
    behind = [_behind(value) for value in group]
    going: set[Node] = set()
    for node in sorted({node for nodes, _ in behind for node in nodes}, key=lambda one: -place.get(one, 0)):
        if all(_unread(value, going) or value in group for value in node.outputs):
            going.add(node)
    weights = {weight for _, found in behind for weight in found}
    return _NODE_BYTES * len(going) + sum(one.const_value.nbytes for one in weights if _unread(one, going))


def _unread(value: Value, going: set[Node]) -> bool:
    return not value.is_graph_output() and all(user in going for user in value.consumers())


def _behind(value: Value) -> tuple[list[Node], set[Value]]:
    """List the nodes that a value comes from, and the weights."""
    nodes: dict[Node, None] = {}
    weights, left = set(), [value]
    while left:
        one = left.pop()
        producer = one.producer()
        if producer is None:
            weights |= {one} if one.is_initializer() and not one.is_graph_input() else set()
        elif producer not in nodes:
            nodes[producer] = None
            left.extend(source for source in producer.inputs if source is not None)
    return list(nodes), weights


def repeated(scope: Scope) -> bool:
    """Have one node where several compute the same from the same."""
    seen: dict[Any, Node] = {}
    changed = False
    for node in list(scope.graph):
        key = _key(node)
        first = None if key is None else seen.setdefault(key, node)
        if first is None or first is node:
            continue
        pairs = list(zip(node.outputs, first.outputs, strict=True))
        if any(bool(one.name) != bool(other.name) for one, other in pairs):
            continue
        replaced = [scope.replace(one, other) for one, other in pairs if one.uses() or one.is_graph_output()]
        changed = any(replaced) or changed
        prune(node, scope)
    return changed


def _key(node: Node) -> Any:
    if node.op_type in CHANCE | {"DequantizeLinear"} or node.domain not in STANDARD:  # each reader has its own
        return None
    attributes = []
    for name, one in sorted(node.attributes.items()):
        if one.is_ref() or one.type.name in {"GRAPH", "GRAPHS"}:
            return None
        attributes.append((name, _content(one)))
    return node.op_type, len(node.outputs), tuple(map(id, node.inputs)), tuple(attributes)


def _content(attribute: Any) -> Any:
    import onnx_ir

    value = attribute.value
    if attribute.type == onnx_ir.AttributeType.TENSOR:
        small = value.nbytes <= 1 << 10 and value.dtype != onnx_ir.DataType.STRING
        return (value.dtype, tuple(value.shape), value.tobytes()) if small else id(value)
    return (
        tuple(value)
        if isinstance(value, list)
        else value
        if isinstance(value, (int, float, str, bytes, tuple))
        else id(value)
    )


def same_weights(scope: Scope) -> bool:
    """Have one initializer where several hold the same; large ones are only read where they begin alike."""
    import onnx_ir

    groups: dict[Any, list[Value]] = {}
    for value in scope.graph.initializers.values():
        tensor = value.const_value
        if (
            tensor is None
            or tensor.dtype == onnx_ir.DataType.STRING
            or value.is_graph_input()
            or value.is_graph_output()
        ):
            continue
        groups.setdefault((tensor.dtype, tuple(tensor.shape)), []).append(value)
    changed = False
    for group in (group for group in groups.values() if len(group) > 1):
        changed = _merged(group) or changed
    return changed


def _merged(group: list[Value]) -> bool:
    kept: dict[bytes, list[tuple[Value, Array]]] = {}
    changed = False
    for value in group:
        array = np.ascontiguousarray(value.const_value.numpy()).reshape(-1).view(np.uint8)
        alike = kept.setdefault(_beginning(array), [])
        first = next((one for one, other in alike if np.array_equal(array, other)), None)
        if first is None:
            alike.append((value, array))
        else:
            value.replace_all_uses_with(first)
            changed = True
    return changed


def _beginning(array: Array) -> bytes:
    """Give some bytes of a weight, by which most that differ are told apart."""
    middle = array.size // 2
    return bytes(array[:64]) + bytes(array[middle : middle + 64]) + bytes(array[-64:])


def unread(scope: Scope) -> bool:
    """Remove the nodes and weights that nothing reads."""
    before = len(scope.graph), len(scope.graph.initializers)
    for node in reversed(list(scope.graph)):
        prune(node, scope)
    for name, value in list(scope.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del scope.graph.initializers[name]
    return before != (len(scope.graph), len(scope.graph.initializers))


def prune(node: Node, scope: Scope) -> None:
    """Remove a node that nothing reads, and those before it that nothing else reads."""
    left = [node]
    while left:
        one = left.pop()
        if one.graph is not scope.graph or any(value.uses() or value.is_graph_output() for value in one.outputs):
            continue
        sources = [value.producer() for value in one.inputs if value is not None]
        _detach(one)
        scope.graph.remove(one, safe=True)
        left.extend(source for source in sources if source is not None)


def _detach(node: Node) -> None:
    """Let go of the values that the subgraphs of a node read."""
    for attribute in node.attributes.values():
        graphs = {"GRAPH": lambda one: [one], "GRAPHS": list}.get(attribute.type.name, lambda _: [])(attribute.value)
        for graph in graphs:
            for inner in list(graph):
                _detach(inner)
                for at in range(len(inner.inputs)):
                    inner.replace_input_with(at, None)


CONSTANTS = Whole("constants", lambda scope: any([lift(scope), fold(scope)]))
DUPLICATES = Whole("duplicates", lambda scope: any([same_weights(scope), repeated(scope)]))
DEAD_ENDS = Whole("dead-ends", unread)
