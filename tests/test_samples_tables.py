"""Samples from tables: the columns of .csv and .parquet as inputs."""

import importlib.util
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploykit.errors import MissingPackage
from deploykit.samples import read as read_samples
from deploykit.samples import specs_of
from tests.test_samples import X, read, refusal, specs

TWO = specs("age:float32[batch]", "city:int64[batch,1]")


def csv(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    return folder / "t.csv"


# .csv


def test_columns_go_to_the_inputs_of_their_names(tmp_path: Path) -> None:
    path = csv(tmp_path, "city,label,age\n3,cat,41.5\n-7,dog,1e-3\n")
    (found,) = read(path, *TWO)
    np.testing.assert_array_equal(found["age"], np.array([41.5, 1e-3], np.float32))
    assert found["city"].tolist() == [[3], [-7]]
    assert found["city"].dtype == np.int64


def test_all_columns_are_the_features_of_a_single_input(tmp_path: Path) -> None:
    path = csv(tmp_path, "\ufeffa, b,c\n1,2,3\n4,5,6\n\n7,8,9\n")
    found = read(path, X, batch=2)
    assert np.concatenate([one["x"] for one in found]).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert [str(spec) for spec in specs_of(path)] == ["t:float32[batch,3]"]


def test_a_single_column_fits_a_single_input_whatever_its_name(tmp_path: Path) -> None:
    path = csv(tmp_path, "years\n1\n2\n")
    assert read(path, *specs("x:float32[batch]"))[0]["x"].tolist() == [1, 2]
    assert read(path, *specs("x:float32[batch,1]"))[0]["x"].tolist() == [[1], [2]]


def test_the_column_of_a_single_input_is_taken_from_among_others(tmp_path: Path) -> None:
    path = csv(tmp_path, "x,label\n1,5\n2,6\n")
    assert read(path, *specs("x:float32[batch,1]"))[0]["x"].tolist() == [[1], [2]]
    assert read(path, *specs("x:float32[batch,2]"))[0]["x"].tolist() == [[1, 5], [2, 6]]


def test_texts_and_bools_are_read_as_such(tmp_path: Path) -> None:
    path = csv(tmp_path, 'name,open\n"Bern, CH",true\n,0\n')
    (found,) = read(path, *specs("name:string[batch]", "open:bool[batch]"))
    assert found["name"].tolist() == ["Bern, CH", ""]
    assert found["open"].tolist() == [True, False]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1
    ),
    batch=st.integers(1, 7),
)
def test_written_numbers_are_read_back_exactly(tmp_path: Path, rows: list[list[float]], batch: int) -> None:
    path = csv(tmp_path, "a,b,c\n" + "".join(f"{','.join(map(repr, row))}\n" for row in rows))
    found = np.concatenate([one["x"] for one in read(path, X, batch=batch)])
    np.testing.assert_array_equal(found, np.array(rows, np.float32))


@pytest.mark.parametrize(
    ("text", "inputs", "says"),
    [
        ("a,b,c\n1,2,3\n1,many,3\n", "x:float32[batch,3]", ["column b in line 3", "'many', which is not a number"]),
        ("a,b,c\n1,,3\n", "x:float32[batch,3]", ["column b in line 2", "is empty"]),
        ("a,b,c\n1,1_000,3\n", "x:float32[batch,3]", ["column b in line 2", "'1_000'"]),
        ("a,b,c\n1,2,3\n1,2\n", "x:float32[batch,3]", ["line 3", "has 2 cells", "names 3 columns"]),
        ("a,b,c\n1,2,3\n1,nan,3\n", "x:float32[batch,3]", ["is not finite: nan at [1, 1]"]),
        ("a,b,c\n1,2,1e300\n", "x:float32[batch,3]", ["too large for float32"]),
        ("a,b\n1,2\n", "x:float32[batch,3]", ["has 2 columns", "takes 3 features", "the columns are: a, b"]),
        ("a,b,a\n1,2,3\n", "x:float32[batch,3]", ["names a column twice: a"]),
        ("1,2,3\n4,5,6\n", "x:float32[batch,3]", ["no header, but numbers: 1, 2, 3"]),
        ("a;b;c\n1;2;3\n", "x:float32[batch,3]", ["separated by ';'"]),
        ("a,b,c\n", "x:float32[batch,3]", ["has no sample"]),
        ("\n\n", "x:float32[batch,3]", ["has no header"]),
        ("a,b,c\n1,2,3\n", "x:float32[4,3]", ["takes 4 samples at a time, and only 1"]),
        ("a,b,c\n1,2.5,3\n", "x:int64[batch,3]", ["column b in line 2", "'2.5', which is not int64"]),
        ("a,b,c\n1,256,3\n", "x:uint8[batch,3]", ["column b in line 2", "'256', which is not uint8"]),
        ("a,b,c\n1,maybe,1\n", "x:bool[batch,3]", ["'maybe', which is not bool"]),
        ('a,b,c\n1,"2,3\n', "x:float32[batch,3]", ["can't be read as .csv"]),
        ("a,b,c\n1,2,3\n", "x:float32[batch,3,3]", ["no array 'x'", "the file has:    a, b, c", "first line"]),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, text: str, inputs: str, says: list[str]) -> None:
    found = refusal(csv(tmp_path, text), *specs(inputs))
    assert "t.csv" in found
    for words in says:
        assert words in found


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    text = refusal(csv(tmp_path, "aje,city\n1,2\n"), *TWO)
    assert "no array 'age'; did you mean 'aje'?" in text
    assert "fix: name the columns in its first line as the model's inputs are: age,city" in text


def test_a_csv_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    assert "can't be read as .csv" in refusal(tmp_path / "t.csv", *specs("x:float32[batch,2]"))


def test_a_csv_is_held_a_batch_at_a_time(tmp_path: Path) -> None:
    path = csv(tmp_path, ",".join(f"c{n}" for n in range(100)) + "\n" + (",".join(["0.25"] * 100) + "\n") * 5_000)
    tracemalloc.start()
    try:
        count = sum(len(one["x"]) for one in read_samples(path, specs("x:float32[batch,100]"), limit=9999, batch=50))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 5_000
    assert peak < 1_000_000, "the file is 2.5 MB"


# .parquet


@pytest.fixture
def arrow() -> Any:
    return pytest.importorskip("pyarrow")


def parquet(arrow: Any, folder: Path, **columns: Any) -> Path:
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), folder / "t.parquet", row_group_size=300)
    return folder / "t.parquet"


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is not None, reason="pyarrow is installed")
def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1....PAR1")
    with pytest.raises(MissingPackage, match="pyarrow is not installed") as caught:
        read(tmp_path / "t.parquet", X)
    assert caught.value.exit_code == 4
    assert caught.value.fix[0].startswith("pip install")


