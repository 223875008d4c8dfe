"""Faults to plant in the nodes of ONNX models: wrong attributes, wrong operators, casts that should not be there."""

from collections.abc import Iterator
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np

from tests.faulty_weights import Fault


def _at(model: Any, number: int) -> Any:
    return list(model.graph)[number]


def _nodes(model: Any, *kinds: str) -> Iterator[tuple[str, int, Any]]:
    for number, node in enumerate(model.graph):
        if node.op_type in kinds:
            yield f"{node.op_type} {node.outputs[0].name}", number, node


def _set_attribute(number: int, attribute: Any, model: Any, _: float) -> None:
    _at(model, number).attributes[attribute.name] = attribute


def epsilon(model: Any) -> Iterator[Fault]:
    import onnx_ir as ir

    kinds = ("LayerNormalization", "BatchNormalization", "InstanceNormalization")
    for where, number, _ in _nodes(model, *kinds):
        yield Fault(where, partial(_set_attribute, number, ir.AttrFloat32("epsilon", 1e-3)))


def transposed(model: Any) -> Iterator[Fault]:
    import onnx_ir as ir

    for where, number, node in _nodes(model, "Transpose"):
        own = tuple(node.attributes["perm"].as_ints())
        for perm in list(permutations(own))[:6]:
            if perm != own:
                yield Fault(f"{where} {perm}", partial(_set_attribute, number, ir.AttrInt64s("perm", perm)))


def transposed_input(model: Any) -> Iterator[Fault]:
    import onnx_ir as ir

    for where, number, node in _nodes(model, "Conv", "MatMul"):
        rank = 4 if node.op_type == "Conv" else 3
        perm = [*range(rank - 2), rank - 1, rank - 2]
        yield Fault(where, partial(_wrap_input, number, [("Transpose", [ir.AttrInt64s("perm", perm)])]))


def _wrap_input(number: int, through: list[tuple[str, list[Any]]], model: Any, _: float) -> None:
    """Put nodes before the first input of a node."""
    import onnx_ir as ir

    node = _at(model, number)
    value = node.inputs[0]
    for kind, attributes in through:
        made = ir.Node("", kind, [value], attributes, num_outputs=1)
        model.graph.insert_before(node, made)
        value = made.outputs[0]
    node.replace_input_with(0, value)


def float16_between(model: Any) -> Iterator[Fault]:
    import onnx_ir as ir

    casts = [("Cast", [ir.AttrInt64("to", int(kind))]) for kind in (ir.DataType.FLOAT16, ir.DataType.FLOAT)]
    real = ("Conv", "Relu", "Gemm", "MatMul", "LayerNormalization", "Softmax", "Tanh", "Elu", "LSTM", "GRU", "Sigmoid")
    for where, number, _ in _nodes(model, *real, "ConvTranspose", "Resize", "Gelu", "LogSoftmax", "BatchNormalization"):
        yield Fault(where, partial(_wrap_input, number, casts))


def missing_activation(model: Any) -> Iterator[Fault]:
    kinds = ("Relu", "LeakyRelu", "Elu", "Gelu", "HardSwish", "Tanh", "Sigmoid", "Softmax", "LogSoftmax")
    for where, number, _ in _nodes(model, *kinds):
        yield Fault(where, partial(_become, number, "Identity", []))


def other_activation(model: Any) -> Iterator[Fault]:
    import onnx_ir as ir

    others = {
        "Relu": [("LeakyRelu", [ir.AttrFloat32("alpha", 1e-3)]), ("Clip", []), ("Softplus", [])],
        "LeakyRelu": [("LeakyRelu", [ir.AttrFloat32("alpha", 0.101)]), ("LeakyRelu", []), ("Relu", [])],
        "Elu": [("Elu", [ir.AttrFloat32("alpha", 0.99)]), ("Selu", []), ("Celu", [ir.AttrFloat32("alpha", 1.01)])],
        "Gelu": [("Gelu", [ir.AttrString("approximate", "tanh")]), ("Relu", []), ("Mish", [])],
        "HardSwish": [("Mish", []), ("Relu", [])],
        "Tanh": [("Softsign", []), ("HardSigmoid", [])],
        "Sigmoid": [("HardSigmoid", [])],
        "Softmax": [("LogSoftmax", []), ("Hardmax", [])],
        "LogSoftmax": [("Softmax", [])],
        "MaxPool": [("AveragePool", [])],
        "AveragePool": [("MaxPool", [])],
        "ReduceSum": [("ReduceMean", []), ("ReduceMax", [])],
        "ArgMax": [("ArgMin", [])],
    }
    for where, number, node in _nodes(model, *others):
        kept = [
            node.attributes[name]
            for name in ("kernel_shape", "strides", "axis", "keepdims", "pads")
            if name in node.attributes and node.op_type not in {"Relu", "Elu", "Gelu"}
        ]
        for kind, attributes in others[node.op_type]:
            yield Fault(f"{where} as {kind} {attributes}", partial(_become, number, kind, [*kept, *attributes]))


