"""deploykit convert beside the bare torch.onnx.export, in turns: time and memory of full-sized models.

``python -m benchmarks.convert [--quick] [--rounds N] [--models NAME ...]`` prints a table and writes
benchmarks/results/convert.json. The weights are random; nothing is downloaded.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.models import MODELS
from benchmarks.watched import Watched, alone, run

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
OPSET = 20
"""deploykit's own choice where nothing is said."""

MOST_TIME = 1.3
MOST_WEIGHTS = 3.0
MOST_START_SECONDS = 0.2
MOST_START_BYTES = 45e6

_DEPLOYKIT = str(Path(sys.executable).with_name("deploykit"))
_BARE = [sys.executable, "-m", "benchmarks.bare"]
_PACKAGES = ("deploykit", "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "transformers")


@dataclass(frozen=True)
class Round:
    """One run of deploykit and one of the bare call, one after the other."""

    ours: Watched
    laps: dict[str, float]
    child_peak: int
    bare: Watched
    bare_laps: dict[str, float]

    @property
    def our_seconds(self) -> float:
        """Wall time of the whole command, golden and proof not counted."""
        return self.ours.seconds - self.laps["golden"] - self.laps["proof"]

    @property
    def our_cpu_seconds(self) -> float:
        """The same in CPU time; the laps are placed to some tenths of a second."""
        rest = self.ours.seconds - sum(self.laps.values())  # start-up, and what comes after the proof: about alike
        golden = rest / 2 + self.laps["load"] + self.laps["export"]
        proof = golden + self.laps["golden"] + self.laps["save"]
        spent = [self.ours.cpu_between(at, at + self.laps[lap]) for at, lap in ((golden, "golden"), (proof, "proof"))]
        return self.ours.cpu_seconds - sum(spent)

    @property
    def ratio(self) -> float:
        """Our time over the bare call's."""
        return self.our_seconds / self.bare.seconds

    @property
    def cpu_ratio(self) -> float:
        """The same of CPU time, which other work on the machine disturbs less."""
        return self.our_cpu_seconds / self.bare.cpu_seconds


@dataclass(frozen=True)
class Compared:
    """All rounds of one model."""

    name: str
    weights: int
    """Bytes of its state_dict."""
    framework: int
    """Peak bytes of a process that only imports the framework."""
    rounds: tuple[Round, ...]

    @property
    def ratio(self) -> float:
        """Median over the pairs."""
        return statistics.median(one.ratio for one in self.rounds)

    @property
    def cpu_ratio(self) -> float:
        """Median over the pairs, of CPU time."""
        return statistics.median(one.cpu_ratio for one in self.rounds)

    def in_weights(self, peak: int) -> float:
        """Give a peak as a multiple of the weights, the framework's import not counted."""
        return (peak - self.framework) / self.weights


def compare(name: str, rounds: int, folder: Path) -> Compared:
    """Convert one model in turns with both."""
    weights = folder / f"{name}.pt"
    run([*_BARE, "save", name, str(weights)], ROOT)
    framework = run([*_BARE, "import", name], ROOT).peak
    pairs = tuple(_pair(name, weights, folder, number) for number in range(rounds))
    return Compared(name, weights.stat().st_size, framework, pairs)


def _pair(name: str, weights: Path, folder: Path, number: int) -> Round:
    # The first to run would always have the colder file cache, so they take turns at that.
    if number % 2:
        bare, ours = _bare(name, weights, folder), _ours(name, weights, folder)
    else:
        ours, bare = _ours(name, weights, folder), _bare(name, weights, folder)
    told = json.loads(ours.output)
    return Round(ours, told["seconds"], told["peak_bytes"], bare, json.loads(bare.output.splitlines()[-1]))


def _ours(name: str, weights: Path, folder: Path) -> Watched:
    factory = f"{ROOT / 'benchmarks' / 'models.py'}:{MODELS[name].factory.__name__}"
    inputs = [word for text in MODELS[name].described for word in ("--input", text)]
    out = folder / "ours" / "model.onnx"
    command = [_DEPLOYKIT, "convert", str(weights), "-o", str(out), "--factory", factory, *inputs]
    return _into(out, [*command, "--opset", str(OPSET), "--exporter", "dynamo", "--json"])


def _bare(name: str, weights: Path, folder: Path) -> Watched:
    out = folder / "bare" / "model.onnx"
    return _into(out, [*_BARE, "export", name, str(weights), str(out), str(OPSET)])


def _into(out: Path, command: list[str]) -> Watched:
    out.parent.mkdir(exist_ok=True)
    found = run(command, ROOT)
    for file in out.parent.iterdir():
        file.unlink()
    os.sync()  # what one run leaves to be written must not slow the next
    return found


def starts(rounds: int) -> list[dict[str, Any]]:
    """Measure what needs no framework: help, version and a usage error."""
    rows = []
    for words, code in ((["--help"], 0), (["--version"], 0), (["convert", "--nonsense"], 2)):
        runs = [alone([_DEPLOYKIT, *words]) for _ in range(rounds)]
        assert all(found == code for found, _, _ in runs), f"deploykit {' '.join(words)} must exit with {code}"
        rows.append(
            {
                "command": " ".join(words),
                "seconds": statistics.median(seconds for _, seconds, _ in runs),
                "worst": max(seconds for _, seconds, _ in runs),
                "peak": max(peak for _, _, peak in runs),
            }
        )
    return rows


def header() -> dict[str, str]:
    """Say what was measured, and on what."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {**versions, "python": platform.python_version(), "cpu": f"{cpu}, {os.cpu_count()} cores"}


def _said(value: float, most: float, form: str) -> str:
    return f"{value:{form}} {'ok' if value <= most else 'OVER'}"


def show(found: Compared) -> None:
    """Print the figures of one model: each round, then the medians against what is asked for."""
    mega = 1e6
    print(f"\n{found.name}: W = {found.weights / mega:.0f} MB, framework = {found.framework / mega:.0f} MB")
    for number, one in enumerate(found.rounds, 1):
        print(
            f"  round {number}: wall {one.our_seconds:.1f} s to {one.bare.seconds:.1f} s: {one.ratio:.2f}"
            f"   cpu {one.our_cpu_seconds:.1f} s to {one.bare.cpu_seconds:.1f} s: {one.cpu_ratio:.2f}"
        )
        _show_side("ours", one.ours, one.laps)
        _show_side("bare", one.bare, one.bare_laps)
    ours = max(one.ours.peak for one in found.rounds)
    bare = max(one.bare.peak for one in found.rounds)
    print(
        f"  time ratio {_said(found.ratio, MOST_TIME, '.2f')}   of cpu time {_said(found.cpu_ratio, MOST_TIME, '.2f')}"
        f"   memory over the framework: {_said(found.in_weights(ours), MOST_WEIGHTS, '.2f')} W"
        f" (bare {found.in_weights(bare):.2f} W)"
    )
    worst = max(found.rounds, key=lambda one: one.ours.peak)
    held = ", ".join(f"{who} {size / mega:.0f} MB" for who, size in worst.ours.at_peak.items() if who != "milliseconds")
    print(f"  at the peak, {worst.ours.at_peak['milliseconds'] / 1000:.1f} s after the start: {held}")


def _show_side(side: str, run_: Watched, laps: dict[str, float]) -> None:
    spent = "  ".join(f"{name} {seconds:.1f}" for name, seconds in laps.items())
    peaks = "/".join(f"{peak / 1e6:.0f}" for peak in (run_.peak, run_.peak_pss, run_.peak_anonymous))
    print(
        f"    {side}  peak {peaks:15} MB (rss/pss/anonymous)  wall {run_.seconds:5.1f}  cpu {run_.cpu_seconds:5.1f}"
        f"  other work {run_.others:4.0%}   {spent}"
    )


def show_starts(rows: list[dict[str, Any]]) -> None:
    """Print the commands that need no framework."""
    print("\nwithout a framework")
    for row in rows:
        print(
            f"  deploykit {row['command']:20} {_said(row['seconds'], MOST_START_SECONDS, '.3f')} s"
            f" (worst {row['worst']:.3f})   {_said(row['peak'] / 1e6, MOST_START_BYTES / 1e6, '.1f')} MB"
        )


def _plain(found: Compared) -> dict[str, Any]:
    return {
        "name": found.name,
        "weights": found.weights,
        "framework": found.framework,
        "ratio": found.ratio,
        "cpu_ratio": found.cpu_ratio,
        "memory_in_weights": found.in_weights(max(one.ours.peak for one in found.rounds)),
        "bare_memory_in_weights": found.in_weights(max(one.bare.peak for one in found.rounds)),
        "rounds": [
            {
                "ours": _figures(one.ours),
                "bare": _figures(one.bare),
                "laps": one.laps,
                "bare_laps": one.bare_laps,
                "child_peak": one.child_peak,
                "seconds_without_golden_and_proof": one.our_seconds,
                "ratio": one.ratio,
                "cpu_ratio": one.cpu_ratio,
            }
            for one in found.rounds
        ],
    }


def _figures(run_: Watched) -> dict[str, Any]:
    return {name: value for name, value in vars(run_).items() if name not in ("output", "progress")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    asked = parser.parse_args()
    about = header()
    print("  ".join(f"{name} {value}" for name, value in about.items()))
    rows = starts(3 if asked.quick else 15)
    show_starts(rows)
    found = []
    with tempfile.TemporaryDirectory(prefix="deploykit-bench-") as folder:
        for name in asked.models:
            found.append(compare(name, 1 if asked.quick else asked.rounds, Path(folder)))
            show(found[-1])
    RESULTS.mkdir(exist_ok=True)
    report = {"about": about, "starts": rows, "models": [_plain(one) for one in found]}
    (RESULTS / "convert.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nwritten to {(RESULTS / 'convert.json').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
