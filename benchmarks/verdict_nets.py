"""Twelve kinds of nets for the benchmark of verdicts, small but built as real ones are, in plain torch."""

from typing import Any


def resnet() -> Any:
    """Classify images: a residual CNN with BatchNorm."""
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.one = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            self.norm = nn.BatchNorm2d(after)
            self.two = nn.Conv2d(after, after, 3, 1, 1, bias=False)
            self.norm_two = nn.BatchNorm2d(after)
            self.short = nn.Conv2d(before, after, 1, stride) if before != after else nn.Identity()

        def forward(self, x: Any) -> Any:
            inner = self.norm_two(self.two(functional.relu(self.norm(self.one(x)))))
            return functional.relu(inner + self.short(x))

    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
    blocks = (Block(16, 16, 1), Block(16, 32, 2), Block(32, 32, 1))
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def mobile() -> Any:
    """Classify images: depthwise convolutions, ReLU6, Hardswish, squeeze and excite; as MobileNet has them."""
    from torch import nn

    class Squeeze(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

        def forward(self, x: Any) -> Any:
            return x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()

    def block(before: int, inner: int, after: int, stride: int, act: Any) -> Any:
        wide = (nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner), act())
        deep = (nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), act())
        return nn.Sequential(
            *wide, *deep, Squeeze(inner), nn.Conv2d(inner, after, 1, bias=False), nn.BatchNorm2d(after)
        )

    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
    blocks = (block(16, 32, 24, 1, nn.ReLU6), block(24, 48, 24, 2, nn.Hardswish))
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(24, 20))


def unet() -> Any:
    """Segment images of any size: down, up again by Resize, skip connections, GroupNorm, softmax over the classes."""
    import torch
    from torch import nn
    from torch.nn import functional

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
            self.two, self.norm_two = nn.Conv2d(8, 16, 3, 2, 1), nn.GroupNorm(4, 16)
            self.deep = nn.Conv2d(16, 16, 3, 2, 1)
            self.up = nn.Conv2d(32, 16, 3, padding=1)
            self.last, self.classes = nn.Conv2d(24, 8, 3, padding=1), nn.Conv2d(8, 5, 1)

        def forward(self, image: Any) -> Any:
            one = functional.leaky_relu(self.norm(self.one(image)), 0.1)
            two = functional.leaky_relu(self.norm_two(self.two(one)), 0.1)
            deep = functional.elu(self.deep(two))
            up = functional.interpolate(deep, size=two.shape[2:], mode="nearest")
            up = functional.relu(self.up(torch.cat([two, up], 1)))
            up = functional.interpolate(up, size=one.shape[2:], mode="bilinear", align_corners=False)
            return self.classes(functional.relu(self.last(torch.cat([one, up], 1)))).softmax(1)

    return UNet()


def vit() -> Any:
    """Classify images: patches, a class token, places, attention, GELU."""
    import torch
    from torch import nn

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 32, 4, 4)
            self.token = nn.Parameter(torch.randn(1, 1, 32))
            self.places = nn.Parameter(torch.randn(1, 65, 32) * 0.5)
            layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

        def forward(self, image: Any) -> Any:
            x = self.patches(image).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
            return self.head(self.norm(self.layers(x))[:, 0])

    return ViT()


