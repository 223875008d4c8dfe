"""Damage of every kind, planted in copies of right ONNX files, is found from the golden alone; what is right passes."""

import gc
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from deploykit.backends.onnxruntime import OrtSession
from deploykit.errors import ModelError
from deploykit.golden import Golden
from deploykit.onnx_io import load
from deploykit.recording import Answer
from deploykit.samples import synthesize
from deploykit.tensors import Tensors
from deploykit.validation import Verdict, compare, validate
from tests.converted import NETS, Converted, converted
from tests.faults import KINDS
from tests.faulty_weights import Fault

pytest.importorskip("torch")

PLANTED = {
    "one_weight": {"digits": 4, "recurrent": 4, "encoder": 4, "unet": 2, "two": 4, "ids": 4},
    "embedding_row": {"ids": 12},
    "swapped_entries": {"digits": 6, "recurrent": 6, "encoder": 6, "unet": 3, "two": 6, "ids": 6},
    "bias_sign": {"digits": 4, "recurrent": 3, "encoder": 4, "unet": 2, "two": 4, "ids": 4},
    "transposed_weight": {"digits": 2, "encoder": 1, "unet": 2},
    "coarse_weight": {"digits": 3, "recurrent": 5, "encoder": 5, "unet": 3, "two": 5, "ids": 4},
    "scale_constant": {"encoder": 1},
    "epsilon": {"encoder": 4, "unet": 1, "two": 2},
    "transposed": {"recurrent": 5, "encoder": 5},
    "transposed_input": {"digits": 2, "encoder": 3, "unet": 2},
    "float16_between": {"digits": 4, "recurrent": 3, "encoder": 8, "unet": 4, "two": 5, "ids": 3},
    "missing_activation": {"digits": 2, "encoder": 4, "unet": 3, "two": 2, "ids": 1},
    "other_activation": {"digits": 7, "encoder": 8, "unet": 4, "two": 3, "ids": 3},
    "padding": {"digits": 5, "unet": 4},
    "resize": {"unet": 4},
    "axis": {"recurrent": 5, "encoder": 5, "unet": 2},
    "joined_in_other_order": {"recurrent": 2, "encoder": 5, "unet": 2, "two": 1},
    "recurrence": {"recurrent": 5},
    "dropped_mask": {"encoder": 2},
    "baked_batch": {"digits": 3, "recurrent": 3, "encoder": 4, "unet": 2, "two": 4, "ids": 2},
    "outputs": {"digits": 8, "recurrent": 18, "encoder": 8, "unet": 4, "two": 20, "ids": 8},
}
"""How many faults of each kind are planted in each net: 333 together, and every row of two tables."""

MATTERS = 100
"""Noise floors by which some number must change, on inputs that are not the golden's, for a change to be a fault."""

SIZES = (1e-5, 3e-4, 1e-2, 0.3, 10.0)


@dataclass(frozen=True)
class Sound:
    """A right ONNX file, its golden, other inputs, and what it answers to them."""

    made: Converted
    golden: Golden
    cases: Sequence[Tensors]
    answers: Sequence[Answer]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Sound]]:
    kept: dict[str, Sound] = {}

    def give(name: str) -> Sound:
        if name not in kept:
            kept[name] = _sound(converted(name, tmp_path_factory))
        return kept[name]

    gc.freeze()  # every session collects garbage once, and would go through all of torch each time
    yield give
    gc.unfreeze()


def _sound(made: Converted) -> Sound:
    golden = Golden.read(made.golden)
    inputs = golden.signature.inputs
    plan = [
        {
            dim: size
            for spec in inputs
            for dim, size in zip(spec.dims, case.inputs[spec.name].shape, strict=True)
            if isinstance(dim, str)
        }
        for case in golden.cases
    ]
    cases = synthesize(load(made.onnx), inputs, plan, seed=77)
    return Sound(made, golden, cases, list(OrtSession(made.onnx).run_all(cases)))


