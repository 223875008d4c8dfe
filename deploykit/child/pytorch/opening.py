"""Inputs that open units which all samples so far leave shut: behind a ReLU that stays at zero no fault is seen.

They are found by gradient ascent on what goes into the rectifiers, from samples that are there: Erhan, Bengio,
Courville and Vincent, "Visualizing higher-layer features of a deep network", 2009. The gradient is put in below
autograd, on its way back, so that modules, scripted modules and exported graphs are all alike.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Tensors = dict[str, torch.Tensor]
Run = Callable[[Tensors], Sequence[torch.Tensor]]
Push = Callable[[int, torch.Tensor], torch.Tensor]
"""Gives what to add to the gradient of a rectifier's input, from its number and that input: rows, units, places."""

_RECTIFIERS = {"relu": "threshold_backward", "hardtanh": "hardtanh_backward"}
"""Operators that rectify, and what takes their gradient back."""
_BY_CHANNEL = frozenset({"convolution", "native_batch_norm", "native_group_norm"})
"""Operators whose results have their units on axis 1."""
_BY_FEATURE = frozenset({"addmm", "mm", "bmm", "native_layer_norm"})
"""Operators whose results have their units on the last axis."""
_STEPS = 24
_ROWS = 8
"""Samples that are changed."""
_MOVED = 1 << 18
"""Numbers that they have together at most, where they are more than one."""
_LARGEST = 1 << 19
"""Numbers of a sample over which nothing is tried: 2 MB."""
_SLOW = 0.02
"""Seconds of a run on a sample over which nothing is tried either: in big nets the steps would take too long."""
_PATIENCE = 3.0
"""Seconds that the ascent may take, or so many times as long as a run on all cases, where that is more."""
_STRIDE = 0.4
"""Length of the first step in standard deviations of an input; the others are shorter and shorter."""
_LEAK = 0.1
"""Share of the gradient that goes back through a unit that is shut, to those before it."""
_OPEN = 0.5
"""How far over zero a unit is wanted, in standard deviations of its layer."""
_FLAGS = 2
"""Values up to which numbers are flags, and stay."""


