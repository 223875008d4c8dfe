"""TFLite files run as TFLite runs them, and become ONNX files that answer alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from deploykit.child.tensorflow.graph.exact import moved_inputs  # noqa: E402
from deploykit.child.tensorflow.model import Order  # noqa: E402
from deploykit.errors import ModelError, UsageError  # noqa: E402
from deploykit.tensors import TensorSpec  # noqa: E402
from tests.tflite_both import Both, load, order  # noqa: E402
from tests.tflite_files import IMAGE, changed, convolutional, tflite, weight  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

REAL = Path(__file__).parents[1].parent / "shared" / "data"
MODES = ("float", "float16", "dynamic", "int8_inside", "int8", "uint8", "int16x8")
ROWS = tf.TensorSpec([None, 40], tf.float32, name="x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net with convolutions in each of the converter's modes."""
    made = tmp_path_factory.mktemp("tflite")
    for mode in MODES:
        tflite(made / f"{mode}.tflite", mode, convolutional, IMAGE)
    return made


@pytest.mark.parametrize("mode", MODES)
def test_a_net_of_each_mode_keeps_its_names_and_its_free_batch_with_one_transpose(
    mode: str, folder: Path, tmp_path: Path
) -> None:
    both = Both(folder / f"{mode}.tflite", tmp_path)
    (port,) = both.model.inputs
    assert (port.name, port.shape) == ("image", (None, 12, 12, 3))
    assert port.dtype == (mode if mode in {"int8", "uint8"} else "float32")
    (value,) = both.proto.graph.input
    assert [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] == ["axis0", 12, 12, 3]
    assert [value.name for value in both.proto.graph.output] == ["scores"]
    assert both.counts["Conv"] == 3
    assert both.counts["Transpose"] == 1
    assert {one.domain for one in both.proto.opset_import} == {""}
    for batch in (1, 3, 2):
        assert both.onnx(both.given(batch))["scores"].shape == (batch, 60)


@pytest.mark.parametrize("mode", ["float", "float16"])
def test_a_float_file_agrees_as_float_does(mode: str, folder: Path, tmp_path: Path) -> None:
    both = Both(folder / f"{mode}.tflite", tmp_path)
    assert both.model.quanta() == {}
    assert both.model.notes == ()
    assert both.apart(both.given()) < 2e-6


@pytest.mark.parametrize(("mode", "quantum"), [("int8", 1), ("uint8", 1), ("int8_inside", 1 / 256)])
def test_a_quantized_file_agrees_within_one_quantum(mode: str, quantum: float, folder: Path, tmp_path: Path) -> None:
    both = Both(folder / f"{mode}.tflite", tmp_path)
    assert both.model.quanta() == {"scores": pytest.approx(quantum, rel=0.01)}
    for seed in range(8):
        assert both.quanta(both.given(4, seed)) <= 1.01


def test_a_file_of_16_bits_is_as_far_off_as_its_own_rounding(folder: Path, tmp_path: Path) -> None:
    both = Both(folder / "int16x8.tflite", tmp_path)
    assert both.model.quanta() == {}
    tensors = both.given(8)
    source = both.model.run(tensors)["scores"]
    with both.model.variant("moved", ()) as run:
        spread = np.linalg.norm(run(tensors)["scores"] - source)
    assert np.linalg.norm(source - both.onnx(tensors)["scores"]) < 8 * spread
    assert 0 < spread < 1e-3 * np.linalg.norm(source)


def test_a_hybrid_file_is_as_far_off_as_its_own_rounding_and_says_so(folder: Path, tmp_path: Path) -> None:
    both = Both(folder / "dynamic.tflite", tmp_path)
    (note,) = both.model.notes
    assert "round activations to 8 bits" in note
    assert both.counts["DynamicQuantizeLinear"] == 0
    tensors = both.given(8)
    source = both.model.run(tensors)["scores"]
    with both.model.variant("moved", ()) as run:
        spread = np.linalg.norm(run(moved_inputs(tensors, 2))["scores"] - source)
    assert np.linalg.norm(source - both.onnx(tensors)["scores"]) < 3 * spread
    assert spread < 0.05 * np.linalg.norm(source)


