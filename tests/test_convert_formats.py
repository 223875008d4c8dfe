"""Every main net of the zoo, in every form that it can be saved in, becomes an ONNX file that answers as it does."""

import hashlib
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.running import ROOT, Ran, assert_refused, deploykit, listing

torch = pytest.importorskip("torch")

from tests.forms import FORMS, LAYOUTS, MAIN, Form, Kind, tensors  # noqa: E402 - it needs torch

IMPOSSIBLE = {
    ("encoder", "torchscript, scripted"): "prim::is_nested",
    ("encoder", "torchscript, traced"): "transpose for tensor of unknown rank",
}
"""What torch's exporter for TorchScript can't do, and what it says; the bare call says no more."""

ALIKE = ("pickled module", "state_dict", "safetensors")
"""From all of these comes the same module, which is then exported alike: each net is tried from one of them."""

PAIRS = [
    (net, form)
    for number, net in enumerate(MAIN)
    for form in FORMS
    if (net, form) not in IMPOSSIBLE and (form not in ALIKE or form == ALIKE[number % len(ALIKE)])
]
IN_LAYOUTS = list(zip(("digits", "pair") * len(LAYOUTS), LAYOUTS, strict=False))


@dataclass(frozen=True)
class Converted:
    """One net that was converted from one form."""

    kind: Kind
    form: Form
    model: Any
    folder: Path
    ran: Ran
    untouched: bool


