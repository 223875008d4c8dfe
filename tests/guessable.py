"""Modules of many kinds, each named after what makes its inputs hard to guess, with the inputs that are right."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn


def net(forward: Callable[..., Any], **layers: Any) -> Any:
    """Build a module from its layers and its forward."""
    module = type("Net", (nn.Module,), {"forward": forward})()
    for name, layer in layers.items():
        setattr(module, name, layer)
    return module


def chain(*layers: Any) -> Any:
    return nn.Sequential(*layers)


def encoder(*, batch_first: bool) -> Any:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


def conv(channels: int, out: int) -> Any:
    return nn.Conv2d(channels, out, 3, padding=1)


def unet() -> Any:
    """Three halvings, so that height and width must be divisible by eight."""

    def forward(self: Any, x: Any) -> Any:
        levels = [self.stem(x)]
        for _ in range(3):
            levels.append(self.down(self.pool(levels[-1])))
        y = levels.pop()
        while levels:
            y = self.merge(torch.cat([self.grow(y), levels.pop()], 1))
        return y

    layers = {"stem": conv(3, 4), "down": conv(4, 4), "merge": conv(8, 4)}
    return net(forward, **layers, pool=nn.MaxPool2d(2), grow=nn.Upsample(scale_factor=2))


def positions() -> Any:
    """A language model that can't be traced, with fewer positions than the usual lengths."""

    def forward(self: Any, idx: Any) -> Any:
        _, length = idx.size()
        if length > self.position.num_embeddings:
            raise ValueError("too long")
        x = self.token(idx) + self.position(torch.arange(length))
        return self.head(self.encoder(x))

    parts = {"token": nn.Embedding(50, 16), "position": nn.Embedding(24, 16), "head": nn.Linear(16, 50)}
    return net(forward, **parts, encoder=encoder(batch_first=True))


def patches() -> Any:
    """A vision transformer whose positions fix its input to 96 by 96."""
    return net(
        lambda self, x: self.encoder(self.embed(x).flatten(2).transpose(1, 2) + self.position).mean(1),
        embed=nn.Conv2d(3, 16, 16, 16),
        encoder=encoder(batch_first=True),
        position=nn.Parameter(torch.zeros(1, 36, 16)),
    )


def pooled(layer: Any) -> Callable[[Any], Any]:
    """Run a convolution, and take the mean over everything but batch and channels."""
    return lambda x: layer(x).flatten(2).mean(2)


ONE: dict[str, tuple[Callable[[], Any], str]] = {
    "mlp": (lambda: chain(nn.Linear(13, 4), nn.ReLU(), nn.Linear(4, 1)), "input:float32[batch,13]"),
    "mlp in float64": (lambda: chain(nn.Linear(13, 4)).double(), "input:float64[batch,13]"),
    "cnn in float16": (lambda: chain(nn.Conv2d(3, 4, 3)).half(), "input:float16[batch,3,224,224]"),
    "mlp behind a flatten": (lambda: chain(nn.Flatten(), nn.Linear(784, 10)), "input:float32[batch,1,28,28]"),
    "cnn flattened from 50x50": (
        lambda: chain(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 24 * 24, 10)),
        "input:float32[batch,3,50,50]",
    ),
    "cnn flattened from a spectrogram": (
        lambda: chain(conv(1, 8), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 20 * 50, 10)),
        "input:float32[batch,1,40,101]",
    ),
    "cnn with channels last": (
        lambda: net(lambda self, x: self.c(x.permute(0, 3, 1, 2)).mean((2, 3)), c=nn.Conv2d(3, 4, 3)),
        "x:float32[batch,224,224,3]",
    ),
    "cnn with a functional layer": (
        lambda: net(
            lambda self, x: nn.functional.conv2d(x, self.w).mean((2, 3)), w=nn.Parameter(torch.zeros(4, 3, 3, 3))
        ),
        "x:float32[batch,3,224,224]",
    ),
    "grey image repeated to three channels": (
        lambda: net(lambda self, x: self.c(torch.cat([x, x, x], 1)).mean((2, 3)), c=nn.Conv2d(3, 4, 3)),
        "x:float32[batch,1,224,224]",
    ),
    "u-net": (unet, "x:float32[batch,3,224,224]"),
    "vision transformer of 96x96": (patches, "x:float32[batch,3,96,96]"),
    "conv3d": (
        lambda: chain(nn.Conv3d(3, 4, 3, 4), nn.AdaptiveAvgPool3d(1), nn.Flatten()),
        "input:float32[batch,3,16,112,112]",
    ),
    "conv1d on audio": (
        lambda: chain(nn.Conv1d(1, 8, 80, 16), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 5)),
        "input:float32[batch,1,16000]",
    ),
    "conv1d on an odd length": (
        lambda: chain(nn.Conv1d(1, 8, 5), nn.Flatten(), nn.Linear(8 * 183, 5)),
        "input:float32[batch,1,187]",
    ),
    "raw audio behind a spectrogram": (
        lambda: net(lambda self, x: self.c(x.unfold(1, 64, 32).unsqueeze(1)).mean((2, 3)), c=nn.Conv2d(1, 4, 3)),
        "x:float32[batch,16000]",
    ),
    "lstm, batch first": (
        lambda: net(lambda self, x: self.l(x)[0][:, -1], l=nn.LSTM(7, 8, batch_first=True)),
        "x:float32[batch,16,7]",
    ),
    "lstm, time first": (lambda: net(lambda self, x: self.l(x)[0][-1], l=nn.LSTM(7, 8)), "x:float32[16,batch,7]"),
    "lstm, time first behind a transpose": (
        lambda: net(lambda self, x: self.l(x.transpose(0, 1))[0][-1], l=nn.LSTM(7, 8)),
        "x:float32[batch,16,7]",
    ),
    "linear in front of a gru": (
        lambda: net(lambda self, x: self.g(self.p(x))[0], p=nn.Linear(5, 7), g=nn.GRU(7, 8, batch_first=True)),
        "x:float32[batch,16,5]",
    ),
    "transformer, time first": (
        lambda: chain(nn.Embedding(50, 16), encoder(batch_first=False)),
        "input:int64[16,batch]",
    ),
    "language model with 24 positions": (positions, "idx:int64[batch,16]"),
    "bag of words": (lambda: chain(nn.EmbeddingBag(50, 8), nn.Linear(8, 2)), "input:int64[batch,16]"),
    "generator": (lambda: chain(nn.ConvTranspose2d(100, 8, 4), conv(8, 3)), "input:float32[batch,100,1,1]"),
    "batch norm in front": (
        lambda: chain(nn.BatchNorm1d(6), nn.Conv1d(6, 3, 3)),
        "input:float32[batch,6,16]",
    ),
    "only a parameter": (
        lambda: net(lambda self, x: x @ self.w, w=nn.Parameter(torch.ones(5, 2))),
        "x:float32[batch,5]",
    ),
    "everything has a default": (
        lambda: net(lambda self, x=None: self.f(x), f=nn.Linear(6, 2)),
        "x:float32[batch,6]",
    ),
    "any number of inputs": (
        lambda: net(lambda self, *xs: self.f(xs[0]), f=nn.Linear(6, 2)),
        "xs:float32[batch,6]",
    ),
}

