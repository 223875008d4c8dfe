"""Trained TensorFlow models of others convert, and the ONNX files keep the accuracy that was measured on real data."""

import gzip
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.running import ROOT, deploykit

REAL = ROOT.parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not REAL.exists(), reason="the real models are not here: ../shared/data")
pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")


class Made:
    """A real model as an ONNX file in onnxruntime, proved when it was made and once more from its golden."""

    def __init__(self, folder: Path, source: str, *options: str) -> None:
        import onnxruntime

        ran = deploykit("convert", REAL / source, "-o", "made.onnx", "--json", *options, cwd=folder)
        assert ran.code == 0, ran.err
        assert deploykit("validate", cwd=folder).code == 0
        self.told = ran.json
        self.signature = ran.json["signature"]
        self.session = onnxruntime.InferenceSession(folder / "made.onnx", providers=["CPUExecutionProvider"])

    def run(self, x: Any, batch: int = 250) -> Any:
        name = self.session.get_inputs()[0].name
        parts = [np.ascontiguousarray(x[start : start + batch]) for start in range(0, len(x), batch)]
        return np.concatenate([self.session.run(None, {name: part})[0] for part in parts])

    def accuracy(self, x: Any, labels: Any, batch: int = 250) -> float:
        return float((self.run(x, batch).argmax(1) == labels).mean())


def cifar(name: str) -> tuple[Any, Any]:
    """Give images, float32 [n, 32, 32, 3] of 0 to 255, and labels."""
    with np.load(REAL / "cifar10" / f"{name}.npz") as samples:
        return samples["x"].transpose(0, 2, 3, 1).astype(np.float32), samples["y"]


def mnist() -> tuple[Any, Any]:
    """Give images, float32 [10000, 784] of 0 to 1, and labels."""
    with gzip.open(REAL / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784).astype(np.float32) / 255
    with gzip.open(REAL / "mnist" / "t10k-labels-idx1-ubyte.gz") as file:
        return images, np.frombuffer(file.read(), np.uint8, offset=8)


def people() -> tuple[Any, Any]:
    """Give images, float32 [128, 96, 96, 3] of 0 to 1, and whether a person is on them."""
    with np.load(REAL / "vww" / "vww_coco_train2017_128.npz") as samples:
        return samples["x"].astype(np.float32) / 255, samples["y"]


def quantized(images: Any, source: str) -> Any:
    """Give images as a quantized TFLite file takes them."""
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the interpreter will move to another package
        interpreter = tf.lite.Interpreter(str(REAL / source))
    scale, zero = interpreter.get_input_details()[0]["quantization"]
    return np.clip(np.round(images / scale + zero), -128, 127).astype(np.int8)


SETS = ("cifar10_lossless_200", "cifar10_jpeg_test_2000")


def test_a_resnet_of_keras_2_keeps_its_accuracy(tmp_path: Path) -> None:
    made = Made(tmp_path, "cifar10/pretrainedResnet.h5")
    for name, measured in zip(SETS, (0.8950, 0.7615), strict=True):
        assert made.accuracy(*cifar(name)) == pytest.approx(measured, abs=0.00051), name


def test_a_resnet_in_int8_keeps_its_accuracy(tmp_path: Path) -> None:
    source = "cifar10/pretrainedResnet_quant.tflite"
    made = Made(tmp_path, source)
    for name, measured in zip(SETS, (0.8950, 0.7595), strict=True):
        images, labels = cifar(name)
        assert made.accuracy(quantized(images, source), labels, 1) == pytest.approx(measured, abs=0.00051), name


def test_a_frozen_graph_with_a_fixed_batch_and_the_channels_first_keeps_its_accuracy(tmp_path: Path) -> None:
    made = Made(tmp_path, "cifar10/samplenet.pb")
    assert made.signature == {"inputs": ["data:float32[1,3,32,32]"], "outputs": ["add_4:float32[1,10]"]}
    mean, spread = np.array([125.307, 122.961, 113.8575]), np.array([51.5865, 50.847, 51.255])
    for name, measured in zip(SETS, (0.7500, 0.7080), strict=True):
        images, labels = cifar(name)
        given = ((images - mean) / spread)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)
        assert made.accuracy(given, labels, 1) == pytest.approx(measured, abs=0.00051), name


