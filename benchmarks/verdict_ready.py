"""A net of the benchmark of verdicts made ready: trained, converted and proved, and run on inputs as it gets in use."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import verdict_nets
from benchmarks.verdict_inputs import KINDS, Kind, Sizes
from deploykit.golden import Golden
from deploykit.tensors import Array, Tensors

STEPS = 40
"""Of training: enough that no weight is as it was drawn, and BatchNorm has seen data."""
BATCH = 64
Answer = Tensors | None
"""None where the model refuses the inputs."""


@dataclass(frozen=True)
class Ready:
    """A net and its right ONNX file."""

    kind: Kind
    module: Any
    """The net in torch."""
    weights: Path
    onnx: Path
    golden: Path
    floors: dict[str, float]
    """Of each output, as the golden has it: RMS error of the source."""
    dense: Sequence[Tensors]
    """Inputs that the golden knows nothing of."""
    answers: Sequence[Tensors]
    """What the source answers to them."""

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs, in order."""
        return list(self.floors)

    @property
    def single(self) -> "Ready":
        """The same, run on one sample at a time."""
        pairs = list(zip(self.dense, self.answers, strict=True))[-1:]
        cases = [(_row(given, row), _row(answer, row)) for given, answer in pairs for row in range(7)]
        return replace(self, dense=[given for given, _ in cases], answers=[answer for _, answer in cases])

    @property
    def loading(self) -> dict[str, Any]:
        """The options with which deploykit loads the source."""
        return {"factory": f"{verdict_nets.__file__}:{self.kind.name}", "inputs": self.kind.inputs}


def _row(tensors: Tensors, row: int) -> Tensors:
    return {name: array[row : row + 1] for name, array in tensors.items()}


def ready(name: str, folder: Path, seed: int) -> Ready:
    """Train a net, convert it with deploykit, and let it answer to many other inputs.

    Args:
        name: of the net.
        folder: where its files go.
        seed: of the weights, the training and the inputs.
    """
    import torch

    from deploykit import convert

    kind = KINDS[name]
    rng = np.random.default_rng([seed, *name.encode()])
    module = trained(kind, seed, rng)
    weights = folder / f"{name}.pt"
    torch.save(module.state_dict(), weights)
    factory = f"{verdict_nets.__file__}:{name}"
    made = convert(weights, folder / f"{name}.onnx", factory=factory, inputs=kind.inputs)
    golden = Golden.read(made.golden)
    outputs = [spec.name for spec in golden.signature.outputs]
    cases = dense(kind, rng)
    answers = [from_torch(module, outputs, case) for case in cases]
    floors = {output: floor(golden, output) for output in outputs}
    return Ready(kind, module, weights, made.path, made.golden, floors, cases, answers)


def trained(kind: Kind, seed: int, rng: np.random.Generator) -> Any:
    """Train a net to answer as a twin with other weights does, for a few steps."""
    import torch

    torch.set_num_threads(1)
    make = getattr(verdict_nets, kind.name)
    torch.manual_seed(seed + 1)
    twin = make().eval()
    torch.manual_seed(seed)
    net = make().train()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(STEPS):
        given = [torch.from_numpy(array) for array in kind.draw(rng, {"batch": 16, **kind.sizes[0]}).values()]
        with torch.no_grad():
            wanted = listed(twin(*given))
        parts = [(own - want).square().mean() for own, want in zip(listed(net(*given)), wanted, strict=True)]
        optimizer.zero_grad()
        sum(parts, torch.zeros(())).backward()
        optimizer.step()
    return net.eval()


def listed(answer: Any) -> list[Any]:
    """Give the tensors that a module answers."""
    return list(answer.values()) if isinstance(answer, dict) else [answer]


def from_torch(module: Any, outputs: Sequence[str], case: Tensors) -> Tensors:
    """Run the module in torch."""
    import torch

    with torch.no_grad():
        found = listed(module(*(torch.from_numpy(array) for array in case.values())))
    return {name: tensor.numpy() for name, tensor in zip(outputs, found, strict=True)}


def dense(kind: Kind, rng: np.random.Generator) -> list[Tensors]:
    """Draw many inputs: at each of the sizes that come in use, in large batches and small ones."""
    first = kind.sizes[0]
    calls: list[Sizes] = [{"batch": BATCH, **first}, {"batch": BATCH, **first}]
    calls += [{"batch": BATCH // 4, **sizes} for sizes in kind.sizes[1:]]
    calls += [{"batch": batch, **first} for batch in (1, 2, 7)]
    return [kind.draw(rng, sizes) for sizes in calls]


def floor(golden: Golden, name: str) -> float:
    """Give the noise floor of an output: the RMS error of the source against itself in float64."""
    errors = [np.ravel(case.outputs[name].astype(np.float64) - case.reference[name]) for case in golden.cases]
    return float(np.sqrt(np.mean(np.square(np.concatenate(errors)))))


def session(model: bytes | str, level: str = "ORT_ENABLE_ALL") -> Any:
    """Load a model in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def load(path: Path, *, apart: bool) -> None:
    """Load a file, first in a process apart where onnxruntime may die of it: 1.31 does of some that are in float16.

    Raises:
        RuntimeError: onnxruntime refuses it, or dies.
    """
    code = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"
    if apart:
        ran = subprocess.run([sys.executable, "-c", code, str(path)], check=False, capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError(f"onnxruntime exits with {ran.returncode}: {ran.stderr.strip().rpartition(':')[2]}")
    session(str(path))


def run(running: Any, case: Tensors) -> Answer:
    """Run a model of onnxruntime; None where it refuses."""
    try:
        found = running.run(None, case)
    except Exception:  # noqa: BLE001 - onnxruntime's errors have no class in common
        return None
    return dict(zip((value.name for value in running.get_outputs()), found, strict=True))


def effect(right: Ready, running: Any) -> float:
    """Give how far a model is from the source, in noise floors: RMS over the worst sample of the worst output.

    Infinite where it refuses what the source takes, or gives what can't be compared.
    """
    worst = 0.0
    for case, answer in zip(right.dense, right.answers, strict=True):
        found = run(running, case)
        if found is None or found.keys() != answer.keys():
            return float("inf")
        for name, array in answer.items():
            worst = max(worst, _apart(array, found[name]) / right.floors[name])
    return worst


def _apart(one: Array, other: Array) -> float:
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    with np.errstate(all="ignore"):
        change = np.abs(other.astype(np.float64) - one).reshape(len(one), -1)
        return float(np.nan_to_num(np.sqrt(np.mean(np.square(change), 1)).max(), nan=np.inf))
