"""Keras files as they are found: of Keras 2 and 3, whole or weights only, with code in them, damaged, or not Keras."""

import base64
import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.errors import DeploykitError, ModelError, Refused, UsageError
from deploykit.tensors import Array, Tensors, TensorSpec
from tests.keras_zoo import convolution, dense, entry, functional, image, recurrent, to_cudnn, write

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")
keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")

from deploykit.child.tensorflow.graph.model import GraphModel  # noqa: E402
from deploykit.child.tensorflow.keras.model import KerasModel, load_keras  # noqa: E402 - it imports TensorFlow
from deploykit.child.tensorflow.model import Source  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

LAYERS = """
from os import getcwd

import keras


def twice(x):
    return 2 * x


@keras.saving.register_keras_serializable("mine")
class Scale(keras.layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), name="factor")

    def call(self, x):
        return x * self.factor


class Plain(Scale):
    pass


class Net(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(3)
        self.drop = keras.layers.Dropout(0.5)

    def call(self, batch, training=False, mask=None):
        hidden = self.drop(self.dense(batch["left"]) + self.dense(batch["right"]), training=training)
        return {"logits": hidden, "parts": [hidden + 1, hidden + 2]}


def build(units=3, prefix=""):
    x = keras.Input((4,), name="x")
    hidden = keras.layers.Dense(units, name=prefix + "first")(x)
    return keras.Model(x, keras.layers.Dense(2, name=prefix + "second")(hidden))


def unbuilt():
    return keras.Sequential([keras.layers.Dense(2)])
"""


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def layers_file(tmp_path: Path) -> Path:
    path = tmp_path / "own_layers.py"
    path.write_text(LAYERS)
    return path


def opened(path: Path, **options: Any) -> GraphModel:
    return load_keras(Source(str(path), "keras" if path.suffix == ".keras" else "keras-h5", **options))


def net_of(model: GraphModel) -> Any:
    assert isinstance(model, KerasModel)
    return model.model


def refusal(path: Path, kind: type[DeploykitError], **options: Any) -> str:
    with pytest.raises(kind) as caught:
        opened(path, **options)
    assert caught.value.fix
    return "\n".join(caught.value.lines())