def _become(number: int, kind: str, attributes: list[Any], model: Any, _: float) -> None:
    node = _at(model, number)
    node.op_type = kind
    node.attributes.clear()
    for attribute in attributes:
        node.attributes[attribute.name] = attribute


def padding(model: Any) -> Iterator[Fault]:
    import onnx_ir as ir

    for where, number, node in _nodes(model, "Conv"):
        pads = node.attributes["pads"].as_ints() if "pads" in node.attributes else [0, 0, 0, 0]
        for change in ((1, 0, -1, 0), (0, -1, 0, 1), (1, 1, 1, 1)):
            wrong = [max(0, own + more) for own, more in zip(pads, change, strict=True)]
            yield Fault(f"{where} {wrong}", partial(_set_attribute, number, ir.AttrInt64s("pads", wrong)))


def resize(model: Any) -> Iterator[Fault]:
    import onnx_ir as ir

    for where, number, node in _nodes(model, "Resize"):
        mode = node.attributes["mode"].as_string()
        wrong = [("mode", "nearest" if mode == "linear" else "linear")]
        wrong += [("coordinate_transformation_mode", word) for word in ("align_corners", "asymmetric", "half_pixel")]
        for name, word in wrong:
            if name not in node.attributes or node.attributes[name].as_string() != word:
                yield Fault(f"{where} {word}", partial(_set_attribute, number, ir.AttrString(name, word)))


def axis(model: Any) -> Iterator[Fault]:
    import onnx_ir as ir

    for where, number, node in _nodes(model, "Softmax", "LogSoftmax", "ArgMax", "LayerNormalization", "Gather"):
        own = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        for wrong in (0, 1, -2):
            if wrong != own and not (wrong == 0 and node.op_type == "LayerNormalization"):
                yield Fault(f"{where} {wrong}", partial(_set_attribute, number, ir.AttrInt64("axis", wrong)))


def joined_in_other_order(model: Any) -> Iterator[Fault]:
    for where, number, _ in _nodes(model, "Concat", "Sub", "Div", "MatMul"):
        yield Fault(where, partial(_flip_inputs, number))


def _flip_inputs(number: int, model: Any, _: float) -> None:
    node = _at(model, number)
    first, second = node.inputs[0], node.inputs[1]
    node.replace_input_with(0, second)
    node.replace_input_with(1, first)


def recurrence(model: Any) -> Iterator[Fault]:
    import onnx_ir as ir

    for where, number, node in _nodes(model, "LSTM", "GRU"):
        if node.op_type == "GRU":
            yield Fault(f"{where} reset", partial(_set_attribute, number, ir.AttrInt64("linear_before_reset", 0)))
        else:
            yield Fault(f"{where} reverse", partial(_set_attribute, number, ir.AttrString("direction", "reverse")))
            yield Fault(f"{where} coupled", partial(_set_attribute, number, ir.AttrInt64("input_forget", 1)))
        activations = ir.AttrStrings(
            "activations",
            ["HardSigmoid", "Tanh", "Tanh"][: 3 if node.op_type == "LSTM" else 2] * (2 if node.op_type == "GRU" else 1),
        )
        yield Fault(f"{where} gates", partial(_set_attribute, number, activations))


def dropped_mask(model: Any) -> Iterator[Fault]:
    for where, number, node in _nodes(model, "Where", "Not"):
        for choice in (1, 2) if node.op_type == "Where" else (0,):
            yield Fault(f"{where} {choice}", partial(_choose, number, choice))


def _choose(number: int, choice: int, model: Any, _: float) -> None:
    """Make a node give one of its inputs, whatever the others say."""
    import onnx_ir as ir

    node = _at(model, number)
    kept = node.inputs[choice]
    made = ir.Node("", "Identity", [kept], num_outputs=1)
    model.graph.insert_before(node, made)
    for user, index in list(node.outputs[0].uses()):
        user.replace_input_with(index, made.outputs[0])


def baked_batch(model: Any) -> Iterator[Fault]:
    for where, number, node in _nodes(model, "Gemm", "Conv", "LayerNormalization", "MatMul", "LSTM", "GRU"):
        rank = {"Gemm": 2, "Conv": 4}.get(node.op_type, 3)
        batch = 1 if node.op_type in {"LSTM", "GRU"} else 0
        yield Fault(where, partial(_bake, number, [2 if one == batch else 0 for one in range(rank)]))


def _bake(number: int, sizes: list[int], model: Any, _: float) -> None:
    """Reshape what goes into a node to a batch of two."""
    import onnx_ir as ir

    node = _at(model, number)
    value = node.inputs[0]
    shape = ir.Value(name=f"baked_{number}", const_value=ir.tensor(np.array(sizes)))
    model.graph.register_initializer(shape)
    made = ir.Node("", "Reshape", [value, shape], num_outputs=1)
    model.graph.insert_before(node, made)
    node.replace_input_with(0, made.outputs[0])
