"""Listen to a module while it runs: what its submodules and its operations give, in order.

Submodules are heard by forward hooks, operations by a dispatch mode below autograd, so that functions between modules
and scripted modules are heard too. An exported graph is run node by node, and heard by the names of its nodes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.export._tree_utils import reorder_kwargs
from torch.utils._python_dispatch import TorchDispatchMode

from deploykit.child.heard import Heard
from deploykit.child.prints import Print
from deploykit.child.pytorch.trial import as_array

_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


Hear = Callable[[Heard, torch.Tensor], None]


@contextmanager
def listening(model: Any, hear: Hear) -> Iterator[Any]:
    """Tell of every real tensor that a model's parts give, while it runs in this block.

    Args:
        model: a module.
        hear: takes where a tensor is from, and the tensor, which it must not keep.

    Yields:
        What to call in the place of the model.
    """
    if isinstance(model, torch.fx.GraphModule):
        yield partial(_run_graph, model, hear)
        return
    ears = _Ears(hear)
    with ExitStack() as stack:
        for path, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                continue
            stack.callback(module.register_forward_pre_hook(partial(ears.enter, path)).remove)
            stack.callback(module.register_forward_hook(partial(ears.leave, path), always_call=True).remove)
        stack.enter_context(_Operations(ears))
        yield model


@dataclass
class _Ears:
    """Which module is running, and how often each has run."""

    hear: Hear
    running: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def enter(self, path: str, _module: Any, _inputs: Any) -> None:
        self.running.append(path)

    def leave(self, path: str, module: Any, inputs: Any, outputs: Any) -> None:
        self.running.pop()
        after = next((getattr(one, _KEY) for one in _tensors(inputs) if hasattr(one, _KEY)), "")
        self.tell(path, "module", type(module).__name__, outputs, after)

    def tell(self, path: str, kind: str, name: str, outputs: Any, after: str = "") -> None:
        place = f"{kind} {path}" if kind == "module" else f"{kind} {path} {name}"
        call = self.counts.get(place, 0)
        self.counts[place] = call + 1
        for number, tensor in enumerate(_tensors(outputs)):
            key = f"{place} {call} {number}"
            if tensor.dtype in _REAL and tensor.numel():
                self.hear(Heard(key, path, kind, name, call, after), tensor.detach())
            if kind == "module":
                setattr(tensor, _KEY, key)


_KEY = "_deploykit_key"


class _Operations(TorchDispatchMode):
    """Hears every operation that reaches a kernel."""

    def __init__(self, ears: _Ears) -> None:
        super().__init__()
        self.ears = ears

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        outputs = func(*args, **(kwargs or {}))
        if not func.is_view:
            path = self.ears.running[-1] if self.ears.running else ""
            self.ears.tell(path, "operation", func.overloadpacket.__name__.strip("_"), outputs)
        return outputs


def _run_graph(model: Any, hear: Hear, *args: Any, **kwargs: Any) -> Any:
    """Run an exported graph node by node."""

    class Nodes(torch.fx.Interpreter):
        def run_node(self, node: Any) -> Any:
            outputs = super().run_node(node)
            if node.op == "call_function":
                stack = list((node.meta.get("nn_module_stack") or {}).values())
                path = str(stack[-1][0]) if stack else ""
                for number, tensor in enumerate(_tensors(outputs)):
                    if tensor.dtype in _REAL and tensor.numel():
                        hear(Heard(f"node {node.name} {number}", path, "node", node.name, 0, ""), tensor.detach())
            return outputs

    ordered = reorder_kwargs(kwargs, model._in_spec)  # noqa: SLF001 - as the module itself does
    leaves = torch.utils._pytree.tree_leaves((args, ordered))  # noqa: SLF001
    return model.graph.process_outputs(Nodes(model).run(*leaves, enable_io_processing=False))


def _tensors(value: Any) -> list[torch.Tensor]:
    return [
        part
        for part in torch.utils._pytree.tree_leaves(value)  # noqa: SLF001 - it has no public face
        if isinstance(part, torch.Tensor) and part.layout is torch.strided and not part.is_quantized
    ]


@dataclass(frozen=True)
class Wanted:
    """A tensor to write down."""

    file: str
    every: int
    """Keep one of so many elements, of the tensor made flat; 1 keeps it as it is."""


def written(wanted: Mapping[str, Wanted]) -> tuple[Hear, list[str]]:
    """Give a function that writes the wanted tensors, by key, as .npy files, and the list of those that it wrote."""
    found: list[str] = []

    def hear(heard: Heard, tensor: torch.Tensor) -> None:
        order = wanted.get(heard.key)
        if order is not None:
            array = as_array(tensor)
            np.save(order.file, array if order.every == 1 else array.reshape(-1)[:: order.every])
            found.append(heard.key)

    return hear, found


def described() -> tuple[Hear, list[dict[str, Any]]]:
    """Give a function that takes the fingerprint of every tensor, and the list of what it heard."""
    found: list[dict[str, Any]] = []

    def hear(heard: Heard, tensor: torch.Tensor) -> None:
        found.append({**asdict(heard), "print": Print.of(as_array(tensor)).fields()})

    return hear, found
