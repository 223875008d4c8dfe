"""Small real nets, trained or not, converted once per test run and shared by its workers."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Converted:
    """A net's weights on disk, and the ONNX file and golden that were made of them."""

    name: str
    weights: Path
    onnx: Path
    golden: Path

    @property
    def loading(self) -> dict[str, Any]:
        """The options that load the source again."""
        return {"factory": factory(self.name), "inputs": INPUTS[self.name]}


INPUTS = {
    "digits": ("image:float32[batch,1,8,8]",),
    "recurrent": ("x:float32[batch,time,6]",),
    "encoder": ("tokens:int64[batch,time]", "mask:bool[batch,time]"),
    "unet": ("image:float32[batch,3,height,width]",),
    "two": ("left:float32[batch,5]", "right:float32[batch,7]"),
    "ids": ("ids:int64[batch,4]",),
}
NETS = tuple(INPUTS)


def factory(name: str) -> str:
    """Say how deploykit makes the module of a net."""
    return f"{Path(__file__)}:{name}"


def converted(name: str, factory: pytest.TempPathFactory) -> Converted:
    """Convert a net, once for all workers of a test run, and give what was made: tests copy what they change."""
    base = factory.getbasetemp()
    return converted_in((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "converted", name)


def converted_in(folder: Path, name: str) -> Converted:
    """Convert a net in a folder, or wait for the process that is at it, and give what was made."""
    folder.mkdir(exist_ok=True)
    found = Converted(name, folder / f"{name}.pt", folder / f"{name}.onnx", folder / f"{name}.golden.npz")
    with _lock(folder / f"{name}.lock"):
        if not found.onnx.exists():
            _convert(found)
    return found


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert(made: Converted) -> None:
    import torch

    from deploykit import convert

    torch.manual_seed(0)
    model = MAKERS[made.name]()
    TRAINING.get(made.name, _settle)(model)
    torch.save(model.eval().state_dict(), made.weights)
    convert(made.weights, made.onnx, **made.loading)


def digits() -> Any:
    """A CNN for the digits of scikit-learn."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def recurrent() -> Any:
    """An LSTM, a GRU over it in both directions, and a head on the last step."""
    from torch import nn

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(6, 8, batch_first=True)
            self.gru = nn.GRU(8, 5, batch_first=True, bidirectional=True)
            self.head = nn.Linear(10, 3)

        def forward(self, x: Any) -> Any:
            steps, (hidden, _) = self.lstm(x)
            last = self.gru(steps)[0][:, -1]
            return self.head(last), hidden[0]

    return Recurrent()


def encoder() -> Any:
    """A transformer encoder: embedded tokens and places, a mask, masked mean, log-probabilities."""
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(40, 16)
            self.places = nn.Embedding(32, 16)
            layer = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(16, 4)

        def forward(self, tokens: Any, mask: Any) -> Any:
            x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
            x = self.layers(x, src_key_padding_mask=~mask)
            live = mask.unsqueeze(-1).to(x.dtype)
            mean = (x * live).sum(1) / live.sum(1)
            return self.head(mean).log_softmax(-1)

    return Encoder()


def unet() -> Any:
    """Down and up again with skip connections, a resize and a softmax over classes."""
    import torch
    from torch import nn
    from torch.nn import functional

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 6, 3, padding=1)
            self.norm = nn.GroupNorm(2, 6)
            self.down = nn.Conv2d(6, 8, 3, stride=2, padding=1)
            self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
            self.merge = nn.Conv2d(14, 6, 3, padding=1)
            self.last = nn.Conv2d(12, 4, 1)

        def forward(self, image: Any) -> Any:
            first = functional.leaky_relu(self.norm(self.first(image)), 0.1)
            down = functional.hardswish(self.down(first))
            size = first.shape[2:]
            up = functional.interpolate(self.up(down), size=size, mode="bilinear", align_corners=False)
            merged = torch.relu(self.merge(torch.cat([first, up], 1)))
            near = functional.interpolate(first[:, :, ::2, ::2], size=size, mode="nearest")
            return self.last(torch.cat([merged, near], 1)).softmax(1)

    return UNet()


def two() -> Any:
    """Two inputs, and a dict of outputs: a score, features and a class."""
    import torch
    from torch import nn

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Linear(5, 8)
            self.right = nn.Linear(7, 8)
            self.norm = nn.BatchNorm1d(8)
            self.layer_norm = nn.LayerNorm(8)
            self.score = nn.Linear(8, 1)
            self.classes = nn.Linear(8, 3)

        def forward(self, left: Any, right: Any) -> Any:
            features = self.layer_norm(torch.tanh(self.norm(self.left(left) * self.right(right))) - self.left(left))
            return {
                "score": torch.sigmoid(self.score(features)),
                "features": features,
                "best": self.classes(features).argmax(-1),
            }

    return Two()


def ids() -> Any:
    """An MLP over looked-up ids, without any arithmetic on its input."""
    from torch import nn

    return nn.Sequential(nn.Embedding(12, 6), nn.Flatten(), nn.Linear(24, 16), nn.ELU(), nn.Linear(16, 5))


MAKERS: dict[str, Callable[[], Any]] = {
    "digits": digits,
    "recurrent": recurrent,
    "encoder": encoder,
    "unet": unet,
    "two": two,
    "ids": ids,
}


def _train_digits(model: Any) -> None:
    import torch
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(bunch.target)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(6):
        for rows in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()


def _settle(model: Any) -> None:
    """Move weights of norms off one, and biases off zero, so that leaving one out shows."""
    import torch

    for name, tensor in model.state_dict().items():
        if tensor.dim() == 1 and tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * (0.5 if "norm" in name else 0.1))


TRAINING: dict[str, Callable[[Any], None]] = {"digits": _train_digits}
