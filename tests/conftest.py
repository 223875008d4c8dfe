"""What is dear, such as training and conversions, is done once for all tests and all workers of a run."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tests.running import ROOT, Ran, deploykit

# Several workers share the cores: more threads than cores only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Give a function that fills a folder of a name, once in the whole run, and gives the folder."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def fill(name: str, make: Callable[[Path], None]) -> Path:
        folder = shared / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / ".done").exists():
                folder.mkdir(parents=True)
                make(folder)
                (folder / ".done").touch()
        return folder

    return fill


@pytest.fixture(scope="session")
def digits(once: Once) -> Path:
    """Give a folder with the trained digits net: digits.pt, its scripted form digits.ts, and digits_val.npz."""

    def make(folder: Path) -> None:
        import torch

        from examples.digits_pytorch import DigitsNet

        subprocess.run([sys.executable, ROOT / "examples" / "digits_pytorch.py", folder], check=True)
        net = DigitsNet()
        net.load_state_dict(torch.load(folder / "digits.pt", weights_only=True))
        torch.jit.save(torch.jit.script(net.eval()), folder / "digits.ts")

    pytest.importorskip("torch")
    return once("digits", make)


@pytest.fixture(scope="session")
def proved(once: Once, digits: Path) -> Path:
    """Give a folder with digits.onnx and its golden, converted from the scripted net; tests copy what they change."""

    def make(folder: Path) -> None:
        ran: Ran = deploykit("convert", digits / "digits.ts", "-o", "digits.onnx", cwd=folder)
        assert ran.code == 0, ran.err

    return once("proved", make)


@pytest.fixture
def here(proved: Path, tmp_path: Path) -> Path:
    """Give a folder with a converted model, its golden and nothing else, of which it is the latest."""
    for name in ("digits.onnx", "digits.golden.npz"):
        shutil.copy(proved / name, tmp_path)
    shutil.copytree(proved / ".deploykit", tmp_path / ".deploykit")
    return tmp_path


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave out the timing of what is meant to be faster: these nets are so small that they are not.

    What a search leaves for a rerun is left in the test's own folder.
    """
    monkeypatch.chdir(tmp_path)
    from deploykit.passes.dynamic import Dynamic
    from deploykit.passes.int8 import Int8
    from deploykit.passes.weight_only import WeightOnly

    for kind in (Int8, Dynamic, WeightOnly):
        monkeypatch.setattr(kind, "hastens", False)