def test_parquet_columns_go_to_the_inputs_of_their_names(arrow: Any, tmp_path: Path) -> None:
    count = 1000
    path = parquet(arrow, tmp_path, city=list(range(count)), age=[n / 8 for n in range(count)], text=["a"] * count)
    found = read(path, *TWO, limit=count, batch=77)
    assert [len(one["age"]) for one in found] == [77] * 12 + [76]
    np.testing.assert_array_equal(np.concatenate([one["age"] for one in found]), np.arange(count) / 8)
    np.testing.assert_array_equal(np.concatenate([one["city"] for one in found])[:, 0], np.arange(count))
    assert found[0]["age"].dtype == np.float32


def test_all_parquet_columns_are_the_features_of_a_single_input(arrow: Any, tmp_path: Path) -> None:
    path = parquet(arrow, tmp_path, a=[1, 2], b=[0.5, 1.5], c=[True, False])
    assert read(path, X)[0]["x"].tolist() == [[1, 0.5, 1], [2, 1.5, 0]]


def test_a_parquet_column_of_lists_is_a_vector_for_each_sample(arrow: Any, tmp_path: Path) -> None:
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    for kind in (arrow.list_(arrow.float32()), arrow.list_(arrow.float32(), 3), arrow.large_list(arrow.float64())):
        path = parquet(arrow, tmp_path, x=arrow.array(rows, kind), label=[0, 1])
        assert read(path, X)[0]["x"].tolist() == rows


@pytest.mark.parametrize(
    ("columns", "inputs", "says"),
    [
        ({"x": [[1.0, 2, 3], [4.0, 5]]}, "x:float32[batch,3]", "different lengths: 2 numbers in row 1, 3 in row 0"),
        ({"x": [[1.0, 2, 3], None]}, "x:float32[batch,3]", "x in .* is empty in row 1"),
        ({"x": [1.0, None]}, "x:float32[batch]", "x in .* is empty in row 1"),
        ({"x": [[1.0, None, 3]]}, "x:float32[batch,3]", "empty places"),
        ({"x": [1, 300]}, "x:uint8[batch]", "values that uint8 can't hold"),
        ({"x": [1, 2**24 + 1]}, "x:float32[batch]", "values that float32 can't hold"),
        ({"x": [1.0, 2.0]}, "x:int64[batch]", "is float64, and the input .* takes int64"),
        ({"x": ["a", "b"]}, "x:float32[batch]", "is string, and the input"),
        ({"x": [float("nan")]}, "x:float32[batch]", "is not finite"),
        ({"x": [1e300]}, "x:float32[batch]", "too large for float32"),
        ({"y": [1.0], "z": [2.0]}, "x:float32[batch]", "no array 'x'"),
    ],
)
def test_parquet_that_does_not_fit_is_refused(
    arrow: Any, tmp_path: Path, columns: dict[str, Any], inputs: str, says: str
) -> None:
    assert re.search(says, refusal(parquet(arrow, tmp_path, **columns), *specs(inputs)))


def test_a_damaged_parquet_is_refused(arrow: Any, tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no PAR1")
    assert "can't be read as .parquet" in refusal(tmp_path / "t.parquet", X)
