"""validate compares any two: a source with an ONNX file, an ONNX file with another, a source with a source."""

from pathlib import Path

import numpy as np
import pytest

from deploykit import validate
from deploykit.errors import UsageError
from deploykit.tensors import write_npz
from tests.converted import Converted, converted

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return converted("digits", tmp_path_factory)


@pytest.fixture
def spoilt(made: Converted, tmp_path: Path) -> Path:
    """Give the weights with one of them moved by a hundredth."""
    weights = torch.load(made.weights, weights_only=True)
    name = next(name for name, tensor in weights.items() if tensor.ndim > 1)
    weights[name].view(-1)[3] += 0.01
    torch.save(weights, tmp_path / "spoilt.pt")
    return tmp_path / "spoilt.pt"


@pytest.fixture
def data(made: Converted, tmp_path: Path) -> Path:
    from deploykit.golden import Golden

    case = Golden.read(made.golden).cases[0]
    shapes = {name: (20, *array.shape[1:]) for name, array in case.inputs.items()}
    rng = np.random.default_rng(0)
    write_npz(tmp_path / "data.npz", {name: rng.standard_normal(one, np.float32) for name, one in shapes.items()})
    return tmp_path / "data.npz"


def test_a_source_is_judged_by_an_onnx_file(made: Converted, spoilt: Path) -> None:
    loading = {name: value for name, value in made.loading.items() if name != "inputs"}
    assert validate(made.weights, made.onnx, **loading).passed
    assert not validate(spoilt, made.onnx, **loading).passed


def test_a_source_is_judged_by_a_golden(made: Converted, spoilt: Path) -> None:
    loading = {name: value for name, value in made.loading.items() if name != "inputs"}
    assert validate(made.weights, made.golden, **loading).passed
    assert not validate(spoilt, made.golden, **loading).passed
    with pytest.raises(UsageError, match="none is named"):
        validate(spoilt, made.golden, data=Path("x.npz"), **loading)


def test_two_sources_are_compared_on_data(made: Converted, spoilt: Path, data: Path) -> None:
    same = validate(made.weights, made.weights, data=data, **made.loading)
    assert same.passed
    assert same.samples == 20
    assert not validate(spoilt, made.weights, data=data, **made.loading).passed


def test_two_sources_without_data_are_an_error_that_says_so(made: Converted) -> None:
    with pytest.raises(UsageError, match="nothing says what goes into them"):
        validate(made.weights, made.weights, **made.loading)


def test_a_golden_is_no_artifact(made: Converted) -> None:
    with pytest.raises(UsageError, match="an artifact is judged by it"):
        validate(made.golden)


def test_a_source_alone_has_no_golden(made: Converted) -> None:
    with pytest.raises(UsageError, match="only an ONNX file has its golden beside it"):
        validate(made.weights)
