"""A rewrite that breaks the model is found by the proof, left out, and named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit
from deploykit import rewrites
from deploykit.errors import NotEquivalent, UsageError
from deploykit.onnx_io import load
from deploykit.passes.simplify import Simplify
from deploykit.rewrites.rewrite import Rewrite, Whole
from deploykit.rewrites.scope import Scope
from tests.running import deploykit as command

Node = Any


def broken(name: str, by: float) -> Rewrite:
    """Make a rewrite that multiplies the weights of convolutions, once."""

    def apply(node: Node, scope: Scope) -> bool:
        value = node.inputs[1]
        if f"_{name}" in value.name:
            return False
        changed = np.asarray(scope.constant(value)) * np.float32(by)
        node.replace_input_with(1, scope.weight(changed, f"{value.name}_{name}"))
        return True

    return Rewrite(name, frozenset({"Conv"}), apply)


@pytest.fixture
def folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(here)
    return here


def test_one_that_breaks_the_model_is_left_out_and_the_others_are_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrites, "AT_NODES", (*rewrites.AT_NODES, broken("louder", 1.01), broken("same", 1.0000002)))
    made = deploykit.optimize("digits.onnx", "small.onnx")
    assert made.verdict.passed
    (note,) = made.stages[0].notes
    assert note.startswith("left out louder: with it output: ")
    assert "errs" in note
    names = list(load("small.onnx").graph.initializers)
    assert any(name.endswith("_same") for name in names)
    assert not any("louder" in name for name in names)


def test_two_that_break_it_are_both_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = (broken("louder", 1.01), broken("same", 1.0000002), broken("softer", 0.98))
    monkeypatch.setattr(rewrites, "AT_NODES", (*rewrites.AT_NODES, *extra))
    made = deploykit.optimize("digits.onnx", "small.onnx")
    assert made.stages[0].notes[0].startswith("left out louder, softer: with them output: ")


def test_a_model_that_is_broken_without_them_is_said_to_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Whole("other", _spoil)
    monkeypatch.setattr(rewrites, "AT_GRAPHS", (other, *rewrites.AT_GRAPHS))
    monkeypatch.setattr(rewrites, "names", lambda: ("scales",))
    with pytest.raises(NotEquivalent, match="after simplify the model does not answer"):
        deploykit.optimize("digits.onnx", "small.onnx")
    assert not Path("small.onnx").exists()


def _spoil(scope: Scope) -> bool:
    for node in scope.graph:
        broken("spoilt", 1.5).apply(node, scope) if node.op_type == "Conv" else None
    return False


def test_the_user_may_leave_some_out_and_a_typo_is_said(folder: Path) -> None:
    made = deploykit.optimize("digits.onnx", "small.onnx", passes=[Simplify(without=("scales", "gelus"))])
    assert made.stages[0].applied == "simplify:without=scales+gelus"
    with pytest.raises(UsageError, match="there is no rewrite 'scale'; did you mean 'scales'"):
        Simplify(without=("scale",))
    ran = command("optimize", "digits.onnx", "-o", "other.onnx", "--without", "batchnorms", cwd=folder)
    assert (ran.code, "did you mean 'batch-norms'" in ran.err) == (2, True)