@pytest.mark.parametrize("mode", ["float", "float16"])
def test_weights_move_by_as_little_as_float32_rounds(mode: str, folder: Path) -> None:
    model = load(folder / f"{mode}.tflite")
    tensors = {"image": np.random.default_rng(1).standard_normal((2, 12, 12, 3)).astype(np.float32)}
    with model.variant("moved", ()) as run:
        moved = run(tensors)["scores"]
    apart = np.linalg.norm(moved - model.run(tensors)["scores"]) / np.linalg.norm(moved)
    assert 0 < apart < 2e-6


def test_integers_have_no_neighbours_so_other_kernels_show_how_far_tflite_is_from_itself(folder: Path) -> None:
    model = load(folder / "int8.tflite")
    tensors = {"image": np.random.default_rng(1).integers(-128, 128, (8, 12, 12, 3), dtype=np.int8)}
    with model.variant("moved", ()) as run:
        apart = np.abs(run(tensors)["scores"].astype(int) - model.run(tensors)["scores"].astype(int))
    assert apart.max() < 16


def test_float64_is_not_to_be_had_and_inputs_stay_inputs(folder: Path) -> None:
    model = load(folder / "float.tflite")
    with pytest.raises(ModelError, match="no float64 kernels"), model.variant("exact", ()):
        pass
    with pytest.raises(UsageError, match="image can't be held"):
        model.fix({"image": np.zeros(1)})


def test_names_that_the_converter_made_up_are_not_kept(folder: Path, tmp_path: Path) -> None:
    def nameless(tables: Any) -> None:
        tables.signatureDefs = []

    both = Both(changed(folder / "int8.tflite", tmp_path / "nameless.tflite", nameless), tmp_path)
    assert [port.name for port in both.model.inputs] == ["image"]
    assert list(both.model.run(both.given())) == ["output"]


def test_tensors_of_the_same_name_are_told_apart(folder: Path, tmp_path: Path) -> None:
    def alike(tables: Any) -> None:
        for tensor in tables.subgraphs[0].tensors:
            tensor.name = b"t"

    both = Both(changed(folder / "float.tflite", tmp_path / "alike.tflite", alike), tmp_path)
    assert both.apart(both.given()) < 2e-6


@pytest.fixture(scope="module")
def two_signatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = tf.Module()
    module.encode = tf.function(lambda x: {"code": x @ weight(40, 3)}, input_signature=[ROWS])
    code = tf.TensorSpec([None, 3], tf.float32, name="code")
    module.decode = tf.function(
        lambda code: {
            "x": tf.cond(tf.reduce_sum(code) > 0, lambda: code * 2, lambda: code - 1),
            "code": code,
        },
        input_signature=[code],
    )
    made = tmp_path_factory.mktemp("signatures")
    tf.saved_model.save(module, str(made / "saved"), signatures={"encode": module.encode, "decode": module.decode})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(made / "saved"), signature_keys=["encode", "decode"])
    path = made / "two.tflite"
    path.write_bytes(converter.convert())
    return path


@pytest.mark.parametrize(("signature", "inputs", "outputs"), [("encode", "x", {"code"}), ("decode", "code", None)])
def test_each_signature_of_a_file_can_be_had(
    signature: str, inputs: str, outputs: set[str] | None, two_signatures: Path, tmp_path: Path
) -> None:
    both = Both(two_signatures, tmp_path, signature)
    assert [port.name for port in both.model.inputs] == [inputs]
    assert set(both.model.run(both.given())) == (outputs or {"x", "code_out"}), "no output has an input's name"
    for seed in range(2):
        assert both.apart(both.given(3, seed)) < 2e-6


