"""What tf2onnx gets wrong in TFLite files is made up for, and their ONNX files are laid out as they should be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from tests.tflite_both import Both  # noqa: E402
from tests.tflite_files import IMAGE, changed, convolutional, lstm, tflite, weight  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = tf.TensorSpec([None, 40], tf.float32, name="x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net with convolutions, quantized."""
    made = tmp_path_factory.mktemp("tflite")
    tflite(made / "int8.tflite", "int8", convolutional, IMAGE)
    return made


def test_half_a_quantum_of_an_average_is_rounded_as_tflite_rounds_it(tmp_path: Path) -> None:
    spec = tf.TensorSpec([None, 8, 8, 16], tf.float32, name="x")
    path = tflite(tmp_path / "pool.tflite", "int8", lambda x: tf.nn.avg_pool2d(x, 2, 2, "VALID"), spec)
    both = Both(path, tmp_path)
    assert both.quanta(both.given(16)) == 0


def test_a_product_of_int8_matrices_is_right_where_xnnpack_is_not(tmp_path: Path) -> None:
    specs = [tf.TensorSpec([None, 5, 6], tf.float32, name="a"), tf.TensorSpec([None, 6, 4], tf.float32, name="b")]
    both = Both(tflite(tmp_path / "product.tflite", "int8", lambda a, b: (a + 0.5) @ (b + 0.5), *specs), tmp_path)
    assert both.quanta(both.given(4)) <= 1


def test_channels_first_takes_the_last_transpose_away(folder: Path, tmp_path: Path) -> None:
    both = Both(folder / "int8.tflite", tmp_path, nchw=("image",))
    assert both.counts["Transpose"] == 0
    tensors = both.given()
    found = both.session.run(None, {"image": tensors["image"].transpose(0, 3, 1, 2)})[0]
    np.testing.assert_allclose(found, both.model.run(tensors)["scores"], atol=1)


@pytest.mark.parametrize(("asked", "written"), [(13, 13), (20, 18)])
def test_the_opset_is_the_one_asked_for_or_the_highest_there_is(
    asked: int, written: int, folder: Path, tmp_path: Path
) -> None:
    both = Both(folder / "int8.tflite", tmp_path, opset=asked)
    assert [one.version for one in both.proto.opset_import] == [written]


OPERATIONS = {
    "gelu": tf.nn.gelu,
    "gelu by tanh": lambda x: tf.nn.gelu(x, approximate=True),
    "clipped": lambda x: tf.clip_by_value(x @ weight(40, 4), -1, 1),
    "resized": lambda x: tf.image.resize(tf.reshape(x, [-1, 5, 4, 2]), [9, 7], "nearest"),
    "chosen": lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2, lambda: x - 1),
    "any": lambda x: tf.cast(tf.reduce_any(x > 1, -1), tf.float32),
    "two": lambda x: {"twice": x * 2, "x": x, "same": x * 2},
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_tf2onnx_lacks_or_has_wrong_is_made_up_for(name: str, tmp_path: Path) -> None:
    both = Both(tflite(tmp_path / "made.tflite", "float", OPERATIONS[name], ROWS), tmp_path)
    assert both.apart(both.given(4)) < 2e-6


def test_the_beta_of_a_softmax_is_on_what_goes_in(tmp_path: Path) -> None:
    def sharpen(tables: Any) -> None:
        tables.subgraphs[0].operators[0].builtinOptions.beta = 3.0

    path = tflite(tmp_path / "plain.tflite", "float", tf.nn.softmax, ROWS)
    both = Both(changed(path, tmp_path / "sharp.tflite", sharpen), tmp_path)
    assert both.apart(both.given(4)) < 2e-6


@pytest.mark.parametrize("time_first", [False, True])
def test_an_lstm_of_keras_2_becomes_one_node_and_starts_anew_each_time(time_first: bool, tmp_path: Path) -> None:
    path = lstm(tmp_path / "lstm.tflite", whole_numbers=False, time_first=time_first)
    both = Both(path, tmp_path)
    assert both.counts["LSTM"] == 1
    tensors = both.given()
    np.testing.assert_array_equal(both.model.run(tensors)["y"], both.model.run(tensors)["y"])
    assert both.apart(tensors) < 2e-6


def test_an_lstm_with_int8_weights_computes_in_float(tmp_path: Path) -> None:
    both = Both(lstm(tmp_path / "lstm.tflite", whole_numbers=True, time_first=False), tmp_path)
    assert both.model.notes
    assert both.apart(both.given()) < 0.02


def test_a_bias_counts_in_the_scale_of_what_it_is_added_to_whatever_scale_it_has(folder: Path, tmp_path: Path) -> None:
    def mislead(tables: Any) -> None:
        graph = tables.subgraphs[0]
        quantization = graph.tensors[graph.operators[0].inputs[2]].quantization
        quantization.scale = np.asarray(quantization.scale) * np.float32(3)

    both = Both(changed(folder / "int8.tflite", tmp_path / "misled.tflite", mislead), tmp_path)
    assert both.quanta(both.given(4)) <= 1