def converted(name: str, form: Form, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Converted:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where a pickled module finds its class
    kind = MAIN[name]
    model = kind.make()
    source = folder / f"net{form.suffix}"
    save(kind, form, source)
    before = hashlib.sha256(source.read_bytes()).digest()
    ran = deploykit("convert", source, "-o", "made.onnx", "--json", *form.options(kind), cwd=folder)
    untouched = hashlib.sha256(source.read_bytes()).digest() == before
    return Converted(kind, form, model, folder, ran, untouched)


def save(kind: Kind, form: Form, source: Path) -> None:
    with warnings.catch_warnings():  # torch's own, about its own code
        warnings.simplefilter("ignore")
        form.save(kind, kind.make(), source)


def check(made: Converted) -> None:
    assert made.ran.code == 0, made.ran.err
    assert made.untouched
    assert made.ran.json["verdict"]["passed"]
    assert made.ran.json["verdict"]["samples"] >= 8
    assert made.ran.json["signature"] == {
        "inputs": described(made.kind.inputs, made),
        "outputs": described(made.kind.outputs, made),
    }
    source = f"net{made.form.suffix}"
    assert listing(made.folder) <= {source, f"{source}.data", "made.onnx", "made.golden.npz"}
    for batch in [2] if made.form.static else [1, 4, 7]:
        assert_same_answers(made, batch)


def described(texts: tuple[str, ...], made: Converted) -> list[str]:
    """Give the texts as this form must have them: sizes that it has fixed, and its own names of free axes."""
    words = {**made.form.words, **({"batch": "2"} if made.form.static else {})}
    return [re.sub(r"(?<=[\[,])[a-z]+(?=[\],])", lambda word: words.get(word[0], word[0]), text) for text in texts]


def assert_same_answers(made: Converted, batch: int) -> None:
    import onnxruntime

    feed = made.kind.example(batch, seed=1)
    session = onnxruntime.InferenceSession(made.folder / "made.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        own = made.model(*tensors(feed).values())
    parts = list(own.values()) if isinstance(own, dict) else list(own) if isinstance(own, tuple) else [own]
    for found, wanted in zip(session.run(None, feed), parts, strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("name", "form"), PAIRS, ids=[f"{name}: {form}" for name, form in PAIRS])
def test_each_net_converts_from_each_form_and_answers_alike(
    name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(converted(name, FORMS[form], tmp_path, monkeypatch))


@pytest.mark.parametrize(("name", "layout"), IN_LAYOUTS, ids=[f"{name}: {layout}" for name, layout in IN_LAYOUTS])
def test_weights_are_found_wherever_checkpoints_keep_them(
    name: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = converted(name, LAYOUTS[layout], tmp_path, monkeypatch)
    check(made)
    assert layout == "legacy" or any(f"'{layout}'" in note for note in made.ran.json["notes"])


@pytest.mark.parametrize(("name", "form"), IMPOSSIBLE)
def test_what_the_exporter_for_torchscript_lacks_is_named(
    name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = converted(name, FORMS[form], tmp_path, monkeypatch)
    assert_refused(made.ran, 3, IMPOSSIBLE[name, form])
    assert "--exporter" not in made.ran.err, "there is no other exporter for TorchScript"
    assert listing(tmp_path) <= {"net.pt", "made.repro.py"}


def test_a_pickled_module_is_refused_without_the_users_word(tmp_path: Path) -> None:
    kind = MAIN["digits"]
    save(kind, FORMS["pickled module"], tmp_path / "net.pt")
    ran = deploykit("convert", "net.pt", cwd=tmp_path)
    assert_refused(ran, 5, "examples.digits_pytorch.DigitsNet", "torch.nn.modules.conv.Conv2d", "--trust-pickle")
    assert "--factory" in ran.err
    assert listing(tmp_path) == {"net.pt"}


def test_a_pickle_that_would_run_a_command_does_not_run_it(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"state_dict": Trap()}, tmp_path / "net.pt")
    assert_refused(deploykit("convert", "net.pt", cwd=tmp_path), 5, "pathlib")
    assert_refused(deploykit("convert", "net.pt", "--factory", "net.py:Net", cwd=tmp_path), 5)
    assert listing(tmp_path) == {"net.pt"}


def test_a_pickle_that_was_made_in_a_script_finds_its_class_in_the_factorys_file(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Linear):\n    def __init__(self):\n        super().__init__(3, 2)\n"
        "if __name__ == '__main__':\n    torch.save(Net(), 'net.pt')\n"
    )
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, check=True)
    ran = deploykit("convert", "net.pt", "--trust-pickle", "--factory", "train.py:Net", cwd=tmp_path)
    assert ran.code == 0, ran.err
    lost = deploykit("convert", "net.pt", "--trust-pickle", cwd=tmp_path)
    assert_refused(lost, 3, "Net", "--factory")


def test_weights_without_a_factory_are_refused_with_what_they_are(digits: Path, tmp_path: Path) -> None:
    assert_refused(deploykit("convert", digits / "digits.pt", cwd=tmp_path), 2, "--factory", "features.0.weight")
    assert not listing(tmp_path)


@pytest.mark.parametrize(
    ("factory", "arguments", "code", "words"),
    [
        ("DigitsNet", '{"classes": 9}', 3, ["head.weight", "[10, 512]", "[9, 512]"]),
        ("DigitsNat", None, 2, ["DigitsNat", "did you mean 'DigitsNet'"]),
        ("DigitsNet", '{"clases": 9}', 2, ["clases"]),
        ("DigitsNet", "classes=9", 2, ["--factory-args", "JSON"]),
        ("accuracy", '{"net": 1}', 2, ["accuracy"]),
        ("EPOCHS", None, 2, ["EPOCHS"]),
    ],
)
def test_a_factory_that_does_not_fit_is_refused_with_what_is_wrong(
    factory: str, arguments: str | None, code: int, words: list[str], digits: Path, tmp_path: Path
) -> None:
    place = f"{ROOT / 'examples' / 'digits_pytorch.py'}:{factory}"
    options = ["--factory-args", arguments] if arguments else []
    ran = deploykit("convert", digits / "digits.pt", "--factory", place, *options, cwd=tmp_path)
    assert_refused(ran, code, *words)
    assert not listing(tmp_path)


def test_weights_of_another_net_are_refused_with_missing_and_unexpected_names(digits: Path, tmp_path: Path) -> None:
    ran = deploykit("convert", digits / "digits.pt", "--factory", f"{ROOT / 'tests' / 'zoo.py'}:Plain", cwd=tmp_path)
    assert_refused(ran, 3, "missing", "layers.0.weight", "features.0.weight", "unexpected")
    assert not listing(tmp_path)
