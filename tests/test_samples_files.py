"""Samples from arrays in files: .npy, folders of arrays, .safetensors; and that large files are never held."""

import json
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from deploykit.samples import read as read_samples
from deploykit.samples import specs_of
from tests.test_samples import X, read, refusal, specs

IDS = specs("ids:int64[batch,seq]", "mask:int64[batch,seq]")


@contextmanager
def at_most(megabytes: float) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * 1e6


def save(folder: Path, **arrays: npt.ArrayLike) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.asarray(array))
    return folder


# One array


def test_an_npy_is_the_one_input_whatever_it_is_called(tmp_path: Path) -> None:
    array = np.arange(15, dtype=np.float32).reshape(5, 3)
    np.save(tmp_path / "anything.npy", array)
    np.testing.assert_array_equal(np.concatenate([t["x"] for t in read(tmp_path / "anything.npy", X)]), array)
    assert [str(spec) for spec in specs_of(tmp_path / "anything.npy")] == ["anything:float32[batch,3]"]


def test_a_single_npy_does_not_feed_two_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.zeros((4, 6), np.int64))
    assert "no array 'mask'" in refusal(tmp_path / "ids.npy", *IDS)


def test_an_npy_with_objects_is_refused_and_not_loaded(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    Trap = type("Trap", (), {"__reduce__": lambda _: (Path.touch, (trap,))})  # noqa: N806
    np.save(tmp_path / "x.npy", np.array([Trap()], object), allow_pickle=True)
    (tmp_path / "each").mkdir()
    for name in "ab":
        np.save(tmp_path / "each" / f"{name}.npy", np.array([Trap()], object), allow_pickle=True)
    assert "Python objects" in refusal(tmp_path / "x.npy", X)
    assert "Python objects" in refusal(tmp_path / "each", X)
    assert not trap.exists()


def test_a_cut_off_npy_is_refused_before_it_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((50, 3), np.float32))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-4])
    with pytest.raises(Exception, match=r"x in .* is damaged: 596 bytes for float32\[50, 3\]"):
        read_samples(tmp_path / "x.npy", [X], limit=1, batch=1)
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01")
    assert "is no array" in refusal(tmp_path / "x.npy", X)


def test_a_kind_of_file_that_is_not_known_is_refused_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("1 2 3")
    text = refusal(tmp_path / "x.txt", X)
    assert "no samples of a format that is known" in text
    assert ".parquet" in text
    assert "did you mean 'x.txt'?" in refusal(tmp_path / "x.text", X)
    assert "there is no folder" in refusal(tmp_path / "nowhere" / "x.npy", X)


# Folders


def test_files_named_after_the_inputs_are_the_inputs(tmp_path: Path) -> None:
    ids, mask = np.arange(30).reshape(5, 6), np.ones((5, 6), np.int32)
    folder = save(tmp_path / "data", ids=ids, mask=mask, labels=np.zeros(7))
    joined = read(folder, *IDS, limit=3, batch=2)
    assert [len(one["ids"]) for one in joined] == [2, 1]
    np.testing.assert_array_equal(np.concatenate([one["ids"] for one in joined]), ids[:3])
    assert joined[0]["mask"].dtype == np.int64


def test_files_that_are_named_after_no_input_are_a_sample_each_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = save(tmp_path / "data", **{f"s{number}": np.full(3, number, np.float32) for number in (2, 0, 1)})
    np.testing.assert_array_equal(read(folder, X)[0]["x"][:, 0], [0, 1, 2])


def test_files_with_the_rank_of_the_input_are_a_batch_each(tmp_path: Path) -> None:
    folder = save(tmp_path / "data", part0=np.zeros((5, 3)), part1=np.ones((2, 3)))
    found = read(folder, X, batch=3)
    assert [len(one["x"]) for one in found] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([one["x"] for one in found])[:, 0], [0] * 5 + [1] * 2)


def test_an_npz_for_each_sample_holds_its_arrays_by_name(tmp_path: Path) -> None:
    for number in range(3):
        np.savez(tmp_path / f"{number}.npz", ids=np.full(6, number), mask=np.ones(6, np.int64), label=np.int64(1))
    (found,) = read(tmp_path, *IDS)
    assert found["ids"].tolist() == [[0] * 6, [1] * 6, [2] * 6]
    assert [str(spec) for spec in specs_of(tmp_path)][:2] == ["ids:int64[batch,6]", "mask:int64[batch,6]"]


def test_without_inputs_numbers_as_names_mean_a_sample_each_and_words_an_input_each(tmp_path: Path) -> None:
    numbered = save(tmp_path / "numbered", **{"0001": np.zeros(3), "0002": np.zeros(3)})
    named = save(tmp_path / "named", a=np.zeros((4, 3)), b=np.zeros(4))
    assert [str(spec) for spec in specs_of(numbered)] == ["numbered:float64[batch,3]"]
    assert [str(spec) for spec in specs_of(named)] == ["a:float64[batch,3]", "b:float64[batch]"]


def test_names_that_leave_it_open_what_is_what_are_refused(tmp_path: Path) -> None:
    typo = save(tmp_path / "typo", ids=np.zeros((2, 6), int), masc=np.zeros((2, 6), int))
    text = refusal(typo, *IDS)
    assert "is unclear" in text
    assert "no mask.npy; did you mean 'masc'?" in text
    digits = save(tmp_path / "digits", **{"0": np.zeros(3), "1": np.zeros(3)})
    assert "is unclear" in refusal(digits, *specs("0:float32[batch,3]"))
    assert "the model takes 2: ids, mask" in refusal(digits, *IDS)