@pytest.mark.parametrize("signature", [None, "decod"])
def test_a_signature_that_is_not_clear_is_asked_for_with_the_choice(
    signature: str | None, two_signatures: Path
) -> None:
    with pytest.raises(UsageError, match="signature") as caught:
        load(two_signatures, signature)
    assert set(caught.value.fix) == {"--signature encode", "--signature decode"}


def test_a_file_cut_short_anywhere_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "int8.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    for size in (*range(64), *range(64, len(whole), len(whole) // 100), len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"is damaged or cut short|is no TFLite file"):
            load(path)


def test_a_file_of_another_version_is_refused(folder: Path, tmp_path: Path) -> None:
    path = changed(folder / "float.tflite", tmp_path / "old.tflite", lambda tables: setattr(tables, "version", 2))
    with pytest.raises(ModelError, match="format version 2; only version 3"):
        load(path)


def test_operations_that_tflite_does_not_have_are_named(tmp_path: Path) -> None:
    function = tf.function(lambda x: tf.math.erf(tf.math.erf(x)), input_signature=[ROWS])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    converter.allow_custom_ops = True
    path = tmp_path / "custom.tflite"
    path.write_bytes(converter.convert())
    with pytest.raises(ModelError, match="not TFLite's own: Erf"):
        load(path)


def test_operations_without_translation_are_listed_with_their_count(tmp_path: Path) -> None:
    def cast(x: Any) -> Any:
        return tf.bitcast(tf.bitcast(x, tf.int32) + 1, tf.float32)

    model = load(tflite(tmp_path / "bits.tflite", "float", cast, ROWS))
    with pytest.raises(ModelError, match="BITCAST") as caught:
        model.export(order(model, tmp_path / "bits.onnx"))
    assert caught.value.details == ("BITCAST: 2 of them",)
    assert not (tmp_path / "bits.onnx").exists()


def test_an_axis_that_the_file_fixes_stays_fixed(tmp_path: Path) -> None:
    fixed = tf.TensorSpec([1, 40], tf.float32, name="x")
    both = Both(tflite(tmp_path / "fixed.tflite", "float", tf.nn.relu, fixed), tmp_path)
    assert [port.shape for port in both.model.inputs] == [(1, 40)]
    assert both.apart(both.given()) == 0
    wanted = Order(str(tmp_path / "free.onnx"), 18, (TensorSpec("x", "float32", ("batch", 40)),))
    with pytest.raises(UsageError, match="axis 0 of 'x' has 1 in the TFLite file, and can't become batch"):
        both.model.export(wanted)


@pytest.mark.skipif(not REAL.exists(), reason="the real models are not here: ../shared/data")
@pytest.mark.parametrize(
    ("name", "data", "scaled", "accuracy"),
    [
        ("cifar10/pretrainedResnet_quant", "cifar10/cifar10_lossless_200", lambda x: x.transpose(0, 2, 3, 1), 0.895),
        ("vww/vww_96_int8", "vww/vww_coco_train2017_128", lambda x: x / 255, 0.859375),
    ],
    ids=["resnet", "mobilenet"],
)
def test_real_int8_nets_agree_on_nearly_all_real_images(
    name: str, data: str, scaled: Any, accuracy: float, tmp_path: Path
) -> None:
    both = Both(REAL / f"{name}.tflite", tmp_path)
    with np.load(REAL / f"{data}.npz") as file:
        images, labels = scaled(file["x"].astype(np.float32)), file["y"]
    (wire,) = both.model._file.inputs
    (scale,), (zero,) = (
        both.model._file.tensor(wire.tensor).quantization.scale,
        both.model._file.tensor(wire.tensor).quantization.zeroPoint,
    )
    images = np.clip(np.round(images / scale + zero), -128, 127).astype(np.int8)
    ((ours, theirs),) = both.pairs({wire.name: images}).values()
    assert (ours.argmax(1) == labels).mean() == pytest.approx(accuracy)
    differing = (np.abs(ours - theirs).max(1) > 1).mean()
    assert differing < 0.03, (
        "one in fifty ends on the other side of a half somewhere within, none the other side of two"
    )
    assert both.counts["Transpose"] == 1