def test_frozen_graphs_of_tensorflow_1_keep_their_accuracy(tmp_path: Path) -> None:
    images, labels = mnist()
    for source, options, measured in (
        ("tf_fc_frozen.pb", (), 0.9548),
        ("tf_lstm_frozen.pb", ("--input", "keep_prob=1"), 0.9826),
    ):
        made = Made(tmp_path, f"mnist/{source}", *options)
        assert made.signature == {"inputs": ["X:float32[batch,784]"], "outputs": ["output:float32[batch,10]"]}
        assert made.accuracy(images, labels) == pytest.approx(measured, abs=0.00011), source


def test_a_mobilenet_that_keras_3_refuses_keeps_its_accuracy(tmp_path: Path) -> None:
    made = Made(tmp_path, "vww/vww_96.h5")
    assert made.accuracy(*people()) == pytest.approx(0.8594, abs=0.0001)


def test_a_mobilenet_in_int8_keeps_its_accuracy(tmp_path: Path) -> None:
    made = Made(tmp_path, "vww/vww_96_int8.tflite")
    images, labels = people()
    found = made.accuracy(quantized(images, "vww/vww_96_int8.tflite"), labels, 1)
    assert found == pytest.approx(0.8594, abs=0.0001)


CHARLM = """
import keras
from keras import layers, ops


class AttentionWeightedAverage(layers.Layer):
    def build(self, shape):
        self.W = self.add_weight(shape=(shape[-1], 1), name="W", initializer="uniform")

    def call(self, x):
        score = ops.squeeze(ops.matmul(x, self.W), -1)
        w = ops.exp(score - ops.max(score, axis=-1, keepdims=True))
        return ops.sum(x * ops.expand_dims(w / (ops.sum(w, axis=1, keepdims=True) + 1e-7), -1), axis=1)


def charlm():
    x = keras.Input((40,), name="input")
    e = layers.Embedding(465, 100, name="embedding")(x)
    a = layers.LSTM(128, return_sequences=True, name="rnn_1")(e)
    b = layers.LSTM(128, return_sequences=True, name="rnn_2")(a)
    c = AttentionWeightedAverage(name="attention")(layers.Concatenate(name="rnn_concat")([e, a, b]))
    return keras.Model(x, layers.Dense(465, activation="softmax", name="output")(c), name="charlm")
"""


def test_weights_in_the_layout_of_cudnn_keep_their_accuracy(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CHARLM)
    made = Made(tmp_path, "charlm/textgenrnn_weights.hdf5", "--factory", "net.py:charlm")
    with np.load(REAL / "charlm" / "hacker_news_4000.npz") as samples:
        contexts, following = samples["x"].astype(np.float32), samples["y"].astype(int)
    found = made.run(contexts)
    assert (found.argmax(1) == following).mean() == pytest.approx(0.4933, abs=0.0003)
    bits = -np.log2(np.maximum(found[np.arange(len(following)), following], 1e-9)).mean()
    assert bits == pytest.approx(2.5453, abs=0.0001)


def test_a_saved_model_that_tensorflow_itself_no_longer_loads_answers_as_it_did(tmp_path: Path) -> None:
    import tensorflow as tf

    made = Made(tmp_path, "kws/kws_ref_model")
    clips = np.random.default_rng(0).normal(0, 20, (64, 49, 10, 1)).astype(np.float32)
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(REAL / "kws" / "kws_ref_model"))
        signature = meta.signature_def["serving_default"]
        (taken,), (given,) = signature.inputs.values(), signature.outputs.values()
        own = session.run(given.name, {taken.name: clips})
    assert made.run(clips) == pytest.approx(own, abs=2e-6)
    assert {text.partition(":")[0] for text in made.signature["inputs"]} == set(signature.inputs)
