"""deploykit quantize --fp16 beside onnxconverter-common, in turns: size, time, memory, casts, and who is right.

``python -m benchmarks.fp16 FOLDER [NAME...]`` takes the files that ``benchmarks.exports`` wrote there, and three nets
that float16 breaks; it prints tables and writes benchmarks/results/fp16.json.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cases import ROOT
from benchmarks.watched import run

RESULTS = ROOT / "benchmarks" / "results"
ROUNDS = 3


def main() -> None:
    """Compare on each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    files = sorted(file for file in asked.folder.glob("*.onnx") if not asked.names or file.stem in asked.names)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for file in (*files, *(_hard(Path(folder)) if not asked.names else [])):
            found.append(_compared(file, Path(folder), asked.rounds))
            print(json.dumps(found[-1]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "fp16.json").write_text(json.dumps(found, indent=1))
    print(_table(found))


def _hard(folder: Path) -> list[Path]:
    from tests.half_nets import HARD

    return [make(folder) for make in HARD.values()]


def _compared(file: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Prove a file once with the whole command; then only rewrite it, theirs and ours in turns."""
    whole = _child("command", file, folder / "half.onnx")
    golden = folder / "half.golden.npz"
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(_child("theirs", file, folder / "theirs.onnx"))
        ours.append(_child("ours", file, folder / "ours.onnx", golden))
    before = file.stat().st_size
    return {
        "name": file.stem,
        "laps": whole["laps"],
        "command_peak": whole["peak"],
        "ours": _medians(ours) | {"size": (folder / "half.onnx").stat().st_size / before},
        "theirs": _medians(theirs) | {"size": (folder / "theirs.onnx").stat().st_size / before},
        "verdicts": _child("judged", folder / "half.onnx", folder / "theirs.onnx", golden),
        "tensorrt": _child("tensorrt", folder / "half.onnx"),
    }


def _medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in runs) for key in runs[0]}


def _child(job: str, *files: Path) -> dict[str, Any]:
    """Do a job in a process of its own, and give what it prints, with the most memory that it held."""
    watched = run([sys.executable, "-m", "benchmarks.fp16_jobs", job, *map(str, files)], ROOT)
    peak = max(watched.high_water.values(), default=0)
    return {"peak": peak, **json.loads(watched.output.splitlines()[-1])}


def _table(found: list[dict[str, Any]]) -> str:
    lines = [
        "| file | size | rewriting s | ranges s | peak MB | casts | SQNR dB, rounded | TensorRT-RTX |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        ours, theirs, verdicts = one["ours"], one["theirs"], one["verdicts"]
        cells = (
            one["name"],
            f"{ours['size']:.1%}",
            f"{ours['rewriting']:.2f}, {theirs['rewriting']:.2f}",
            f"{ours['ranges']:.2f}",
            f"{ours['peak'] / 1e6:.0f}, {theirs['peak'] / 1e6:.0f}",
            f"{ours['casts']:.0f}, {theirs['casts']:.0f}",
            f"{verdicts['ours']}, {verdicts['theirs']}",
            one["tensorrt"]["said"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Give the wall seconds of some work, and what it gave."""
    start = time.perf_counter()
    made = work()
    return time.perf_counter() - start, made


if __name__ == "__main__":
    main()
