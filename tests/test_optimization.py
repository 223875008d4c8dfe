"""The runner of passes: whatever a pass does, nothing appears that was not proved."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import deploykit
from deploykit.errors import NotEquivalent, UsageError
from deploykit.onnx_io import lineage, load, save
from deploykit.passes import PASSES, Applied, Pass, Work
from deploykit.validation import Demand
from tests.onnx_models import dense, written
from tests.running import deploykit as command


@dataclass(frozen=True)
class Doubled(Pass):
    """Doubles the first weight: another model."""

    suffix: ClassVar[str] = "doubled"
    by: float = 2.0

    def apply(self, source: Path, work: Work) -> Applied:
        import onnx_ir

        model = load(source)
        value = max(model.graph.initializers.values(), key=lambda one: one.const_value.size)
        value.const_value = onnx_ir.tensor(value.const_value.numpy() * np.float32(self.by), name=value.name)
        path = work.write(model)
        return Applied(path, "a weight is another", ("said by the pass",))


@dataclass(frozen=True)
class ToHalf(Pass):
    """Says that it makes float16."""

    suffix: ClassVar[str] = "half"
    precision: ClassVar[str] = "float16"

    def apply(self, source: Path, work: Work) -> Applied:
        raise AssertionError


def test_a_pass_that_breaks_the_model_leaves_nothing_behind(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    before = {file.name: file.read_bytes() for file in here.iterdir() if file.is_file()}
    with pytest.raises(NotEquivalent) as failed:
        deploykit.optimize("digits.onnx", passes=["simplify", Doubled()])
    assert "after test_optimization" in failed.value.message
    assert "said by the pass" in failed.value.details
    assert failed.value.verdict is not None
    assert {file.name: file.read_bytes() for file in here.iterdir() if file.is_file()} == before


def test_a_model_that_was_broken_before_is_told_apart(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx_ir

    monkeypatch.chdir(here)
    model = load("digits.onnx")
    for value in model.graph.initializers.values():
        if value.const_value.size > 100:
            value.const_value = onnx_ir.tensor(value.const_value.numpy() * np.float32(1.5), name=value.name)
    save(model, "broken.onnx")
    with pytest.raises(NotEquivalent) as failed:
        deploykit.optimize("broken.onnx")
    assert "so it was before simplify" in failed.value.details[0]


def test_the_lineage_names_the_source_the_golden_and_every_pass(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    made = deploykit.optimize("digits.onnx", "small.onnx", passes=["simplify", Doubled(by=1.0)])
    old, new = lineage(load("digits.onnx")), lineage(load("small.onnx"))
    assert new["source.sha256"] == old["source.sha256"]
    assert new["golden.sha256"] == old["golden.sha256"]
    assert new["passes"] == f"{old['passes']}; simplify; test_optimization:by=1.0"
    assert made.golden.read_bytes() == Path("digits.golden.npz").read_bytes()
    assert deploykit.validate("small.onnx").passed
    assert deploykit.validate().artifact == "small.onnx"


def test_a_chain_that_does_not_fit_is_refused_before_anything_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    with pytest.raises(UsageError, match="takes a model in float32, and this one is in float16"):
        deploykit.optimize("digits.onnx", passes=[ToHalf(), Doubled()])


@pytest.mark.parametrize("external", [False, True])
def test_a_model_of_others_is_its_own_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external: bool) -> None:
    path = written(tmp_path, dense(), external=external)
    monkeypatch.chdir(tmp_path)
    made = deploykit.optimize(path.name, "out.onnx")
    assert made.verdict.passed
    assert any("was not made by deploykit" in note for note in made.notes)
    assert deploykit.validate("out.onnx").passed
    assert lineage(load("out.onnx"))["source.name"] == "model.onnx"
    with pytest.raises(NotEquivalent):
        deploykit.optimize(path.name, "wrong.onnx", passes=[Doubled()])
    assert not Path("wrong.onnx").exists()


def test_the_users_samples_are_looked_at_too(here: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(digits / "digits_val.npz", here)
    monkeypatch.chdir(here)
    made = deploykit.optimize("digits.onnx", "small.onnx", data=Path("digits_val.npz"), samples=50)
    assert made.verdict.samples == 50


@pytest.mark.parametrize("name", PASSES.names())
def test_every_pass_leaves_the_model_as_it_was(
    here: Path, digits: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(here)
    before = Path("digits.onnx").read_bytes()
    lossy = PASSES.kind(name).lossy
    samples = digits / "digits_val.npz" if lossy else None
    demand = Demand(allow_undecided=lossy)
    asked: dict[str, Any] = {
        "passes": [name],
        "data": samples,
        "samples": 400,
        "demand": demand,
        "keep_slower": PASSES.make(name).hastens,
    }
    first = deploykit.optimize("digits.onnx", "one.onnx", **asked)
    deploykit.optimize("digits.onnx", "two.onnx", **asked)
    assert Path("digits.onnx").read_bytes() == before
    assert first.verdict.passed
    assert Path("one.onnx").read_bytes() == Path("two.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["digits.onnx", "-o", "digits.onnx"], 2, "is the source itself"),
        (["digits.golden.npz"], 2, "and this is done to ONNX files"),
        (["digts.onnx"], 2, "did you mean 'digits.onnx'?"),
        (["digits.onnx", "-o", "model.bin"], 2, "does not end in .onnx"),
        (["digits.onnx", "-o", "nowhere/model.onnx"], 2, "nowhere"),
        (["digits.onnx", "--shapes", "batch=3"], 2, "has its golden"),
        (["empty.onnx"], 3, "empty"),
        (["cut.onnx"], 3, "cut off"),
    ],
)
def test_wrong_input_is_said_and_nothing_written(here: Path, arguments: list[str], code: int, said: str) -> None:
    (here / "empty.onnx").touch()
    (here / "cut.onnx").write_bytes((here / "digits.onnx").read_bytes()[:5000])
    before = {file.name for file in here.iterdir()}
    ran = command("optimize", *arguments, cwd=here)
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert {file.name for file in here.iterdir()} == before


def test_the_command_takes_the_latest_and_says_so(here: Path) -> None:
    ran = command("optimize", cwd=here)
    assert ran.code == 0, ran.err
    assert "digits.onnx" in ran.out.splitlines()[0]
    assert (here / "digits.simplified.onnx").exists()
