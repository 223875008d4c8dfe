"""The noise ratio passes what is right however it is run or exported, and fails what is wrong by a little."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit import convert
from deploykit.artifact import Artifact
from deploykit.backends import Asked, backend_for
from deploykit.backends._child import ChildSession
from deploykit.backends.onnxruntime import OrtSession
from deploykit.errors import ModelError
from deploykit.golden import Golden
from deploykit.onnx_io import load
from deploykit.tensors import Array
from deploykit.validation import Verdict, compare
from deploykit.validation.evidence import Size, make_golden
from deploykit.validation.tolerance import LIMIT, Errors, limit, noise_ratio
from tests import hard
from tests.converted import NETS, Converted, converted

RNG = np.random.default_rng(0)
SEEDS = {"digits": 10, "recurrent": 4, "encoder": 4, "unet": 3, "two": 10, "ids": 10}
RIGHT_AT_MOST = 5.0
"""The largest ratio of a right artifact: half of the limit is kept for what was not tried."""


def errors(exact: Array, own: Array, found: Array) -> Errors:
    return Errors(np.asarray(exact, np.float64), np.asarray(own, np.float64), np.asarray(found, np.float64))


def rounded(exact: Array, ulps: float = 1.0) -> Array:
    return exact * (1 + ulps * 2.0**-24 * RNG.standard_normal(exact.shape))


def test_another_rounding_of_the_same_size_has_a_ratio_about_one() -> None:
    exact = RNG.standard_normal((20, 10))
    assert 0.5 < noise_ratio([errors(exact, rounded(exact), rounded(exact))], "float32").value < 3


def test_the_ratio_is_the_error_over_that_of_the_source() -> None:
    exact = np.ones((8, 8))
    ratio = noise_ratio([errors(exact, exact + 1e-3, exact + 4e-3)], "float32")
    assert ratio.value == pytest.approx(4)
    assert ratio.floor == pytest.approx(1e-3)
    assert ratio.error == pytest.approx(4e-3)


def test_the_exact_answer_has_ratio_zero() -> None:
    exact = RNG.standard_normal((3, 4))
    assert noise_ratio([errors(exact, exact, exact)], "float32").value == 0


def test_a_source_that_is_exact_by_chance_allows_a_rounding_to_the_type_of_the_output() -> None:
    exact = RNG.standard_normal((3, 4))
    assert noise_ratio([errors(exact, exact, rounded(exact, 2))], "float32").value < LIMIT
    assert noise_ratio([errors(exact, exact, rounded(exact, 2))], "float64").value > LIMIT


def test_an_output_that_is_zero_allows_nothing_else_but_what_the_runtime_adds() -> None:
    zero = np.zeros((3, 4))
    assert noise_ratio([errors(zero, zero, zero + 1e-9)], "float32").value == np.inf
    assert noise_ratio([errors(zero, zero, zero + 1e-9)], "float32", rounding=1e-9).value < LIMIT


@pytest.mark.parametrize(
    ("place", "where"),
    [((7,), "sample 7"), ((slice(None), 3), "channel 3"), ((slice(None), slice(None), slice(None), 5), "last axis 5")],
)
def test_what_is_wrong_in_one_sample_channel_or_column_shows_there(place: tuple[Any, ...], where: str) -> None:
    exact = RNG.standard_normal((40, 30, 4, 20))
    found = rounded(exact)
    found[place] += 1e-5 * RNG.standard_normal(found[place].shape)
    ratio = noise_ratio([errors(exact, rounded(exact), found)], "float32")
    assert ratio.value > LIMIT
    assert ratio.where == where


def test_one_wrong_element_of_many_shows() -> None:
    exact = RNG.standard_normal((40, 30, 100))
    found = rounded(exact)
    found[3, 2, 1] += 1e-4
    assert noise_ratio([errors(exact, rounded(exact), found)], "float32").value > LIMIT


def test_samples_are_counted_over_all_cases() -> None:
    parts = []
    for _ in range(3):
        exact = RNG.standard_normal((4, 50))
        parts.append(errors(exact, rounded(exact), rounded(exact)))
    parts[2].candidate[1] += 1e-4
    assert noise_ratio(parts, "float32").where == "sample 9"


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (2, 0), (1, 1, 1, 1), (100, 1)])
def test_outputs_of_any_shape_are_judged(shape: tuple[int, ...]) -> None:
    exact = np.atleast_1d(RNG.standard_normal(shape))
    value = noise_ratio([errors(exact, rounded(exact), exact * (1 + 1e-3))], "float32").value
    assert (value > LIMIT) == bool(exact.size)


def test_float16_is_allowed_its_own_rounding() -> None:
    exact = RNG.standard_normal((20, 10))
    coarse = exact.astype(np.float16)
    ratio = noise_ratio([errors(exact, rounded(exact), coarse)], "float32")
    assert limit("float32") < ratio.value < limit("float16")


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Give a net with goldens of several seeds, and files of it by every exporter that takes it."""
    pytest.importorskip("torch")
    kept: dict[str, tuple[list[Golden], list[Path]]] = {}

    def give(name: str) -> tuple[list[Golden], list[Path]]:
        if name not in kept:
            kept[name] = _evidence(converted(name, tmp_path_factory), tmp_path_factory.mktemp(name))
        return kept[name]

    return give


