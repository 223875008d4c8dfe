"""deploykit convert beside torch.onnx.export and tf2onnx.convert, in turns: time and memory of full-sized models.

``python -m benchmarks.convert [--quick] [--rounds N] [--models NAME ...]`` prints a table and writes
benchmarks/results/convert.json. The weights are random; nothing is downloaded.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, DEPLOYKIT, ROOT, Case
from benchmarks.watched import Watched, alone, run

RESULTS = ROOT / "benchmarks" / "results"
MOST_START_SECONDS = 0.2
MOST_START_BYTES = 45e6

_PACKAGES = (
    *("deploykit", "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "transformers"),
    *("tensorflow-cpu", "keras", "tf2onnx"),
)


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

    case: Case
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
        return (peak - self.case.framework) / self.case.weights


def compare(case: Case, rounds: int, folder: Path) -> Compared:
    """Convert one model in turns with both."""
    return Compared(case, tuple(_pair(case, folder, number) for number in range(rounds)))


def _pair(case: Case, folder: Path, number: int) -> Round:
    # The first to run would always have the colder file cache, so they take turns at that.
    if number % 2:
        bare, ours = _into(folder / "bare", case.bare), _into(folder / "ours", case.ours)
    else:
        ours, bare = _into(folder / "ours", case.ours), _into(folder / "bare", case.bare)
    told = json.loads(ours.output)
    laps = bare.output.splitlines()[-1:]  # tf2onnx does not tell its own
    return Round(ours, told["seconds"], told["peak_bytes"], bare, json.loads(laps[0]) if laps else {})


def _into(folder: Path, command: list[str]) -> Watched:
    folder.mkdir(exist_ok=True)
    out = str(folder / "model.onnx")
    found = run([out if word == "OUT" else word for word in command], ROOT)
    for file in folder.iterdir():
        file.unlink()
    os.sync()  # what one run leaves to be written must not slow the next
    return found


def starts(rounds: int) -> list[dict[str, Any]]:
    """Measure what needs no framework: help, version and a usage error."""
    rows = []
    for words, code in ((["--help"], 0), (["--version"], 0), (["convert", "--nonsense"], 2)):
        runs = [alone([DEPLOYKIT, *words]) for _ in range(rounds)]
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


def _said(value: float, most: float | None, form: str) -> str:
    return f"{value:{form}}" + ("" if most is None else " ok" if value <= most else " OVER")


def show(found: Compared) -> None:
    """Print the figures of one model: each round, then the medians against what is asked for."""
    mega = 1e6
    case = found.case
    print(f"\n{case.name}: W = {case.weights / mega:.0f} MB, framework = {case.framework / mega:.0f} MB")
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
        f"  time ratio {_said(found.ratio, case.most_time, '.2f')}"
        f"   of cpu time {_said(found.cpu_ratio, case.most_time, '.2f')}"
        f"   memory over the framework: {_said(found.in_weights(ours), case.most_weights, '.2f')} W"
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
        "name": found.case.name,
        "weights": found.case.weights,
        "framework": found.case.framework,
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
    parser.add_argument("--models", nargs="*", choices=list(CASES), default=list(CASES))
    asked = parser.parse_args()
    about = header()
    print("  ".join(f"{name} {value}" for name, value in about.items()))
    rows = starts(3 if asked.quick else 15)
    show_starts(rows)
    found = []
    with tempfile.TemporaryDirectory(prefix="deploykit-bench-") as folder:
        for name in asked.models:
            case = CASES[name](name, Path(folder))
            found.append(compare(case, 1 if asked.quick else asked.rounds, Path(folder)))
            show(found[-1])
    RESULTS.mkdir(exist_ok=True)
    report = {"about": about, "starts": rows, "models": [_plain(one) for one in found]}
    (RESULTS / "convert.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nwritten to {(RESULTS / 'convert.json').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
