"""Read how the layers of a Keras 2 model are connected, as Keras 3 writes it.

Keras 2 names a tensor by a list, layer, call and output, with the other arguments of the call behind each:
``[["conv2d", 0, 0, {"mask": null}]]``. Keras 3 has the arguments of the call as they are.
"""

from collections.abc import Mapping
from typing import Any

_RECURRENT = {"LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM2D", "Bidirectional", "CuDNNLSTM", "CuDNNGRU"}
_LEAF = (3, 4)


def nodes(entry: Mapping[str, Any], models: Mapping[str, str]) -> list[Any]:
    """Give the calls of a layer.

    Args:
        entry: the layer, as the file has it.
        models: classes of the models that stand in the model as layers, by name.
    """
    return [_call(node, entry, models) for node in entry.get("inbound_nodes") or ()]


def output_references(references: Any, models: Mapping[str, str]) -> Any:
    """Give the tensors that go into a model, or come out."""
    if _is_leaf(references):
        name, call, output = references[:3]
        # Keras 3 still counts the call with which a functional model was made, but no longer a Sequential's.
        return [_plain(name), max(call - 1, 0) if models.get(name) == "Sequential" else call, output]
    if isinstance(references, dict):
        return {key: output_references(value, models) for key, value in references.items()}
    return [output_references(value, models) for value in references]


def _call(node: Any, entry: Mapping[str, Any], models: Mapping[str, str]) -> Any:
    if isinstance(node, dict) and set(node) == {"args", "kwargs"}:
        return _renamed(node)
    kwargs = {key: _value(value, models) for key, value in _keywords(node).items()}
    if isinstance(node, list) and all(map(_is_leaf, node)):
        tensors = [_tensor(leaf, models) for leaf in node]
        if len(tensors) > 1 and entry.get("class_name") in _RECURRENT:
            # Keras 2 passes the initial state of a recurrent layer behind its input.
            return {"args": [tensors[0]], "kwargs": {**kwargs, "initial_state": tensors[1:]}}
        return {"args": [tensors[0] if len(tensors) == 1 else tensors], "kwargs": kwargs}
    return {"args": [_value(node, models)], "kwargs": kwargs}


def _keywords(node: Any) -> Mapping[str, Any]:
    if _is_leaf(node):
        return node[3] if len(node) == max(_LEAF) else {}
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return next((found for found in map(_keywords, parts) if found), {})


def _value(value: Any, models: Mapping[str, str]) -> Any:
    if _is_leaf(value):
        return _tensor(value, models)
    if isinstance(value, dict):
        # Keras 2 writes an ellipsis without the empty configuration that Keras 3 asks for.
        more: dict[str, Any] = {"config": {}} if value.get("class_name") == "__ellipsis__" else {}
        return {key: _value(part, models) for key, part in value.items()} | more
    if isinstance(value, list):
        return [_value(part, models) for part in value]
    return value


def _is_leaf(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in _LEAF
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and (value[0] == "_CONSTANT_VALUE" or isinstance(value[2], int))
    )


def _tensor(leaf: list[Any], models: Mapping[str, str]) -> Any:
    name, call, output = leaf[:3]
    if name == "_CONSTANT_VALUE":
        return output
    # Keras 2 counts the call with which a model was made as its first.
    return _reference(_plain(name), max(call - 1, 0) if name in models else call, output)


def _reference(name: str, call: int, output: int) -> dict[str, Any]:
    return {
        "class_name": "__keras_tensor__",
        "config": {"shape": [], "dtype": "float32", "keras_history": [name, call, output]},
    }


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            name, call, output = value["config"]["keras_history"]
            return {**value, "config": {**value["config"], "keras_history": [_plain(name), call, output]}}
        return {key: _renamed(part) for key, part in value.items()}
    return [_renamed(part) for part in value] if isinstance(value, list) else value


def _plain(name: str) -> str:
    return name.replace("/", "_")