SEVERAL: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "image and table": (
        lambda: net(
            lambda self, image, table: torch.cat([pooled(self.c)(image), self.g(table)], 1),
            c=nn.Conv2d(3, 8, 3),
            g=nn.Linear(5, 8),
        ),
        ["image:float32[batch,3,224,224]", "table:float32[batch,5]"],
    ),
    "two that are added": (
        lambda: net(lambda self, a, b: self.f(a + b), f=nn.Linear(6, 2)),
        ["a:float32[batch,6]", "b:float32[batch,6]"],
    ),
    "two that are joined": (
        lambda: net(lambda self, a, b: self.f(torch.cat([a, b], 1)), f=nn.Linear(6, 2)),
        ["a:float32[batch,3]", "b:float32[batch,3]"],
    ),
    "image joined with its mask": (
        lambda: net(lambda self, image, mask: self.c(torch.cat([image, mask], 1)), c=conv(4, 2)),
        ["image:float32[batch,3,32,32]", "mask:float32[batch,1,32,32]"],
    ),
    "ids and a padding mask": (
        lambda: net(
            lambda self, ids, mask: self.e(self.emb(ids), src_key_padding_mask=mask),
            emb=nn.Embedding(50, 16),
            e=encoder(batch_first=True),
        ),
        ["ids:int64[batch,16]", "mask:bool[batch,16]"],
    ),
    "ids and an attention mask of ones": (
        lambda: net(
            lambda self, ids, attention_mask: self.f((self.e(ids) * attention_mask.unsqueeze(-1)).sum(1)),
            e=nn.Embedding(50, 16),
            f=nn.Linear(16, 2),
        ),
        ["ids:int64[batch,16]", "attention_mask:int64[batch,16]"],
    ),
    "user and item": (
        lambda: net(
            lambda self, user, item: (self.u(user) * self.i(item)).sum(-1), u=nn.Embedding(9, 4), i=nn.Embedding(5, 4)
        ),
        ["user:int64[batch]", "item:int64[batch]"],
    ),
    "gru with its state": (
        lambda: net(lambda self, x, h: self.g(x, h), g=nn.GRU(7, 8, 2, batch_first=True)),
        ["x:float32[batch,16,7]", "h:float32[2,batch,8]"],
    ),
    "lstm with its states": (
        lambda: net(lambda self, x, h, c: self.l(x, (h, c)), l=nn.LSTM(7, 8)),
        ["x:float32[16,batch,7]", "h:float32[1,batch,8]", "c:float32[1,batch,8]"],
    ),
    "padded steps and their lengths": (
        lambda: net(
            lambda self, x, lengths: self.g(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))[1][-1],
            g=nn.GRU(7, 8, batch_first=True),
        ),
        ["x:float32[batch,16,7]", "lengths:int64[batch]"],
    ),
    "bilinear": (lambda: nn.Bilinear(3, 4, 5), ["input1:float32[batch,3]", "input2:float32[batch,4]"]),
    "encoder and decoder": (
        lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
        ["src:float32[batch,16,8]", "tgt:float32[batch,16,8]"],
    ),
}