def opening(run: Run, cases: Sequence[Tensors], *, batched: bool) -> Tensors | None:
    """Look for inputs that open rectified units (ReLU, ReLU6) which are shut in all cases.

    Numbers move within the range that they have in the cases; ids, masks and the like stay.

    Args:
        run: runs the model, with gradients where they are on, and gives its outputs.
        cases: inputs by name, the first of the usual sizes. The model may refuse some.
        batched: whether axis 0 of all inputs is a batch that may have any size.

    Returns:
        One case more; None where no unit is shut, none could be opened, or it would take too long.

    Raises:
        Exception: whatever a model raises that has no gradient.
    """
    ranges = {name: _Range.of([case[name] for case in cases]) for name in cases[0] if _is_moved(cases, name)}
    sample = sum(cases[0][name].numel() for name in ranges) // _parts(cases[0], batched=batched)
    if not 0 < sample <= _LARGEST:
        return None
    with torch.jit.optimized_execution(False), _one_thread():  # optimized, a scripted ReLU goes back some other way
        begin = time.thread_time()
        idle = _idle(run, cases, batched=batched)
        units = sum(int(layer.sum()) for layer in idle)
        if not units:
            return None
        end = time.thread_time() + _PATIENCE * max(1.0, time.thread_time() - begin)
        rows = min(units, _ROWS, max(1, _MOVED // sample))
        given = _last(cases, rows) if batched else cases[0]
        return _Search(run, idle, ranges).opened(given, end, batched=batched)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on this thread alone, so that its time is that of the work, however busy the machine is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Range:
    """What the numbers of an input are."""

    least: float
    most: float
    spread: float

    @classmethod
    def of(cls, tensors: Sequence[torch.Tensor]) -> "_Range":
        whole = torch.cat([tensor.reshape(-1) for tensor in tensors])
        return cls(float(whole.min()), float(whole.max()), float(whole.std()))

    def moved(self, tensor: torch.Tensor, gradient: torch.Tensor | None, stride: float) -> torch.Tensor:
        """Go a step up; by the sign, for gradients of many layers are of any size."""
        if gradient is None:
            return tensor
        return (tensor + stride * self.spread * gradient.sign()).clamp(self.least, self.most)


def _is_moved(cases: Sequence[Tensors], name: str) -> bool:
    first = cases[0][name]
    return first.is_floating_point() and first.ndim > 0 and any(len(case[name].unique()) > _FLAGS for case in cases)


def _parts(case: Tensors, *, batched: bool) -> int:
    return len(next(iter(case.values()))) if batched else 1


def _last(cases: Sequence[Tensors], rows: int) -> Tensors:
    """Take the last samples that have the sizes of the first."""
    usual = {name: tensor.shape[1:] for name, tensor in cases[0].items()}
    alike = [case for case in cases if all(case[name].shape[1:] == shape for name, shape in usual.items())]
    return {name: torch.cat([case[name] for case in alike])[-rows:] for name in usual}


class _Rectifiers(TorchDispatchMode):
    """Hears what goes into every rectifier, and adds to the gradient that goes back through it."""

    def __init__(self, push: Push | None = None) -> None:
        super().__init__()
        self.tops: list[torch.Tensor] = []
        """The largest input of every unit of every rectifier: rows, units."""
        self._push = push
        self._axis = 1
        self._ahead: list[tuple[int, torch.Tensor, int]] = []
        """Number, input and axis of the units of the rectifiers that the gradient has not come to."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to import what compiles takes a second

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        name = func.overloadpacket.__name__.strip("_")
        if name in _RECTIFIERS and args[0].ndim > 1 and (name == "relu" or args[1] == 0):
            self._hear(args[0])
        if self._push is not None and name in _RECTIFIERS.values():
            for place in reversed(range(len(self._ahead))):  # it goes backwards, so that the last is the next
                if _same(self._ahead[place][1], args[1]):
                    return _back(args[0], *self._ahead.pop(place), self._push)
        self._axis = 1 if name in _BY_CHANNEL else -1 if name in _BY_FEATURE else self._axis
        return func(*args, **(kwargs or {}))

    def _hear(self, tensor: torch.Tensor) -> None:
        if self._push is not None:
            self._ahead.append((len(self.tops), tensor.clone(), self._axis))  # it may be done in place
        self.tops.append(_by_unit(tensor, self._axis).amax(2))


def _same(before: torch.Tensor, kept: torch.Tensor) -> bool:
    """Tell whether autograd has kept this input, or the output of it."""
    return before.shape == kept.shape and torch.equal(before.clamp_min(0), kept.clamp_min(0))


def _back(gradient: torch.Tensor, number: int, before: torch.Tensor, axis: int, push: Push) -> torch.Tensor:
    added = push(number, _by_unit(before, axis)).reshape(before.movedim(axis, 1).shape).movedim(1, axis)
    return torch.where(before > 0, gradient, _LEAK * gradient).nan_to_num(0, 0, 0) + added


def _by_unit(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    """Bring it to rows, units, places."""
    turned = tensor.movedim(axis, 1)
    return turned.reshape(*turned.shape[:2], -1)


def _idle(run: Run, cases: Sequence[Tensors], *, batched: bool) -> list[torch.Tensor]:
    """Say of each rectifier which of its units are shut in all cases; give none where the model is slow."""
    found: list[torch.Tensor] = []
    for number, case in enumerate(cases):
        begin = time.thread_time()
        with torch.no_grad(), _Rectifiers() as rectifiers:
            try:
                run(case)
            except Exception:  # noqa: BLE001, S112 - sizes that the model refuses, as the golden says
                continue
        shut = [(top <= 0).all(0) for top in rectifiers.tops]
        found = found or shut
        if [one.shape for one in shut] == [one.shape for one in found]:
            found = [one & before for one, before in zip(shut, found, strict=True)]
        taken = (time.thread_time() - begin) / _parts(case, batched=batched)
        if (number == 1 and taken > _SLOW) or not any(one.any() for one in found):
            return []
    return found


class _Search:
    """The ascent."""

    def __init__(self, run: Run, idle: Sequence[torch.Tensor], ranges: Mapping[str, _Range]) -> None:
        self._run, self._idle, self._ranges = run, idle, ranges

    def opened(self, given: Tensors, end: float, *, batched: bool) -> Tensors | None:
        """Go up from some samples; give those that have opened a unit, or None where that goes past the end."""
        rows = len(given[next(iter(self._ranges))])
        dealt = self._dealt(rows)
        for step in range(_STEPS):
            begin = time.thread_time()
            given = self._step(given, dealt, _STRIDE * (1 - step / _STEPS))
            now = time.thread_time()
            if now + (_STEPS - step - 1) * (now - begin) * bool(step) > end:  # the first is slow by itself
                return None
        with torch.no_grad(), _Rectifiers() as rectifiers:
            self._run(given)
        news = [((top > 0) & own).any(1) for top, own in zip(rectifiers.tops, self._idle, strict=True)]
        by_row = torch.stack([one if len(one) == rows else one.any().expand(rows) for one in news]).any(0)
        if not by_row.any():
            return None
        return {name: tensor[by_row] for name, tensor in given.items()} if batched else given

    def _dealt(self, rows: int) -> list[torch.Tensor]:
        """Deal the idle units out to the samples: of each rectifier rows, units."""
        dealt, before = [], 0
        for units in self._idle:
            turn = units.cumsum(0) - 1 + before
            dealt.append(units & (turn % rows == torch.arange(rows)[:, None]))
            before += int(units.sum())
        return dealt

    def _step(self, given: Tensors, dealt: Sequence[torch.Tensor], stride: float) -> Tensors:
        moved = {name: given[name].clone().requires_grad_() for name in self._ranges}
        with torch.enable_grad(), _Rectifiers(partial(_push, dealt)):
            outputs = [one for one in self._run({**given, **moved}) if one.requires_grad]
            nothing = [torch.zeros_like(one) for one in outputs]
            found = torch.autograd.grad(outputs, list(moved.values()), nothing, allow_unused=True)
        gradients = zip(moved, found, strict=True)
        return {**given, **{name: self._ranges[name].moved(given[name], one, stride) for name, one in gradients}}


def _push(dealt: Sequence[torch.Tensor], number: int, before: torch.Tensor) -> torch.Tensor:
    """Pull a sample's units up until they are well open: everywhere, and most where they are nearest to it."""
    scaled = before / before.std().clamp_min(torch.finfo(before.dtype).tiny)
    own = dealt[number] if len(before) == len(dealt[number]) else dealt[number].any(0)  # rows that are no samples
    wanted = own & (scaled.amax(2) < _OPEN)
    return wanted[:, :, None] * (scaled.softmax(2) + 1 / scaled.shape[2])
