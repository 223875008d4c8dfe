"""Samples that a function of the user's yields, and labels."""

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from deploykit.errors import UsageError
from deploykit.samples import labels, specs_of
from deploykit.samples import read as read_samples
from deploykit.tensors import Tensors, TensorSpec
from tests.test_samples import X, refusal, specs

IDS = specs("ids:int64[batch,seq]", "mask:int64[batch,seq]", "rate:int64[]")


def module(folder: Path, body: str, name: str = "feed") -> str:
    (folder / f"{name}.py").write_text(f"import numpy as np\n{body}\n")
    return f"{folder / name}.py:samples"


def read(place: str, *inputs: TensorSpec, limit: int = 100, batch: int = 4) -> list[Tensors]:
    return list(read_samples(place, inputs or None, limit=limit, batch=batch))


# Functions


def test_what_is_yielded_without_the_batch_axis_is_one_sample_each(tmp_path: Path) -> None:
    place = module(tmp_path, "def samples():\n    for n in range(6):\n        yield {'x': np.full(3, n / 2)}")
    found = read(place, X)
    assert [one["x"].shape for one in found] == [(4, 3), (2, 3)]
    assert found[1]["x"].tolist() == [[2, 2, 2], [2.5, 2.5, 2.5]]
    assert found[0]["x"].dtype == np.float32
    assert [str(spec) for spec in specs_of(place)] == ["x:float64[batch,3]"]


def test_what_has_the_rank_of_the_inputs_is_a_batch_and_cut_anew(tmp_path: Path) -> None:
    place = module(
        tmp_path,
        "def samples():\n    return [{'ids': np.full((n, 5), n), 'mask': np.ones((n, 5), np.int32), 'rate': 8000,"
        " 'label': object()} for n in (3, 1, 0, 7)]",
    )
    found = read(place, *IDS, batch=4, limit=10)
    assert [one["ids"][:, 0].tolist() for one in found] == [[3, 3, 3, 1], [7, 7, 7, 7], [7, 7]]
    assert {int(one["rate"]) for one in found} == {8000}
    assert list(found[0]) == ["ids", "mask", "rate"]


def test_no_more_is_asked_of_the_function_than_the_limit(tmp_path: Path) -> None:
    place = module(
        tmp_path, "def samples():\n    for n in range(3):\n        yield {'x': np.zeros(3)}\n    raise OSError"
    )
    assert [len(one["x"]) for one in read(place, X, limit=3, batch=2)] == [2, 1]


def test_a_module_is_found_in_the_current_folder_and_may_import_what_stands_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_the_feed.py").write_text("COUNT = 2")
    module(
        tmp_path,
        "from beside_the_feed import COUNT\nclass Data:\n    @staticmethod\n    def samples():\n"
        "        return ({'x': np.zeros(3)} for _ in range(COUNT))",
        "feed_by_name",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    assert len(read("feed_by_name:Data.samples", X)[0]["x"]) == 2
    assert len(read("feed_by_name.py:Data.samples", X)[0]["x"]) == 2


def test_what_the_function_prints_stays_out_of_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = module(tmp_path, "print('a')\ndef samples():\n    print('b')\n    yield {'x': np.zeros(3)}\n    print('c')")
    read(place, X)
    assert capsys.readouterr() == ("", "a\nb\nc\n")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("def sample():\n    pass", "has no 'samples'; did you mean 'sample'?"),
        ("samples = 3", "is int, not a function"),
        ("def samples():\n    return 3", "gives int, not samples one after another"),
        ("def samples():\n    return {'x': np.zeros(3)}", "gives dict, not samples"),
        ("def samples():\n    yield np.zeros(3)", "sample 0 of {place} is ndarray, not a dictionary"),
        ("def samples():\n    yield None", "sample 0 of {place} is NoneType"),
        ("def samples():\n    return []", "has no sample"),
        ("def samples(path):\n    yield {}", "without arguments"),
        ("def samples()\n    yield {}", "fails: SyntaxError: expected ':'"),
        (
            "def samples():\n    yield {'x': np.zeros(3, np.uint8)}\n    yield {'x': np.full(3, 300)}",
            "x of sample 1 of {place} is int64[3], and of the first sample uint8[3]",
        ),
        ("def samples():\n    yield {'x': np.zeros(3)}\n    raise KeyError('k')", "fails: KeyError: 'k'\n  fix: mend "),
        ("1 / 0", "fails: ZeroDivisionError"),
        ("def samples():\n    yield {'y': np.zeros(3), 'z': 1}", "has no array 'x'"),
        ("def samples():\n    yield {'x': [1, [2, 3]]}", "x of sample 0 of {place} is no array"),
        ("def samples():\n    yield {'x': [None] * 3}", "Python objects"),
        ("def samples():\n    yield {'x': np.zeros(4)}", "has 4 on axis 1, not 3"),
        ("def samples():\n    yield {'x': np.zeros((1, 1, 3))}", "has 3 axes, not 2"),
        ("def samples():\n    yield {'x': np.array(['a', 'b', 'c'])}", "is string"),
        (
            "def samples():\n    yield {'x': np.zeros(3)}\n    yield {'x': np.zeros(4)}",
            "x of sample 1 of {place} is float64[4], and of the first sample float64[3]",
        ),
        (
            "def samples():\n    yield {'x': np.zeros(3), 'y': 0}\n    yield {'y': 0, 'z': 0}",
            "sample 1 of {place} has no",
        ),
        (
            "def samples():\n    yield {'x': np.zeros(3)}\n    yield {'x': np.full(3, np.nan)}",
            "not finite: nan at [1, 0]",
        ),
    ],
)
def test_functions_that_give_no_samples_are_refused(tmp_path: Path, body: str, says: str) -> None:
    place = module(tmp_path, body)
    with pytest.raises(UsageError) as caught:
        read(place, X)
    assert says.format(place=place) in "\n".join(caught.value.lines())


