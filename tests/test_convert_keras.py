"""Keras models convert with a verdict, keep the names that they were given, and come out without needless operators."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Once
from tests.running import Ran, deploykit

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

NAMES = {
    "sequential": (["features:float32[batch,6]"], ["classes:float32[batch,3]"]),
    "lstm": (["steps:float32[batch,steps_1,5]"], ["score:float32[batch,2]"]),
    "gru_both_ways": (["steps:float32[batch,steps_1,4]"], ["both:float32[batch,steps_1,6]"]),
    "simple_rnn": (["steps:float32[batch,9,4]"], ["last:float32[batch,5]"]),
    "attention": (["tokens:float32[batch,tokens_1,16]"], ["out:float32[batch,tokens_1,16]"]),
    "masked_ids": (["ids:int32[batch,11]"], ["kind:float32[batch,3]"]),
    "depthwise": (["image:float32[batch,image_1,image_2,3]"], None),
    "resize": (["image:float32[batch,16,16,3]"], ["stacked:float32[batch,16,16,16]"]),
    "preprocessing": (["pixels:uint8[batch,12,12,3]"], ["tags:float32[batch,4]"]),
    "several": (
        ["left:float32[batch,5]", "right:float32[batch,7]"],
        ["kind:float32[batch,3]", "score:float32[batch,1]"],
    ),
    "recalibrated": (["image:float32[batch,8,8,4]"], ["normed:float32[batch,8,8,8]"]),
    "volumes": (["sound:float32[batch,20,3]", "scan:float32[batch,6,6,6,2]"], ["product:float32[batch,1]"]),
    "tagger": (["ids:int32[batch,ids_1]"], ["tags:float32[batch,ids_1,3]"]),
    "odd_sizes": (["image:float32[batch,12,28,3]"], ["sized:float32[batch,20,32,6]"]),
    "arithmetic": (
        ["x:float32[batch,6]"],
        ["best:int32[batch]", "largest:float32[batch]", "spread:float32[batch]"],
    ),
}


@pytest.fixture(scope="session")
def nets(once: Once) -> Path:
    """Give a folder with every net of the zoo as a .keras file."""

    def make(folder: Path) -> None:
        from tests.keras_nets import NETS, built

        for name in NETS:
            built(name).save(folder / f"{name}.keras")

    return once("keras_nets", make)


def operators(path: Path) -> Counter[str]:
    import onnx

    return Counter(node.op_type for node in onnx.load(path).graph.node)


def answers(path: Path, feed: dict[str, Any]) -> list[Any]:
    import onnxruntime

    return list(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed))


def convert(source: Path, folder: Path, *options: str) -> Ran:
    return deploykit("convert", source, "-o", "made.onnx", "--json", *options, cwd=folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_net_converts_and_keeps_its_names_and_free_axes(name: str, nets: Path, tmp_path: Path) -> None:
    ran = convert(nets / f"{name}.keras", tmp_path)
    assert ran.code == 0, ran.err
    inputs, outputs = NAMES[name]
    assert ran.json["signature"]["inputs"] == inputs
    if outputs is not None:
        assert ran.json["signature"]["outputs"] == outputs
    assert ran.json["verdict"]["passed"]
    # Keras's argmax looks at the bits of its numbers, which in float64 are others.
    assert ran.json["verdict"]["method"] == ("ulp" if name == "arithmetic" else "float64")


def test_the_golden_of_ids_looks_up_most_of_the_table(nets: Path, tmp_path: Path) -> None:
    from deploykit.golden import Golden

    assert convert(nets / "masked_ids.keras", tmp_path).code == 0
    ids = np.concatenate([case.inputs["ids"].ravel() for case in Golden.read(tmp_path / "made.golden.npz").cases])
    assert len(set(ids.tolist())) == 40


FAMILIES = {
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "EfficientNetB0": 64,
    "ResNet50": 64,
    "DenseNet121": 64,
    "InceptionV3": 80,
    "Xception": 72,
    "NASNetMobile": 64,
    "ConvNeXtTiny": 64,
}


SLOW = ("DenseNet121", "InceptionV3", "Xception", "NASNetMobile", "ConvNeXtTiny")
"""They take half a minute and more each; with DEPLOYKIT_SLOW=1 they run too."""


@pytest.mark.parametrize("family", FAMILIES)
def test_one_of_each_family_converts_without_a_transpose_at_every_convolution(family: str, tmp_path: Path) -> None:
    if family in SLOW and "DEPLOYKIT_SLOW" not in os.environ:
        pytest.skip("DEPLOYKIT_SLOW=1 runs it")
    import keras

    keras.utils.set_random_seed(3)
    size = FAMILIES[family]
    model = getattr(keras.applications, family)(weights=None, input_shape=(size, size, 3), classes=10)
    model.save(tmp_path / "net.keras")
    ran = convert(tmp_path / "net.keras", tmp_path)
    assert ran.code == 0, ran.err
    found = operators(tmp_path / "made.onnx")
    assert found["Conv"] > 10
    assert found["Transpose"] <= MOST_TRANSPOSES.get(family, 1)
    image = np.random.default_rng(0).uniform(0, 1, (3, size, size, 3)).astype(np.float32)
    own = model(image, training=False).numpy()
    assert answers(tmp_path / "made.onnx", {ran.json["signature"]["inputs"][0].partition(":")[0]: image})[
        0
    ] == pytest.approx(own, abs=1e-5)


MOST_TRANSPOSES = {"ConvNeXtTiny": 37}
"""Its 18 blocks each go from a convolution to a norm and dense layers over the last axis, and back."""


def test_the_inputs_of_a_net_can_be_taken_channels_first(nets: Path, tmp_path: Path) -> None:
    ran = convert(nets / "resize.keras", tmp_path, "--layout", "nchw")
    assert ran.code == 0, ran.err
    assert ran.json["signature"]["inputs"] == ["image:float32[batch,3,16,16]"]
    last = convert(nets / "resize.keras", tmp_path / "..")
    assert last.code == 0, last.err
    image = np.random.default_rng(0).normal(0, 1, (2, 16, 16, 3)).astype(np.float32)
    ours = answers(tmp_path / "made.onnx", {"image": np.ascontiguousarray(image.transpose(0, 3, 1, 2))})[0]
    theirs = answers(tmp_path / ".." / "made.onnx", {"image": image})[0]
    assert ours == pytest.approx(theirs, abs=1e-6)
    again = ("validate", "made.onnx", "--against", nets / "resize.keras", "--layout", "nchw")
    assert deploykit(*again, cwd=tmp_path).code == 0
