"""A golden comes back as it was written, byte for byte, is found beside its model, and holds a true noise floor."""

import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploykit.artifact import Artifact, sha256
from deploykit.backends import Asked, backend_for
from deploykit.errors import ModelError, UsageError
from deploykit.golden import Case, Golden
from deploykit.recording import Plan, record
from deploykit.tensors import Array, Signature, Tensors, TensorSpec
from deploykit.validation import validate
from deploykit.validation.evidence import find_golden, golden_path
from tests import hard
from tests.converted import Converted, converted

RNG = np.random.default_rng(0)
NAMES = ("x", "file", "a/b", "a.b.0", "golden.json", "x.npy", "inputs/1/x", "größe", "..", "0", "in_1:0", "a b", "a[0]")


def case(names: tuple[str, ...], dtype: str = "float32") -> Case:
    def some(kind: str = dtype) -> Tensors:
        return {name: (RNG.standard_normal((2, 3)) * 9).astype(kind) for name in names}

    return Case(some(), some(), some("float64"), some())


def golden(method: str = "float64", names: tuple[str, ...] = ("x",), dtype: str = "float32") -> Golden:
    specs = tuple(TensorSpec(name, dtype, ("batch", 3)) for name in names)
    cases = [case(names, dtype) for _ in range(12)]  # more than ten: 1 must not be taken for 10
    if method == "float64":
        cases = [replace(one, noisy=one.outputs) for one in cases]
    else:
        cases = [replace(one, reference=one.outputs) for one in cases]
    return Golden(Signature(specs, specs), tuple(cases), method, {"path": "m.pt", "sha256": "0"}, ("a note",))


def assert_same(one: Mapping[str, Array], other: Mapping[str, Array]) -> None:
    assert list(one) == list(other)
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        np.testing.assert_array_equal(array, other[name])


@pytest.mark.parametrize("method", ["float64", "ulp"])
def test_a_golden_comes_back_as_it_was_written(method: str, tmp_path: Path) -> None:
    own = golden(method, NAMES)
    own.write(tmp_path / "m.golden.npz")
    found = Golden.read(tmp_path / "m.golden.npz")
    assert (found.signature, found.method, found.source, found.notes) == (
        own.signature,
        own.method,
        own.source,
        own.notes,
    )
    assert (found.samples, found.shapes) == (24, own.shapes)
    for one, other in zip(own.cases, found.cases, strict=True):
        for kind in ("inputs", "outputs", "reference", "noisy"):
            assert_same(getattr(one, kind), getattr(other, kind))


@pytest.mark.parametrize("axis", ["batch size", "?", "2*time", "past+1", "7", "-1"])
def test_dynamic_axes_of_any_name_come_back(axis: str, tmp_path: Path) -> None:
    own = golden()
    specs = (TensorSpec("x", "float32", (axis, 3)),)
    replace(own, signature=Signature(specs, specs)).write(tmp_path / "m.npz")
    assert Golden.read(tmp_path / "m.npz").signature.inputs == specs


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int64", "bool", "complex64"])
def test_numbers_of_every_type_come_back(dtype: str, tmp_path: Path) -> None:
    own = golden(dtype=dtype)
    own.write(tmp_path / "m.npz")
    assert_same(own.cases[3].outputs, Golden.read(tmp_path / "m.npz").cases[3].outputs)