def _evidence(made: Converted, folder: Path) -> tuple[list[Golden], list[Path]]:
    source = Artifact.open(made.weights)
    files = [made.onnx]
    with backend_for(source.format).load(source, Asked(**made.loading)) as session:
        assert isinstance(session, ChildSession)
        graph = load(made.onnx)
        sizes = [Size(folder / str(seed), seed=seed) for seed in range(SEEDS[made.name])]
        goldens = [make_golden(session, graph, source, Asked(), size) for size in sizes]
        if made.name != "recurrent":  # of that, dynamo bakes the sizes in; convert finds it, and takes the other
            (folder / "other").mkdir()
            session.export(folder / "other" / "model.onnx", "torchscript" if made.name != "encoder" else "dynamo", 18)
            files.append(folder / "other" / "model.onnx")
    return goldens, files


@pytest.mark.parametrize("net", NETS)
def test_a_right_artifact_passes_with_any_inputs_and_from_any_exporter(net: str, evidence: Any) -> None:
    goldens, files = evidence(net)
    for file in files:
        session = OrtSession(file)
        for golden in goldens:
            assert worst(compare(golden, session, artifact=file.name, reference="")) < RIGHT_AT_MOST


def worst(verdict: Verdict) -> float:
    """Give the largest ratio of a verdict that passes."""
    assert verdict.passed, verdict.failures
    return max(check.value or 0 for check in verdict.checks)


@pytest.mark.parametrize("net", NETS)
def test_a_right_artifact_passes_however_it_is_run(net: str, evidence: Any, tmp_path: Path) -> None:
    goldens, files = evidence(net)
    ways = dict(runs(files[0], tmp_path))
    assert len(ways) >= 7
    for way, session in ways.items():
        for golden in goldens[:2]:
            assert worst(compare(golden, session, artifact=way, reference="")) < RIGHT_AT_MOST, way


class Running(OrtSession):
    """A file in a session of onnxruntime that was set up elsewhere."""

    def __init__(self, path: Path, own: Any) -> None:
        self._own = own
        super().__init__(path)

    def _session(self, *, optimized: bool) -> Any:
        return self._own


def runs(file: Path, folder: Path) -> Iterator[tuple[str, OrtSession]]:
    import onnx
    import onnxruntime

    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(folder / f"{level}.onnx")
        onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        yield level, OrtSession(folder / f"{level}.onnx")
    for threads in (1, 2):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        own = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        yield f"{threads} threads", Running(file, own)
    for opset in (18, 21, 22):
        try:
            onnx.save(onnx.version_converter.convert_version(onnx.load(file), opset), folder / f"{opset}.onnx")
        except RuntimeError:  # onnx has no way from one to the other for every operator
            continue
        yield f"opset {opset}", OrtSession(folder / f"{opset}.onnx")


@pytest.mark.parametrize("net", hard.INPUTS)
def test_right_models_with_numbers_that_are_hard_to_judge_pass(net: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    weights = tmp_path / "weights.pt"
    torch.save(getattr(hard, net)().state_dict(), weights)
    made = convert(weights, tmp_path / "net.onnx", factory=f"{hard.__file__}:{net}", inputs=[hard.INPUTS[net]])
    assert made.verdict.passed


def test_a_source_and_itself_in_another_order_of_addition_are_equal() -> None:
    terms = RNG.standard_normal((64, 4096)).astype(np.float32)
    exact = terms.astype(np.float64).sum(1, keepdims=True)
    own = terms.sum(1, keepdims=True)
    found = np.cumsum(terms.reshape(64, 512, 8), axis=1, dtype=np.float32)[:, -1].sum(1, keepdims=True)
    assert noise_ratio([errors(exact, own, found)], "float32").value < LIMIT


def test_a_session_that_fails_is_no_pass(tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="can't be read as ONNX"):
        OrtSession(path)
