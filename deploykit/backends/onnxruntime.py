"""Run ONNX files in onnxruntime, on the CPU."""

import gc
import importlib.metadata
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, Backend, Session, described
from deploykit.backends._finer import finer
from deploykit.child import Step, silent
from deploykit.errors import ModelError, UsageError, nearest, needs
from deploykit.recording import Answer
from deploykit.rounding import BFLOAT16, emulate, rounded_types
from deploykit.samples import synthesize
from deploykit.tensors import Array, Signature, Tensors, TensorSpec

_SIGMOID_ERROR = 2.0**-24
"""onnxruntime's sigmoid on CPUs errs by up to this, however small its value is. (Measured in 1.31; it is a
rational approximation, MlasComputeLogistic.) torch's errs in relation to its value."""

_LARGE = 100 << 20
"""Bytes of a file from which its graph is worth collecting: of a small one that takes longer than the rest."""

_WIDENING = ["ConstantFolding", "FuseFp16InitializerToFp32NodeTransformer"]
"""Optimizations of onnxruntime that keep weights of 16 bits in float32 too, which takes three times as much."""

_SIZES = (16, 32, 64, 128, 224, 256, 320, 384, 512, 640, 8, 1024, 16000)

_MOVES = frozenset(
    {
        "Reshape",
        "Transpose",
        "Concat",
        "Slice",
        "Squeeze",
        "Unsqueeze",
        "Identity",
        "Cast",
        "Gather",
        "Split",
        "Flatten",
    }
    | {"Mul", "Add", "Sub", "Max", "Min", "Clip", "ReduceMax", "Where", "Expand", "TopK", "GatherElements"}
)
"""Operators that carry the error of a value on, by and large as it is."""

_PLACE = re.compile(r"^/\S+:\d+ .*?\)\s+")
"""Where in its own sources onnxruntime found the fault."""
_NODE = re.compile(r"running (\w+) node\. Name:'([^']*)' Status Message: (.*)", re.DOTALL)


@dataclass(frozen=True)
class OnnxRuntime(Backend):
    """The CPU execution provider of onnxruntime, with all of its graph optimizations."""

    formats: ClassVar[frozenset[Format]] = frozenset({Format.ONNX})

    @contextmanager
    def load(self, artifact: Artifact, asked: Asked, step: Step = silent) -> Iterator[Session]:
        """Load an ONNX file; of what was asked, only the descriptions of its inputs apply."""
        step(f"loading {artifact.path.name} in onnxruntime")
        with _runnable(artifact.path) as (path, emulated):
            session = OrtSession(path, described(asked)[0])
            session.emulated = emulated
            yield session


@contextmanager
def _runnable(path: Path) -> Iterator[tuple[Path, str]]:
    """Give a file that onnxruntime runs, and what is not as in the other: it has next to no kernels for bfloat16."""
    from deploykit.onnx_io import load, save

    model = load(path)
    if BFLOAT16 not in rounded_types(model):
        del model
        yield path, ""
        return
    emulate(model)
    with tempfile.TemporaryDirectory(prefix="deploykit-") as folder:
        copy = Path(folder) / path.name
        save(model, copy, external=True)
        del model
        yield copy, "onnxruntime has no bfloat16: it was run in float32, every tensor of bfloat16 rounded to it"


class OrtSession(Session):
    """An ONNX file in onnxruntime."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec] = ()) -> None:
        """Load the file; ``inputs`` narrow its own description of them.

        Raises:
            ModelError: onnxruntime refuses it.
            UsageError: the inputs described are not those of the file.
        """
        from deploykit.onnx_io import load, signature, table_hashes

        self.path = path
        self._loaded: dict[bool, Any] = {}
        self._thrifty = False
        graph = load(path)
        _refuse_what_crashes(path, graph)
        own = signature(graph)
        self.signature = Signature(_narrowed(path, own.inputs, inputs), own.outputs)
        self._rounding = {value.name: _SIGMOID_ERROR for value in graph.graph.outputs if _is_sigmoid(value)}
        self.tables = table_hashes(graph)
        self._thrifty = _bytes_of_halves(graph) > _LARGE
        del graph
        self._session(optimized=True)
        self.versions = {"onnxruntime": importlib.metadata.version("onnxruntime")}

    def rounding(self, output: str) -> float:
        """Give the error of onnxruntime's sigmoid where an output is one."""
        return self._rounding.get(output, 0.0)

    @contextmanager
    def finer(self) -> Iterator[Session | None]:
        """Give the same graph with its long sums and sigmoids in float64, where it has any."""
        with tempfile.TemporaryDirectory(prefix="deploykit-") as folder:
            copy = Path(folder) / self.path.name
            try:
                fine = OrtSession(copy) if finer(self.path, copy) else None
            except ModelError:  # it has no kernel in float64 for one of them
                fine = None
            yield fine

    def sizes(self) -> dict[str, int]:
        """Give the first of some ordinary sizes with which the model runs; 16 where it runs with none of them."""
        from deploykit.onnx_io import load

        axes, graph = self.signature.axes, load(self.path)
        for size in _SIZES if axes else ():
            sizes = {axis: 2 if axis == "batch" else size for axis in axes}
            case = synthesize(graph, self.signature.inputs, [sizes])[0]
            if not isinstance(self._run(self._session(optimized=True), case), ModelError):
                return sizes
        return super().sizes()

    def run_all(self, cases: Iterable[Mapping[str, Array]], mode: str = "source") -> Iterator[Answer]:
        """Run every case; ``moved`` also leaves the graph unoptimized, so that it adds up in another order."""
        for case in cases:
            if mode == "exact":
                yield ModelError("onnxruntime has no float64 run of a float32 graph", fix="use mode moved")
            elif mode == "moved":
                yield self._run(self._session(optimized=False), {name: moved(one) for name, one in case.items()})
            else:
                yield self._run(self._session(optimized=True), dict(case))

    def unload(self) -> None:
        """Free the memory of the model; the next run loads it again."""
        self._loaded.clear()

    def _session(self, *, optimized: bool) -> Any:
        if optimized not in self._loaded:
            # A session holds all weights, and so does a graph read from one file, which is cyclic and stays until it
            # is collected: there is room for one of them.
            self._loaded.clear()
            if self.path.stat().st_size > _LARGE:
                gc.collect()
            self._loaded[optimized] = inference_session(self.path, optimized=optimized, thrifty=self._thrifty)
        return self._loaded[optimized]

    def _run(self, session: Any, case: Tensors) -> Answer:
        names = [output.name for output in session.get_outputs()]
        try:
            return dict(zip(names, session.run(None, case), strict=True))
        except Exception as error:  # noqa: BLE001
            return failed(self.path, case, error)