def test_arrays_of_one_sample_must_all_be_without_the_batch_axis(tmp_path: Path) -> None:
    body = "def samples():\n    yield {'ids': np.zeros(5, int), 'mask': np.zeros((1, 5), int), 'rate': 1}"
    with pytest.raises(UsageError, match=r"neither one sample nor a batch: ids \[5\], mask \[1, 5\]"):
        read(module(tmp_path, body), *IDS)
    body = "def samples():\n    yield {'ids': np.zeros((2, 5), int), 'mask': np.zeros((3, 5), int), 'rate': 1}"
    with pytest.raises(UsageError, match="different numbers of samples"):
        read(module(tmp_path, body), *IDS)


def test_modules_and_files_that_are_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="there is no module no_such_module"):
        read("no_such_module:samples", X)
    with pytest.raises(UsageError, match=r"there is no no_such_file\.py"):
        read("no_such_file.py:samples", X)


def test_a_long_stream_is_never_held(tmp_path: Path) -> None:
    place = module(
        tmp_path, "def samples():\n    for n in range(400):\n        yield {'x': np.ones(250_000, np.float32)}"
    )
    tracemalloc.start()
    try:
        found = read_samples(place, specs("x:float32[batch,250000]"), limit=10_000, batch=2)
        assert sum(len(one["x"]) for one in found) == 400
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000, "the function yields 400 MB, a batch is 2 MB"


# Labels


def test_labels_are_read_from_arrays_and_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.array([3, 1, 2], np.uint8))
    np.save(tmp_path / "column.npy", np.array([[3], [1], [2]]))
    np.savez(tmp_path / "all.npz", x=np.zeros((3, 2)), y=np.array([3, 1, 2], np.int32))
    np.savez(tmp_path / "only.npz", np.array([3, 1, 2]))
    (tmp_path / "t.csv").write_text("a,y\n0.5,3\n0.5,1\n0.5,2\n")
    (tmp_path / "y.csv").write_text("y\n3\n1\n2\n")
    for place in ("y.npy", "column.npy", "all.npz:y", "only.npz", "t.csv:y", "y.csv"):
        found = labels(f"{tmp_path}/{place}")
        assert found.dtype == np.int64
        assert found.tolist() == [3, 1, 2], place
    assert labels(tmp_path / "y.npy", limit=2).tolist() == [3, 1]


def test_more_labels_than_one_batch_are_all_read(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.arange(10_000))
    assert labels(tmp_path / "y.npy").tolist() == list(range(10_000))


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("soft.npy", "is float64[3, 10], and labels are one whole number for each sample"),
        ("real.npy", "is float64[3], and labels"),
        ("one.npy", "is int64[], and labels"),
        ("all.npz", "holds several arrays"),
        ("all.npz:z", "has no 'z'"),
        ("t.csv", "holds several arrays"),
        ("t.csv:klass", "has no 'klass'; did you mean 'class'?"),
        (
            "t.csv:class",
            "column class in line 2",
        ),
        ("t.csv:a", "'0.5', which is not int64"),
        ("absent.npy", "there is no"),
        ("", "labels are not read from"),
    ],
)
def test_what_are_no_labels_is_refused(tmp_path: Path, place: str, says: str) -> None:
    np.save(tmp_path / "soft.npy", np.zeros((3, 10)))
    np.save(tmp_path / "real.npy", np.zeros(3))
    np.save(tmp_path / "one.npy", np.int64(3))
    np.savez(tmp_path / "all.npz", x=np.zeros((3, 2)), y=np.zeros(3, int))
    (tmp_path / "t.csv").write_text("a,class\n0.5,cat\n")
    with pytest.raises(UsageError) as caught:
        labels(tmp_path / place)
    assert says in "\n".join(caught.value.lines())


def test_a_function_is_never_mistaken_for_a_file(tmp_path: Path) -> None:
    assert "there is no" in refusal(tmp_path / "data.npz:y", X)