def bert() -> Any:
    """Read tokens with a mask: three embeddings, attention, a pooled answer and one for each token."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
            self.out, self.norm = nn.Linear(32, 32), nn.LayerNorm(32, 1e-12)
            self.wide, self.narrow, self.norm_two = nn.Linear(32, 64), nn.Linear(64, 32), nn.LayerNorm(32, 1e-12)

        def forward(self, x: Any, off: Any) -> Any:
            split = [part(x).unflatten(-1, (4, 8)).transpose(1, 2) for part in (self.query, self.key, self.value)]
            scores = split[0] @ split[1].transpose(-1, -2) / 8**0.5 + off
            mixed = (scores.softmax(-1) @ split[2]).transpose(1, 2).flatten(2)
            x = self.norm(x + self.out(mixed))
            return self.norm_two(x + self.narrow(functional.gelu(self.wide(x))))

    class Bert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places, self.kinds = nn.Embedding(300, 32), nn.Embedding(64, 32), nn.Embedding(2, 32)
            self.norm = nn.LayerNorm(32, 1e-12)
            self.layers = nn.ModuleList(Layer() for _ in range(2))
            self.pool, self.tags = nn.Linear(32, 32), nn.Linear(32, 7)

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            places = torch.arange(input_ids.shape[1], device=input_ids.device)
            x = self.norm(self.words(input_ids) + self.places(places) + self.kinds(token_type_ids))
            off = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0
            for layer in self.layers:
                x = layer(x, off)
            return {"pooled": self.pool(x[:, 0]).tanh(), "tags": self.tags(x)}

    return Bert()


def lstm() -> Any:
    """Predict the next character: an embedding, two layers of LSTM, log-probabilities at each step, the last state."""
    from torch import nn

    class Characters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.letters, self.lstm = nn.Embedding(80, 24), nn.LSTM(24, 32, 2, batch_first=True)
            self.head = nn.Linear(32, 80)

        def forward(self, ids: Any) -> Any:
            steps, (_, cell) = self.lstm(self.letters(ids))
            return {"next": self.head(steps).log_softmax(-1), "cell": cell[1]}

    return Characters()


def gru() -> Any:
    """Classify a series of any length: a GRU in both directions over standardized measurements."""
    import torch
    from torch import nn

    class Series(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(6, 20, batch_first=True, bidirectional=True)
            self.norm, self.head = nn.LayerNorm(40), nn.Linear(80, 5)

        def forward(self, x: Any) -> Any:
            steps = self.norm(self.gru(x)[0])
            return self.head(torch.cat([steps.mean(1), steps.amax(1)], 1))

    return Series()


def mlp() -> Any:
    """Predict two numbers from raw columns, which it standardizes itself, and from two categories."""
    import torch
    from torch import nn

    class Columns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor(MEANS))
            self.register_buffer("std", torch.tensor(STDS))
            self.place, self.kind = nn.Embedding(50, 6), nn.Embedding(12, 4)
            self.layers = nn.Sequential(
                *(nn.Linear(18, 48), nn.SiLU(), nn.BatchNorm1d(48), nn.Linear(48, 32), nn.SiLU(), nn.Linear(32, 2))
            )

        def forward(self, columns: Any, place: Any, kind: Any) -> Any:
            known = (columns - self.mean) / self.std
            return self.layers(torch.cat([known, self.place(place), self.kind(kind)], 1))

    return Columns()


MEANS = [40.0, 1200.0, 0.3, 5.0, 0.0, 77.0, 12.0, 0.01]
STDS = [12.0, 800.0, 0.2, 2.0, 1.0, 30.0, 4.0, 0.02]
"""Of the raw columns that ``mlp`` takes."""


def detector() -> Any:
    """Find things in images: a backbone, features of two sizes merged, and boxes, scores and centres as outputs."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.SiLU())
            self.two = nn.Sequential(nn.Conv2d(12, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.SiLU())
            self.three = nn.Sequential(nn.Conv2d(24, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.SiLU())
            self.side = nn.Conv2d(24, 24, 1)
            self.boxes, self.scores = nn.Conv2d(24, 8, 3, padding=1), nn.Conv2d(24, 6, 3, padding=1)
            self.centres = nn.Conv2d(24, 2, 1)

        def forward(self, image: Any) -> Any:
            two = self.two(self.one(image))
            three = self.three(two)
            merged = self.side(two) + functional.interpolate(three, scale_factor=2.0, mode="nearest")
            parts = [functional.relu(merged), three]
            boxes = torch.cat([self.boxes(part).flatten(2) for part in parts], 2).transpose(1, 2)
            scores = torch.cat([self.scores(part).flatten(2) for part in parts], 2).transpose(1, 2)
            centres = functional.max_pool2d(self.centres(parts[0]), 3, 1, 1).sigmoid()
            return {"boxes": boxes.exp(), "scores": scores.sigmoid(), "centres": centres}

    return Detector()


def speech() -> Any:
    """Recognize sounds in spectra of any length: dilated convolutions over time, log-probabilities."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, dilation: int) -> None:
            super().__init__()
            self.deep = nn.Conv1d(32, 32, 5, padding=2 * dilation, dilation=dilation, groups=32)
            self.norm, self.mix = nn.BatchNorm1d(32), nn.Conv1d(32, 32, 1)

        def forward(self, x: Any) -> Any:
            return x + self.mix(self.norm(self.deep(x)).relu())

    class Speech(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv1d(40, 32, 5, 2, 2), nn.BatchNorm1d(32), nn.ReLU())
            self.blocks = nn.Sequential(*(Block(dilation) for dilation in (1, 2, 4)))
            self.head = nn.Conv1d(32, 29, 1)

        def forward(self, mel: Any) -> Any:
            return self.head(self.blocks(self.stem(mel))).transpose(1, 2).log_softmax(-1)

    return Speech()


def decoder() -> Any:
    """Make images of noise, as the generator of a GAN does: transposed convolutions, InstanceNorm, tanh."""
    from torch import nn

    return nn.Sequential(
        *(nn.Linear(32, 32 * 16), nn.Unflatten(1, (32, 4, 4)), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.InstanceNorm2d(16, affine=True), nn.ReLU()),
        *(nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(8, 3, 3, padding=1), nn.Tanh()),
    )


def autoencoder() -> Any:
    """Squeeze images to a code and give both the code and the images back: average pools, PReLU, cubic Resize."""
    from torch import nn
    from torch.nn import functional

    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(
                *(nn.Conv2d(1, 12, 3, padding=1), nn.PReLU(12), nn.AvgPool2d(2), nn.Conv2d(12, 16, 3, padding=1)),
                *(nn.PReLU(16), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * 49, 24)),
            )
            self.up = nn.Sequential(nn.Linear(24, 16 * 49), nn.ELU(), nn.Unflatten(1, (16, 7, 7)))
            self.mid, self.last = nn.Conv2d(16, 12, 3, padding=1), nn.Conv2d(12, 1, 3, padding=1)

        def forward(self, image: Any) -> Any:
            code = self.down(image)
            x = functional.interpolate(self.up(code), scale_factor=2.0, mode="bicubic", align_corners=False)
            x = functional.elu(self.mid(x))
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            return {"code": code, "image": self.last(x).sigmoid()}

    return Autoencoder()
