"""What goes into a model: described, taken from data, or inferred; nested, of every type, or left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.running import ROOT, Ran, assert_refused, deploykit, listing

torch = pytest.importorskip("torch")

ZOO = ROOT / "tests" / "zoo.py"
EXAMPLE = ROOT / "examples" / "digits_pytorch.py"


def convert(net: str, folder: Path, *options: object) -> Ran:
    """Convert a net of the zoo from its weights."""
    from tests import zoo

    torch.manual_seed(0)
    torch.save(getattr(zoo, net)().state_dict(), folder / "net.pt")
    return deploykit("convert", "net.pt", "--factory", f"{ZOO}:{net}", "--json", *options, cwd=folder)


def described(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--input", text)]


def scripted(net: str, folder: Path) -> Path:
    from tests import zoo

    torch.manual_seed(0)
    torch.jit.save(torch.jit.script(getattr(zoo, net)().eval()), folder / "net.pt")
    return folder / "net.pt"


def test_nested_outputs_have_readable_names(tmp_path: Path) -> None:
    ran = convert("Nested", tmp_path, *described("x:float32[batch,4]"))
    assert ran.code == 0, ran.err
    assert ran.json["signature"]["outputs"] == [
        *("hidden.0.0:float32[batch,6]", "hidden.0.1:float32[batch,6]", "hidden.1:float32[batch,6]"),
        *("found.boxes:float32[batch,4]", "found.scores:float32[batch,6]"),
        *("named.mean:float32[batch]", "named.spread:float32[batch]", "old.low:float32[batch]"),
        "old.high:float32[batch]",
    ]


def test_outputs_without_names_are_numbered(tmp_path: Path) -> None:
    ran = convert("Listed", tmp_path, *described("x:float32[batch,4]"))
    assert ran.json["signature"]["outputs"] == [
        *("output_0:float32[batch,3]", "output_1.0:float32[batch,3]", "output_1.1:float32[batch,3]")
    ]


def test_nested_inputs_are_described_by_their_paths(tmp_path: Path) -> None:
    texts = ("batch.image:float32[n,4]", "batch.bias:float32[n,3]", "pair.0:float32[n,3]", "pair.1:float32[n,3]")
    ran = convert("NestedInputs", tmp_path, *described(*texts))
    assert ran.code == 0, ran.err
    assert ran.json["signature"] == {"inputs": list(texts), "outputs": ["output:float32[n,3]"]}


def test_a_model_output_of_transformers_keeps_its_names_and_optional_arguments_stay_out(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    texts = ("input_ids:int64[batch,seq]", "attention_mask:int64[batch,seq]")
    ran = convert("tiny_bert", tmp_path, *described(*texts))
    assert ran.code == 0, ran.err
    assert ran.json["signature"] == {
        "inputs": list(texts),
        "outputs": [
            *("logits:float32[batch,3]", "hidden_states.0:float32[batch,seq,16]"),
            "hidden_states.1:float32[batch,seq,16]",
        ],
    }


def test_inputs_and_outputs_of_every_type_pass_through(tmp_path: Path) -> None:
    texts = ("ids:int64[batch,seq]", "keep:bool[batch,seq]", "weights:float64[batch,seq]")
    ran = convert("Types", tmp_path, *described(*texts))
    assert ran.code == 0, ran.err
    assert ran.json["signature"] == {
        "inputs": list(texts),
        "outputs": ["output_0:float64[batch,4]", "output_1:int64[batch]", "output_2:bool[batch,4]"],
    }


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_net_keeps_the_precision_of_its_weights(dtype: str, tmp_path: Path) -> None:
    from tests.zoo import Plain

    torch.manual_seed(0)
    torch.save(Plain(dtype).state_dict(), tmp_path / "net.pt")
    options = ("--factory", f"{ZOO}:Plain", "--factory-args", f'{{"dtype": "{dtype}"}}')
    ran = deploykit("convert", "net.pt", *options, "--json", *described(f"x:{dtype}[batch,8]"), cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.json["signature"] == {"inputs": [f"x:{dtype}[batch,8]"], "outputs": [f"output:{dtype}[batch,4]"]}
    assert deploykit("inspect", "net.onnx", "--json", cwd=tmp_path).json["precision"] == dtype


def test_an_output_with_the_name_of_an_input_gets_another_one(tmp_path: Path) -> None:
    ran = convert("Echo", tmp_path, *described("x:float32[batch,3]"))
    assert ran.code == 0, ran.err
    assert ran.json["signature"]["outputs"] == ["x_out:float32[batch,3]", "same:float32[batch,3]"]


def test_inputs_are_given_by_keyword_whatever_their_order(tmp_path: Path) -> None:
    scripted("Pair", tmp_path)
    texts = ("numbers:float32[batch,5]", "image:float32[batch,1,8,8]")
    ran = deploykit("convert", "net.pt", "--json", *described(*texts), cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.json["signature"]["inputs"] == list(texts)


def test_inputs_of_other_names_are_given_in_order(tmp_path: Path) -> None:
    scripted("Pair", tmp_path)
    texts = ("picture:float32[n,1,8,8]", "table:float32[n,5]")
    ran = deploykit("convert", "net.pt", "--json", *described(*texts), cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.json["signature"]["inputs"] == list(texts)
    assert ran.json["signature"]["outputs"] == ["logits:float32[n,2]", "embedding:float32[n,4]"]


def test_an_optional_input_may_be_given_too(tmp_path: Path) -> None:
    texts = ("image:float32[batch,1,8,8]", "numbers:float32[batch,5]", "weight:float32[batch,4]")
    ran = convert("Pair", tmp_path, *described(*texts))
    assert ran.code == 0, ran.err
    assert ran.json["signature"]["inputs"] == list(texts)


def test_free_axes_beside_the_batch_are_free_in_the_file(tmp_path: Path) -> None:
    import onnxruntime

    scripted("Lstm", tmp_path)
    assert deploykit("convert", "net.pt", *described("x:float32[batch,time,6]"), cwd=tmp_path).code == 0
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", "time", 6]
    assert session.run(None, {"x": np.zeros((4, 29, 6), np.float32)})[0].shape == (4, 3)


def test_what_was_inferred_is_said_with_how_to_say_otherwise(digits: Path, tmp_path: Path) -> None:
    ran = deploykit("convert", digits / "digits.ts", "--json", cwd=tmp_path)
    assert ran.json["signature"]["inputs"] == ["x:float32[batch,1,8,8]"]
    assert any("inferred" in note and "--input" in note for note in ran.json["notes"])


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["x"], ["name:dtype[dims]"]),
        (["x:float33[batch,1,8,8]"], ["float33", "did you mean 'float32'"]),
        (["x:float32[batch,0,8,8]"], ["'0'", "dynamic axis"]),
        (["x:float32[batch,1,8"], ["name:dtype[dims]"]),
        (["x:float32[batch,3,8,8]"], ["to have 1 channels"]),
        (["x:int64[batch,1,8,8]"], ["--input"]),
        (["x:float32[batch,1,9,9,9]"], ["--input"]),
        (["x:float32[batch,1,8,8]", "y:float32[batch]"], ["'y'"]),
        (["x:float32[batch,1,8,8]", "x:float32[batch,1,8,8]"], ["'x'", "twice"]),
    ],
)
def test_inputs_that_do_not_fit_are_refused(texts: list[str], words: list[str], digits: Path, tmp_path: Path) -> None:
    ran = deploykit("convert", digits / "digits.ts", *described(*texts), cwd=tmp_path)
    assert_refused(ran, 2, *words)
    assert not listing(tmp_path)


def test_an_unknown_input_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    scripted("Pair", tmp_path)
    texts = ("image:float32[n,1,8,8]", "numbers:float32[n,5]", "weight:float32[n,4]", "wieght:float32[n,4]")
    assert_refused(deploykit("convert", "net.pt", *described(*texts), cwd=tmp_path), 2, "wieght", "numbers")
    assert_refused(
        deploykit("convert", "net.pt", *described("image:float32[n,1,8,8]"), cwd=tmp_path), 2, "forward needs 'numbers'"
    )


def test_labels_beside_the_samples_are_left_unread(digits: Path, tmp_path: Path) -> None:
    ran = deploykit("convert", digits / "digits.ts", "--data", digits / "digits_val.npz", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.json["signature"]["inputs"] == ["x:float32[batch,1,8,8]"]


def test_samples_go_into_the_golden_as_many_as_are_asked_for(digits: Path, tmp_path: Path) -> None:
    given = (*described("x:float32[batch,1,8,8]"), "--data", digits / "digits_val.npz")
    ran = deploykit("convert", digits / "digits.ts", *given, "--samples", 20, "--json", cwd=tmp_path)
    assert ran.json["verdict"]["samples"] == 20
    assert len(ran.json["verdict"]["shapes"]) > 1, "several batch sizes"
    with np.load(tmp_path / "digits.golden.npz") as golden, np.load(digits / "digits_val.npz") as samples:
        np.testing.assert_array_equal(golden["inputs/0/x"][0], samples["x"][0])


IMAGES = np.random.default_rng(0).random((12, 1, 8, 8)).astype(np.float32)
NAN, INF = IMAGES.copy(), IMAGES.copy()
NAN[3, 0, 2, 2] = np.nan
INF[5, 0, 0, 1] = np.inf


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": NAN}, ["not finite", "[3, 0, 2, 2]"]),
        ({"x": INF}, ["not finite", "[5, 0, 0, 1]"]),
        ({"x": IMAGES.astype(np.int64)}, ["int64", "float32"]),
        ({"x": IMAGES[:, 0]}, ["3 axes, not 4"]),
        ({"x": IMAGES[..., :7]}, ["has 7 on axis 3, not 8"]),
        ({"x": IMAGES[:0]}, ["no sample"]),
        ({"xs": IMAGES, "y": np.zeros(12, np.int64)}, ["no array 'x'", "did you mean 'xs'"]),
        ({"x": np.array([{"a": 1}] * 12, object)}, ["Python objects"]),
    ],
)
def test_data_that_does_not_fit_is_refused_with_the_place(
    arrays: dict[str, Any], words: list[str], digits: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    given = (*described("x:float32[batch,1,8,8]"), "--data", "data.npz")
    assert_refused(deploykit("convert", digits / "digits.ts", *given, cwd=tmp_path), 2, *words)
    assert listing(tmp_path) == {"data.npz"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["there is no data.npz"]),
        (b"", ["empty"]),
        (b"PK\x03\x04 cut off", ["damaged"]),
        (b"no archive at all", ["not an .npz"]),
    ],
)
def test_a_file_of_data_that_can_not_be_read_is_refused(
    content: bytes | None, words: list[str], digits: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "data.npz").write_bytes(content)
    ran = deploykit("convert", digits / "digits.ts", "--data", "data.npz", cwd=tmp_path)
    assert_refused(ran, 2, *words)


def test_a_pt2_archive_says_its_inputs_itself(tmp_path: Path) -> None:
    from tests.forms import FORMS, MAIN

    FORMS["pt2 with fixed axes"].save(MAIN["digits"], MAIN["digits"].make(), tmp_path / "net.pt2")
    ran = deploykit("convert", "net.pt2", *described("x:float32[batch,3,8,8]"), cwd=tmp_path)
    assert_refused(ran, 2, "[2,1,8,8]", "--input")
    assert listing(tmp_path) == {"net.pt2"}


def test_the_example_can_be_imported_without_training(tmp_path: Path) -> None:
    from examples.digits_pytorch import DigitsNet

    assert DigitsNet(classes=3)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert not listing(tmp_path)


def test_the_trained_digits_keep_their_accuracy(proved: Path, digits: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(proved / "digits.onnx", providers=["CPUExecutionProvider"])
    with np.load(digits / "digits_val.npz") as samples:
        right = session.run(None, {"x": samples["x"]})[0].argmax(1) == samples["y"]
    assert right.mean() > 0.97