def planted(fault: Fault, size: float, sound: Sound, path: Path) -> Path:
    import onnx_ir as ir

    model = ir.load(sound.made.onnx)
    fault.plant(model, size)
    ir.save(model, path)
    return path


def effect(sound: Sound, answers: Sequence[Answer]) -> float:
    """Give the largest change of a number, in noise floors of its output; infinite where one can't be compared."""
    worst = 0.0
    for right, wrong in zip(sound.answers, answers, strict=True):
        if isinstance(right, ModelError) or isinstance(wrong, ModelError) or list(right) != list(wrong):
            return np.inf
        for name, array in right.items():
            if wrong[name].shape != array.shape or wrong[name].dtype != array.dtype:
                return np.inf
            if array.dtype.kind == "f":
                change = np.abs(wrong[name].astype(np.float64) - array).max()
                worst = max(worst, float(np.nan_to_num(change, nan=np.inf)) / floor(sound.golden, name))
    return worst


def floor(golden: Golden, name: str) -> float:
    squares = [np.square(case.noisy[name].astype(np.float64) - case.reference[name]) for case in golden.cases]
    return float(np.sqrt(np.mean(np.concatenate([part.ravel() for part in squares]))))


def judged(fault: Fault, sound: Sound, path: Path) -> Verdict | None:
    """Plant a fault at the least size that matters, and judge it; None where no size of it matters."""
    for size in SIZES if fault.scales else (1.0,):
        session = OrtSession(planted(fault, size, sound, path))
        if effect(sound, list(session.run_all(sound.cases))) >= MATTERS:
            return compare(sound.golden, session, artifact=fault.where, reference=sound.made.name)
    return None


@pytest.mark.parametrize(("kind", "net"), [(kind, net) for kind, nets in PLANTED.items() for net in nets])
def test_every_planted_fault_that_matters_is_found(
    kind: str, net: str, sound: Callable[[str], Sound], tmp_path: Path
) -> None:
    right = sound(net)
    places = list(KINDS[kind](load(right.made.onnx)))
    np.random.default_rng(0).shuffle(places)
    found: list[str] = []
    for fault in places:
        try:
            verdict = judged(fault, right, tmp_path / "fault.onnx")
        except ModelError:  # it does not even load
            found.append(fault.where)
        else:
            assert verdict is None or not verdict.passed, f"{fault.where} was not found"
            found.extend([fault.where] if verdict else [])
        if len(found) == PLANTED[kind][net]:
            return
    pytest.fail(f"only {len(found)} of {len(places)} places matter: {found}")


@pytest.mark.parametrize("name", ["tokens.weight", "places.weight"])
def test_a_change_of_any_row_of_an_embedding_is_found(name: str, sound: Callable[[str], Sound], tmp_path: Path) -> None:
    right = sound("encoder")
    rows = [fault for fault in KINDS["embedding_row"](load(right.made.onnx)) if fault.where.startswith(f"{name}[")]
    assert len(rows) == {"tokens.weight": 40, "places.weight": 32}[name]
    passed = []
    for fault in rows:
        session = OrtSession(planted(fault, 0.01, right, tmp_path / "fault.onnx"))
        if compare(right.golden, session, artifact="", reference="").passed:
            passed.append(fault.where)
    assert passed == []


@pytest.mark.parametrize("net", NETS)
def test_validate_finds_a_fault_in_the_file_on_the_disk(
    net: str, sound: Callable[[str], Sound], tmp_path: Path
) -> None:
    right = sound(net)
    for path in (right.made.onnx, right.made.golden):
        shutil.copy(path, tmp_path)
    copy = tmp_path / right.made.onnx.name
    assert validate(copy).passed
    fault = next(fault for fault in KINDS["outputs"](load(copy)) if "_shifted" in fault.where)
    planted(fault, 1, right, copy)
    verdict = validate(copy)
    assert not verdict.passed
    assert verdict.failures[0].what in fault.where
