"""Right artifacts for the benchmark of verdicts: other files, and other ways to run them, of the same net."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from unittest import mock

from benchmarks import verdict_files as files
from benchmarks.verdict_exports import Export, export
from benchmarks.verdict_ready import Ready
from deploykit.tensors import TensorSpec

TORCHSCRIPT = tuple(range(13, 21))
DYNAMO = (18, 20, 22)
CONVERTED = (21, 22, 23)
LEVELS = ("BASIC", "EXTENDED", "ALL")
THREADS = (1, 2, 4)
SEEDS = (1, 2)
STATIC, HALVED = "static", "float16"
"""Kinds that are looked at otherwise: one sample at a time, and by the rule for their precision."""


@dataclass(frozen=True)
class Right:
    """One right artifact: how its file is made, and what it is judged by."""

    kind: str
    where: str
    make: Callable[[Path], object]
    golden: Path
    within: Callable[[], AbstractContextManager[object]] = field(default=nullcontext)
    """What it is judged within."""


def rights(right: Ready, base: Mapping[str, Path], *, goldens: bool = True) -> Iterator[Right]:
    """List the right artifacts of a net.

    Args:
        right: the net.
        base: the files that others are made of.
        goldens: whether also by other goldens, which are made as they come.
    """
    made = partial(_made, right)
    yield from (made("re-export", str(how), partial(export, right, how)) for how in _exports())
    for opset in CONVERTED:
        yield made("other opset", f"dynamo, opset {opset}", partial(files.converted, base["dynamo"], opset))
    yield made("other opset", "torchscript, opset 15", partial(files.converted, base["torchscript"], 15))
    for (name, path), level in product(base.items(), LEVELS):
        yield made("onnxruntime's own", f"{name}, {level}", partial(files.optimized, path, level))
    for (name, path), change in product(base.items(), files.CHANGES):
        yield made("passes", f"{name}, {change.__name__}", partial(change, path))
    for (name, path), block in product(base.items(), files.BLOCKED):
        words = f"{name}, in float32: {', '.join(block) or 'nothing'}"
        yield made(HALVED, words, partial(files.halved, path, block))
    for name, path in base.items():
        yield made(HALVED, f"{name}, weights only", partial(files.stored, path))
    for (name, path), count in product(base.items(), THREADS):
        within = partial(threads, count)
        yield Right("threads", f"{name}, {count}", partial(files.copied, path), right.golden, within)
    if goldens:
        yield from _other_goldens(right, base)


def _made(right: Ready, kind: str, where: str, make: Callable[[Path], object]) -> Right:
    return Right(kind, where, make, right.golden)


def _exports() -> Iterator[Export]:
    yield from (Export(dynamo=False, opset=opset) for opset in TORCHSCRIPT)
    yield from (Export(dynamo=True, opset=opset) for opset in DYNAMO)
    yield Export(dynamo=False, opset=17, batch=3, sizes=1)
    yield Export(dynamo=True, opset=20, batch=4, sizes=1)
    yield Export(dynamo=False, opset=17, plain=True)
    yield Export(dynamo=True, opset=20, plain=True)


def bases(right: Ready) -> dict[str, Path]:
    """Give the files that others are made of: the one that was proved, and one of the other exporter."""
    other = right.onnx.with_name(f"{right.kind.name}.torchscript.onnx")
    export(right, Export(dynamo=False, opset=17), other)
    return {"dynamo": right.onnx, "torchscript": other}


def _other_goldens(right: Ready, base: Mapping[str, Path]) -> Iterator[Right]:
    """Judge by goldens of other inputs, and by one of a conversion with all sizes fixed."""
    from deploykit import convert

    for seed in SEEDS:
        target = right.onnx.with_name(f"{right.kind.name}.seed{seed}.onnx")
        golden = convert(right.weights, target, seed=seed, **right.loading).golden
        for name, path in base.items():
            yield Right("other golden", f"{name}, seed {seed}", partial(files.copied, path), golden)
        best = partial(files.optimized, right.onnx, "ALL")
        yield Right("other golden", f"onnxruntime's own, seed {seed}", best, golden)
    fixed = {"batch": 1, **right.kind.sizes[0]}
    specs = [TensorSpec.parse(text) for text in right.kind.inputs]
    loading = {**right.loading, "inputs": [str(TensorSpec(one.name, one.dtype, one.sized(fixed))) for one in specs]}
    golden = convert(right.weights, right.onnx.with_name(f"{right.kind.name}.static.onnx"), **loading).golden
    for how in (
        Export(dynamo=False, opset=17, batch=1, static=True),
        Export(dynamo=True, opset=20, batch=1, static=True),
    ):
        yield Right(STATIC, str(how), partial(export, right, how), golden)
    yield Right(STATIC, "the free file", partial(files.copied, right.onnx), golden)


def threads(count: int) -> AbstractContextManager[object]:
    """Let every session of onnxruntime have so many threads, whoever makes it."""
    import onnxruntime

    own = onnxruntime.SessionOptions

    def options() -> object:
        made = own()
        made.intra_op_num_threads = count
        return made

    return mock.patch.object(onnxruntime, "SessionOptions", options)
