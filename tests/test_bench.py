"""``deploykit bench`` as a user meets it: what it times, on which inputs, what it says, and what it refuses."""

import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import deploykit as api
from deploykit.benchmarking import _notes
from deploykit.errors import UsageError
from deploykit.timing import Comparison, Memory, Ratio, Timed
from deploykit.timing.words import told
from tests.onnx_models import dense, layers, written
from tests.running import assert_refused, deploykit, finished, listing, spawned

QUICK = ("--seconds", 0.1)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with nets of the same inputs and of others, with a free and a fixed batch, and samples."""
    folder = tmp_path_factory.mktemp("nets")
    layers(folder, "small", 1)
    layers(folder, "large", 8, 64)
    layers(folder, "four", 1, batch=4)
    layers(folder, "five", 1, batch=5)
    layers(folder, "wide", 1, 65)
    np.savez(folder / "x.npz", x=np.ones((3, 64), np.float32))
    np.savez(folder / "wrong.npz", x=np.ones((3, 63), np.float32))
    return folder


def test_the_latest_is_timed_on_the_inputs_of_its_golden(here: Path) -> None:
    ran = deploykit("bench", *QUICK, cwd=here)
    assert ran.code == 0, ran.err
    for word in ("digits.onnx", "first call of digits.golden.npz: x 1x1x8x8", "1 thread", "p99 ms", "peak memory is"):
        assert word in ran.out
    assert listing(here) == {"digits.onnx", "digits.golden.npz"}


def test_files_are_compared_at_each_batch_and_the_difference_is_put_in_words(nets: Path) -> None:
    ran = deploykit("bench", "small.onnx", "large.onnx", "--batch", "1,64", *QUICK, "--json", cwd=nets)
    assert ran.code == 0, ran.err
    assert [one["batch"] for one in ran.json["comparisons"]] == [1, 64]
    for one in ran.json["comparisons"]:
        assert [row["artifact"] for row in one["rows"]] == ["small.onnx", "large.onnx"]
        assert one["rows"][0]["ratio"] is None
        assert set(one["rows"][1]["ratio"]) == {"value", "low", "high"}
    assert ran.json["inputs"] == "made up from the graph: x 1x64; x 64x64"
    assert "at batch 64 large.onnx is slower than small.onnx" in ran.json["words"][1]


def test_the_samples_of_the_user_are_repeated_to_make_a_batch(nets: Path) -> None:
    ran = deploykit("bench", "small.onnx", "--data", "x.npz", "--batch", "8", *QUICK, cwd=nets)
    assert ran.code == 0, ran.err
    assert "x.npz: x 8x64" in ran.out


def test_a_fixed_batch_is_what_all_files_are_timed_at(nets: Path) -> None:
    made = api.bench([nets / "small.onnx", nets / "four.onnx"], batch=(1, 8), seconds=0.1)
    assert [one.batch for one in made.comparisons] == [4]
    assert any("the batch was 4, which is fixed" in note for note in made.notes)


def test_axes_that_nothing_is_known_of_get_a_size_that_is_said_or_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, dense())
    made = api.bench([path], seconds=0.1)
    assert "x 1x16x32" in made.inputs
    assert any("'x_1' was 16; --shapes 'x_1=...'" in note for note in made.notes)
    assert "x 1x7x32" in api.bench([path], seconds=0.1, shapes=["x_1=7"]).inputs
    with pytest.raises(UsageError, match="which is the batch"):
        api.bench([path], shapes=["batch=8"])


def comparison(ratio: Ratio) -> Comparison:
    memory = Memory(2, 1)
    first = Timed("a.onnx", 100, 1.0, 1.0, 1.0, 1000.0, 1, memory, None)
    other = Timed("b.onnx", 100, 1.0, 1.0, 1.0, 1000.0, 1, memory, ratio)
    return Comparison(1, (first, other), 10, 1, "a CPU", "1.31", 0.0)


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (Ratio(0.5, 0.4, 0.625), "b.onnx is 2.00 (1.60 to 2.50) times as fast as a.onnx"),
        (Ratio(1.5, 1.4, 1.6), "b.onnx is slower than a.onnx: a call takes 1.50 (1.40 to 1.60) times as long"),
        (
            Ratio(0.998, 0.99, 1.004),
            "no difference between b.onnx and a.onnx can be told: a call takes 0.998 (0.990 to 1.004) times as long",
        ),
    ],
    ids=["faster", "slower", "undecided"],
)
def test_what_is_said_is_what_the_interval_allows(ratio: Ratio, words: str) -> None:
    assert list(told(comparison(ratio))) == [words]
    assert next(told(comparison(ratio), batches=2)) == f"at batch 1 {words}"


def test_a_busy_machine_and_too_many_threads_are_said() -> None:
    busy = replace(comparison(Ratio(1, 1, 1)), others=0.43)
    assert any("other processes took 43% of its cores" in note for note in _notes([busy], 1))
    assert any(note.startswith("9999 threads share") for note in _notes([busy], 9999))
    assert not any("busy" in note for note in _notes([replace(busy, others=0.05)], 1))
    assert not any("busy" in note for note in _notes([replace(busy, others=None)], 1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.onnx"], ["there is no nothing.onnx"]),
        (["small.onnx", "wide.onnx"], ["wide.onnx does not take what small.onnx takes", "x:float32[batch,65]"]),
        (["four.onnx", "five.onnx"], ["five.onnx does not take what four.onnx takes"]),
        (["small.onnx", "--batch", "0"], ["a batch of 0", "--batch 1,8,32"]),
        (["small.onnx", "--batch", "1,x"], ["--batch 1,x is no list of sizes"]),
        (["small.onnx", "--threads", "0"], ["0 threads do no work", "--threads 1"]),
        (["small.onnx", "--seconds", "0"], ["in 0 seconds", "--seconds 10"]),
        (["small.onnx", "--seconds", "nan"], ["in nan seconds"]),
        (["small.onnx", "--data", "none.npz"], ["there is no none.npz"]),
        (["small.onnx", "--shapes", "sqe=3"], ["no axis 'sqe' is dynamic"]),
        (["small.onnx", "--data", "wrong.npz", "--shapes", "batch=3"], ["leave --shapes out"]),
        (["small.onnx", "--data", "wrong.npz"], ["wrong.npz", "63"]),
    ],
    ids=lambda one: " ".join(one[-2:]) if isinstance(one, list) else "",
)
def test_what_is_wrong_is_refused_before_anything_is_timed(arguments: list[str], words: list[str], nets: Path) -> None:
    assert_refused(deploykit("bench", *arguments, cwd=nets), 2, *words)


def test_what_is_no_onnx_file_is_to_be_converted_first(here: Path, digits: Path) -> None:
    assert_refused(deploykit("bench", digits / "digits.ts", cwd=here), 2, "torchscript", "deploykit convert")
    assert_refused(deploykit("bench", "digits.golden.npz", cwd=here), 2, "golden", ".onnx")


def test_without_an_artifact_there_is_no_latest_to_time(tmp_path: Path) -> None:
    assert_refused(deploykit("bench", cwd=tmp_path), 2, "deploykit convert")


def test_a_copy_beside_which_no_golden_lies_runs_on_what_is_made_up(here: Path, tmp_path: Path) -> None:
    (here / "digits.golden.npz").unlink()
    shutil.copy(here / "digits.onnx", here / "copy.onnx")
    made = deploykit("bench", "digits.onnx", "copy.onnx", *QUICK, "--json", cwd=here)
    assert made.code == 0, made.err
    assert made.json["inputs"].startswith("made up from the graph: x 1x1x8x8")


def test_ctrl_c_leaves_nothing(here: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = spawned("bench", "--seconds", 600, cwd=here, TMPDIR=str(scratch))
    maps = Path(f"/proc/{process.pid}/maps")
    end = time.monotonic() + 60
    while "onnxruntime" not in maps.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    ran = finished(process, timeout=20)
    assert ran.code == 130
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert listing(here) - {"scratch"} == {"digits.onnx", "digits.golden.npz"}
    assert not list(scratch.iterdir())
