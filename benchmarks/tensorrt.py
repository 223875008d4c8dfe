"""deploykit build beside the bare bindings, in turns, on the same ONNX file and options: time, and the parent's memory.

``python -m benchmarks.tensorrt FOLDER [NET.KIND...]`` writes the nets of ``tests/engine_nets.py`` there; it prints a
table and writes benchmarks/results/tensorrt.json.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cases import ROOT
from benchmarks.watched import Watched, run
from tests.engine_nets import NETS

RESULTS = ROOT / "benchmarks" / "results"
ROUNDS = 5
TARGET = "sm89"
CASES = ("resnet50.float32", "resnet50.int8", "mobilenetv2.float16", "vit.float16", "bert.float32")
_OURS = [sys.executable, "-c", "from deploykit.cli import main; main()", "build"]
_BARE = [sys.executable, "-m", "benchmarks.tensorrt_bare"]


def main() -> None:
    """Compare on each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    found = [_compared(case, asked.folder, asked.rounds) for case in asked.cases or CASES]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tensorrt.json").write_text(json.dumps(found, indent=1))
    print(_table(found))


def _compared(case: str, folder: Path, rounds: int) -> dict[str, Any]:
    net, kind = case.split(".")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case}.onnx"
    if not path.exists():
        NETS[net](folder, kind)
    pairs = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as place:
            order = (_ours, _bare) if number % 2 else (_bare, _ours)
            found = {job: job(path, Path(place)) for job in order}
        pairs.append((found[_ours], found[_bare]))
    made = {
        "name": case,
        "build": statistics.median(ours["build"] / bare["build"] for ours, bare in pairs),
        "cpu": statistics.median(ours["cpu"] / bare["cpu"] for ours, bare in pairs),
        "wall": statistics.median(ours["wall"] / bare["wall"] for ours, bare in pairs),
        "seconds": [statistics.median(pair[side]["build"] for pair in pairs) for side in (0, 1)],
        "walls": [statistics.median(pair[side]["wall"] for pair in pairs) for side in (0, 1)],
        "parent": max(ours["parent"] for ours, _ in pairs),
        "peak": statistics.median(ours["peak"] / bare["peak"] for ours, bare in pairs),
        "others": statistics.median(one["others"] for pair in pairs for one in pair),
    }
    print(json.dumps(made), flush=True)
    return made


def _ours(path: Path, place: Path) -> dict[str, float]:
    options = ["-o", str(place / "ours.engine"), "--for", TARGET, "--allow-unproved", "--json"]
    watched = run([*_OURS, str(path), *options], ROOT)
    return _figures(watched, json.loads(watched.output)["building"])


def _bare(path: Path, place: Path) -> dict[str, float]:
    watched = run([*_BARE, str(path), str(place / "bare.engine"), TARGET], ROOT)
    return _figures(watched, json.loads(watched.output.splitlines()[-1]))


def _figures(watched: Watched, seconds: dict[str, float]) -> dict[str, float]:
    """Give the seconds of the build, those of the whole, and bytes: of the first process, and of all."""
    first = next(iter(watched.high_water.values()))
    return {
        "build": seconds["parse"] + seconds["engine"] + seconds["write"],
        "cpu": seconds["cpu"],
        "wall": watched.seconds,
        "parent": first,
        "peak": watched.peak,
        "others": watched.others,
    }


def _table(found: list[dict[str, Any]]) -> str:
    lines = [
        "| net | build, ours / bare | its CPU | s | whole command | s | parent MB | others' CPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        seconds, walls = ("{:.2f}, {:.2f}".format(*one[key]) for key in ("seconds", "walls"))
        cells = (one["name"], f"{one['build']:.2f}", f"{one['cpu']:.2f}", seconds, f"{one['wall']:.2f}", walls)
        lines.append("| " + " | ".join((*cells, f"{one['parent'] / 1e6:.0f}", f"{one['others']:.0%}")) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
