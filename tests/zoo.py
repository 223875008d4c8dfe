"""Tiny PyTorch nets that convert, each named after what it breaks; the digits CNN is in examples."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch  # noqa: TID253 - nets are classes of torch, and this file is imported where torch is
from torch import nn  # noqa: TID253


class Lstm(nn.Module):
    """A recurrent net with its batch first and a free time axis; gives the last state too."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 12, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        steps, (hidden, _) = self.lstm(x)
        return self.head(steps[:, -1]), hidden[-1]


class Encoder(nn.Module):
    """A transformer encoder with an embedding, positions and a mask of live tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(37, 16)
        self.places = nn.Embedding(24, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.tokens(input_ids) + self.places(places)
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        live = attention_mask.unsqueeze(-1).to(x.dtype)
        return self.head((x * live).sum(1) / live.sum(1))


class UNet(nn.Module):
    """Skips by concatenation, a stride, a transposed convolution, and a resize to the size of a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.bottom = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1), nn.SiLU())
        self.up = nn.ConvTranspose2d(32, 8, 2, stride=2)
        self.leave = nn.Conv2d(16, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.enter(image)
        second = self.down(first)
        grown = nn.functional.interpolate(
            self.bottom(second), size=second.shape[2:], mode="bilinear", align_corners=False
        )
        return self.leave(torch.cat([self.up(torch.cat([grown, second], 1)), first], 1))


class Pair(nn.Module):
    """Two inputs, an optional third that is left out, and a dict of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(1, 4, 3)
        self.numbers = nn.Linear(5, 4)
        self.head = nn.Linear(4, 2)

    def forward(
        self, image: torch.Tensor, numbers: torch.Tensor, weight: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        mixed = self.image(image).mean((2, 3)) + self.numbers(numbers)
        if weight is not None:
            mixed = mixed * weight
        return {"logits": self.head(mixed), "embedding": mixed.tanh()}


class Named(NamedTuple):
    """An output with names."""

    mean: torch.Tensor
    spread: torch.Tensor


Old = namedtuple("Old", ["low", "high"])  # noqa: PYI024


@dataclass
class Found:
    """An output as a dataclass, with what is no tensor, and nothing at all, among it."""

    boxes: torch.Tensor
    scores: torch.Tensor
    label: str = "digit"
    masks: torch.Tensor | None = None


class Nested(nn.Module):
    """Outputs in a tuple in a list in a dict, beside a dataclass, and named tuples of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        y = self.layer(x)
        return {
            "hidden": [(y, y.relu()), y.sin()],
            "found": Found(y[:, :4], y.softmax(1)),
            "named": Named(y.mean(1), y.std(1)),
            "old": Old(y.amin(1), y.amax(1)),
        }


class Listed(nn.Module):
    """Outputs in a bare tuple with a list in it, which have no names of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        y = self.layer(x)
        return y, [y.cos(), y.exp()]


class NestedInputs(nn.Module):
    """Takes a dict, and a list of two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, batch: dict[str, torch.Tensor], pair: list[torch.Tensor]) -> torch.Tensor:
        return self.layer(batch["image"]) + batch["bias"] + pair[0] * pair[1]


class Types(nn.Module):
    """int64, bool and float64 inputs, and outputs that are int64, bool and float64."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 4)
        self.scale = nn.Parameter(torch.rand(4, dtype=torch.float64))

    def forward(
        self, ids: torch.Tensor, keep: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y = self.table(ids).double() * self.scale * weights.unsqueeze(-1)
        y = torch.where(keep.unsqueeze(-1), y, torch.zeros_like(y)).sum(1)
        return y, y.argmax(-1), y > 0


class Echo(nn.Module):
    """An output has the name of an input, and another is an input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"x": self.layer(x), "same": x}


class Tied(nn.Module):
    """The weight of the embedding is that of the head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 32)
        self.mix = nn.Linear(32, 32)
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.mix(self.table(ids)).relu())


class Plain(nn.Module):
    """Two layers, in whatever precision is asked for; left in train mode, its dropout and its norm show."""

    def __init__(self, dtype: str = "float32") -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4)
        ).to(getattr(torch, dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def tiny_bert() -> nn.Module:
    """Give transformers' BERT, small: it returns a ModelOutput, and most of its arguments are optional."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        num_labels=3,
        output_hidden_states=True,
    )
    torch.manual_seed(0)
    return BertForSequenceClassification(config)