def test_arrays_of_any_shape_and_order_come_back(tmp_path: Path) -> None:
    arrays: dict[str, Array] = {
        "scalar": np.float32(3) + np.zeros((), np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "turned": np.asfortranarray(RNG.standard_normal((3, 4)).astype(np.float32)),
        "sliced": RNG.standard_normal((8, 8)).astype(np.float32)[::2, ::-3],
        "infinite": np.array([np.inf, -np.inf, np.nan, -0.0], np.float32),
    }
    specs = tuple(TensorSpec(name, "float32", tuple(map(str, "ab"[: array.ndim]))) for name, array in arrays.items())
    one = Case(arrays, arrays, arrays, arrays)
    Golden(Signature(specs, specs), (one,), "float64", {}).write(tmp_path / "m.npz")
    assert_same(arrays, Golden.read(tmp_path / "m.npz").cases[0].inputs)


def test_the_same_evidence_gives_the_same_bytes(tmp_path: Path) -> None:
    own = golden(names=NAMES)
    for name in ("one.npz", "two.npz"):
        own.write(tmp_path / name)
    Golden.read(tmp_path / "one.npz").write(tmp_path / "three.npz")
    assert len({sha256(path) for path in tmp_path.iterdir()}) == 1


def test_other_evidence_gives_other_bytes(tmp_path: Path) -> None:
    own = golden()
    other = replace(own, cases=own.cases[:-1])
    own.write(tmp_path / "one.npz")
    other.write(tmp_path / "two.npz")
    assert sha256(tmp_path / "one.npz") != sha256(tmp_path / "two.npz")


def test_numpy_reads_a_golden(tmp_path: Path) -> None:
    own = golden()
    own.write(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["inputs/10/x"], own.cases[10].inputs["x"])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_golden_that_is_cut_short_is_an_error(share: float, tmp_path: Path) -> None:
    path = tmp_path / "m.golden.npz"
    golden().write(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelError, match=r"m\.golden\.npz is no golden, or is damaged"):
        Golden.read(path)


def test_a_golden_with_a_turned_bit_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.golden.npz"
    own = golden()
    own.write(path)
    content = bytearray(path.read_bytes())
    content[content.index(own.cases[5].outputs["x"].tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is no golden, or is damaged"):
        Golden.read(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "3", '{"cases": 1, "method": "float64"}', "\xff"])
def test_a_file_that_is_no_golden_is_an_error(content: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("golden.json", content)
    with pytest.raises(ModelError, match="is no golden, or is damaged"):
        Golden.read(tmp_path / "m.npz")


def test_samples_of_a_user_are_no_golden(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", x=np.zeros(3))
    with pytest.raises(ModelError, match="is no golden"):
        Golden.read(tmp_path / "m.npz")


@pytest.fixture
def pair(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Give copies of a converted net and its golden."""
    pytest.importorskip("torch")
    made = converted("ids", tmp_path_factory)
    copies = [Path(shutil.copy(path, tmp_path)) for path in (made.onnx, made.golden)]
    return replace(made, onnx=copies[0], golden=copies[1])


def test_a_golden_is_found_beside_its_model(pair: Converted) -> None:
    assert golden_path(pair.onnx) == pair.golden
    assert validate(pair.onnx).passed


def test_a_golden_is_found_under_another_name_by_its_sha256(pair: Converted) -> None:
    pair.golden.rename(pair.golden.with_name("kept.golden.npz"))
    golden().write(pair.golden.with_name("aaa.golden.npz"))
    verdict = validate(pair.onnx)
    assert verdict.passed
    assert verdict.reference.startswith("kept.golden.npz")


def test_a_model_that_was_renamed_still_finds_its_golden(pair: Converted) -> None:
    assert validate(pair.onnx.rename(pair.onnx.with_name("renamed.onnx"))).passed


def test_the_golden_of_another_model_under_the_right_name_is_an_error(pair: Converted) -> None:
    wanted = sha256(pair.golden)
    golden().write(pair.golden)
    with pytest.raises(UsageError, match=r"is not the golden that ids\.onnx was proved with") as caught:
        validate(pair.onnx)
    assert any(wanted in line for line in caught.value.details)


def test_a_golden_that_was_changed_by_one_byte_is_an_error(pair: Converted) -> None:
    content = bytearray(pair.golden.read_bytes())
    content[-1] ^= 1
    pair.golden.write_bytes(content)
    with pytest.raises(UsageError, match="its sha256 is another"):
        validate(pair.onnx)


def test_a_missing_golden_is_an_error_with_ways_out(pair: Converted) -> None:
    pair.golden.unlink()
    with pytest.raises(UsageError, match="is missing") as caught:
        validate(pair.onnx)
    assert any("--against" in fix for fix in caught.value.fix)


def test_a_model_without_lineage_has_no_golden(tmp_path: Path) -> None:
    golden().write(tmp_path / "m.golden.npz")
    with pytest.raises(UsageError, match="has no golden"):
        find_golden(tmp_path / "m.onnx", {})


def recorded(name: str, folder: Path, *, batched: bool = True) -> Golden:
    """Record the golden of a net of the same weights every time."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    weights = folder / f"{name}.pt"
    torch.save(getattr(hard, name)().state_dict(), weights)
    source = Artifact.open(weights)
    asked = Asked(factory=f"{hard.__file__}:{name}", inputs=["x:float32[batch,12]"])
    rng = np.random.default_rng(5)
    inputs: list[Tensors] = [{"x": rng.standard_normal((rows, 12)).astype(np.float32)} for rows in (1, 2, 5, 30)]
    with backend_for(source.format).load(source, asked) as session:
        return record(session, session.signature, inputs, {"path": name}, Plan(folder / name, batched))


def floor(golden: Golden) -> float:
    apart = [(one.noisy["output"].astype(np.float64) - one.reference["output"]).ravel() for one in golden.cases]
    return float(np.sqrt(np.mean(np.square(np.concatenate(apart)))))


def test_a_source_that_refuses_float64_gets_a_floor_of_the_same_size_from_ulps(tmp_path: Path) -> None:
    exact, moved = recorded("accepting", tmp_path), recorded("refusing", tmp_path)
    assert (exact.method, moved.method) == ("float64", "ulp")
    for one, other in zip(exact.cases, moved.cases, strict=True):
        np.testing.assert_array_equal(one.outputs["output"], other.outputs["output"])
    assert 1 / 5 < floor(moved) / floor(exact) < 5


def test_the_reference_is_nearer_to_the_truth_than_the_source(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    exact = recorded("accepting", tmp_path)
    model = hard.accepting().double()
    model.load_state_dict(torch.load(tmp_path / "accepting.pt", weights_only=True))
    for one in exact.cases:
        with torch.no_grad():
            truth = model(torch.from_numpy(one.inputs["x"]).double()).numpy()
        np.testing.assert_allclose(one.reference["output"], truth, rtol=0, atol=1e-14)
        assert one.reference["output"].dtype == np.float64
        assert np.abs(one.outputs["output"] - truth).max() > 1e-9
