"""Give a frozen graph fresh inputs and outputs, and take its large weights out, before tf2onnx sees it."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from deploykit.child.tensorflow.export.shapes import settle_sizes
from deploykit.child.tensorflow.graph.freezing import become_constant, become_placeholder
from deploykit.child.tensorflow.model import Frozen, Order, operation
from deploykit.errors import ModelError
from deploykit.tensors import Array

_LARGE = 1 << 20


@dataclass(frozen=True)
class Ported:
    """A graph whose inputs and outputs are nodes of its own, in order."""

    graph_def: Any
    inputs: list[str]
    outputs: list[str]
    nchw: list[str]
    """Those inputs that are to come with the channels first."""
    weights: dict[str, Array]
    """What placeholders of the graph stand for."""


def with_ports(frozen: Frozen, order: Order) -> Ported:
    """Give the graph placeholders of the sizes asked for as its inputs, and an Identity for each output.

    So an output may be an input, a constant, or the tensor of another output, and an input any tensor.
    """
    graph_def, weights = _lighter(frozen)
    specs = {spec.name: spec for spec in order.inputs}
    taken = {node.name for node in graph_def.node}
    prefix = _unused(taken)
    with tf.Graph().as_default() as graph:
        inputs = {}
        for number, (name, tensor) in enumerate(frozen.inputs.items()):
            sizes = [dim if isinstance(dim, int) else None for dim in specs[name].dims]
            inputs[tensor] = tf.compat.v1.placeholder(specs[name].dtype, sizes, name=f"{prefix}_in_{number}")
        found = tf.import_graph_def(graph_def, input_map=inputs, return_elements=list(frozen.outputs.values()), name="")
        _no_bfloat16(graph)
        outputs = [tf.identity(one, name=f"{prefix}_out_{number}") for number, one in enumerate(found)]
        graph_def = graph.as_graph_def()
        settle_sizes(graph, graph_def)
    ins, outs = [one.name for one in inputs.values()], [one.name for one in outputs]
    kept = [operation(name) for name in (*ins, *outs)]
    graph_def = tf.compat.v1.graph_util.extract_sub_graph(graph_def, kept)
    _no_open_ends(graph_def, {*kept, *weights})
    by_name = dict(zip(frozen.inputs, ins, strict=True))
    return Ported(graph_def, ins, outs, [by_name[name] for name in order.nchw], weights)


def _no_bfloat16(graph: tf.Graph) -> None:
    for node in graph.get_operations():
        if any(one.dtype == tf.bfloat16 for one in node.outputs):
            raise ModelError(
                "the model computes in bfloat16, which tf2onnx takes for float16",
                fix="save it with another policy: keras.config.set_dtype_policy('float32') before it is built",
                details=[f"at '{node.name}'"],
            )


def _unused(names: set[str]) -> str:
    prefixes = ("port", *(f"port{number}" for number in range(len(names))))
    return next(prefix for prefix in prefixes if not any(name.startswith(f"{prefix}_") for name in names))


def _lighter(frozen: Frozen) -> tuple[Any, dict[str, Array]]:
    """Copy the graph but for its large weights: TensorFlow and tf2onnx copy it several times more.

    A weight of which something can be computed beforehand stays where it is, so that it is.
    """
    weights = dict(frozen.weights)
    computed = _foldable(frozen.graph_def, set(weights))
    waits = {f"^{operation(tensor)}" for tensor in frozen.inputs.values()}  # nobody need wait for an input
    fed = {operation(tensor) for tensor in frozen.inputs.values()}
    light = tf.compat.v1.GraphDef()
    light.versions.CopyFrom(frozen.graph_def.versions)
    light.library.CopyFrom(frozen.graph_def.library)
    for node in frozen.graph_def.node:
        if node.op == "Const" and node.name not in computed and len(node.attr["value"].tensor.tensor_content) > _LARGE:
            weights[node.name] = tf.make_ndarray(node.attr["value"].tensor)
            stand_in = light.node.add()
            stand_in.name = node.name
            become_placeholder(stand_in, weights[node.name])
        elif node.name in weights and node.name in computed:
            become_constant(light.node.add(), node.name, weights.pop(node.name))
        else:
            copy = light.node.add()
            copy.CopyFrom(node)
            copy.device = ""
            if copy.op == "PlaceholderWithDefault" and copy.name not in fed:
                _keep_default(copy)
            _drop_marks(copy)
            if not waits.isdisjoint(node.input):
                copy.input[:] = [name for name in node.input if name not in waits]
    for function in light.library.function:
        _drop_marks(function)
    return light, weights


def _keep_default(node: Any) -> None:
    """Let an input that nobody asks for be its default: tf2onnx would make it an input."""
    kind = node.attr["dtype"].type
    node.op = "Identity"
    node.attr.clear()
    node.attr["T"].type = kind


def _drop_marks(one: Any) -> None:
    """Drop what binds a node or function to more than its inputs.

    Keras marks a function that XLA is to compile, of a grouped convolution, against being inlined; and a node that is
    to be where an input is (``_class``) keeps that input in the graph.
    """
    for mark in ("_XlaMustCompile", "_noinline", "_class"):
        if mark in one.attr:
            del one.attr[mark]


def _foldable(graph_def: Any, weights: set[str]) -> set[str]:
    """Name the constants from which, with other constants only, a node other than Identity computes something."""
    sources = {node.name: [operation(name) for name in node.input if name[0] != "^"] for node in graph_def.node}
    operations = {node.name: node.op for node in graph_def.node}
    constant = {name for name, kind in operations.items() if kind == "Const"} | weights
    waiting = [name for name, inputs in sources.items() if inputs]
    while found := [name for name in waiting if constant.issuperset(sources[name])]:
        constant.update(found)
        waiting = [name for name in waiting if name not in constant]
    computed = [name for name in constant if sources[name] and operations[name] != "Identity"]
    used: set[str] = set()
    while computed:
        name = computed.pop()
        computed.extend(one for one in sources[name] if one not in used)
        used.update(sources[name])
    return used


def _no_open_ends(graph_def: Any, known: set[str]) -> None:
    open_ends = [node for node in graph_def.node if node.op == "Placeholder" and node.name not in known]
    for node in open_ends:
        if node.attr["dtype"].type == tf.resource.as_datatype_enum:
            raise ModelError(
                "the model looks something up in a table, which ONNX can't hold",
                fix="take the lookup out of the model, and give it what the table gives",
                details=[f"the table is at '{node.name}'"],
            )
    unknown = [node.name for node in open_ends]
    if unknown:
        raise ModelError(
            f"the outputs depend on '{unknown[0]}', which is no input",
            fix="name all inputs and outputs: --inputs a,b --outputs c",
            details=[f"also on '{name}'" for name in unknown[1:]],
        )