def test_folders_without_samples_or_with_several_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    mixed = save(tmp_path / "mixed", a=np.zeros(3))
    np.savez(mixed / "b.npz", x=np.zeros(3))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    assert "is an empty folder" in refusal(tmp_path / "empty", X)
    assert "holds only folders: inner" in refusal(tmp_path / "outer", X)
    assert "several kinds of samples: a.npy and 0 more, b.npz and 0 more" in refusal(mixed, X)
    assert "holds no samples, but notes.txt" in refusal(tmp_path / "other", X)


def test_samples_of_different_sizes_or_types_are_refused_with_the_file(tmp_path: Path) -> None:
    folder = save(tmp_path / "data", a=np.zeros(3, np.float32), b=np.zeros(4, np.float32))
    text = refusal(folder, *specs("x:float32[batch,n]"))
    assert f"x of {folder / 'b.npy'} is float32[4], and of the first sample float32[3]" in text
    save(folder, b=np.zeros(3, np.int64))
    assert "b.npy is int64[3]" in refusal(folder, X)
    save(folder, a=np.zeros(4, np.float32))
    assert "has 4 on axis 1, not 3: [?, 4]" in refusal(folder, X)


def test_a_damaged_file_among_the_samples_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "data", a=np.zeros(3), b=np.zeros(3))
    (folder / "b.npy").write_bytes(b"\x93NUMPY no")
    assert "b.npy is damaged" in refusal(folder, X)


def test_fewer_files_than_the_fixed_batch_are_refused_and_a_rest_is_left_out(tmp_path: Path) -> None:
    folder = save(tmp_path / "data", **{f"s{number}": np.zeros(3, np.float32) for number in range(5)})
    assert [len(one["x"]) for one in read(folder, *specs("x:float32[2,3]"))] == [2, 2]
    assert "takes 8 samples at a time, and only 5" in refusal(folder, *specs("x:float32[8,3]"))


# safetensors


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int16", "uint8", "bool"])
def test_safetensors_are_read_as_their_own_package_writes_them(tmp_path: Path, dtype: str) -> None:
    from safetensors.numpy import save_file

    x, other = (np.arange(21) % 2).reshape(7, 3).astype(dtype), np.arange(14, dtype=np.int32).reshape(7, 2)
    save_file({"x": x, "other": other}, tmp_path / "a.safetensors", {"made": "here"})
    found = read(tmp_path / "a.safetensors", *specs(f"x:{dtype}[batch,3]", "other:int32[batch,2]"), batch=3)
    assert [len(one["x"]) for one in found] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([one["x"] for one in found]), x)
    np.testing.assert_array_equal(np.concatenate([one["other"] for one in found]), other)


def test_bfloat16_of_safetensors_is_read_and_its_nan_found(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    save_torch({"x": torch.full((2, 3), 1.5, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    for dtype in ("bfloat16", "float32"):
        (found,) = read(tmp_path / "a.safetensors", *specs(f"x:{dtype}[batch,3]"))
        assert str(found["x"].dtype) == dtype
        assert (found["x"].astype(np.float32) == 1.5).all()
    save_torch({"x": torch.full((2, 3), torch.nan, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    assert "is not finite: nan at [0, 0]" in refusal(tmp_path / "a.safetensors", X)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 2400]}}, "is damaged: bytes 0 to 2400"),
        ({"x": {"dtype": "F32", "shape": [200, 3], "data_offsets": [0, 2400]}}, "is damaged: bytes 0 to 2400 of 24"),
        ({"x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [-24, 0]}}, "is damaged"),
        ({"x": {"dtype": "F8_E4M3", "shape": [24], "data_offsets": [0, 24]}}, "F8_E4M3, which no model takes"),
        ({"x": {"shape": [2, 3]}}, "is no .safetensors file, or is damaged"),
        ({"x": 3}, "is no .safetensors file, or is damaged"),
        ({"__metadata__": {}}, "holds no array"),
    ],
)
def test_damaged_safetensors_are_refused(tmp_path: Path, header: object, says: str) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(24))
    assert says in refusal(tmp_path / "a.safetensors", X)


# Memory


def test_a_file_of_400_megabytes_is_read_in_a_few(tmp_path: Path) -> None:
    rows = 100_000_000 // 1000
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (rows, 1000)).flush()  # sparse: takes no disk
    header = json.dumps({"x": {"dtype": "F32", "shape": [rows, 1000], "data_offsets": [0, rows * 4000]}}).encode()
    with (tmp_path / "x.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + rows * 4000)
    for name in ("x.npy", "x.safetensors"):
        assert (tmp_path / name).stat().st_size > 400_000_000
        with at_most(8):
            samples = read_samples(tmp_path / name, specs("x:float32[batch,1000]"), limit=rows, batch=250)
            assert sum(len(one["x"]) for one in samples) == rows


def test_a_folder_of_samples_is_read_one_file_after_another(tmp_path: Path) -> None:
    folder = save(tmp_path / "data", **{f"s{number:03}": np.zeros(100_000, np.float32) for number in range(60)})
    with at_most(5):
        samples = read_samples(folder, specs("x:float32[batch,100000]"), limit=100, batch=2)
        assert sum(len(one["x"]) for one in samples) == 60
