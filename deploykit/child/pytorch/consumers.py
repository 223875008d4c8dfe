"""Find the layer that consumes each input of a module first: it tells the input's rank and element type."""

import inspect
import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

_WIDTH = {
    # kind: the attribute that says how wide the input is, and where traced modules keep it: a weight and its axis
    "conv1": ("in_channels", "weight", 1),
    "conv2": ("in_channels", "weight", 1),
    "conv3": ("in_channels", "weight", 1),
    "up1": ("in_channels", "weight", 0),
    "up2": ("in_channels", "weight", 0),
    "up3": ("in_channels", "weight", 0),
    "linear": ("in_features", "weight", 1),
    "embedding": ("num_embeddings", "weight", 0),
    "rnn": ("input_size", "weight_ih_l0", 1),
    "cell": ("input_size", "weight_ih", 1),
    "attention": ("embed_dim", "out_proj.weight", 0),
    "norm1": ("num_features", "weight", 0),
    "norm2": ("num_features", "weight", 0),
    "norm3": ("num_features", "weight", 0),
    "group": ("num_channels", "weight", 0),
    "layer": ("normalized_shape", "weight", -1),
    "bilinear": ("in1_features", "weight", 1),
}
_KINDS = {
    **{
        f"{name}{rank}d": f"{kind}{rank}"
        for name, kind in (("Conv", "conv"), ("ConvTranspose", "up"))
        for rank in (1, 2, 3)
    },
    **{f"{name}{rank}d": f"norm{rank}" for name in ("BatchNorm", "InstanceNorm") for rank in (1, 2, 3)},
    **dict.fromkeys(("Linear", "NonDynamicallyQuantizableLinear"), "linear"),
    **dict.fromkeys(("Embedding", "EmbeddingBag"), "embedding"),
    **dict.fromkeys(("RNN", "LSTM", "GRU"), "rnn"),
    **dict.fromkeys(("RNNCell", "LSTMCell", "GRUCell"), "cell"),
    **dict.fromkeys(("LayerNorm", "RMSNorm"), "layer"),
    **dict.fromkeys(
        (f"Transformer{part}" for part in ("", "Encoder", "Decoder", "EncoderLayer", "DecoderLayer")), "attention"
    ),
    "MultiheadAttention": "attention",
    "GroupNorm": "group",
    "Bilinear": "bilinear",
}
_FUNCTIONS = {
    **{f"conv{rank}d": f"conv{rank}" for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": f"up{rank}" for rank in (1, 2, 3)},
    "linear": "linear",
    "embedding": "embedding",
    "matmul": "matmul",
    "mm": "matmul",
}
_SIZE_READERS = ("size", "dim", "numel", "ndimension", "shape", "device", "dtype", "ndim")
_MOST_BRANCHES = 100
_MATRIX = 2


@dataclass(frozen=True)
class Layer:
    """What a layer says of its input."""

    kind: str
    why: str
    """In words: ``conv1 is Conv2d with 3 input channels``."""
    width: int
    """Channels or features of the input, or entries of an embedding table."""
    dtype: str
    batch_first: bool | None = None
    weight: tuple[int, ...] = ()
    """Shape of the weight, or of what a LayerNorm normalizes."""
    state: tuple[int, int] = (1, 1)
    """Of an RNN: layers times directions, and hidden size."""


@dataclass
class Use:
    """How one input is consumed."""

    layer: Layer
    slot: int | str = 0
    """Which argument of the layer it is."""
    together: frozenset[str] = field(default_factory=frozenset)
    """The inputs that reach the layer in the same argument, added or joined."""
    joined: bool = False
    """Whether they were concatenated on the way."""
    flattened: bool = False


def layers(module: Any) -> list[Layer]:
    """List the layers of a module that tell something of their inputs, in the order of registration."""
    found = (_layer(name, part) for name, part in module.named_modules())
    return [layer for layer in found if layer is not None]


def consumers(module: Any, names: Sequence[str], deadline: float) -> dict[str, Use]:
    """Follow each input through the symbolic trace, as far as that goes, to its first layer.

    Args:
        module: an eager module; of a scripted one nothing is found.
        names: the parameters of forward to follow; others keep their defaults.
        deadline: when the trace ends, on the clock of ``time.monotonic``.
    """
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        return {}
    graph = _graph(module, names, deadline)
    reached: dict[Any, frozenset[str]] = {}
    marks: dict[Any, frozenset[str]] = {}
    uses: dict[str, Use] = {}
    for node in graph.nodes if graph is not None else ():
        origins = {name for before in node.all_input_nodes for name in reached.get(before, ())}
        if node.op == "placeholder" and node.target in names:
            origins = {node.target}
        reached[node] = frozenset() if _reads_size(node) else frozenset(origins)
        marks[node] = frozenset(_marks(module, node)).union(*(marks[before] for before in node.all_input_nodes))
        layer = _consumer(module, node)
        if layer is not None:
            _note(uses, layer, node, reached, marks)
    return uses


def _note(uses: dict[str, Use], layer: Layer, node: Any, reached: Mapping[Any, frozenset[str]], marks: Any) -> None:
    for slot, before in _arguments(node):
        names = reached.get(before, frozenset())
        fresh = names - uses.keys()
        for name in sorted(fresh):
            seen = marks[before]
            uses[name] = Use(layer, slot, fresh, "join" in seen, "flatten" in seen)


def _arguments(node: Any) -> Iterator[tuple[int | str, Any]]:
    for slot, value in (*enumerate(node.args), *node.kwargs.items()):
        for part in value if isinstance(value, list | tuple) else (value,):
            if hasattr(part, "all_input_nodes"):
                yield slot, part


def _called(node: Any) -> str:
    if node.op == "call_module":
        return ""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _reads_size(node: Any) -> bool:
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in _SIZE_READERS
    return node.op == "call_method" and node.target in _SIZE_READERS


def _marks(module: Any, node: Any) -> Iterator[str]:
    called = _called(node)
    if called in ("cat", "concat", "concatenate", "hstack"):
        yield "join"
    if called in ("flatten", "view", "reshape"):
        yield "flatten"
    if node.op == "call_module" and type(module.get_submodule(node.target)).__name__ == "Flatten":
        yield "flatten"


def _consumer(module: Any, node: Any) -> Layer | None:
    if node.op == "call_module":
        return _layer(node.target, module.get_submodule(node.target))
    kind = "matmul" if node.target is operator.matmul else _FUNCTIONS.get(_called(node))
    weight = node.kwargs.get("weight", node.args[1] if len(node.args) > 1 else None)
    if node.op != "call_function" or kind is None or getattr(weight, "op", "") != "get_attr":
        return None
    tensor = attrgetter(weight.target)(module)
    shape = tuple(tensor.shape)
    axis = 0 if kind == "matmul" else _WIDTH[kind][2]
    if len(shape) < _MATRIX:
        return None
    why = f"{weight.target} is the weight of a {_called(node)} with {shape[axis]} {_words(kind, shape[axis])}"
    return Layer("linear" if kind == "matmul" else kind, why, shape[axis], _dtype(tensor), weight=shape)


def _graph(module: Any, names: Sequence[str], deadline: float) -> Any:
    from torch import fx

    class Tracer(fx.Tracer):
        branches = 0

        def is_leaf_module(self, m: Any, qualified_name: str) -> bool:
            return _kind(m) is not None or super().is_leaf_module(m, qualified_name)

        def create_proxy(self, *args: Any, **kwargs: Any) -> Any:
            if time.monotonic() > deadline:
                raise TimeoutError
            return super().create_proxy(*args, **kwargs)

        def to_bool(self, obj: Any) -> bool:
            # Checks of the input pass, so that the trace comes to the layers behind them; a loop must end.
            self.branches += 1
            return True if self.branches < _MOST_BRANCHES else bool(super().to_bool(obj))

    tracer = Tracer()
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if name not in names and parameter.default is not parameter.empty
    }
    # What a model can't be traced through is often behind the layer that is looked for.
    with suppress(Exception):
        tracer.trace(module, concrete_args=defaults)
    return getattr(tracer, "graph", None)


