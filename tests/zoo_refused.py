"""Tiny PyTorch nets that can't be converted as they are, each named after what stops it."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: TID253 - nets are classes of torch, and this file is imported where torch is
from torch import nn  # noqa: TID253


class Branch(nn.Module):
    """Control flow that depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        if x.sum() > 0:
            return y.relu()
        return y - 1


class Baked(nn.Module):
    """The size of the batch as a Python number, which tracing takes for a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.reshape(int(x.shape[0]), 6))


class Longer(nn.Module):
    """A branch on the length of a sequence, of which tracing keeps the one that it went."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if x.shape[1] <= 16 else self.layer(x).tanh()


class FixedBatch(nn.Module):
    """A view with the batch written into it: it runs with a batch of four, and with no other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.view(4, 6))


class SplitBatch(nn.Module):
    """A view with a number written into it that cuts a batch in another way than it was exported with."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).view(2, -1)


class NoOperator(nn.Module):
    """An operator that no exporter has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        square = self.layer(x).unsqueeze(-1) * torch.eye(4) + torch.eye(4)
        return torch.linalg.eigvalsh(square @ square.mT)


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(x) * 2)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * 2


class NumpyInside(nn.Module):
    """Leaves torch for numpy in the middle, by way of a custom autograd function."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Doubled.apply(self.layer(x))


class Random(nn.Module):
    """Other answers each time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + torch.rand_like(x)


class Counting(nn.Module):
    """Keeps state from call to call."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.layer(x) * self.calls


class Slow(nn.Module):
    """Takes a minute for every call, so that it can be interrupted; leaves the number of its process in a file."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.marker = Path(marker)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.marker.write_text(str(os.getpid()))
        time.sleep(60)
        return self.layer(x)


class Dying(nn.Module):
    """Ends its own process while it runs, as a crash in native code would."""

    def __init__(self, signal: int = 9) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.signal = signal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        os.kill(os.getpid(), self.signal)
        return self.layer(x)


class Failing(nn.Module):
    """Raises an error of its own for every input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("this net does not work")
