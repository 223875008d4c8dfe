"""deploykit optimize beside onnxslim and onnxsim, in turns: nodes left, latency, time and memory on the six nets.

``python -m benchmarks.simplify [--rounds N] [--nets NAME ...] [--files FOLDER]`` prints a table and writes
benchmarks/results/simplify.json. The weights are random; nothing is downloaded.
"""

import argparse
import importlib.metadata
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import DEPLOYKIT, ROOT
from benchmarks.convert import RESULTS, header
from benchmarks.exports import EXPORTERS, NETS, exported
from benchmarks.models import SIZES
from benchmarks.watched import Watched, run

PEERS = ("onnxslim", "onnxsim")
SIDES = ("ours", *PEERS)
_PAIRS = 30
"""How often a latency is taken, of each file in turn."""
_FEWEST = 10
_SECONDS = 40.0
"""After so long the latencies of a net are enough, if there are ten."""


@dataclass(frozen=True)
class Simplified:
    """What one side made of a file."""

    nodes: int
    bytes: int
    seconds: float
    """Wall time of the whole process; of ours without the laps golden and proof, which the others do not have."""
    cpu_seconds: float
    peak: int
    """Of the whole process; in ours the proof is in it."""


@dataclass(frozen=True)
class Compared:
    """One net of one exporter."""

    name: str
    nodes: int
    sides: dict[str, Simplified]
    latency: dict[str, float]
    """Seconds of CPU time of a run on one thread, the median."""
    ratio: dict[str, float]
    """Our latency over theirs: the median over the pairs."""

    @property
    def faults(self) -> list[str]:
        """Say where we are behind."""
        ours, best = self.sides["ours"], min(self.sides[peer].nodes for peer in PEERS)
        found = [f"{ours.nodes} nodes, {best} are enough"] if ours.nodes > best else []
        for peer in PEERS:
            theirs = self.sides[peer]
            found += [f"slower than {peer}'s: {self.ratio[peer]:.3f}"] if self.ratio[peer] > 1.02 else []
            found += [f"takes longer than {peer}"] if ours.seconds > theirs.seconds else []
            found += [f"takes more memory than {peer}"] if ours.peak > theirs.peak else []
        return found


def compare(name: str, exporter: str, rounds: int, files: Path, folder: Path) -> Compared:
    """Simplify one file in turns with all three, and run what they made in turns."""
    source = exported(name, exporter, files)
    made: dict[str, list[Simplified]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in SIDES[number % 3 :] + SIDES[: number % 3]:
            made[side].append(_simplified(side, source, folder / f"{side}.onnx"))
    sides = {side: _median(found) for side, found in made.items()}
    latencies = _latencies([folder / f"{side}.onnx" for side in SIDES], name)
    ratios = {
        peer: statistics.median(pair[0] / pair[at] for pair in latencies) for at, peer in enumerate(PEERS, start=1)
    }
    medians = {side: statistics.median(pair[at] for pair in latencies) for at, side in enumerate(SIDES)}
    return Compared(f"{name}.{exporter}", _nodes(source), sides, medians, ratios)


def _simplified(side: str, source: Path, target: Path) -> Simplified:
    bin_ = Path(sys.executable).parent
    if side == "ours":
        found = run([DEPLOYKIT, "optimize", str(source), "-o", str(target), "--json"], ROOT)
        laps = json.loads(found.output)["seconds"]
        away = laps["golden"] + laps["proof"]
        spent = _cpu_of(found, laps)
    else:
        for stale in target.parent.glob(f"{target.name}*"):
            stale.unlink()
        found = run([str(bin_ / side), str(source), str(target)], ROOT)
        away = spent = 0.0
    size = sum(one.stat().st_size for one in (target, Path(f"{target}.data")) if one.exists())
    return Simplified(_nodes(target), size, found.seconds - away, found.cpu_seconds - spent, found.peak)


def _cpu_of(found: Watched, laps: dict[str, float]) -> float:
    """Give the CPU seconds of golden and proof; where they lie in the run is known to some tenths of a second."""
    end = found.seconds - 0.05
    proof = end - laps["save"] - laps["proof"]
    golden = proof - laps["simplify"] - laps["golden"]
    pairs = ((proof, laps["proof"]), (golden, laps["golden"]))
    return sum(found.cpu_between(start, start + length) for start, length in pairs)


def _median(found: list[Simplified]) -> Simplified:
    last = found[-1]
    seconds, cpu = (statistics.median(getattr(one, what) for one in found) for what in ("seconds", "cpu_seconds"))
    return Simplified(last.nodes, last.bytes, seconds, cpu, max(one.peak for one in found))


def _nodes(path: Path) -> int:
    from deploykit.onnx_io import load

    return sum(1 for _ in load(path).graph.all_nodes())


def _latencies(paths: list[Path], name: str) -> list[tuple[float, ...]]:
    """Run files in turns on one thread, and give their seconds; the first to run is another each time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    sessions = [onnxruntime.InferenceSession(one, options, providers=["CPUExecutionProvider"]) for one in paths]
    feed = _feed(name)
    found: list[tuple[float, ...]] = []
    begin = time.perf_counter()
    while len(found) < _PAIRS and (len(found) < _FEWEST or time.perf_counter() - begin < _SECONDS):
        order = [(at + len(found)) % len(sessions) for at in range(len(sessions))]
        taken = {at: _seconds(sessions[at], feed) for at in order}
        found.append(tuple(taken[at] for at in range(len(sessions))))
    return found[1:]  # the first warms up


def _seconds(session: Any, feed: dict[str, Any]) -> float:
    start = time.thread_time()  # on one thread that is the latency, less what other work takes of the machine
    session.run(None, feed)
    return time.thread_time() - start


def _feed(name: str) -> dict[str, Any]:
    rng, sizes, net = np.random.default_rng(0), {**SIZES, "batch": 1}, NETS[name]
    shapes = {key: [sizes[one] if isinstance(one, str) else one for one in dims] for key, dims in net.inputs.items()}
    if net.dtype == "int64":
        return {key: np.ones(shape, np.int64) for key, shape in shapes.items()}
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}


def show(found: Compared) -> None:
    """Print the figures of one net."""
    print(f"\n{found.name}, {found.nodes} nodes")
    for side, one in found.sides.items():
        ratio = f", ours {found.ratio[side]:.3f} of it" if side in found.ratio else ""
        size, took = f"{one.bytes / 1e6:7.2f} MB", f"{one.seconds:6.2f} s (cpu {one.cpu_seconds:5.2f})"
        runs = f"peak {one.peak / 1e6:5.0f} MB  runs in {found.latency[side] * 1e3:7.2f} ms{ratio}"
        print(f"  {side:9} {one.nodes:5} nodes  {size}  {took}  {runs}")
    print(f"  {'; '.join(found.faults) or 'ok'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nets", nargs="*", choices=list(NETS), default=list(NETS))
    parser.add_argument("--files", type=Path, help="where the exported files are, or are written to")
    asked = parser.parse_args()
    about = {**header(), **{peer: importlib.metadata.version(peer) for peer in PEERS}}
    print("  ".join(f"{name} {value}" for name, value in about.items()))
    rows = []
    with tempfile.TemporaryDirectory(prefix="deploykit-bench-") as folder:
        for name in asked.nets:
            for exporter in EXPORTERS:
                found = compare(name, exporter, asked.rounds, asked.files or Path(folder), Path(folder))
                show(found)
                rows.append({**asdict(found), "faults": found.faults})
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "simplify.json").write_text(json.dumps({"about": about, "nets": rows}, indent=1) + "\n")
    print(f"\nwritten to {(RESULTS / 'simplify.json').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
