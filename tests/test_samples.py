"""Samples: what files are read and refused, and which sizes are planned."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploykit.errors import UsageError
from deploykit.samples import plans, specs_of
from deploykit.samples import read as read_samples
from deploykit.tensors import Tensors, TensorSpec

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
X = TensorSpec.parse("x:float32[batch,3]")
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(**arrays: npt.ArrayLike) -> Path:
        path = tmp_path / "inputs.npz"
        np.savez(path, allow_pickle=True, **{name: np.asarray(array) for name, array in arrays.items()})
        return path

    return write


def specs(*texts: str) -> list[TensorSpec]:
    return [TensorSpec.parse(text) for text in texts]


def read(path: Path, *inputs: TensorSpec, limit: int = 100, batch: int = 4) -> list[Tensors]:
    return list(read_samples(path, inputs or None, limit=limit, batch=batch))


def refusal(path: Path, *inputs: TensorSpec) -> str:
    with pytest.raises(UsageError) as caught:
        read(path, *inputs)
    assert caught.value.exit_code == 2
    return "\n".join(caught.value.lines())


# Reading


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 20),
    limit=st.integers(1, 25),
    batch=st.integers(1, 9),
    dtype=st.sampled_from(["float32", "int64", "uint8", "bool", ">f4", "float16"]),
    compressed=st.booleans(),
)
def test_batches_joined_are_the_first_samples_of_the_file(
    tmp_path: Path, count: int, limit: int, batch: int, dtype: str, compressed: bool
) -> None:
    array = (np.arange(count * 6) % 7).reshape(count, 2, 3).astype(dtype)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", a=array)
    batches = read(tmp_path / "a.npz", limit=limit, batch=batch)
    assert [len(tensors["a"]) for tensors in batches[:-1]] == [batch] * (len(batches) - 1)
    joined = np.concatenate([tensors["a"] for tensors in batches])
    assert joined.dtype == np.dtype(dtype).newbyteorder("=")
    assert joined.flags.writeable
    np.testing.assert_array_equal(joined, array[:limit])


def test_reading_holds_no_more_than_a_few_batches(tmp_path: Path) -> None:
    path = tmp_path / "large.npz"
    np.savez_compressed(path, x=np.zeros((2000, 4096), np.float32))
    tracemalloc.start()
    try:
        seen = sum(len(tensors["x"]) for tensors in read_samples(path, None, limit=10_000, batch=10))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == 2000
    assert peak < 4_000_000, "the file is 32 MB, a batch 0.16 MB"


def test_specs_are_told_from_the_headers(save: Save) -> None:
    path = save(x=np.zeros((5, 3, 4), np.float32), label=np.zeros(7, np.int64), name=["a", "bc"], rate=np.int64(8000))
    assert [str(spec) for spec in specs_of(path)] == [
        "x:float32[batch,3,4]",
        "label:int64[batch]",
        "name:string[batch]",
        "rate:int64[]",
    ]


def test_labels_beside_the_inputs_are_left_unread(save: Save) -> None:
    path = save(x=np.ones((2, 3), np.float32), y=np.array([None, {}], object))
    assert [list(tensors) for tensors in read(path, X)] == [["x"]]


def test_one_array_fits_one_input_whatever_its_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.ones((2, 3), np.float32))
    assert read(tmp_path / "a.npz", X)[0]["x"].shape == (2, 3)


def test_float64_becomes_float32_and_int32_becomes_int64(save: Save) -> None:
    path = save(x=np.full((2, 3), 0.1), ids=np.array([[1], [2]], np.int32))
    (tensors,) = read(path, X, *specs("ids:int64[batch,1]"))
    assert tensors["x"].dtype == np.float32
    np.testing.assert_array_equal(tensors["x"], np.full((2, 3), 0.1, np.float32))
    assert tensors["ids"].dtype == np.int64


def test_float32_becomes_bfloat16_which_numpy_can_not_save(save: Save) -> None:
    (tensors,) = read(save(x=np.full((2, 3), 1.5, np.float32)), *specs("x:bfloat16[batch,3]"))
    assert str(tensors["x"].dtype) == "bfloat16"
    np.testing.assert_array_equal(tensors["x"].astype(np.float32), np.full((2, 3), 1.5))


@pytest.mark.parametrize(
    ("found", "wanted"),
    [("float32", "float16"), ("int64", "int32"), ("int64", "float32"), ("int8", "uint8"), ("float32", "int64")],
)
def test_a_type_that_loses_values_is_refused_with_the_conversion(save: Save, found: str, wanted: str) -> None:
    text = refusal(save(x=np.zeros((2, 3), found)), *specs(f"x:{wanted}[batch,3]"))
    assert f"x in {save(x=np.zeros((2, 3), found))} is {found}" in text
    assert f"fix: x = x.astype(np.{wanted})" in text


def test_a_fixed_batch_is_kept_and_the_rest_left_out(save: Save) -> None:
    path = save(x=np.zeros((7, 3), np.float32))
    assert [len(tensors["x"]) for tensors in read(path, *specs("x:float32[2,3]"))] == [2, 2, 2]
    assert "takes 8 samples at a time" in refusal(path, *specs("x:float32[8,3]"))


def test_an_array_without_axes_goes_to_every_batch(save: Save) -> None:
    path = save(x=np.zeros((5, 3), np.float32), rate=np.int64(8000))
    batches = read(path, X, *specs("rate:int64[]"))
    assert [int(tensors["rate"]) for tensors in batches] == [8000, 8000]


@pytest.mark.parametrize(
    ("arrays", "inputs", "says"),
    [
        ({"imput": np.ones((2, 3)), "y": [1, 2]}, "input:float32[batch,3]", ["'input'", "did you mean 'imput'?"]),
        ({"a": np.ones((2, 3)), "y": [1, 2]}, "x:float32[batch,3]", ["no array 'x'", "the file has:    a, y", "x=..."]),
        ({"x": np.ones((2, 4))}, "x:float32[batch,3]", ["has 4 on axis 1, not 3"]),
        ({"x": np.ones((2, 3, 1))}, "x:float32[batch,3]", ["has 3 axes, not 2"]),
        ({"x": np.ones((0, 3))}, "x:float32[batch,3]", ["has no sample"]),
        ({"x": np.full((2, 3), 1e300)}, "x:float32[batch,3]", ["too large for float32"]),
        ({"x": np.array([[None] * 3])}, "x:float32[batch,3]", ["Python objects", "np.stack(x)"]),
        ({"x": np.ones((3, 2)).T}, "x:float32[batch,3]", ["Fortran order", "np.ascontiguousarray(x)"]),
        ({"x": np.zeros((2, 3), "M8[s]")}, "x:float32[batch,3]", ["datetime64[s], which no model takes"]),
        ({"x": np.array([["a"] * 3])}, "x:float32[batch,3]", ["x in", "is string", "takes float32"]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    save: Save, arrays: dict[str, npt.ArrayLike], inputs: str, says: list[str]
) -> None:
    path = save(**arrays)
    text = refusal(path, *specs(inputs))
    assert str(path) in text
    for words in says:
        assert words in text


def test_arrays_of_different_numbers_of_samples_are_refused(save: Save) -> None:
    path = save(a=np.zeros((4, 2), np.float32), b=np.zeros((5, 2), np.float32))
    assert "different numbers of samples: a 4, b 5" in refusal(path, *specs("a:float32[n,2]", "b:float32[n,2]"))


def test_arrays_that_differ_in_a_shared_axis_are_refused(save: Save) -> None:
    path = save(ids=np.zeros((4, 6), np.int64), mask=np.zeros((4, 5), np.int64))
    text = refusal(path, *specs("ids:int64[batch,seq]", "mask:int64[batch,seq]"))
    assert "differ in the axis 'seq': 6 in ids, 5 in mask" in text


def test_inputs_whose_first_axes_are_not_samples_are_refused(save: Save) -> None:
    path = save(x=np.zeros((4, 6), np.float32), state=np.zeros((2, 4), np.float32))
    assert "can't feed this model" in refusal(path, *specs("x:float32[batch,6]", "state:float32[2,batch]"))


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_the_first_number_that_is_not_finite_is_named_with_its_sample(save: Save, value: float, word: str) -> None:
    x = np.zeros((11, 3), np.float32)
    x[9, 2] = x[10, 0] = value
    assert f"is not finite: {word} at [9, 2]" in refusal(save(x=x), X)


def test_files_that_are_no_npz_are_refused_with_what_they_are(tmp_path: Path, save: Save) -> None:
    good = save(x=np.random.default_rng(0).random((50, 3))).read_bytes()
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("archive/code.py", "")
    cases = {
        b"": "is empty",
        b"not a model": "is not an .npz",
        other.getvalue(): "holds no array: it is a zip of archive/code.py",
        good[: len(good) // 2]: "damaged or truncated",
        good.replace(b"(50, 3)", b"(60, 3)"): "damaged",
        good[:200] + bytes([good[200] ^ 1]) + good[201:]: "damaged",
    }
    for content, words in cases.items():
        path = tmp_path / "wrong.npz"
        path.write_bytes(content)
        assert words in refusal(path, X)
    assert "there is no" in refusal(tmp_path / "absent.npz", X)


def test_headers_are_checked_before_the_first_batch_is_asked_for(save: Save) -> None:
    with pytest.raises(UsageError):
        read_samples(save(x=np.ones((2, 4))), [X], limit=1, batch=1)
    with pytest.raises(UsageError, match="no sample would be read"):
        read_samples(save(x=np.ones((2, 3))), [X], limit=0, batch=1)


def test_a_pickle_in_the_file_is_never_loaded(save: Save, tmp_path: Path) -> None:
    trap = tmp_path / "ran"

    Trap = type("Trap", (), {"__reduce__": lambda _: (Path.touch, (trap,))})  # noqa: N806
    path = save(x=np.array([Trap()], object))
    assert "Python objects" in refusal(path)
    assert not trap.exists()


def test_real_files_are_read() -> None:
    path = SHARED / "cifar10" / "cifar10_jpeg_test_2000.npz"
    if not path.exists():
        pytest.skip("the shared data set is not here")
    batches = read(path, *specs("x:float32[batch,3,32,32]"), limit=10)
    assert [tensors["x"].shape[0] for tensors in batches] == [4, 4, 2]
    with np.load(path) as whole:
        np.testing.assert_array_equal(np.concatenate([t["x"] for t in batches]), whole["x"][:10].astype(np.float32))


# Plans


@given(example=st.tuples(st.integers(1, 9), st.integers(1, 600), st.integers(1, 40)))
def test_plans_begin_with_the_example_and_try_every_axis_at_its_edges(example: tuple[int, int, int]) -> None:
    axes = ("batch", "seq", "past")
    cases = plans(axes, dict(zip(axes, example, strict=True)))
    assert cases[0] == dict(zip(axes, example, strict=True))
    assert len(cases) <= 11
    assert {1, 2, 3, 5} <= {case["batch"] for case in cases}
    for axis, size in zip(axes[1:], example[1:], strict=True):
        assert {1, 2, size, 2 * size} <= {case[axis] for case in cases}
        assert any(case[axis] % 2 and case[axis] not in {1, size} for case in cases)
    kept = [case["batch"] for case in cases if case["seq"] == example[1] and case["past"] == example[2]]
    assert sum(kept) >= 8, "where a model refuses every other size"
    assert {1, 5} <= set(kept)


def test_plans_try_two_axes_at_sizes_that_differ() -> None:
    cases = plans(("batch", "height", "width"), {"batch": 2, "height": 64, "width": 64})
    even = {(case["height"], case["width"]) for case in cases if case["height"] % 32 == case["width"] % 32 == 0}
    assert even == {(64, 64), (32, 64), (128, 128)}, "where a model takes multiples only"
    assert any(case["height"] % 2 and case["width"] % 2 and case["height"] != case["width"] for case in cases)
    small = {(case["height"], case["width"]) for case in cases if min(case["height"], case["width"]) < 3}
    assert small == {(1, 64), (64, 1), (2, 64), (64, 2)}, "of so few pixels as 1 x 2 a norm makes noise"


def test_plans_of_a_batch_alone_are_its_sizes() -> None:
    assert [case["n"] for case in plans(("n",), {"n": 4}, batch_axis="n")] == [4, 1, 5, 3, 2]


def test_plans_without_a_batch_repeat_the_example() -> None:
    assert plans((), {}) == [{}] * 8
    cases = plans(("seq",), {"seq": 10}, batch_axis=None)
    assert [case["seq"] for case in cases] == [10, 7, 5, 20, 1, 2, *[10] * 7]


def test_sizes_that_are_asked_for_come_first_and_with_ordinary_sizes_of_the_others() -> None:
    example = {"batch": 2, "seq": 16, "past": 16}
    cases = plans(tuple(example), example, asked={"seq": (600, 7), "past": (1, 2, 3)})
    assert cases[:3] == [{"batch": 2, "seq": seq, "past": past} for seq, past in ((600, 1), (7, 2), (600, 3))]
    assert {case["batch"] for case in cases} == {1, 2, 3, 5}
    assert max(case["batch"] * case["seq"] for case in cases) == 1200, "large sizes come in no large batch"
    cases = plans(tuple(example), example, asked={"batch": (32, 4)})
    assert {case["batch"] for case in cases} == {4, 32}
    assert {1, 2, 13, 16, 32} <= {case["seq"] for case in cases if case["batch"] == 4}


def test_a_single_size_that_is_asked_for_is_tried_beside_another() -> None:
    for asked, tried in ((7, {7, 16}), (16, {16, 1})):
        cases = plans(("seq",), {"seq": 16}, batch_axis=None, asked={"seq": (asked,)})
        assert {case["seq"] for case in cases} == tried
    assert {case["seq"] for case in plans(("seq",), {"seq": 1}, asked={"seq": (1,)})} == {1, 2}
