"""Honest speed: ONNX files and engines timed against each other, in turns, with the interval of every ratio.

``measure`` does it for one size of inputs. ``rounds`` has the turns, ``ratio`` the interval, ``memory`` what each file
takes by itself.
"""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from deploykit import machine
from deploykit.artifact import Format
from deploykit.backends.onnxruntime import failed, inference_session
from deploykit.backends.tensorrt import in_this_process
from deploykit.child import Step, silent
from deploykit.golden import rows
from deploykit.sniff import sniff
from deploykit.tensors import Array
from deploykit.timing.memory import Memory, memory_of
from deploykit.timing.ratio import Ratio, ratio_of
from deploykit.timing.rounds import LEAST, NARROW, Call, alternate

__all__ = ["LEAST", "NARROW", "SECONDS", "Comparison", "Memory", "Ratio", "Timed", "measure"]

SECONDS = 10.0
"""What a comparison takes when nothing else is said."""
_BUSY = 0.1
"""Share of the cores that others may take before it is worth saying."""


@dataclass(frozen=True)
class Timed:
    """What one file took, on inputs of one size."""

    artifact: str
    calls: int
    """Calls that count."""
    p50_ms: float
    """Latency of a call that half of all calls keep within."""
    p90_ms: float | None
    p99_ms: float | None
    """The same for 90% and 99%; None where there are fewer than 10 or 100 calls."""
    samples_per_second: float
    """One call after the other, each at the median latency."""
    bytes: int
    """On disk, with the files of its weights."""
    memory: Memory | None
    """Of a process of its own; None of an engine, which is in the memory of the device."""
    ratio: Ratio | None
    """Its latency in latencies of the first file; None for the first itself."""


@dataclass(frozen=True)
class Comparison:
    """Files that were timed against each other."""

    batch: int
    """Samples in a call."""
    rows: tuple[Timed, ...]
    """One for each file, in the order asked for."""
    rounds: int
    """In each of which every file was loaded anew and had two turns."""
    threads: int
    """That may work on one operator."""
    cpu: str
    onnxruntime: str
    others: float | None
    """Share of all cores that other processes took meanwhile; None where the kernel does not tell."""

    @property
    def is_busy(self) -> bool:
        """Whether others took so much that the latencies are longer than on a quiet machine."""
        return self.others is not None and self.others > _BUSY


def measure(
    artifacts: Sequence[Path],
    inputs: Mapping[str, Array],
    *,
    threads: int = 1,
    seconds: float = SECONDS,
    seed: int = 0,
    step: Step = silent,
) -> Comparison:
    """Time ONNX files in onnxruntime on the CPU, and engines on the device, and measure the memory of each file.

    All are timed in this one process, in turns (see ``rounds.alternate``). A call is ``InferenceSession.run``, with
    the copies of its outputs; loading is not in it.

    Args:
        artifacts: the files; the first is what the others are compared with.
        inputs: tensors by input name, which all of them take.
        threads: that may work on one operator. One tells what a core can do, and disturbs least.
        seconds: about how long it may take; the interval may be narrow before, and ``LEAST`` rounds are always run.
        seed: of the order of the turns, and of the bootstrap.
        step: takes a sentence about what goes on.

    Raises:
        ModelError: onnxruntime refuses a file, or the file does not run on the inputs.
    """
    feed, watch = dict(inputs), machine.Watch()
    loads = [partial(_loaded, path, feed, threads) for path in artifacts]
    times = alternate(loads, seconds=seconds, seed=seed, step=step)
    others = watch.others()
    first, *rest = zip(*times.rounds, strict=True)
    ratios = (None, *(ratio_of(one, first, seed) for one in rest))
    made = []
    for path, calls, ratio in zip(artifacts, times.calls, ratios, strict=True):
        step(f"measuring the memory of {path.name}")
        made.append(_timed(path, calls, _memory(path, feed, threads), ratio, rows(feed)))
    return Comparison(
        rows(feed),
        tuple(made),
        len(times.rounds),
        threads,
        machine.cpu(machine.text("/proc/cpuinfo")),
        importlib.metadata.version("onnxruntime"),
        others,
    )


def _memory(path: Path, feed: dict[str, Array], threads: int) -> Memory | None:
    return None if sniff(path) is Format.ENGINE else memory_of(path, feed, threads)


def _loaded(path: Path, feed: dict[str, Array], threads: int) -> Call:
    if sniff(path) is Format.ENGINE:
        return in_this_process(path).prepared(feed)
    session = inference_session(path, threads=threads)
    names = [output.name for output in session.get_outputs()]
    try:
        session.run(names, feed)
    except Exception as error:
        raise failed(path, feed, error) from error
    return partial(session.run, names, feed)


def _timed(path: Path, calls: Sequence[float], memory: Memory | None, ratio: Ratio | None, batch: int) -> Timed:
    from deploykit.onnx_io import external_files

    beside = () if sniff(path) is Format.ENGINE else external_files(path)
    size = sum(file.stat().st_size for file in (path, *beside))
    p90, p99 = (_percentile(calls, share) for share in (90, 99))
    p50 = median(calls)
    return Timed(str(path), len(calls), 1000 * p50, p90, p99, batch / p50, size, memory, ratio)


def _percentile(calls: Sequence[float], percent: int) -> float | None:
    """Give it in milliseconds; None where the slowest of all calls would stand for it."""
    if len(calls) * (100 - percent) < 100:  # noqa: PLR2004
        return None
    return float(np.percentile(calls, percent)) * 1000