def _kind(part: Any) -> str | None:
    names = [getattr(part, "original_name", ""), *(kind.__name__ for kind in type(part).__mro__)]
    return next((_KINDS[name] for name in names if name in _KINDS), None)


def _layer(name: str, part: Any) -> Layer | None:
    kind = _kind(part)
    if kind is None:
        return None
    inner = _attention(part) if kind == "attention" else part
    shape = _weight_shape(kind, inner)
    width = _width(kind, inner, shape)
    if width is None:
        return None
    word = getattr(part, "original_name", type(part).__name__)
    why = f"{name or 'the module'} is {word} with {width} {_words(kind, width)}"
    state = _state(inner) if kind in ("rnn", "cell") else (1, 1)
    first = getattr(inner, "batch_first", None)
    own = next((tensor for tensor in part.parameters() if tensor.is_floating_point()), None)
    return Layer(kind, why, width, _dtype(own), first, shape, state)


def _words(kind: str, width: int) -> str:
    if kind == "embedding":
        return "entries"
    word = "input channel" if kind[-1].isdigit() or kind == "group" else "input feature"
    return word if width == 1 else f"{word}s"


def _attention(part: Any) -> Any:
    return next((inner for _, inner in part.named_modules() if hasattr(inner, "out_proj")), part)


def _weight_shape(kind: str, part: Any) -> tuple[int, ...]:
    with suppress(AttributeError, TypeError):
        if kind == "layer" and hasattr(part, "normalized_shape"):
            return tuple(part.normalized_shape)
        return tuple(attrgetter(_WIDTH[kind][1])(part).shape)
    return ()


def _width(kind: str, part: Any, shape: tuple[int, ...]) -> int | None:
    attribute, _, axis = _WIDTH[kind]
    stated = getattr(part, attribute, None)
    if isinstance(stated, int):
        return stated
    return shape[axis] if -len(shape) <= axis < len(shape) else None


def _state(part: Any) -> tuple[int, int]:
    weights = dict(part.named_parameters(recurse=False))
    stacked = sum(name.startswith("weight_hh") for name in weights)
    hidden = next((tensor.shape[1] for name, tensor in weights.items() if name.startswith("weight_hh")), 1)
    return max(stacked, 1), hidden


def _dtype(tensor: Any) -> str:
    return "float32" if tensor is None else str(tensor.dtype).removeprefix("torch.")
