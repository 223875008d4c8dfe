"""deploykit validate beside the two inferences alone, in turns: what a verdict costs, and whether memory stays flat.

``python -m benchmarks.validate [--rounds N] [--models NAME ...] [--samples N]`` prints a table and writes
benchmarks/results/validate.json. The weights and the samples are random; nothing is downloaded.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import DEPLOYKIT, ROOT, torch_case
from benchmarks.convert import RESULTS, header
from benchmarks.models import MODELS
from benchmarks.watched import Watched, run

MOST_TIME = 1.3
"""Times the two inferences that a verdict may cost."""
MOST_GROWTH = 1.1
"""What the memory may be with four times the samples."""
_SIZES = {"seq": 128}


@dataclass(frozen=True)
class Compared:
    """One model: pairs of runs, and one run with four times the samples."""

    name: str
    ours: tuple[Watched, ...]
    bare: tuple[Watched, ...]
    larger: Watched

    @property
    def ratio(self) -> float:
        """Median over the pairs, of wall time."""
        return statistics.median(one.seconds / other.seconds for one, other in zip(self.ours, self.bare, strict=True))

    @property
    def cpu_ratio(self) -> float:
        """The same of CPU time, which other work on the machine disturbs less."""
        pairs = zip(self.ours, self.bare, strict=True)
        return statistics.median(one.cpu_seconds / other.cpu_seconds for one, other in pairs)

    @property
    def growth(self) -> float:
        """Peak with four times the samples over the peak without."""
        return self.larger.peak / max(one.peak for one in self.ours)


def samples(name: str, count: int, path: Path) -> Path:
    """Write random samples of a model's inputs."""
    model, rng = MODELS[name], np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for argument, dims in model.inputs.items():
        shape = [count, *(_SIZES[dim] if isinstance(dim, str) else dim for dim in dims[1:])]
        images = model.dtype == "float32"
        arrays[argument] = rng.standard_normal(shape, np.float32) if images else np.ones(shape, np.int64)
    if "input_ids" in arrays:
        arrays["input_ids"] = rng.integers(0, 30000, arrays["input_ids"].shape)
    np.savez(path, **arrays)
    return path


def compare(name: str, count: int, rounds: int, folder: Path) -> Compared:
    """Validate one model against its source in turns with the bare inferences."""
    case = torch_case(name, folder)
    onnx = folder / f"{name}.onnx"
    run([str(onnx) if word == "OUT" else word for word in case.ours], ROOT)
    few = samples(name, count, folder / f"{name}_few.npz")
    many = samples(name, 4 * count, folder / f"{name}_many.npz")
    weights = folder / f"{name}.pt"
    factory = f"{ROOT / 'benchmarks' / 'models.py'}:{MODELS[name].factory.__name__}"

    def ours(data: Path, number: int) -> Watched:
        words = ["--against", str(weights), "--factory", factory, "--data", str(data), "--samples", str(number)]
        return run([DEPLOYKIT, "validate", str(onnx), *words, "--json"], ROOT)

    def bare() -> Watched:
        return run([*_bare(name), str(weights), str(onnx), str(few)], ROOT)

    pairs = [(ours(few, count), bare()) for _ in range(rounds)]
    larger = ours(many, 4 * count)
    return Compared(name, tuple(one for one, _ in pairs), tuple(other for _, other in pairs), larger)


def _bare(name: str) -> list[str]:
    import sys

    return [sys.executable, "-m", "benchmarks.bare", "infer", name]


def show(found: Compared, count: int) -> None:
    """Print the figures of one model."""
    print(f"\n{found.name}, {count} samples")
    for number, (ours, bare) in enumerate(zip(found.ours, found.bare, strict=True), 1):
        print(
            f"  round {number}: {ours.seconds:.1f} s to {bare.seconds:.1f} s (cpu {ours.cpu_seconds:.1f} to"
            f" {bare.cpu_seconds:.1f}), peak {ours.peak / 1e6:.0f} to {bare.peak / 1e6:.0f} MB,"
            f" other work {ours.others:.0%} and {bare.others:.0%}"
        )
    over = "" if found.ratio <= MOST_TIME else f", OVER {MOST_TIME}"
    print(f"  time {found.ratio:.2f} times the two inferences{over} (of cpu time {found.cpu_ratio:.2f})")
    over = "" if found.growth <= MOST_GROWTH else f", OVER {MOST_GROWTH}"
    print(f"  {4 * count} samples: peak {found.larger.peak / 1e6:.0f} MB, {found.growth:.2f} times{over}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=["resnet50", "mobilenetv2"])
    asked = parser.parse_args()
    about = header()
    print("  ".join(f"{name} {value}" for name, value in about.items()))
    rows = []
    with tempfile.TemporaryDirectory(prefix="deploykit-bench-") as folder:
        for name in asked.models:
            found = compare(name, asked.samples, asked.rounds, Path(folder))
            show(found, asked.samples)
            rows.append({"name": name, "ratio": found.ratio, "cpu_ratio": found.cpu_ratio, "growth": found.growth})
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "validate.json").write_text(json.dumps({"about": about, "models": rows}, indent=1) + "\n")
    print(f"\nwritten to {(RESULTS / 'validate.json').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
