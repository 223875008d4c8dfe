"""What ``deploykit convert`` makes of TensorFlow sources in every form, and of options and files that are wrong."""

import io
import json
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Once
from tests.running import ROOT, assert_refused, deploykit, finished, listing, spawned

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")


@pytest.fixture(scope="session")
def forms(once: Once) -> Path:
    """Give a folder with the digits net of Keras in every form: digits.keras, .h5, saved/, frozen.pb, .tflite."""

    def make(folder: Path) -> None:
        import keras
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        subprocess.run([sys.executable, ROOT / "examples" / "digits_keras.py", folder], check=True)
        model = keras.models.load_model(folder / "digits.keras")
        model.save(folder / "digits.h5")
        model.export(folder / "saved", verbose=False)
        traced = tf.function(lambda image: model(image, training=False))
        spec = tf.TensorSpec([None, 8, 8, 1], name="image")
        frozen = convert_variables_to_constants_v2(traced.get_concrete_function(spec))
        (folder / "frozen.pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _write_tflite(model, folder)

    return once("digits_keras", make)


def _write_tflite(model: Any, folder: Path) -> None:
    with np.load(folder / "digits_keras_val.npz") as samples:
        images = samples["image"]
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    (folder / "digits.tflite").write_bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images[:100])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    (folder / "float_io.tflite").write_bytes(converter.convert())
    converter.inference_input_type = converter.inference_output_type = tf.int8
    (folder / "int8.tflite").write_bytes(converter.convert())


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("digits.keras", "logits"),
        ("digits.h5", "logits"),
        ("saved", "output_0"),
        ("frozen.pb", None),
        ("digits.tflite", "output_0"),
    ],
)
def test_every_form_of_a_trained_net_converts_and_keeps_its_accuracy(
    source: str, output: str | None, forms: Path, tmp_path: Path
) -> None:
    import onnxruntime

    before = _bytes(forms / source)
    ran = deploykit("convert", forms / source, "-o", "made.onnx", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert _bytes(forms / source) == before
    assert listing(tmp_path) == {"made.onnx", "made.golden.npz"}
    assert ran.json["signature"]["inputs"] == ["image:float32[batch,8,8,1]"]
    if output is not None:
        assert ran.json["signature"]["outputs"] == [f"{output}:float32[batch,10]"]
    session = onnxruntime.InferenceSession(tmp_path / "made.onnx", providers=["CPUExecutionProvider"])
    with np.load(forms / "digits_keras_val.npz") as samples:
        found = session.run(None, {"image": samples["image"]})[0].argmax(1)
        assert (found == samples["y"]).mean() > 0.97
    assert deploykit("validate", "made.onnx", "--against", forms / source, cwd=tmp_path).code == 0


def _bytes(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file): file.read_bytes() for file in files}


