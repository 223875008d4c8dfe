"""deploykit prune beside the smallest weights alone, and beside torch-pruning's one-shot magnitude.

``python -m benchmarks.prune accuracy [NAME ...]``  accuracy against multiplications, on real models (../shared/data)
``python -m benchmarks.prune large FOLDER``         time and memory for a ResNet-50 with 64 samples

Nothing is trained after the cut. FOLDER has the files that ``benchmarks.exports`` writes. Results are appended to
benchmarks/results/prune.json.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import ROOT
from benchmarks.int8 import command
from benchmarks.int8_models import DATA, REAL, Real
from benchmarks.watched import run

RESULTS = ROOT / "benchmarks" / "results" / "prune.json"
SHARES = ("0.85", "0.7", "0.5")
MODULES = {
    "resnet20 tuned": ("CifarResNet", "{}", "cifar10/resnet20_jpeg_finetuned.pt"),
    "resnet20": ("CifarResNet", "{}", "cifar10/resnet20-12fca82f.th"),
    "resnet32": ("CifarResNet", '{"depth": 32}', "cifar10/resnet32-d509ac18.th"),
    "samplenet": ("SampLeNet", "{}", "cifar10/samplenet.pth"),
    "lenet": ("LeNet5", "{}", "mnist/lenet_epoch12_test_acc0.991.pth"),
    "dncnn": ("DnCNN", "{}", "denoise/dncnn_25.pth"),
}
"""Architecture, its options and weights, of the models that are PyTorch."""


def _denoiser(place: Path) -> Real:
    """DnCNN, on noise of sigma 25: patches of six images to fit to, and of the other six to test."""
    from PIL import Image

    onnx = place / "dncnn_25.onnx"
    factory = f"{DATA / 'architectures.py'}:DnCNN"
    shape = "x:float32[batch,1,height,width]"
    command("convert", DATA / "denoise/dncnn_25.pth", "-o", onnx, "--factory", factory, "--input", shape)
    images = sorted((DATA / "denoise/set12").glob("*.png"))
    rng, files = np.random.default_rng(0), []
    for name, half in (("fit", images[::2]), ("test", images[1::2])):
        patches = []
        for image in half:
            pixels = np.asarray(Image.open(image).convert("L"), np.float32) / 255
            corners = rng.integers(0, min(pixels.shape) - 64, (16, 2))
            patches += [pixels[y : y + 64, x : x + 64] for y, x in corners]
        clean = np.stack(patches)[:, None]
        noisy = clean + rng.normal(0, 25 / 255, clean.shape)
        files.append(place / f"dncnn.{name}.npz")
        np.savez(files[-1], x=noisy.astype(np.float32), y=clean)
    return Real(onnx, *files)


MODELS: dict[str, Callable[[Path], Real]] = {**REAL, "dncnn": _denoiser}


def main() -> None:
    """Do one of the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["accuracy", "large"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--shares", nargs="*", default=SHARES)
    asked = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    rows = _accuracy(asked.names or list(MODELS), asked.shares) if asked.what == "accuracy" else _large(asked.names)
    for row in rows:
        print(json.dumps(row), flush=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps({"what": asked.what, **row}) + "\n")


def _accuracy(names: list[str], shares: list[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            real = MODELS[name](place)
            simple = place / "simple.onnx"
            command("optimize", real.onnx, "-o", simple)
            row = {"name": name, **job("curve", simple, real.calibration, real.test, *shares)}
            if name in MODULES:
                try:
                    row["torch_pruning"] = job("torch_pruning", *MODULES[name], real.calibration, real.test, *shares)
                except RuntimeError as error:
                    row["torch_pruning"] = {"failed": str(error).strip().splitlines()[-1]}
            yield row


def _large(names: list[str]) -> Iterator[dict[str, Any]]:
    yield job("large", names[0], "64")


def job(what: str, *arguments: object) -> dict[str, Any]:
    """Do a job of ``benchmarks.prune_jobs`` in a process of its own; give what it prints and its peak memory."""
    watched = run([sys.executable, "-m", "benchmarks.prune_jobs", what, *map(str, arguments)], ROOT)
    return {"peak_mb": watched.peak / 1e6, **json.loads(watched.output.splitlines()[-1])}


if __name__ == "__main__":
    main()
