"""What is left when a run is interrupted, killed, starved of disk space, or gets in another one's way: nothing half."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploykit import workspace
from tests.running import ROOT, Ran, assert_refused, deploykit, finished, is_running, listing, spawned, until

STAGE = ".deploykit-stage-"
EVERYTHING_BUT_THE_PROOF = {"net.pt", "pid"}


class Slow:
    """A conversion that stands still in the model's own code, in the child."""

    def __init__(self, folder: Path) -> None:
        torch = pytest.importorskip("torch")
        torch.save(torch.nn.ModuleDict({"layer": torch.nn.Linear(4, 4)}).state_dict(), folder / "net.pt")
        self.folder = folder
        self.process = spawned(
            *("convert", "net.pt", "--factory", f"{ROOT / 'tests' / 'zoo_refused.py'}:Slow"),
            *("--factory-args", json.dumps({"marker": str(folder / "pid")}), "--input", "x:float32[batch,4]"),
            cwd=folder,
            TMPDIR=str(folder.parent),
        )
        marker = folder / "pid"
        assert until(lambda: marker.exists() and marker.read_text(), 60), "the child has not begun"
        self.child = int(marker.read_text())
        assert is_running(self.child)

    def ended(self) -> Ran:
        return finished(self.process, timeout=20)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    folder = tmp_path / "work"
    folder.mkdir()
    run = Slow(folder)
    yield run
    if is_running(run.child):
        os.kill(run.child, signal.SIGKILL)
    run.process.kill()
    run.process.communicate()


def test_ctrl_c_ends_the_child_too_and_leaves_nothing(slow: Slow) -> None:
    slow.process.send_signal(signal.SIGINT)
    ran = slow.ended()
    assert ran.code == 130
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert "interrupted" in ran.err
    assert until(lambda: not is_running(slow.child), 5)
    assert listing(slow.folder) == EVERYTHING_BUT_THE_PROOF


def test_a_polite_end_leaves_nothing_either(slow: Slow) -> None:
    slow.process.send_signal(signal.SIGTERM)
    ran = slow.ended()
    assert (ran.code, ran.out) == (143, "")
    assert "interrupted" in ran.err
    assert until(lambda: not is_running(slow.child), 10)
    assert listing(slow.folder) == EVERYTHING_BUT_THE_PROOF


def test_the_child_of_a_killed_run_ends_by_itself_and_the_next_run_tidies_up(slow: Slow) -> None:
    slow.process.kill()
    slow.ended()
    assert until(lambda: not is_running(slow.child), 10)
    assert any(name.startswith(STAGE) for name in listing(slow.folder)), "else this test shows nothing"
    assert deploykit("inspect", "net.pt", cwd=slow.folder).code == 0
    assert listing(slow.folder) == EVERYTHING_BUT_THE_PROOF


def test_a_killed_child_is_a_clear_error(slow: Slow) -> None:
    os.kill(slow.child, signal.SIGKILL)
    assert_refused(slow.ended(), 3, "was killed", "net.pt")
    assert listing(slow.folder) == EVERYTHING_BUT_THE_PROOF


def test_a_stage_in_use_is_left_alone_by_others(slow: Slow) -> None:
    assert deploykit("inspect", "net.pt", cwd=slow.folder).code == 0
    assert any(name.startswith(STAGE) for name in listing(slow.folder))


def test_two_runs_at_once_leave_one_consistent_pair(proved: Path, tmp_path: Path) -> None:
    import onnx

    other = onnx.load(proved / "digits.onnx")
    bias = next(one for one in other.graph.initializer if list(one.dims) == [10])
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(other, tmp_path / "b.onnx")
    shutil.copy(proved / "digits.onnx", tmp_path / "a.onnx")
    for _ in range(3):
        runs = [spawned("convert", source, "-o", "made.onnx", cwd=tmp_path) for source in ("a.onnx", "b.onnx") * 2]
        assert [finished(run).code for run in runs] == [0, 0, 0, 0]
        assert listing(tmp_path) == {"a.onnx", "b.onnx", "made.onnx", "made.golden.npz"}
        assert deploykit("validate", "made.onnx", cwd=tmp_path).code == 0
    assert len(list(workspace.entries(tmp_path))) == 12


def test_a_failed_conversion_leaves_the_last_good_pair(proved: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    shutil.copytree(proved, tmp_path, dirs_exist_ok=True)
    torch.save(torch.nn.ModuleDict({"layer": torch.nn.Linear(6, 4)}).state_dict(), tmp_path / "net.pt")
    ran = deploykit(
        *("convert", "net.pt", "-o", "digits.onnx", "--factory", f"{ROOT / 'tests' / 'zoo_refused.py'}:Baked"),
        *("--exporter", "torchscript", "--input", "x:float32[batch,6]"),
        cwd=tmp_path,
    )
    assert ran.code == 1
    for name in ("digits.onnx", "digits.golden.npz"):
        assert (tmp_path / name).read_bytes() == (proved / name).read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a disk of 48 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() or not mount or not unmount:
        pytest.skip("only root can mount a small disk")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=48k", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a small disk can't be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run([unmount, folder], check=True)


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(proved: Path, small_disk: Path, tmp_path: Path) -> None:
    ran = deploykit("convert", proved / "digits.onnx", "-o", small_disk / "made.onnx", cwd=tmp_path)
    assert_refused(ran, 3, "no space left")
    assert not listing(small_disk)


def test_a_disk_that_is_full_for_the_framework_is_a_clear_error_too(
    digits: Path, small_disk: Path, tmp_path: Path
) -> None:
    ran = deploykit("convert", digits / "digits.ts", "-o", small_disk / "made.onnx", cwd=tmp_path)
    assert_refused(ran, 3, "no space left")
    assert not listing(small_disk)


def test_a_full_disk_keeps_what_was_there(proved: Path, small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "made.onnx").write_bytes(b"the last good one")
    assert deploykit("convert", proved / "digits.onnx", "-o", small_disk / "made.onnx", cwd=tmp_path).code == 3
    assert (small_disk / "made.onnx").read_bytes() == b"the last good one"
    assert listing(small_disk) == {"made.onnx"}


@pytest.mark.parametrize("place", ["/proc/made.onnx", "/dev/null/made.onnx", "digits.ts/made.onnx", "none/made.onnx"])
def test_a_place_that_can_not_be_written_to_is_refused_before_the_work(
    place: str, digits: Path, tmp_path: Path
) -> None:
    shutil.copy(digits / "digits.ts", tmp_path)
    begin = time.monotonic()
    assert_refused(deploykit("convert", "digits.ts", "-o", place, cwd=tmp_path), 2, str(Path(place).parent), "-o")
    assert time.monotonic() - begin < 1, "the framework was started for nothing"
    assert listing(tmp_path) == {"digits.ts"}


def test_a_folder_that_is_not_ours_to_write_is_refused(proved: Path, tmp_path: Path) -> None:
    if not os.geteuid():
        pytest.skip("root may write everywhere")
    (tmp_path / "theirs").mkdir(mode=0o555)
    assert_refused(deploykit("convert", proved / "digits.onnx", "-o", "theirs/made.onnx", cwd=tmp_path), 2, "theirs")


def test_a_folder_that_can_only_be_read_is_enough_to_validate(proved: Path, tmp_path: Path) -> None:
    shutil.copytree(proved, tmp_path / "models")
    (tmp_path / "models").chmod(0o555)
    assert deploykit("validate", "models/digits.onnx", cwd=tmp_path).code == 0
