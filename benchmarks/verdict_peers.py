"""The rules that judge an artifact in the benchmark of verdicts: deploykit's, and those of polygraphy and optimum.

The peers get the source's outputs in torch, which polygraphy can't run itself, for their own default inputs: one call
each. Where a dynamic axis other than the batch would be 1, they get the size that is ordinary for the net.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.verdict_ready import Ready, from_torch, run, session
from deploykit.tensors import Array, Tensors, TensorSpec

_EPSILON = 2.220446049250313e-16


@dataclass(frozen=True)
class Judged:
    """What the three say of an artifact: whether it is the source's."""

    deploykit: bool
    polygraphy: bool
    optimum: bool
    ratio: float
    """deploykit's worst figure over its limit; infinite where an output could not be compared."""
    why: str
    crash: bool = False
    """Whether deploykit broke down instead of judging."""


@dataclass(frozen=True)
class Peers:
    """The inputs that the peers make up for a net, and what the source answers to them."""

    polygraphy: Tensors
    optimum: Tensors
    wanted: tuple[Tensors, Tensors]

    @property
    def single(self) -> "Peers":
        """The same with a batch of one."""
        first, wanted = ({name: array[:1] for name, array in one.items()} for one in (self.optimum, self.wanted[1]))
        return Peers(self.polygraphy, first, (self.wanted[0], wanted))

    @classmethod
    def of(cls, right: Ready) -> "Peers":
        """Make the inputs up."""
        specs = [TensorSpec.parse(text) for text in right.kind.inputs]
        first = {**right.kind.sizes[0]}
        uniform = _polygraphy_inputs(specs, {**first, "batch": 1})
        random = _optimum_inputs(specs, {**first, "batch": 2})
        wanted = [from_torch(right.module, right.outputs, case) for case in (uniform, random)]
        return cls(uniform, random, (wanted[0], wanted[1]))


def judged(path: Path, golden: Path, peers: Peers) -> Judged:
    """Let all three judge an artifact."""
    from deploykit import DeploykitError, validate

    ratio, why, crash, passed = float("inf"), "", False, False
    try:
        verdict = validate(path, against=golden)
        passed = verdict.passed
        why = "; ".join(f"{one.what}: {one.why}" for one in verdict.failures or verdict.checks)
        ratio = max(_ratio(one.value, one.limit, one.passed) for one in verdict.checks)
    except DeploykitError as error:
        why = error.message
    except Exception as error:  # noqa: BLE001 - a crash is no verdict, and is counted as none
        why, crash = f"crashed: {error!r}", True
    return Judged(passed, *_peers(path, peers), ratio, why, crash)


def _ratio(value: float | None, limit: float | None, passed: bool) -> float:
    if value is None or not limit:
        return 0.0 if passed else float("inf")
    return value / limit


def _peers(path: Path, peers: Peers) -> tuple[bool, bool]:
    try:
        plain, basic = session(str(path)), session(str(path), "ORT_ENABLE_BASIC")
    except Exception:  # noqa: BLE001 - onnxruntime's errors have no class in common
        return False, False
    found = run(plain, peers.polygraphy), run(basic, peers.optimum)
    return (
        found[0] is not None and polygraphy_equal(peers.wanted[0], found[0]),
        found[1] is not None and optimum_equal(peers.wanted[1], found[1]),
    )


def polygraphy_equal(source: Tensors, found: Tensors) -> bool:
    """Judge as polygraphy does by default: no element is off by more than 1e-5 and by more than 1e-5 of its value.

    Its own code where it is installed. Else the rule of version 0.53.6: polygraphy/comparator/compare.py,
    ``SimpleCompareFunc`` with ``elemwise``.
    """
    if importlib.util.find_spec("polygraphy"):
        return _polygraphy_itself(source, found)
    return all(name not in found or _elementwise(array, found[name]) for name, array in source.items())


def _polygraphy_itself(source: Tensors, found: Tensors) -> bool:
    from polygraphy.comparator import Comparator, CompareFunc, RunResults
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    results = RunResults()
    results.add([source], runner_name="torch")
    results.add([found], runner_name="onnxruntime")
    return bool(Comparator.compare_accuracy(results, compare_func=CompareFunc.simple()))


def _elementwise(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    apart = np.abs(one.astype(np.float64) - other)
    size = np.abs(np.where(other == 0, _EPSILON, other))
    return not bool(np.any(~(apart <= 1e-5) & ~(apart / size <= 1e-5)))


def optimum_equal(source: Tensors, found: Tensors) -> bool:
    """Judge as ``optimum-cli export onnx`` does: ``np.allclose(source, found, atol=1e-5)``, whose rtol is 1e-5.

    optimum-onnx 0.1.0, optimum/exporters/onnx/convert.py, ``_run_validation``, with ``ATOL_FOR_VALIDATION`` of
    optimum 2.3.0.
    It would only warn, and its verdict counts here all the same.
    """
    return found.keys() == source.keys() and all(
        found[name].shape == array.shape and np.allclose(array, found[name], atol=1e-5)
        for name, array in source.items()
    )


def _polygraphy_inputs(specs: list[TensorSpec], sizes: Mapping[str, int]) -> Tensors:
    """Give what polygraphy's DataLoader gives, seed and all: floats from 0 to 1, integers 0 or 1; a batch of 1."""
    made: Tensors = {}
    rng = np.random.RandomState(1)
    for spec in specs:
        shape = spec.sized(sizes)
        whole = spec.dtype.startswith("int")
        made[spec.name] = (rng.randint(0, 2, shape) if whole else rng.random_sample(shape)).astype(spec.dtype)
    return made


def _optimum_inputs(specs: list[TensorSpec], sizes: Mapping[str, int]) -> Tensors:
    """Give what optimum's dummy inputs are: floats from 0 to 1, ids of the whole vocabulary, a batch of 2.

    A mask ends at one place for all rows; other integers are 0 or 1. (optimum/utils/input_generators.py)
    """
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for spec in specs:
        shape = spec.sized(sizes)
        if "mask" in spec.name:
            made[spec.name] = np.broadcast_to(np.arange(shape[-1]) < rng.integers(1, shape[-1]), shape)
        elif spec.dtype.startswith("int"):
            made[spec.name] = rng.integers(0, ROWS.get(spec.name, 2), shape)
        else:
            made[spec.name] = rng.random(shape)
        made[spec.name] = np.ascontiguousarray(made[spec.name]).astype(spec.dtype)
    return made


ROWS = {"input_ids": 300, "ids": 80, "place": 50, "kind": 12}
"""Of the tables that ids are looked up in."""