def frozen(model: GraphModel, inputs: Tensors) -> Tensors:
    """Run the graph that a model freezes into, with every free axis free."""
    specs = tuple(
        TensorSpec(
            port.name, port.dtype, tuple(f"d{axis}" if size is None else size for axis, size in enumerate(shape))
        )
        for port in model.inputs
        if (shape := port.shape) is not None
    )
    graph, parts = tf.Graph(), model.freeze(specs)
    with graph.as_default():
        tf.import_graph_def(parts.graph_def, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        fed = {parts.inputs[name]: value for name, value in inputs.items()}
        return dict(session.run(dict(parts.outputs), fed))


def ran(model: GraphModel, inputs: Tensors) -> Tensors:
    """Run a model, and see that it freezes into the same."""
    outputs, again = model.run(inputs), frozen(model, inputs)
    assert list(outputs) == list(again)
    for name, array in outputs.items():
        np.testing.assert_allclose(again[name], array, rtol=1e-5, atol=1e-6)
    return outputs


def drawn(rng: np.random.Generator, *shape: int) -> Array:
    return rng.normal(0, 0.5, shape).astype(np.float32)


# Keras 2


def test_depthwise_and_separable_convolutions_of_keras_2_compute_as_those_of_keras_3(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    config = functional(
        [
            image("picture", 6, 6, 3),
            convolution("DepthwiseConv2D", "block/dw", "picture", kernel_size=[3, 3], depth_multiplier=2),
            entry("BatchNormalization", "bn", "block/dw", axis=[3], epsilon=0.01, renorm=False, fused=True),
            convolution("SeparableConv2D", "sep", "bn", filters=4, kernel_size=[3, 3], depth_multiplier=1),
            entry("LeakyReLU", "leaky", "sep", alpha=0.2),
            convolution("Conv2DTranspose", "up", "leaky", filters=2, kernel_size=[2, 2], output_padding=None),
        ],
        ["picture"],
        ["up"],
    )
    arrays = {
        "block/dw": {"block/dw/depthwise_kernel:0": drawn(rng, 3, 3, 3, 2), "block/dw/bias:0": drawn(rng, 6)},
        "bn": {f"bn/{name}:0": np.abs(drawn(rng, 6)) for name in ("gamma", "beta", "moving_mean", "moving_variance")},
        "sep": {
            "sep/depthwise_kernel:0": drawn(rng, 3, 3, 6, 1),
            "sep/pointwise_kernel:0": drawn(rng, 1, 1, 6, 4),
            "sep/bias:0": drawn(rng, 4),
        },
        "up": {"up/kernel:0": drawn(rng, 2, 2, 2, 4), "up/bias:0": drawn(rng, 2)},
    }
    model = opened(write(tmp_path / "m.h5", config, arrays))
    x = drawn(rng, 2, 6, 6, 3)

    net = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
            keras.layers.BatchNormalization(epsilon=0.01),
            keras.layers.SeparableConv2D(4, 3, padding="same"),
            keras.layers.LeakyReLU(negative_slope=0.2),
            keras.layers.Conv2DTranspose(2, 2, padding="same"),
        ]
    )
    net.set_weights([array for layer in arrays.values() for array in layer.values()])
    np.testing.assert_array_equal(ran(model, {"picture": x})["up"], net(x, training=False).numpy())
    assert "'block/dw'" in model.notes[0]


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_weights_in_cudnn_layout_give_the_same_recurrent_layer(
    tmp_path: Path, rng: np.random.Generator, kind: str
) -> None:
    gates = {"LSTM": 4, "GRU": 3}[kind]
    bias = (12 * gates // 3,) if kind == "LSTM" else (2, 12)
    own = [(drawn(rng, 5, 4 * gates), drawn(rng, 4, 4 * gates), drawn(rng, *bias)) for _ in range(3)]
    names = ("kernel", "recurrent_kernel", "bias")

    def stored(prefix: str, layers: Sequence[tuple[Array, ...]]) -> dict[str, Array]:
        return {
            f"{prefix}/{number}/{name}:0": array
            for number, layer in enumerate(layers)
            for name, array in zip(names, to_cudnn(*layer), strict=True)
        }

    inner = recurrent(f"CuDNN{kind}", "inner", units=4)
    config = functional(
        [
            image("x", None, 5),
            recurrent(f"CuDNN{kind}", "rnn", "x", units=4),
            entry("Bidirectional", "both", "x", layer=inner, merge_mode="concat"),
        ],
        ["x"],
        ["rnn", "both"],
    )
    model = opened(write(tmp_path / "m.h5", config, {"rnn": stored("rnn", own[:1]), "both": stored("both", own[1:])}))

    layer = getattr(keras.layers, kind)
    x = drawn(rng, 2, 7, 5)
    one, both = layer(4, return_sequences=True), keras.layers.Bidirectional(layer(4, return_sequences=True))
    for made, weights in ((one, own[0]), (both, [*own[1], *own[2]])):
        made.build(x.shape)
        made.set_weights(weights)
    outputs = ran(model, {"x": x})
    np.testing.assert_allclose(outputs["rnn"], one(x).numpy(), atol=1e-6)
    np.testing.assert_allclose(outputs["both"], both(x).numpy(), atol=1e-6)


def test_the_hard_sigmoid_of_keras_2_is_kept(tmp_path: Path, rng: np.random.Generator) -> None:
    kernel, own, bias = drawn(rng, 3, 8), drawn(rng, 2, 8), drawn(rng, 8)
    layer = recurrent("LSTM", "rnn", "x", units=2, activation="tanh", recurrent_activation="hard_sigmoid")
    layer["config"] |= {"time_major": False, "implementation": 2, "return_sequences": False}
    config = functional([image("x", 4, 3), layer], ["x"], ["rnn"])
    weights = {"rnn": {"rnn/kernel:0": kernel, "rnn/recurrent_kernel:0": own, "rnn/bias:0": bias}}
    x = 4 * drawn(rng, 5, 4, 3)

    state = cell = np.zeros((5, 2))
    for step in range(4):
        i, f, c, o = np.hsplit(x[:, step] @ kernel + state @ own + bias, 4)
        i, f, o = (np.clip(0.2 * gate + 0.5, 0, 1) for gate in (i, f, o))
        cell = f * cell + i * np.tanh(c)
        state = o * np.tanh(cell)
    result = ran(opened(write(tmp_path / "m.h5", config, weights)), {"x": x})["rnn"]
    np.testing.assert_allclose(result, state, atol=1e-5)


def test_tensorflow_functions_in_a_keras_2_model_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    def op(function: str, name: str, call: Any) -> dict[str, Any]:
        kind = "SlicingOpLambda" if function.endswith("getitem") else "TFOpLambda"
        return entry(kind, name, call, function=function)

    everything, few = {"start": None, "stop": None, "step": None}, {"start": None, "stop": 2, "step": None}
    config = functional(
        [
            image("x", 4),
            image("y", 4),
            op("math.multiply", "tf.math.multiply", ["x", 0, 0, {"y": 2.0, "name": None}]),
            op("__operators__.add", "tf.__operators__.add", ["tf.math.multiply", 0, 0, {"y": ["y", 0, 0]}]),
            op("math.subtract", "minus", ["_CONSTANT_VALUE", -1, 1.0, {"y": ["tf.__operators__.add", 0, 0]}]),
            op("__operators__.getitem", "cut", ["minus", 0, 0, {"slice_spec": [everything, few]}]),
            op("concat", "joined", [["cut", 0, 0, {"axis": -1}], ["y", 0, 0, {"axis": -1}]]),
            op("compat.v1.shape", "shape", ["x", 0, 0, {"out_type": "int32"}]),
            op("__operators__.getitem", "batch", ["shape", 0, 0, {"slice_spec": 0}]),
            op("reshape", "folded", ["joined", 0, 0, {"shape": [["batch", 0, 0], 2, 3]}]),
        ],
        ["x", "y"],
        ["joined", "folded"],
    )
    x, y = drawn(rng, 3, 4), drawn(rng, 3, 4)
    outputs = ran(opened(write(tmp_path / "m.h5", config, {})), {"x": x, "y": y})
    joined = np.concatenate([(1 - (2 * x + y))[:, :2], y], axis=-1)
    np.testing.assert_allclose(outputs["joined"], joined, atol=1e-6)
    np.testing.assert_allclose(outputs["folded"], joined.reshape(3, 2, 3), atol=1e-6)


def node(op: str, **attributes: Any) -> dict[str, Any]:
    return {"name": op, "op": op, "input": ["a", "b"], "attr": {"T": {"type": "DT_FLOAT"}, **attributes}}


def test_nodes_of_a_graph_in_a_keras_2_model_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    int32, two = {"type": "DT_INT32"}, {"i": "2"}
    config = functional(
        [
            image("x", 4),
            image("y", 4),
            entry("TensorFlowOpLayer", "Mul", "x", node_def=node("Mul"), constants={"1": 2.0}),
            entry("TensorFlowOpLayer", "AddV2", "Mul", "y", node_def=node("AddV2"), constants={}),
            entry(
                "TensorFlowOpLayer",
                "ConcatV2",
                "AddV2",
                "x",
                node_def=node("ConcatV2", N=two, Tidx=int32),
                constants={"2": 1},
            ),
            entry(
                "TensorFlowOpLayer",
                "Mean",
                "ConcatV2",
                node_def=node("Mean", keep_dims={"b": True}, Tidx=int32),
                constants={"1": [1]},
            ),
        ],
        ["x", "y"],
        ["ConcatV2", "Mean"],
    )
    x, y = drawn(rng, 3, 4), drawn(rng, 3, 4)
    outputs = ran(opened(write(tmp_path / "m.h5", config, {})), {"x": x, "y": y})
    joined = np.concatenate([2 * x + y, x], axis=1)
    np.testing.assert_allclose(outputs["ConcatV2"], joined, atol=1e-6)
    np.testing.assert_allclose(outputs["Mean"], joined.mean(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("op", ["ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "NoSuch"])
def test_a_node_that_does_more_than_compute_is_no_layer(tmp_path: Path, op: str) -> None:
    layer = entry("TensorFlowOpLayer", "op", "x", node_def=node(op), constants={})
    assert op in refusal(write(tmp_path / "m.h5", functional([image("x", 4), layer], ["x"], ["op"]), {}), ModelError)


@pytest.mark.parametrize("function", ["io.read_file", "io.write_file", "py_function", "nn._x", "no_such"])
def test_a_tensorflow_function_that_does_more_than_compute_is_no_layer(tmp_path: Path, function: str) -> None:
    call = ["x", 0, 0, {"name": None}]
    config = functional([image("x", 4), entry("TFOpLambda", "op", call, function=function)], ["x"], ["op"])
    assert f"tf.{function}" in refusal(write(tmp_path / "m.h5", config, {}), ModelError)


def test_models_within_a_keras_2_model_are_called_where_it_calls_them(tmp_path: Path, rng: np.random.Generator) -> None:
    inner = functional([image("a", 3), dense("fd", 2, "a")], ["a"], ["fd"], "graph")
    row = {"class_name": "Sequential", "config": {"name": "row", "layers": [image("b", 3), dense("sd", 2)]}}
    config = functional(
        [
            image("left", 3),
            image("right", 3),
            {**inner, "name": "graph", "inbound_nodes": [[["left", 0, 0, {}]], [["right", 0, 0, {}]]]},
            {**row, "name": "row", "inbound_nodes": [[["right", 0, 0, {}]]]},
            entry("Subtract", "between", [["graph", 1, 0, {}], ["graph", 2, 0, {}]]),
            entry("Multiply", "product", [["between", 0, 0, {}], ["row", 1, 0, {}]]),
        ],
        ["right", "left"],
        ["product", ["row", 1, 0], ["graph", 2, 0]],
    )
    graph, line, bias = drawn(rng, 3, 2), drawn(rng, 3, 2), drawn(rng, 2)
    weights = {"graph": {"fd/kernel:0": graph, "fd/bias:0": bias}, "row": {"sd/kernel:0": line, "sd/bias:0": bias}}
    model = opened(write(tmp_path / "m.h5", config, weights))
    left, right = drawn(rng, 5, 3), drawn(rng, 5, 3)

    outputs = ran(model, {"right": right, "left": left})
    assert [port.name for port in model.inputs] == ["right", "left"]
    np.testing.assert_allclose(outputs["row"], right @ line + bias, atol=1e-6)
    np.testing.assert_allclose(outputs["graph"], right @ graph + bias, atol=1e-6)
    np.testing.assert_allclose(outputs["product"], (left - right) @ graph * (right @ line + bias), atol=1e-6)


def test_weights_of_an_inner_model_go_by_their_names_where_the_order_differs(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    inner = functional([image("a", 2), dense("one", 2, "a"), dense("two", 2, "one")], ["a"], ["two"], "graph")
    config = functional(
        [image("x", 2), {**inner, "name": "graph", "inbound_nodes": [[["x", 0, 0, {}]]]}], ["x"], [["graph", 1, 0]]
    )
    one, two, bias = drawn(rng, 2, 2), drawn(rng, 2, 2), drawn(rng, 2)
    frozen_first = {"two/kernel:0": two, "two/bias:0": bias, "one/kernel:0": one, "one/bias:0": bias}
    x = drawn(rng, 3, 2)
    outputs = opened(write(tmp_path / "m.h5", config, {"graph": frozen_first})).run({"x": x})
    np.testing.assert_allclose(outputs["graph"], (x @ one + bias) @ two + bias, atol=1e-6)


def test_a_recurrent_layer_of_keras_2_begins_with_the_state_that_it_is_given(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    start = {"return_state": True, "return_sequences": False, "units": 2, "reset_after": False}
    first = recurrent("GRU", "encoder", "x", activation="tanh", recurrent_activation="sigmoid", **start)
    calls = [["x", 0, 0, {}], ["encoder", 0, 1, {}]]
    config = functional(
        [image("x", 4, 3), first, recurrent("SimpleRNN", "decoder", calls, units=2)], ["x"], ["decoder"]
    )
    names = ("kernel", "recurrent_kernel", "bias")
    gru = [drawn(rng, 3, 6), drawn(rng, 2, 6), drawn(rng, 6)]
    simple = [drawn(rng, 3, 2), drawn(rng, 2, 2), drawn(rng, 2)]
    weights = {
        layer: {f"{layer}/{name}:0": array for name, array in zip(names, arrays, strict=True)}
        for layer, arrays in (("encoder", gru), ("decoder", simple))
    }
    x = drawn(rng, 2, 4, 3)
    encoder, decoder = keras.layers.GRU(2, reset_after=False), keras.layers.SimpleRNN(2, return_sequences=True)
    for layer, arrays in ((encoder, gru), (decoder, simple)):
        layer.build(x.shape)
        layer.set_weights(arrays)
    outputs = ran(opened(write(tmp_path / "m.h5", config, weights)), {"x": x})
    np.testing.assert_allclose(outputs["decoder"], decoder(x, initial_state=[encoder(x)]).numpy(), atol=1e-6)


def test_a_sequential_of_early_keras_2_is_a_list_that_begins_with_its_shape(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    first = dense("hidden", 3)
    first["config"] |= {
        "batch_input_shape": [None, 2],
        "dtype": {"class_name": "Policy", "config": {"name": "float32"}},
    }
    config = {"class_name": "Sequential", "config": [first, entry("ThresholdedReLU", "cut", theta=0.1)]}
    kernel, bias = drawn(rng, 2, 3), drawn(rng, 3)
    weights = {"hidden": {"hidden/kernel:0": kernel, "hidden/bias:0": bias}}
    model = opened(write(tmp_path / "m.h5", config, weights, version="2.0.6"))
    x = drawn(rng, 4, 2)
    hidden = x @ kernel + bias
    assert model.inputs[0].name == "hidden_input"
    np.testing.assert_allclose(ran(model, {"hidden_input": x})["cut"], hidden * (hidden > 0.1), atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (recurrent("LSTM", "rnn", "x", units=2, time_major=True), "time_major=True"),
        (convolution("DepthwiseConv2D", "dw", "x", kernel_size=[3, 3], groups=3), "groups=3"),
        (entry("TFOpLambda", "op", ["x", 0, 0, {}], function="io.read_file"), "tf.io.read_file"),
        (entry("InputLayer", "rag", batch_input_shape=[None, 2], ragged=True), "ragged"),
    ],
)
def test_what_keras_3_cannot_do_is_named(tmp_path: Path, layer: dict[str, Any], said: str) -> None:
    config = functional([image("x", 4, 3), layer], ["x"], [layer["name"]])
    assert said in refusal(write(tmp_path / "m.h5", config, {}), ModelError)


def test_files_of_keras_1_and_of_theano_are_refused(tmp_path: Path) -> None:
    config = functional([image("x", 4)], ["x"], ["x"])
    assert "Keras 1.2" in refusal(write(tmp_path / "a.h5", config, {}, version="1.2.2"), ModelError)
    assert "Theano" in refusal(write(tmp_path / "b.h5", config, {}, backend="theano"), ModelError)


def test_an_archive_of_keras_2_is_read_too(tmp_path: Path, rng: np.random.Generator) -> None:
    kernel, bias = drawn(rng, 3, 2), drawn(rng, 2)
    config = functional([image("x", 3), dense("out/last", 2, "x")], ["x"], ["out/last"])
    for layer in config["config"]["layers"]:
        layer |= {"module": "keras.layers", "registered_name": None}
    config |= {"module": "keras.src.engine.functional", "registered_name": "Functional", "build_config": {}}
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        for number, array in enumerate((kernel, bias)):
            file[f"_layer_checkpoint_dependencies/dense/vars/{number}"] = array
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.13.1"}))
        archive.write(tmp_path / "weights.h5", "model.weights.h5")
    x = drawn(rng, 4, 3)
    np.testing.assert_allclose(ran(opened(path), {"x": x})["out_last"], x @ kernel + bias, atol=1e-6)


# Weights only


def weights_of_build(rng: np.random.Generator, units: int = 3, prefix: str = "") -> dict[str, dict[str, Array]]:
    first, second = f"{prefix}first", f"{prefix}second"
    return {
        "x": {},
        second: {f"{second}/kernel:0": drawn(rng, units, 2), f"{second}/bias:0": drawn(rng, 2)},
        first: {f"{first}/kernel:0": drawn(rng, 4, units), f"{first}/bias:0": drawn(rng, units)},
    }


def test_weights_go_into_the_factorys_layers_by_name(
    tmp_path: Path, layers_file: Path, rng: np.random.Generator
) -> None:
    stored = weights_of_build(rng)
    model = opened(write(tmp_path / "w.h5", None, stored), factory=f"{layers_file}:build")
    x = drawn(rng, 5, 4)
    first, second = list(stored["first"].values()), list(stored["second"].values())
    np.testing.assert_allclose(
        ran(model, {"x": x})["second"], (x @ first[0] + first[1]) @ second[0] + second[1], atol=1e-5
    )
    assert model.notes == ()


def test_weights_of_layers_by_other_names_go_in_their_order_and_that_is_said(
    tmp_path: Path, layers_file: Path, rng: np.random.Generator
) -> None:
    stored = weights_of_build(rng, prefix="old_")
    ordered = {name: stored[name] for name in ("old_first", "old_second")}
    model = opened(write(tmp_path / "w.h5", None, ordered), factory=f"{layers_file}:build")
    assert "'old_first' is 'first'" in model.notes[0]
    np.testing.assert_array_equal(
        net_of(model).get_layer("second").kernel, ordered["old_second"]["old_second/kernel:0"]
    )


def test_weights_that_do_not_fit_are_listed_by_layer(
    tmp_path: Path, layers_file: Path, rng: np.random.Generator
) -> None:
    stored = {**weights_of_build(rng, units=5), "third": {"third/kernel:0": drawn(rng, 1, 1)}}
    said = refusal(write(tmp_path / "w.h5", None, stored), ModelError, factory=f"{layers_file}:build")
    assert "first/kernel: the file has [4, 5], the model [4, 3]" in said
    assert "layers not in the model:\n    third" in said
    del stored["first"], stored["third"]
    said = refusal(write(tmp_path / "w.h5", None, stored), ModelError, factory=f"{layers_file}:build")
    assert "layers missing in the file:\n    first" in said


def test_weights_alone_are_no_model(tmp_path: Path, layers_file: Path, rng: np.random.Generator) -> None:
    path = write(tmp_path / "w.h5", None, weights_of_build(rng))
    assert "first/kernel:0: [4, 3]" in (said := refusal(path, UsageError))
    assert "--factory" in said
    assert "not built" in refusal(path, UsageError, factory=f"{layers_file}:unbuilt")


def test_a_weights_file_of_keras_3_fits_its_factory_and_no_other(
    tmp_path: Path, layers_file: Path, rng: np.random.Generator
) -> None:
    factory = f"{layers_file}:build"
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    net.save_weights(tmp_path / "net.weights.h5")
    net.save(tmp_path / "net.keras")
    x = drawn(rng, 3, 4)
    for path in (tmp_path / "net.weights.h5", tmp_path / "net.keras"):
        np.testing.assert_allclose(opened(path, factory=factory).run({"x": x})["second"], net(x).numpy(), atol=1e-6)
        said = refusal(path, ModelError, factory=factory, factory_args='{"units": 7}')
        assert "layers/dense/vars/0: the file has [4, 3], the model [4, 7]" in said
    assert "layers/dense_1/vars/0: [3, 2]" in refusal(tmp_path / "net.weights.h5", UsageError)


# Keras 3


def nets() -> dict[str, Any]:
    layers, ops = keras.layers, keras.ops
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    steps, ids = keras.Input((None, 4), name="steps"), keras.Input((None,), dtype="int32", name="ids")
    normal = layers.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 4.0, 9.0, 16.0])
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3)], name="inner")
    inner.compile(loss=lambda true, guess: ops.mean(true - guess))
    masked = layers.GRU(3)(layers.Embedding(9, 4, mask_zero=True)(ids))
    built = keras.Sequential([layers.Dense(2, name="late")])
    built(np.zeros((5, 3), np.float32))
    quantized = keras.Sequential([keras.Input((8,), name="q"), layers.Dense(4), layers.Dense(2, name="few")])
    quantized.quantize("int8")
    half = keras.dtype_policies.DTypePolicy("mixed_float16")
    return {
        "dict": keras.Model({"b": b, "a": a}, {"total": a + b, "b": layers.Dense(2)(b)}),
        "list": keras.Model([b, a], [layers.Dense(2, name="first")(a), ops.relu(b)]),
        "states": keras.Model(steps, layers.LSTM(3, return_state=True, return_sequences=True, name="lstm")(steps)),
        "same": keras.Model(a, [a, layers.Dense(2, name="d")(a)]),
        "fixed": keras.Model(c := keras.Input(batch_shape=(3, 4), name="c"), layers.Dense(2, name="d")(c)),
        "masked": keras.Model(ids, layers.Dense(2, name="d")(masked)),
        "scaled": keras.Model(a, layers.Discretization([-1.0, 0.0, 1.0], name="bins")(normal(a))),
        "nested": keras.Model(a, layers.Dense(2, name="d")(inner(a))),
        "dropped": keras.Model(a, layers.GaussianNoise(1.0, name="noise")(layers.Dropout(0.5)(a))),
        "late": built,
        "quantized": quantized,
        "mixed": keras.Model(a, layers.Dense(2, dtype="float32", name="d")(layers.Dense(3, dtype=half)(a))),
        "stateful": keras.Sequential(
            [keras.Input(batch_shape=(2, 3, 4), name="s"), layers.LSTM(2, stateful=True, name="kept")]
        ),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with each of the nets as .keras and .h5."""
    folder = tmp_path_factory.mktemp("keras3")
    for name, net in nets().items():
        net.save(folder / f"{name}.keras")
        net.save(folder / f"{name}.h5")
    return folder


PORTS: dict[str, tuple[dict[str, tuple[int | None, ...]], list[str]]] = {
    "dict": ({"a": (None, 4), "b": (None, 4)}, ["b_out", "total"]),
    "list": ({"b": (None, 4), "a": (None, 4)}, ["first", "relu"]),
    "states": ({"steps": (None, None, 4)}, ["lstm", "lstm_1", "lstm_2"]),
    "same": ({"a": (None, 4)}, ["a_out", "d"]),
    "fixed": ({"c": (3, 4)}, ["d"]),
    "masked": ({"ids": (None, None)}, ["d"]),
    "scaled": ({"a": (None, 4)}, ["bins"]),
    "nested": ({"a": (None, 4)}, ["d"]),
    "dropped": ({"a": (None, 4)}, ["noise"]),
    "late": ({"input_layer": (None, 3)}, ["late"]),
    "quantized": ({"q": (None, 8)}, ["few"]),
    "mixed": ({"a": (None, 4)}, ["d"]),
    "stateful": ({"s": (None, 3, 4)}, ["kept"]),
}


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", PORTS)
def test_inputs_and_outputs_have_the_authors_names_and_the_graph_is_the_model(
    saved: Path, rng: np.random.Generator, name: str, suffix: str
) -> None:
    model = opened(saved / f"{name}.{suffix}")
    inputs, outputs = PORTS[name]
    if name == "late":
        inputs = {model.inputs[0].name: (None, 3)}  # nobody gave it a name
    assert {port.name: port.shape for port in model.inputs} == inputs
    sizes = {port.name: [3 if size is None else size for size in port.shape or ()] for port in model.inputs}
    values = {
        port.name: rng.integers(0, 5, sizes[port.name]).astype(port.dtype)
        if port.dtype == "int32"
        else drawn(rng, *sizes[port.name])
        for port in model.inputs
    }
    first = ran(model, values)
    assert [*first] == [*outputs] if name != "list" else [*first][:1] == outputs[:1]
    again = model.run(values)
    for output in first:
        np.testing.assert_array_equal(first[output], again[output])


def test_what_training_used_need_not_be_known(tmp_path: Path) -> None:
    def my_loss(true: Any, guess: Any) -> Any:
        return keras.ops.mean(true - guess)

    regularizer: Any = keras.regularizers.Regularizer

    class Decay(regularizer):
        def __call__(self, x: Any) -> Any:
            return 0.0 * keras.ops.sum(x)

        def get_config(self) -> dict[str, Any]:
            return {}

    net = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, kernel_regularizer=Decay(), name="d")])
    net.compile("adam", my_loss, metrics=[my_loss])
    net.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    x = np.ones((1, 3), np.float32)
    for suffix in ("keras", "h5"):
        net.save(tmp_path / f"net.{suffix}")
        np.testing.assert_array_equal(opened(tmp_path / f"net.{suffix}").run({"x": x})["d"], net(x).numpy())


# Code


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_layer_runs_only_where_the_file_is_trusted(
    tmp_path: Path, rng: np.random.Generator, suffix: str
) -> None:
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda t: tf.abs(t) * np.pi, name="strange")])
    path = tmp_path / f"net.{suffix}"
    keras.Sequential([keras.Input((3,), name="x"), inner, keras.layers.Flatten(name="f")]).save(path)
    said = refusal(path, Refused)
    assert "'strange'" in said
    assert "--trust-pickle" in said
    x = drawn(rng, 2, 3)
    np.testing.assert_allclose(ran(opened(path, trust_pickle=True), {"x": x})["f"], np.abs(x) * np.pi, rtol=1e-6)


def compiled_by_python_3_7() -> bytes:
    return b"\xe3" + struct.pack("<5i", 1, 0, 1, 2, 67) + b"s\x08\x00\x00\x00\x7c\x00\x64\x01\x14\x00\x53\x00"


def compiled_by_python_3_8() -> bytes:
    return b"\xe3" + struct.pack("<6i", 1, 0, 0, 1, 2, 67) + b"s\x08\x00\x00\x00\x7c\x00\x64\x01\x14\x00\x53\x00"


@pytest.mark.parametrize("compiled", [compiled_by_python_3_7(), compiled_by_python_3_8()])
def test_a_lambda_of_another_python_is_refused_even_where_it_is_trusted(tmp_path: Path, compiled: bytes) -> None:
    code = [base64.b64encode(compiled).decode(), None, None]
    layer = entry("Lambda", "twice", "x", function=code, function_type="lambda", output_shape=None, arguments={})
    path = write(tmp_path / "m.h5", functional([image("x", 3), layer], ["x"], ["twice"]), {})
    assert "'twice'" in refusal(path, Refused)
    assert "another version of Python" in refusal(path, ModelError, trust_pickle=True)


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write an archive anew with another description of its last layer."""
    other = path.with_name("changed.keras")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w") as target:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config["config"]["layers"][-1])
                content = json.dumps(config).encode()
            target.writestr(name, content)
    return other


def at(**what: Any) -> Callable[[dict[str, Any]], None]:
    return lambda layer: layer.update(what)


def activation(module: str, name: str) -> Callable[[dict[str, Any]], None]:
    function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
    return lambda layer: layer["config"].update(activation=function)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (at(module="os", class_name="system", registered_name="system"), UsageError, "system"),
        (at(module="keras_hub.models", class_name="Gpt", registered_name="keras_hub>Gpt"), UsageError, "'Gpt'"),
        (at(class_name="NoSuchLayer"), UsageError, "NoSuchLayer"),
        (activation("os", "system"), UsageError, "function 'system'"),
        (activation("builtins", "eval"), UsageError, "function 'eval'"),
        (activation("keras.utils", "plot_model"), Refused, "keras.utils.plot_model"),
        (at(class_name="TFSMLayer", config={"name": "d", "filepath": "saved"}), Refused, "TFSMLayer"),
        (at(class_name="TorchModuleWrapper", config={"name": "d", "module": "x"}), Refused, "TorchModuleWrapper"),
        (at(class_name="IntegerLookup", config={"name": "d", "vocabulary": "secret.txt"}), Refused, "secret.txt"),
    ],
)
def test_a_file_cannot_reach_for_code_outside_of_keras(
    saved: Path, change: Callable[[dict[str, Any]], None], kind: type[DeploykitError], said: str
) -> None:
    text = refusal(changed(saved / "same.keras", change), kind)
    assert said in text
    assert "'d'" in text


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_own_layers_and_functions_come_from_the_named_file(
    tmp_path: Path, layers_file: Path, rng: np.random.Generator, suffix: str
) -> None:
    own: dict[str, Any] = {"__name__": "elsewhere"}
    exec(compile(LAYERS, layers_file, "exec"), own)  # noqa: S102 - the classes of a training script
    net = keras.Sequential(
        [keras.Input((4,), name="x"), own["Scale"](), own["Plain"](name="own"), keras.layers.Activation(own["twice"])]
    )
    path = tmp_path / f"net.{suffix}"
    net.save(path)
    keras.saving.get_custom_objects().clear()
    said = refusal(path, UsageError)
    assert "--custom-objects" in said
    assert "Plain" in said
    assert "twice" in said
    x = drawn(rng, 2, 4)
    outputs = ran(opened(path, custom_objects=str(layers_file)), {"x": x})
    np.testing.assert_allclose(next(iter(outputs.values())), net(x).numpy(), rtol=1e-6)
    keras.saving.get_custom_objects().clear()


def test_what_the_named_file_imports_from_elsewhere_is_not_offered(saved: Path, layers_file: Path) -> None:
    path = changed(saved / "same.keras", activation("os", "getcwd"))
    assert "no function 'getcwd'" in refusal(path, UsageError, custom_objects=str(layers_file))


def test_a_subclassed_model_has_the_inputs_of_its_call(
    tmp_path: Path, layers_file: Path, rng: np.random.Generator
) -> None:
    own: dict[str, Any] = {"__name__": "elsewhere"}
    exec(compile(LAYERS, layers_file, "exec"), own)  # noqa: S102 - the classes of a training script
    net, shapes = own["Net"](), {"left": (7, 4), "right": (7, 4)}
    net({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    net.save(tmp_path / "net.keras")
    model = opened(tmp_path / "net.keras", custom_objects=str(layers_file))
    assert {port.name: port.shape for port in model.inputs} == {"left": (None, 4), "right": (None, 4)}
    values = {name: drawn(rng, 2, 4) for name in shapes}
    outputs, expected = ran(model, values), net(values, training=False)
    assert list(outputs) == ["logits", "parts.0", "parts.1"]
    np.testing.assert_allclose(outputs["parts.1"], expected["parts"][1].numpy(), atol=1e-6)
    keras.saving.get_custom_objects().clear()


def test_an_input_of_a_keras_model_cannot_be_held_at_a_value(saved: Path) -> None:
    with pytest.raises(UsageError, match="'a' can't be held"):
        opened(saved / "same.keras").fix({"a": np.zeros(4)})


# Damaged, or something else


def without(path: Path, part: str) -> Path:
    other = path.with_name("part.keras")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w") as target:
        for name in archive.namelist():
            if name != part:
                target.writestr(name, archive.read(name))
    return other


@pytest.mark.parametrize("part", ["model.weights.h5", "config.json"])
def test_an_archive_that_lacks_a_part_is_named_so(saved: Path, part: str) -> None:
    assert f"has no {part}" in refusal(without(saved / "same.keras", part), ModelError)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_file_that_is_cut_off_is_damaged(saved: Path, tmp_path: Path, suffix: str) -> None:
    content = (saved / f"same.{suffix}").read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: len(content) // 2])
    assert "damaged or cut off" in refusal(path, ModelError)


def test_weights_that_are_not_those_that_were_written_are_damaged(saved: Path, tmp_path: Path) -> None:
    kernel = net_of(opened(saved / "same.keras")).get_layer("d").kernel.numpy().tobytes()
    content = (saved / "same.keras").read_bytes()
    assert content.count(kernel) == 1
    path = tmp_path / "changed.keras"
    path.write_bytes(content.replace(kernel, kernel[::-1]))
    assert "checksum of model.weights.h5" in refusal(path, ModelError)


def test_an_hdf5_file_of_another_program_is_no_model(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["lengths"] = np.zeros((3, 2))
        file.create_group("df").attrs["pandas_type"] = "frame"
    said = refusal(tmp_path / "table.h5", ModelError)
    assert "no Keras model" in said
    assert "lengths: float64 [3, 2]" in said
    assert "of pandas" in said


def test_weights_that_the_file_only_points_to_are_not_read(tmp_path: Path, rng: np.random.Generator) -> None:
    config = functional([image("x", 3), dense("d", 2, "x")], ["x"], ["d"])
    weights: Mapping[str, Mapping[str, Array]] = {"d": {"d/kernel:0": drawn(rng, 3, 2), "d/bias:0": drawn(rng, 2)}}
    path = write(tmp_path / "m.h5", config, weights)
    with h5py.File(path, "a") as file:
        del file["model_weights/d/d/bias:0"]
        file["model_weights/d/d/bias:0"] = h5py.ExternalLink("other.h5", "bias")
    assert "d/bias:0" in refusal(path, ModelError)


def test_a_model_that_was_saved_before_it_was_built_has_no_weights(tmp_path: Path) -> None:
    keras.Sequential([keras.layers.Dense(2)]).save(tmp_path / "net.keras")
    assert "what goes into the model" in refusal(tmp_path / "net.keras", ModelError)
