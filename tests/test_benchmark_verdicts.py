"""The benchmark of verdicts plants faults that matter, has them judged, and takes what is right for right."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.verdict_faults import Fault, changed
from benchmarks.verdict_files import copied, renamed
from benchmarks.verdict_graphs import KINDS
from benchmarks.verdict_inputs import KINDS as NETS
from benchmarks.verdict_peers import Peers, optimum_equal, polygraphy_equal
from benchmarks.verdict_ready import Ready, effect, ready, session
from benchmarks.verdict_right import Right
from benchmarks.verdict_trials import MATTERS, Plot, Trial, attempt, mattering, trials

pytest.importorskip("torch")


@dataclass(frozen=True)
class Made:
    right: Ready
    peers: Peers


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    right = ready("mlp", tmp_path_factory.mktemp("mlp"), seed=0)
    return Made(right, Peers.of(right))


def planted(made: Made, kind: str, quota: int) -> list[Trial]:
    import onnx

    plot = Plot(kind, quota, {"proved": onnx.load(made.right.onnx)})
    found = trials(made.right, made.peers, plot, np.random.default_rng(0))
    return [trial for trial in found if trial is not None]


def test_faults_of_every_kind_that_fits_are_counted_and_caught(made: Made) -> None:
    found = {kind: planted(made, kind, 2) for kind in KINDS}
    fitting = set(KINDS) - {"padding", "resize mode"}
    assert {kind for kind, some in found.items() if len(some) == 2} == fitting
    for trial in (trial for some in found.values() for trial in some):
        assert trial.effect >= MATTERS
        assert not trial.judged.deploykit, trial
        assert not trial.judged.crash, trial


def test_what_changes_nothing_is_no_fault(made: Made) -> None:
    import onnx

    def leave(array: object, size: float) -> None:
        pass

    nothing = Fault("nothing", partial(changed, "mean", leave), scales=True)
    assert mattering(made.right, onnx.load(made.right.onnx), nothing, MATTERS) is None


@pytest.mark.parametrize("change", [copied, renamed])
def test_a_right_file_is_right_by_all_rules(made: Made, change: object, tmp_path: Path) -> None:
    assert callable(change)
    path = tmp_path / "right.onnx"
    change(made.right.onnx, path)
    one = Right("passes", "", partial(change, made.right.onnx), made.right.golden)
    trial = attempt(made.right, made.peers, one, path)
    assert trial.is_right
    assert trial.judged.deploykit, trial
    assert trial.judged.polygraphy
    assert trial.judged.optimum


def test_the_right_file_is_within_some_noise_floors_of_the_source(made: Made) -> None:
    assert 0 < effect(made.right, session(str(made.right.onnx))) < 10


def test_the_rules_of_the_peers_are_theirs() -> None:
    one = {"y": np.array([1.0, 1e-7, 1e3], np.float32)}
    for change, polygraphy, optimum in (
        ([0, 0, 0], True, True),
        ([0, 5e-6, 0], True, True),  # within either's absolute tolerance
        ([0, 0, 5e-3], True, True),  # within the relative one
        ([1.5e-5, 0, 0], False, True),  # optimum adds both up, polygraphy takes the one or the other
        ([0, 2e-5, 0], False, False),
        ([np.nan, 0, 0], False, False),
    ):
        other = {"y": (one["y"] + np.asarray(change)).astype(np.float32)}
        assert polygraphy_equal(one, other) == polygraphy, change
        assert optimum_equal(one, other) == optimum, change
    wider = {"y": np.zeros((1, 3), np.float32)}
    assert not polygraphy_equal(one, wider)
    assert not optimum_equal(one, wider)


def test_inputs_are_of_the_shapes_that_the_nets_take() -> None:
    from deploykit.tensors import TensorSpec

    for kind in NETS.values():
        sizes = {"batch": 3, **kind.sizes[-1]}
        given = kind.draw(np.random.default_rng(0), sizes)
        for spec in map(TensorSpec.parse, kind.inputs):
            assert given[spec.name].shape == spec.sized(sizes)
            assert str(given[spec.name].dtype) == spec.dtype