@pytest.mark.parametrize("source", ["int8.tflite", "float_io.tflite"])
def test_a_quantized_file_agrees_with_its_interpreter_to_one_quantum(source: str, forms: Path, tmp_path: Path) -> None:
    ran = deploykit("convert", forms / source, "-o", "made.onnx", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    check = ran.json["verdict"]["checks"][0]
    assert check["rule"] == "within one quantum"
    assert check["value"] <= 1.01
    again = deploykit("validate", "made.onnx", "--against", forms / "int8.tflite", cwd=tmp_path)
    assert again.code == (0 if source == "int8.tflite" else 2)


def test_a_source_in_keras_can_judge_another_conversion_of_it(forms: Path, tmp_path: Path) -> None:
    assert deploykit("convert", forms / "digits.keras", cwd=tmp_path).code == 0
    data = ("--data", forms / "digits_keras_val.npz")
    ran = deploykit("validate", "digits.onnx", "--against", forms / "digits.h5", *data, cwd=tmp_path)
    assert ran.code == 0, ran.err


def test_another_model_is_not_equal(forms: Path, tmp_path: Path) -> None:
    import keras

    model = keras.models.load_model(forms / "digits.keras")
    kernel = model.layers[1].kernel
    changed = kernel.numpy()
    changed[1, 1, 0, 3] *= 1.01
    kernel.assign(changed)
    model.save(tmp_path / "other.keras")
    assert deploykit("convert", forms / "digits.keras", cwd=tmp_path).code == 0
    ran = deploykit("validate", "digits.onnx", "--against", "other.keras", cwd=tmp_path)
    assert ran.code == 1
    assert "logits" in ran.out


def test_the_framework_says_nothing_where_nothing_is_wrong(forms: Path, tmp_path: Path) -> None:
    ran = finished(spawned("convert", forms / "saved", "--json", cwd=tmp_path), timeout=180)
    assert ran.code == 0, ran.err
    assert ran.err == ""
    assert ran.json["verdict"]["passed"]


def test_axes_are_fixed_named_and_held_as_the_user_says(forms: Path, tmp_path: Path) -> None:
    fixed = ("-o", "fixed.onnx", "--json", "--input", "image:float32[4,8,8,1]")
    ran = deploykit("convert", forms / "digits.keras", *fixed, cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.json["signature"] == {"inputs": ["image:float32[4,8,8,1]"], "outputs": ["logits:float32[4,10]"]}
    static = deploykit("convert", forms / "saved", "-o", "static.onnx", "--json", "--static", cwd=tmp_path)
    assert static.json["signature"]["inputs"] == ["image:float32[1,8,8,1]"]
    named = ("-o", "named.onnx", "--json", "--input", "image:float32[n,8,8,1]")
    assert deploykit("convert", forms / "frozen.pb", *named, cwd=tmp_path).json["signature"]["inputs"] == [named[-1]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--input", "imag:float32[batch,8,8,1]"), "did you mean 'image'"),
        (("--input", "image:float64[batch,8,8,1]"), "takes image:float32[batch,8,8,1]"),
        (("--input", "image:float32[batch,8,8]"), "takes image:float32[batch,8,8,1]"),
        (("--input", "image:float32[batch,9,8,1]"), "9 where it has 8"),
        (("--input", "image:float32[batch,size,8,1]"), "its size 8 is fixed"),
        (("--input", "image=x"), "is no value"),
        (("--signature", "serving_default"), "--signature says nothing about"),
        (("--outputs", "logits"), "--outputs says nothing about"),
        (("--layout", "nwhc"), "did you mean"),
        (("--exporter", "dynamo"), "--exporter tf2onnx"),
        (("--custom-objects", "nowhere.py"), "nowhere.py"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_a_wrong_usage(options: tuple[str, ...], says: str, forms: Path, tmp_path: Path) -> None:
    ran = deploykit("convert", forms / "digits.keras", *options, cwd=tmp_path)
    assert_refused(ran, 2)
    assert says in ran.err
    assert listing(tmp_path) == set()


def test_options_of_keras_say_nothing_about_pytorch(digits: Path, tmp_path: Path) -> None:
    ran = deploykit("convert", digits / "digits.ts", "--layout", "nchw", cwd=tmp_path)
    assert_refused(ran, 2)
    assert "--layout says nothing about" in ran.err


def test_a_file_in_the_current_folder_does_not_stand_in_for_a_package(forms: Path, tmp_path: Path) -> None:
    for name in ("tensorflow", "keras", "json", "pathlib", "numpy"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()\nraise SystemExit('code that nobody named')\n")
    shutil.copy(forms / "digits.keras", tmp_path)
    command = [str(Path(sys.executable).with_name("deploykit")), "convert", "digits.keras"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "ran" not in listing(tmp_path)


def test_an_input_with_a_default_keeps_it(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], name="x")
        keep = tf.compat.v1.placeholder_with_default(tf.constant(0.5), [], name="keep")
        tf.identity(tf.nn.relu(x) * keep, name="y")
    (tmp_path / "net.pb").write_bytes(graph.as_graph_def().SerializeToString())
    ran = deploykit("convert", "net.pb", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.json["signature"] == {"inputs": ["x:float32[batch,3]"], "outputs": ["y:float32[batch,3]"]}
    named = ("--inputs", "x,keep", "--outputs", "y", "-o", "both.onnx", "--json")
    ran = deploykit("convert", "net.pb", *named, cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.json["signature"]["inputs"] == ["x:float32[batch,3]", "keep:float32[]"]


def test_text_can_not_go_in(tmp_path: Path) -> None:
    class Words(tf.Module):  # type: ignore[name-defined]
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "words")])
        def __call__(self, words: Any) -> Any:
            return {"lengths": tf.strings.length(words)}

    words = Words()
    tf.saved_model.save(words, str(tmp_path / "words"), signatures=words.__call__)
    ran = deploykit("convert", "words", cwd=tmp_path)
    assert_refused(ran, 3)
    assert "'words'" in ran.err


def test_a_lambda_layer_runs_code_of_the_file(tmp_path: Path) -> None:
    import keras

    x = keras.Input((3,), name="x")
    keras.Model(x, keras.layers.Lambda(lambda t: t * 2, name="twice")(x)).save(tmp_path / "net.keras")
    ran = deploykit("convert", "net.keras", cwd=tmp_path)
    assert_refused(ran, 5)
    assert "twice" in ran.err
    assert deploykit("convert", "net.keras", "--trust-pickle", cwd=tmp_path).code == 0


CUSTOM = """
import keras


@keras.saving.register_keras_serializable("mine")
class Scale(keras.layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x):
        return x * self.factor


class Net(keras.Model):
    def __init__(self, width=4, **options):
        super().__init__(**options)
        self.width = width
        self.first, self.scale, self.last = keras.layers.Dense(width), Scale(), keras.layers.Dense(2)

    def call(self, features, training=False):
        x = self.scale(keras.ops.relu(self.first(features)))
        return {"score": self.last(x), "hidden": x}

    def get_config(self):
        return {**super().get_config(), "width": self.width}
"""


def test_a_subclassed_model_needs_its_code(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CUSTOM)
    make = "import net, numpy as np; m = net.Net(); m(np.zeros((2, 5), 'float32')); m.save('net.keras')"
    finished(spawned(cwd=tmp_path, script=make), timeout=180)
    without = deploykit("convert", "net.keras", cwd=tmp_path)
    assert without.code in (2, 3)
    assert "--custom-objects" in without.err
    ran = deploykit("convert", "net.keras", "--custom-objects", "net.py", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.json["signature"]["inputs"] == ["features:float32[batch,5]"]
    assert ran.json["signature"]["outputs"] == ["score:float32[batch,2]", "hidden:float32[batch,4]"]


def _cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize(
    ("source", "share"),
    [
        *(("digits.keras", share) for share in (0.02, 0.5, 0.98)),  # these are refused without the framework
        *(("frozen.pb", share) for share in (0.02, 0.5, 0.98)),
        *(("digits.h5", 0.02), ("digits.h5", 0.98), ("digits.tflite", 0.5), ("int8.tflite", 0.98)),
    ],
)
def test_a_truncated_file_is_said_to_be_damaged(source: str, share: float, forms: Path, tmp_path: Path) -> None:
    shutil.copy(forms / source, tmp_path)
    _cut(tmp_path / source, share)
    assert_refused(deploykit("convert", source, cwd=tmp_path), 3)
    assert listing(tmp_path) == {source}


@pytest.mark.parametrize(
    "part", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_saved_model_is_said_to_be_one(part: str, damage: str, forms: Path, tmp_path: Path) -> None:
    shutil.copytree(forms / "saved", tmp_path / "saved")
    if damage == "cut":
        _cut(tmp_path / "saved" / part, 0.5)
    else:
        (tmp_path / "saved" / part).unlink()
    ran = deploykit("convert", "saved", cwd=tmp_path)
    assert_refused(ran, 2 if (part, damage) == ("saved_model.pb", "gone") else 3)
    assert listing(tmp_path) == {"saved"}


def test_files_of_other_programs_are_told_from_models(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["prices"] = np.zeros(3)
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Nothing"}))
        archive.writestr("metadata.json", "{}")
        with io.BytesIO() as empty, h5py.File(empty, "w"):
            archive.writestr("model.weights.h5", empty.getvalue())
    (tmp_path / "folder").mkdir()
    (tmp_path / "words.pb").write_bytes(b"\x0a\x05hello\x12\x05world")
    for name, code in (("table.h5", 3), ("net.keras", 2), ("folder", 2), ("words.pb", 3)):
        ran = deploykit("convert", name, cwd=tmp_path)
        assert ran.code == code, (name, ran.err)
        assert "fix:" in ran.err
