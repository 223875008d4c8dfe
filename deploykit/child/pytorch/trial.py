"""Run a module on made-up inputs without leaving a trace in it, and see whether the batch goes through."""

import io
import random
import re
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from copy import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from deploykit.child.pytorch.call import flatten
from deploykit.tensors import Array, Tensors

BATCH = 2
"""Rows of the example; every candidate is also run with one row more, put in front of these."""

_MIXING = 0.02
_TOO_SHORT = re.compile(
    r"can't be greater than actual input|output size is too small|non-empty|non-zero size", re.IGNORECASE
)
_MATMUL = re.compile(r"\(\d+x(\d+) and (\d+)x\d+\)")
_VIEW = re.compile(r"shape '\[([-\d, ]+)\]' is invalid for input of size (\d+)")


class OutOfTime(Exception):
    """The time given for the search is used up."""


@dataclass(frozen=True)
class Outcome:
    """What became of one candidate."""

    fits: bool = False
    """It ran at both batch sizes, and an output follows the batch."""
    independent: bool = False
    """No row of the batch changed another, so that the axis really is the batch."""
    error: str = ""
    depth: int = 0
    """How many modules were entered before the error."""
    scale: int = 0
    """Why it does not fit, where that can be told: sizes are too small (-1) or too big (1)."""


class Trials:
    """Runs of one module, together no longer than a deadline."""

    def __init__(self, module: Any, keywords: frozenset[str], deadline: float) -> None:
        """Take the module, the inputs it wants by keyword, and the end on the clock of ``time.monotonic``."""
        import torch

        self.module, self.keywords, self.deadline = module, keywords, deadline
        self.entered = 0
        first = next(module.parameters(), None)
        self.device = torch.device("cpu") if first is None else first.device

    def attempt(self, three: Tensors, axes: Mapping[str, int | None], halves: frozenset[str] = frozenset()) -> Outcome:
        """Run on the last two rows of three, then on all three.

        Args:
            three: the inputs, with a batch of three.
            axes: which axis of each input is the batch; None where it has none.
            halves: the inputs that are to be bfloat16, which numpy does not have.

        Raises:
            OutOfTime: the deadline has passed.
        """
        self.entered = 0
        try:
            small = self.run(last_rows(three, axes), halves)
            large = self.run(three, halves)
        except OutOfTime:
            raise
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            text = f"{type(error).__name__}: {error}"
            return Outcome(error=text, depth=self.entered, scale=_scale(text))
        return _judge(small, large, sorted({0, *(axis for axis in axes.values() if axis is not None)}), self.entered)

    def run(self, feed: Tensors, halves: frozenset[str] = frozenset()) -> list[Array]:
        """Give the output tensors of the module, in order, as float64, integers or bools.

        Raises:
            OutOfTime: the deadline has passed.
        """
        import torch

        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)).to(self.device) for name, array in feed.items()}
        tensors |= {name: tensors[name].to(torch.bfloat16) for name in halves}
        hook = torch.nn.modules.module.register_module_forward_pre_hook(self._enter)
        try:
            outputs = self.module(
                *(tensor for name, tensor in tensors.items() if name not in self.keywords),
                **{name: tensor for name, tensor in tensors.items() if name in self.keywords},
            )
        finally:
            hook.remove()
        return [as_array(tensor) for tensor in flatten(outputs).values()]

    def _enter(self, _module: Any, _inputs: Any) -> None:
        self.entered += 1
        if time.monotonic() > self.deadline:
            raise OutOfTime


