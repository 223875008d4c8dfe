"""Right models whose numbers are hard to judge: each output is one that a fixed tolerance gets wrong."""

from typing import Any


def elementwise() -> Any:
    """Nearly every operation on single numbers, each an output of its own."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Elementwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(()))

        def forward(self, x: Any) -> Any:
            x = x * self.one
            size = x.abs() + 0.1
            both = {name: getattr(functional, name)(x) for name in ("gelu", "softplus", "mish", "elu", "selu", "silu")}
            both |= {name: getattr(functional, name)(x) for name in ("hardswish", "hardsigmoid", "logsigmoid")}
            both |= {name: getattr(torch, name)(x) for name in ("relu", "exp", "erf", "sin", "cos", "tanh", "sigmoid")}
            both |= {name: getattr(torch, name)(size) for name in ("log", "sqrt", "rsqrt", "reciprocal")}
            return both | {
                "added": x + 1,
                "same": x * 1,
                "power": size**2.5,
                "clipped": x.clamp(-1, 1),
                "tanh_gelu": functional.gelu(x, approximate="tanh"),
                "far_gelu": functional.gelu(x - 6),
                "far_exp": torch.exp(x * 25),
                "far_sin": torch.sin(x * 1000),
            }

    return Elementwise()


def extremes() -> Any:
    """Tiny, huge, saturated, constant, whole, infinite and undefined outputs."""
    import torch
    from torch import nn

    class Extremes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(16, 16)
            self.norm = nn.LayerNorm(16)
            self.deep = nn.Sequential(*[part for _ in range(50) for part in (nn.Linear(16, 16), nn.ReLU())])
            self.pool = nn.MaxPool1d(2)
            with torch.no_grad():
                for layer in self.deep[::2]:
                    layer.weight.mul_(2.2)

        def forward(self, x: Any) -> Any:
            y = self.line(x)
            found = torch.topk(y, 3)
            return {
                "tiny_sigmoid": torch.sigmoid(y - 20),
                "no_sigmoid": torch.sigmoid(y - 80),
                "tiny_softmax": torch.softmax(y * 40, -1),
                "log_softmax": torch.log_softmax(y * 40, -1),
                "saturated": torch.tanh(y * 30),
                "saturated_all": torch.tanh(y + 50),
                "tiny_tanh": torch.tanh(y * 1e-4),
                "far_from_zero": self.norm(y + 1e5),
                "small": y * 1e-20,
                "smaller": y * 1e-40,
                "large": y * 1e20,
                "overflown": (y * 1e38) * (y * 30),
                "deep": self.deep(y),
                "constant": y * 0 + 3.3,
                "zero": torch.relu(y - 100),
                "sparse": torch.relu(y - 1.2),
                "one": y[:, :1],
                "mean": y.mean(-1),
                "pooled": self.pool(y),
                "best": y.argmax(-1),
                "whole": (y * 100).to(torch.int64),
                "byte": (torch.sigmoid(y) * 255).round().to(torch.uint8),
                "rounded": torch.round(y * 100),
                "alive": y > 0,
                "top": found.values,
                "places": found.indices,
                "masked": y.masked_fill(x > 0, float("-inf")),
                "undefined": torch.log(y),
            }

    return Extremes()


def attending() -> Any:
    """Causal attention that shows its scores, with -inf in them, and its weights."""
    import torch
    from torch import nn

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Any) -> Any:
            scores = self.query(x) @ self.key(x).transpose(1, 2) * 10
            causal = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
            scores = scores.masked_fill(~causal, float("-inf"))
            weights = scores.softmax(-1)
            return {"scores": scores, "weights": weights, "mixed": weights @ self.value(x)}

    return Attending()


def saturated() -> Any:
    """An LSTM whose gates are nearly all shut or open."""
    import torch
    from torch import nn

    class Saturated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 12, batch_first=True)
            with torch.no_grad():
                for weight in self.lstm.parameters():
                    weight.mul_(6)

        def forward(self, x: Any) -> Any:
            return self.lstm(x)[0]

    return Saturated()


def accepting() -> Any:
    """An MLP that runs in float64 too."""
    from torch import nn

    class Accepting(nn.Sequential):
        def forward(self, x: Any) -> Any:
            return super().forward(self.taken(x))

        def taken(self, x: Any) -> Any:
            return x

    return Accepting(nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 40), nn.GELU(), nn.Linear(40, 6))


def refusing() -> Any:
    """The same MLP, with a cast that keeps it from running in float64."""
    model = accepting()
    model.taken = lambda x: x.float()
    return model


INPUTS = {
    "elementwise": "x:float32[batch,16]",
    "extremes": "x:float32[batch,16]",
    "attending": "x:float32[batch,time,8]",
    "saturated": "x:float32[batch,time,8]",
}
