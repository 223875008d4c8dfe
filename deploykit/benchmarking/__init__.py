"""``deploykit bench``: which of some ONNX files is the fastest, by how much, and whether that can be told at all."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from deploykit import machine, workspace
from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, Loading, check_options
from deploykit.backends.tensorrt import usable
from deploykit.benchmarking.feed import feed_for
from deploykit.child import Step, silent
from deploykit.errors import UsageError
from deploykit.golden import shapes_of
from deploykit.nvidia import devices
from deploykit.sidecar import read_sidecar
from deploykit.timing import SECONDS, Comparison, measure
from deploykit.timing.words import told

__all__ = ["Bench", "bench"]


@dataclass(frozen=True)
class Bench:
    """Files that were timed against each other."""

    comparisons: tuple[Comparison, ...]
    """One for each size of a batch."""
    inputs: str
    """Where the inputs are from, and their shapes."""
    notes: tuple[str, ...]
    words: tuple[str, ...]
    """For every size of a batch and every file but the first: is it faster, slower, or can that not be told."""


def bench(
    artifacts: Sequence[str | Path] = (),
    *,
    batch: Sequence[int] = (1,),
    threads: int = 1,
    seconds: float = SECONDS,
    seed: int = 0,
    step: Step = silent,
    **loading: Unpack[Loading],
) -> Bench:
    """Time ONNX files against the first of them, in turns, and measure the memory of each.

    The inputs are the first call of the golden beside a file, where there is one, and else made up from the graph.
    Samples are repeated or left out to make a batch.

    Args:
        artifacts: ONNX files and engines that take the same inputs; the latest made in this folder where none is given.
        batch: samples in a call, each size a comparison by itself; files with a fixed batch run at that.
        threads: that may work on one operator.
        seconds: about how long each comparison may take; ``timing.rounds.alternate`` has the rule.
        seed: of the order of turns, of the bootstrap, and of inputs that are made up.
        step: takes a sentence about what goes on.
        loading: ``data`` to run on, and ``image``; ``shapes``, the sizes of axes of inputs that are made up.

    Raises:
        MissingPackage: one is an engine, and can't be run here.
        UsageError: a file is neither, the files take different inputs, or what was asked can't be.
        ModelError: a file can't be loaded, or does not run.
    """
    _check_numbers(batch, threads, seconds)
    opened = [_opened(path) for path in artifacts or (workspace.latest(),)]
    asked = Asked(**loading)
    check_options(asked, *opened)
    paths = [one.path for one in opened]
    feed = feed_for(paths, asked, seed, step)
    made, shapes = list[Comparison](), list[str]()
    for size in feed.sizes(batch):
        inputs = feed.of(size)
        shapes.append(shapes_of(inputs))
        made.append(measure(paths, inputs, threads=threads, seconds=seconds, seed=seed, step=step))
    return Bench(
        tuple(made),
        f"{feed.origin}: {'; '.join(shapes)}",
        (*feed.notes(batch), *_notes(made, threads)),
        tuple(line for one in made for line in told(one, batches=len(made))),
    )


def _check_numbers(batch: Sequence[int], threads: int, seconds: float) -> None:
    if not batch or min(batch) < 1:
        raise UsageError(f"a batch of {min(batch, default=0)} has no samples", fix="--batch 1, or --batch 1,8,32")
    if threads < 1:
        raise UsageError(f"{threads} threads do no work", fix="--threads 1")
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"nothing can be timed in {seconds:g} seconds", fix="--seconds 10")


def _opened(path: str | Path) -> Artifact:
    artifact = Artifact.open(path)
    if artifact.format is Format.GOLDEN:
        raise UsageError(f"{path} is a golden: it holds answers, and does not run", fix="name the .onnx file beside it")
    if artifact.format is Format.ENGINE:
        usable(read_sidecar(artifact.path), devices())
    elif artifact.format is not Format.ONNX:
        raise UsageError(f"{path} is {artifact.format}, and bench times ONNX files and engines", fix=artifact.to_onnx)
    return artifact


def _notes(made: Sequence[Comparison], threads: int) -> Iterator[str]:
    others = max((one.others or 0.0 for one in made if one.is_busy), default=None)
    if others is not None:
        yield (
            f"the machine was busy: other processes took {others:.0%} of its cores. All latencies are longer for it,"
            " and a ratio may be another on a quiet machine"
        )
    if threads > machine.cores():
        yield f"{threads} threads share {machine.cores()} cores"
    bare = next((row.memory.bare for row in made[0].rows if row.memory is not None), None)
    if bare is None:
        return
    yield (
        "peak memory is that of a process which loads the file and runs it alone;"
        f" {bare / 1e6:.0f} MB of it are Python and onnxruntime"
    )
