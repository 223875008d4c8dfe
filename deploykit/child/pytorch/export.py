"""Export a model to ONNX with one of torch's two exporters, and say plainly what stopped it."""

import gc
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deploykit.child.pytorch.call import Call, flat_forward, parameters
from deploykit.errors import ModelError, ValueDependent
from deploykit.tensors import TensorSpec

_REWRITE = "rewrite that line with operations that ONNX has"
_FROM_CODE = (
    "convert it from its code: save it with torch.export.save, or give its state_dict with --factory file.py:Class"
)
_OPERATOR = re.compile(
    r"No ONNX function found for <OpOverload\(op='([\w.]+)'"
    r"|[Ee]xporting the operator '?([\w:]+)'?"
    r"|ONNX export of operator ([\w:]+)"
    r"|(aten\.[\w.]+) (?:is not|has no)"
)


@dataclass(frozen=True)
class Order:
    """What to export: the model, how it is called, and where the file goes."""

    model: Any
    call: Call
    tensors: Mapping[str, torch.Tensor]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    opset: int
    target: str


def dynamo(order: Order) -> list[str]:
    """Export with ``torch.onnx.export(dynamo=True)``; a program of ``torch.export`` is taken as it is.

    The weights are written beside the file, tensor by tensor, so that they are never held twice.

    Returns:
        Nothing to say.

    Raises:
        ModelError: it can't be exported so.
    """
    options: dict[str, Any] = {
        "dynamo": True,
        "opset_version": order.opset,
        "external_data": True,
        "verbose": False,
        "input_names": list(order.call.names),
        "output_names": list(order.outputs),
    }
    with _explained("dynamo"):
        if isinstance(order.model, torch.export.ExportedProgram):
            torch.onnx.export(order.model, f=order.target, **options)
        else:
            shapes = tuple(_dynamic(spec) or None for spec in order.inputs)
            if any(shapes):
                options["dynamic_shapes"] = shapes
            with _flattened(order) as module:
                torch.onnx.export(module, tuple(order.tensors.values()), order.target, **options)
    _release_graphs()
    return []


def torchscript(order: Order) -> list[str]:
    """Export by tracing, with ``torch.onnx.export(dynamo=False)``.

    Returns:
        The places where the trace kept for good what Python decided.

    Raises:
        ModelError: it can't be exported so.
    """
    fix = _FROM_CODE if isinstance(order.model, torch.jit.ScriptModule) else _REWRITE
    with _explained("torchscript", fix), warnings.catch_warnings(record=True) as caught, _flattened(order) as module:
        warnings.simplefilter("always", torch.jit.TracerWarning)
        _script_to_onnx(module, order)
    kept = {f"{one.filename}:{one.lineno}" for one in caught if issubclass(one.category, torch.jit.TracerWarning)}
    return [f"tracing kept what {place} computed in Python" for place in sorted(kept) if _is_users(place)]


def _release_graphs() -> None:
    """Let go of the exported graph.

    The rewrite rules of onnxscript (seen in 0.7.2) live as long as the process and keep the last graph that they were
    matched against. Its constants are views of the model's weights, which would then stay in memory twice when these
    become float64.
    """
    for matcher in [one for one in gc.get_objects() if type(one).__name__ == "SimplePatternMatcher"]:
        vars(matcher).update({name: None for name in vars(matcher) if name != "pattern"})
    gc.collect()


def frozen(order: Order) -> list[str]:
    """Export a TorchScript module with its weights as constants, and not traced: other rewrites apply to it so.

    Raises:
        ModelError: it can't be exported so, or takes its inputs otherwise than in order.
    """
    positional, keywords = order.call.positional, order.call.keywords
    slots = tuple(parameters(order.model))[len(positional) :]
    if order.call.fixed or keywords != slots[: len(keywords)]:
        raise ModelError(
            "the frozen archive can't be exported",
            fix=_FROM_CODE,
            details=["it takes its inputs in order only, and no fixed arguments"],
        )
    with _explained("torchscript", _FROM_CODE):
        _script_to_onnx(torch.jit.freeze(order.model), order)
    return []


def _script_to_onnx(module: Any, order: Order) -> None:
    torch.onnx.export(
        module,
        tuple(order.tensors.values()),
        order.target,
        dynamo=False,
        opset_version=order.opset,
        input_names=list(order.call.names),
        output_names=list(order.outputs),
        dynamic_axes={spec.name: _dynamic(spec) for spec in order.inputs if _dynamic(spec)} or None,
    )


EXPORTERS: dict[str, Callable[[Order], list[str]]] = {"dynamo": dynamo, "torchscript": torchscript, "frozen": frozen}


def _dynamic(spec: TensorSpec) -> dict[int, str]:
    return {axis: dim for axis, dim in enumerate(spec.dims) if isinstance(dim, str)}


@contextmanager
def _flattened(order: Order) -> Iterator[Any]:
    """Give the model a forward from flat tensors to flat tensors; the names of its weights stay as they are."""
    model = order.model
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        around = nn.Module().eval()  # the forward of a TorchScript module can't be replaced
        around.model = model
        around.forward = flat_forward(model, order.call)
        # Traced here: the exporter's own tracing does not take a scripted module inside another.
        yield torch.jit.trace(around, tuple(order.tensors.values()), check_trace=False)
        return
    own = vars(model).get("forward")
    model.forward = flat_forward(model.forward, order.call)
    try:
        yield model
    finally:
        del model.forward
        if own is not None:
            model.forward = own


@contextmanager
def _explained(exporter: str, fix: str = _REWRITE) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        causes = list(_causes(error))
        operator = next(filter(None, (_operator(str(cause)) for cause in causes)), None)
        line = next(filter(None, (_user_line(cause) for cause in reversed(causes))), None)
        where = f"operator {operator}" if operator else line or "its export"
        details = [f"{type(causes[-1]).__name__}: {_short(str(causes[-1]))}"]
        if operator and line:
            details.insert(0, f"at {line}")
        if any(type(cause).__name__ == "GuardOnDataDependentSymNode" for cause in causes):
            raise ValueDependent(
                f"the model decides by the values of a tensor at {line or where}: an export would keep one way only",
                fix="compute both ways and choose with torch.where, use torch.cond, or save it with torch.jit.script",
                details=details,
            ) from error
        raise ModelError(
            f"the {exporter} exporter stops at {where}",
            fix=fix,
            details=details,
        ) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _operator(text: str) -> str | None:
    match = _OPERATOR.search(text)
    return next(filter(None, match.groups()), None) if match else None


def _user_line(error: BaseException) -> str | None:
    """Give the deepest line of the model's own code in a traceback, or in the text of an error of torch.export."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_users(frame.filename):
            return f"{frame.filename}:{frame.lineno}: {frame.line}"
    for file, number in reversed(re.findall(r'File "([^"]+)", line (\d+)', str(error))):
        if _is_users(file):
            return f"{file}:{number}"
    return None


_OURS = str(Path(__file__).parents[2])
_TORCH = str(Path(torch.__file__).parent.parent)


def _is_users(file: str) -> bool:
    path = str(Path(file))
    return not (path.startswith((_OURS, _TORCH, "<")) or "/lib/python3" in path)


def _short(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:3])[:400] if lines else "no message"