@contextmanager
def undisturbed(module: Any) -> Iterator[None]:
    """Put a module into eval mode for trials, silently, and leave it and the random numbers as they were."""
    import torch

    restore = [*_contents(module), *_attributes(module)]
    numbers, draws = random.getstate(), np.random.get_state()  # noqa: NPY002
    cards = {tensor.device for tensor in module.parameters() if tensor.is_cuda}
    try:
        # A model that prints or warns in forward would do so for every candidate.
        with torch.random.fork_rng(cards), torch.no_grad(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            module.eval()
            yield
    finally:
        with torch.no_grad():
            for undo in restore:
                undo()
        random.setstate(numbers)
        np.random.set_state(draws)  # noqa: NPY002 - the model may draw from numpy's global generator


def last_rows(three: Tensors, axes: Mapping[str, int | None]) -> Tensors:
    """Take the last two of three rows of each input."""
    return {name: _rows(array, axes[name], BATCH) for name, array in three.items()}


def as_array(tensor: Any) -> Array:
    """Turn a torch tensor into a numpy array; bfloat16 becomes float32, which holds it exactly."""
    import torch

    tensor = tensor.detach().cpu()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    array: Array = tensor.to(torch.float32).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
    return array


def _rows(array: Array, axis: int | None, count: int) -> Array:
    return array if axis is None else np.take(array, range(array.shape[axis] - count, array.shape[axis]), axis=axis)


def _judge(small: list[Array], large: list[Array], axes: list[int], depth: int) -> Outcome:
    pairs = [(few, many) for few, many in zip(small, large, strict=False) if few.ndim]
    if not pairs:
        return Outcome(error="the outputs are no tensors with a batch axis", depth=depth)
    followed = [_follows(few, many, axes) for few, many in pairs]
    if all(axis is None for axis in followed):
        few, many = pairs[0]
        text = f"the output does not follow the batch: {list(few.shape)} for 2 rows, {list(many.shape)} for 3"
        return Outcome(error=text, depth=depth, scale=int(np.sign(few.shape[0] - BATCH)))
    same = all(
        _same(few, _rows(many, axis, BATCH))
        for (few, many), axis in zip(pairs, followed, strict=True)
        if axis is not None
    )
    return Outcome(fits=True, independent=same and followed[0] is not None, depth=depth)


def _follows(few: Array, many: Array, axes: list[int]) -> int | None:
    grown = [axis for axis in axes if axis < few.ndim == many.ndim]
    return next((axis for axis in grown if (few.shape[axis], many.shape[axis]) == (BATCH, BATCH + 1)), None)


def _same(few: Array, many: Array) -> bool:
    if few.shape != many.shape or few.dtype.kind not in "fc":
        return few.shape == many.shape
    top = float(np.nanmax(np.abs(few.astype(np.complex128)), initial=0.0))
    # Another batch size takes another kernel, or other dynamic scales; mixing of rows shows above that.
    return bool(np.allclose(few, many, rtol=0, atol=_MIXING * top, equal_nan=True))


def _scale(error: str) -> int:
    if _TOO_SHORT.search(error):
        return -1
    if "index out of range" in error:  # ids are drawn within the vocabulary, so it is a position
        return 1
    if product := _MATMUL.search(error):
        return int(np.sign(int(product[1]) - int(product[2])))
    if view := _VIEW.search(error):
        dims = [int(dim) for dim in view[1].split(",")]
        # The free one of the dimensions is the batch where it comes first.
        wanted = prod(dim for dim in dims if dim > 0) * (BATCH if dims[0] < 0 else 1)
        return int(np.sign(int(view[2]) - wanted))
    return 0


def _contents(module: Any) -> list[Callable[[], None]]:
    def undo(tensor: Any, kept: Any, version: int) -> Callable[[], None]:
        return lambda: tensor.copy_(kept) if tensor._version != version else None  # noqa: SLF001

    tensors = [*module.parameters(), *module.buffers()]
    return [undo(tensor, tensor.detach().clone(), tensor._version) for tensor in tensors]  # noqa: SLF001


def _attributes(module: Any) -> list[Callable[[], None]]:
    import torch

    def flag(part: Any, training: bool) -> Callable[[], None]:
        return lambda: setattr(part, "training", training)

    def whole(part: Any) -> Callable[[], None]:
        values = dict(vars(part))
        holders = {name: copy(value) for name, value in values.items() if type(value) in (dict, OrderedDict, list)}

        def undo() -> None:
            for name, content in holders.items():
                values[name].clear()
                (values[name].extend if isinstance(content, list) else values[name].update)(content)
            vars(part).clear()
            vars(part).update(values)

        return undo

    # The attributes of a scripted module live in C++, and its forward can't leave new ones.
    if isinstance(module, torch.jit.ScriptModule):
        return [flag(part, part.training) for part in module.modules() if hasattr(part, "training")]
    return [whole(part) for part in module.modules()]
