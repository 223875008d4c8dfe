"""Train a small CNN on scikit-learn's digits: a real model, made in seconds, to try deploykit with.

python examples/digits_pytorch.py demo
deploykit convert demo/digits.pt --factory examples/digits_pytorch.py:DigitsNet
"""

import sys
from pathlib import Path

import numpy as np
import torch  # noqa: TID253 - this file is a model's own, and is imported where torch is
from torch import nn  # noqa: TID253

EPOCHS = 5
BATCH = 64
HELD_OUT = 360


class DigitsNet(nn.Module):
    """Takes images, float32 [batch, 1, 8, 8] of 0 to 1; gives logits [batch, classes]."""

    def __init__(self, classes: int = 10) -> None:
        """Build the layers."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(32 * 4 * 4, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the logits of a batch."""
        return self.head(self.drop(self.features(x).flatten(1)))


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = torch.from_numpy((found.images[order] / 16).astype(np.float32)[:, None])
    return images, torch.from_numpy(found.target[order])


def train(images: torch.Tensor, labels: torch.Tensor) -> DigitsNet:
    torch.manual_seed(0)
    net = DigitsNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(images[rows]), labels[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {total / len(images):.3f}")
    return net.eval()


def accuracy(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return (net(images).argmax(1) == labels).double().mean().item()


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # so that every machine adds up in the same order, and gets the same net
    images, labels = digits()
    net = train(images[HELD_OUT:], labels[HELD_OUT:])
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), folder / "digits.pt")
    np.savez(folder / "digits_val.npz", x=images[:HELD_OUT].numpy(), y=labels[:HELD_OUT].numpy())
    print(f"accuracy on {HELD_OUT} images not trained on: {accuracy(net, images[:HELD_OUT], labels[:HELD_OUT]):.1%}")
    print(f"wrote {folder / 'digits.pt'} and {folder / 'digits_val.npz'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
