"""deploykit quantize --int8 beside onnxruntime.quantization, at its defaults and at its best known settings.

``python -m benchmarks.int8 calibration FOLDER``  time and memory of calibration alone, 64 and 512 samples
``python -m benchmarks.int8 whole FOLDER``        time and memory of the whole command beside onnxruntime's entropy run
``python -m benchmarks.int8 speed FOLDER``        latency of the files, in turns
``python -m benchmarks.int8 accuracy``            accuracy on real models and labelled data (../shared/data)

FOLDER has the files that ``benchmarks.exports`` writes. Results are appended to benchmarks/results/int8.json.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cases import ROOT
from benchmarks.watched import run

RESULTS = ROOT / "benchmarks" / "results" / "int8.json"
THEIRS = ("default", "best")
"""Settings of onnxruntime's: its defaults (int8 activations, one scale for each weight); uint8 activations and int8
weights with a scale for each channel."""


def main() -> None:
    """Do one of the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["calibration", "whole", "speed", "accuracy"])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--samples", type=int, nargs="*", default=[64, 512])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows = {"calibration": _calibration, "whole": _whole, "speed": _speed, "accuracy": _accuracy}[asked.what](
            asked.folder, Path(place), asked.samples
        )
        for row in rows:
            print(json.dumps(row), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.writelines(json.dumps({"what": asked.what, **row}) + "\n" for row in rows)


def _calibration(folder: Path, place: Path, samples: list[int]) -> list[dict[str, Any]]:
    """Bare inference, ours, and onnxruntime's, each in a process of its own; theirs with 64 at most: it keeps all."""
    source, rows = folder / "resnet50.torchscript.onnx", []
    for count in samples:
        data = _images(place, count)
        bare = job("bare", source, data)
        for method in ("entropy", "percentile"):
            ours = job("calibrate", source, data, method)
            theirs = job("ort_calibrate", source, data, method) if count <= 64 else None
            rows.append(
                {
                    "samples": count,
                    "method": method,
                    "bare_s": bare["seconds"],
                    "ours_s": ours["seconds"],
                    "ours_times_bare": ours["seconds"] / bare["seconds"],
                    "ours_peak_mb": ours["peak_mb"],
                    "theirs_s": theirs and theirs["seconds"],
                    "theirs_peak_mb": theirs and theirs["peak_mb"],
                    "theirs_times_ours": theirs and theirs["seconds"] / ours["seconds"],
                }
            )
            print(rows[-1], flush=True)
    return rows


def _whole(folder: Path, place: Path, samples: list[int]) -> list[dict[str, Any]]:
    source, data = folder / "resnet50.torchscript.onnx", _images(place, 64)
    ours = command("quantize", source, "-o", place / "ours.onnx", "--int8", "--data", data, *LENIENT)
    theirs = job("ort_static", source, place / "theirs.onnx", data, "best", "entropy")
    del samples
    return [{"ours": ours, "theirs": theirs, "ours_times_theirs": ours["seconds"] / theirs["seconds"]}]


LENIENT = ("--allow-undecided", "--keep-slower", "--min-sqnr", "10", "--min-agreement", "50%")
"""Random weights decide nothing: what is measured there is time."""


def _speed(folder: Path, place: Path, samples: list[int]) -> list[dict[str, Any]]:
    """Time the float file, ours, and theirs at both settings, in turns within one process."""
    del samples
    rows = []
    for name in ("resnet50", "mobilenetv2"):
        data, source = _images(place, 16), folder / f"{name}.torchscript.onnx"
        command("quantize", source, "-o", place / f"{name}.ours.onnx", "--int8", "--data", data, *LENIENT)
        for setting in THEIRS:
            job("ort_static", source, place / f"{name}.{setting}.onnx", data, setting, "minmax")
        rows.append(job("time", source, *(place / f"{name}.{one}.onnx" for one in ("ours", *THEIRS))))
        print(rows[-1], flush=True)
    source = folder / "bert_base.torchscript.onnx"
    command("quantize", source, "-o", place / "bert.ours.onnx", "--int8", "--dynamic", *LENIENT)
    job("ort_dynamic", source, place / "bert.theirs.onnx")
    rows.append(job("time", source, place / "bert.ours.onnx", place / "bert.theirs.onnx"))
    return rows


def _accuracy(folder: Path | None, place: Path, samples: list[int]) -> list[dict[str, Any]]:
    """Accuracy of the float file, of ours at each effort, and of onnxruntime's three calibrators, on labelled data."""
    from benchmarks.int8_models import REAL

    del folder, samples
    rows = []
    for name, made in REAL.items():
        real = made(place)
        row = {"name": name, "float": job("accuracy", real.onnx, real.test)}
        for effort in ("low", "normal", "high"):
            ours = place / f"{name}.{effort}.onnx"
            options = ("--int8", "--data", real.calibration, "--effort", effort, *LENIENT)
            command("quantize", real.onnx, "-o", ours, *options)
            row[effort] = job("accuracy", ours, real.test, real.onnx)
        for method in ("minmax", "entropy", "percentile"):
            theirs = place / f"{name}.{method}.onnx"
            try:
                job("ort_static", real.onnx, theirs, real.calibration, "best", method)
                row[method] = job("accuracy", theirs, real.test, real.onnx)
            except RuntimeError as error:
                row[method] = {"failed": str(error).strip().splitlines()[-1]}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def _images(place: Path, count: int) -> Path:
    import numpy as np

    path = place / f"images{count}.npz"
    if not path.exists():
        rng = np.random.default_rng(0)
        np.savez(path, pixel_values=rng.standard_normal((count, 3, 224, 224), np.float32))
    return path


def job(what: str, *arguments: object) -> dict[str, Any]:
    """Do a job of ``benchmarks.int8_jobs`` in a process of its own; give what it prints and its peak memory."""
    watched = run([sys.executable, "-m", "benchmarks.int8_jobs", what, *map(str, arguments)], ROOT)
    return {"peak_mb": watched.peak / 1e6, **json.loads(watched.output.splitlines()[-1])}


def command(*arguments: object) -> dict[str, Any]:
    """Run deploykit; give wall time, laps and peak memory of all its processes."""
    watched = run([str(Path(sys.executable).with_name("deploykit")), *map(str, arguments), "--json"], ROOT)
    return {
        "seconds": watched.seconds,
        "peak_mb": watched.peak / 1e6,
        "others": watched.others,
        "laps": json.loads(watched.output)["seconds"],
    }


if __name__ == "__main__":
    main()