def inference_session(path: Path, *, optimized: bool = True, threads: int = 0, thrifty: bool = False) -> Any:
    """Load a file in onnxruntime itself.

    Args:
        path: the ONNX file.
        optimized: whether onnxruntime may change the graph.
        threads: how many may work on one operator; 0: one for each core.
        thrifty: whether weights of 16 bits are widened where they are read, and not all at once.

    Raises:
        ModelError: onnxruntime refuses it.
    """
    with needs("onnxruntime"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what matters is raised; the rest would stand in the user's terminal
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    # Threads that wait in a busy loop for the next call would take the cores from another model that is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1" if threads > 1 else "0")
    if thrifty:  # in the order of the file, a weight is widened when it is read, and then let go
        options.enable_cpu_mem_arena = False
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    left = _WIDENING if thrifty else []
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=left
        )
    except Exception as error:
        raise ModelError(
            f"onnxruntime {onnxruntime.__version__} refuses {path.name}: {_said(error)}",
            fix=f"deploykit inspect {path.name} shows what it needs; convert it again with"
            " another --opset or --exporter",
        ) from error


def failed(path: Path, case: Mapping[str, Array], error: Exception) -> ModelError:
    """Say that a file does not run on some inputs."""
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in case.items())
    return ModelError(
        f"{path.name} fails in onnxruntime on {shapes}",
        fix="give inputs that it takes: --input 'name:dtype[dims]' or --data samples.npz",
        details=[f"on {shapes}", _said(error)],
    )


def _bytes_of_halves(graph: Any) -> int:
    """Say how much the weights of 16 bits take."""
    import onnx_ir

    halves = (onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16)
    weights = (value.const_value for one in graph.graphs() for value in one.initializers.values())
    return sum(weight.nbytes for weight in weights if weight is not None and weight.dtype in halves)


_TRIAL = "import sys, onnxruntime as ort; ort.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"


def _refuse_what_crashes(path: Path, graph: Any) -> None:
    """Load a file with float16 weights in another process first: onnxruntime 1.31 dies of some, as of their LSTMs.

    Raises:
        ModelError: that process was killed by a signal.
    """
    import onnx_ir

    if not any(
        value.dtype == onnx_ir.DataType.FLOAT16 for one in graph.graphs() for value in one.initializers.values()
    ):
        return
    ended = subprocess.run([sys.executable, "-c", _TRIAL, str(path)], capture_output=True, check=False).returncode
    if ended < 0:
        raise ModelError(
            f"onnxruntime crashes ({signal.Signals(-ended).name}) when it loads {path.name}, which is in float16",
            fix="leave LSTM, GRU, RNN and LayerNormalization in float32 when the file is made (op_block_list)",
        )


def _narrowed(path: Path, own: Sequence[TensorSpec], asked: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Put the descriptions that the user gave in place of a file's own, where they agree with it."""
    by_name = {spec.name: spec for spec in own}
    for spec in asked:
        have = by_name.get(spec.name)
        if have is None:
            raise UsageError(
                f"{path} has no input '{spec.name}'{nearest(spec.name, by_name)}",
                fix=f"its inputs are {', '.join(map(str, own))}",
            )
        if have.dtype != spec.dtype or len(have.dims) != len(spec.dims):
            raise UsageError(f"{path} takes {have}, not {spec}", fix="give its dtype and number of dimensions")
        by_name[spec.name] = spec
    return tuple(by_name.values())


def _said(error: Exception) -> str:
    text = str(error)
    node = _NODE.search(text)
    if node is None:
        return text.rpartition(" : ")[2].strip().splitlines()[0] if text.strip() else type(error).__name__
    reason = _PLACE.sub("", node[3].strip().splitlines()[0])
    return f"node {node[2] or '(no name)'} ({node[1]}): {reason}"


def moved(array: Array) -> Array:
    """Give an array with each real value at a neighbouring number, up or down by chance; zeros stay."""
    if array.dtype.kind != "f":
        return array
    up = np.random.default_rng(array.size).random(array.shape) < 0.5  # noqa: PLR2004
    towards = np.where(up, np.inf, -np.inf).astype(array.dtype)
    with np.errstate(over="ignore"):  # a mask of the largest number moves to infinity, and is put back
        near = np.nextafter(array, towards)
    return np.where((array == 0) | ~np.isfinite(near), array, near)


def _is_sigmoid(value: Any) -> bool:
    """Tell whether a value is the result of a Sigmoid, moved about or scaled by at most small arithmetic."""
    seen: set[int] = set()
    ahead = [value]
    while ahead:
        node = (value := ahead.pop()).producer()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if node.op_type == "Sigmoid":
            return True
        if node.op_type in _MOVES:
            ahead.extend(part for part in node.inputs if part is not None)
    return False
