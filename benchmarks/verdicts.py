"""deploykit's verdict on planted faults and on right artifacts, beside the default rules of polygraphy and optimum.

``python -m benchmarks.verdicts [--quick] [--nets NAME ...] [--faults N] [--seed N] [--jobs N]`` prints tables and
writes benchmarks/results/verdicts.json. The nets are small and trained on the spot; nothing is downloaded.
"""

import argparse
import concurrent.futures
import gc
import itertools
import json
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.verdict_files import optimized
from benchmarks.verdict_graphs import KINDS as FAULTS
from benchmarks.verdict_inputs import KINDS as NETS
from benchmarks.verdict_peers import Peers
from benchmarks.verdict_ready import Ready, load, ready
from benchmarks.verdict_right import HALVED, bases, rights
from benchmarks.verdict_table import about, show
from benchmarks.verdict_trials import Found, Plot, attempt, trials

RESULTS = Path(__file__).parent / "results"
QUICK = ("mlp", "bert", "unet")


@dataclass(frozen=True)
class Asked:
    """How much is tried."""

    faults: int
    """Of each kind in each net, where there are so many places."""
    every: int
    """Of the right artifacts, one of so many."""
    seed: int


def measure(name: str, asked: Asked) -> Found:
    """Try one net, from its training on."""
    start = time.perf_counter()
    logging.disable(logging.WARNING)  # the exporters say much
    with tempfile.TemporaryDirectory(prefix="deploykit-bench-") as folder:
        right = ready(name, Path(folder), asked.seed)
        peers = Peers.of(right)
        found = Found(name, right.floors)
        gc.collect()
        gc.freeze()  # every session collects garbage once, and would go through all of torch each time
        files = bases(right)
        plant(right, peers, files, found, asked)
        try_right(right, peers, files, found, asked)
    found.seconds = time.perf_counter() - start
    return found


def plant(right: Ready, peers: Peers, files: Mapping[str, Path], found: Found, asked: Asked) -> None:
    """Plant faults of every kind, in the file that was proved, in an export by other means, and in an optimized one."""
    import onnx

    best = right.onnx.with_name(f"{right.kind.name}.optimized.onnx")
    optimized(right.onnx, "EXTENDED", best)
    models = {name: onnx.load(path) for name, path in {**files, "optimized": best}.items()}
    for kind in FAULTS:
        rng = np.random.default_rng([asked.seed, *right.kind.name.encode(), *kind.encode()])
        for trial in trials(right, peers, Plot(kind, asked.faults, models), rng):
            if trial is None:
                found.dropped[kind] = found.dropped.get(kind, 0) + 1
            else:
                found.faults.append(trial)


def try_right(right: Ready, peers: Peers, files: Mapping[str, Path], found: Found, asked: Asked) -> None:
    """Make right artifacts of every kind; what can't be made, or onnxruntime does not load, is no trial."""
    path = right.onnx.with_name(f"{right.kind.name}.right.onnx")
    for one in itertools.islice(rights(right, files, goldens=asked.every == 1), 0, None, asked.every):
        try:
            one.make(path)
            load(path, apart=one.kind == HALVED)
        except Exception as error:  # noqa: BLE001 - they have no class in common
            found.unmade.append(f"{one.kind}, {one.where}: {type(error).__name__} {str(error).strip()[:200]}")
            continue
        found.rights.append(attempt(right, peers, one, path))


def measured(names: list[str], asked: Asked, jobs: int) -> list[Found]:
    """Try all nets, each in a process of its own, so that memory does not grow from one to the next."""
    spawn = multiprocessing.get_context("spawn")
    found = []
    with concurrent.futures.ProcessPoolExecutor(jobs, spawn, max_tasks_per_child=1) as pool:
        for done in concurrent.futures.as_completed(pool.submit(measure, name, asked) for name in names):
            found.append(done.result())
            print(found[-1], flush=True)
    return sorted(found, key=lambda one: names.index(one.net))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="three nets, few faults, one right artifact of five")
    parser.add_argument("--nets", nargs="*", choices=list(NETS))
    parser.add_argument("--faults", type=int, help="of each kind in each net, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="nets at one time")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's; of onnxruntime's sessions each says its own
    names = given.nets or list(QUICK if given.quick else NETS)
    asked = Asked(given.faults or (4 if given.quick else 20), 5 if given.quick else 1, given.seed)
    start = time.perf_counter()
    found = measured(names, asked, given.jobs)
    report: dict[str, Any] = {
        "about": {**about(), "seed": asked.seed, "seconds": time.perf_counter() - start},
        "nets": [one.plain for one in found],
    }
    show(found)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "verdicts.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{report['about']['seconds']:.0f} s, written to {RESULTS.name}/verdicts.json")


if __name__ == "__main__":
    main()
