"""The main nets of the zoo, and every form that PyTorch models are kept in, as files to convert."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: TID253 - it makes and saves torch's models
from torch import nn  # noqa: TID253

from examples.digits_pytorch import DigitsNet
from tests.running import ROOT
from tests.zoo import Encoder, Lstm, Pair, UNet


def _images(channels: int, size: int) -> Callable[[np.random.Generator, int], dict[str, Any]]:
    return lambda rng, batch: {"image": rng.standard_normal((batch, channels, size, size)).astype(np.float32)}


def _tokens(rng: np.random.Generator, batch: int) -> dict[str, Any]:
    mask = np.arange(9) < rng.integers(1, 10, batch)[:, None]
    return {"input_ids": rng.integers(0, 37, (batch, 9)), "attention_mask": mask.astype(np.int64)}


def _pair(rng: np.random.Generator, batch: int) -> dict[str, Any]:
    shapes = {"image": (batch, 1, 8, 8), "numbers": (batch, 5)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@dataclass(frozen=True)
class Kind:
    """A net with what goes in and what comes out."""

    net: Callable[[], nn.Module]
    factory: str
    """As --factory takes it, below the repository's folder."""
    feed: Callable[[np.random.Generator, int], dict[str, Any]]
    """Makes inputs for a batch size."""
    inputs: tuple[str, ...]
    """As --input takes them, and as the ONNX file must say."""
    outputs: tuple[str, ...]
    free: dict[str, dict[int, str]] = field(default_factory=dict)
    """Free axes beside the batch, by input."""

    def make(self) -> Any:
        """Give the net, in eval mode, the same every time."""
        torch.manual_seed(0)
        return self.net().eval().requires_grad_(requires_grad=False)

    def example(self, batch: int, seed: int = 0) -> dict[str, Any]:
        """Give inputs."""
        return self.feed(np.random.default_rng(seed), batch)


MAIN = {
    "digits": Kind(
        DigitsNet,
        "examples/digits_pytorch.py:DigitsNet",
        lambda rng, batch: {"x": rng.random((batch, 1, 8, 8)).astype(np.float32)},
        ("x:float32[batch,1,8,8]",),
        ("output:float32[batch,10]",),
    ),
    "lstm": Kind(
        Lstm,
        "tests/zoo.py:Lstm",
        lambda rng, batch: {"x": rng.standard_normal((batch, 7, 6)).astype(np.float32)},
        ("x:float32[batch,time,6]",),
        ("output_0:float32[batch,3]", "output_1:float32[batch,12]"),
        {"x": {1: "time"}},
    ),
    "encoder": Kind(
        Encoder,
        "tests/zoo.py:Encoder",
        _tokens,
        ("input_ids:int64[batch,seq]", "attention_mask:int64[batch,seq]"),
        ("output:float32[batch,5]",),
        {"input_ids": {1: "seq"}, "attention_mask": {1: "seq"}},
    ),
    "unet": Kind(
        UNet,
        "tests/zoo.py:UNet",
        _images(3, 16),
        ("image:float32[batch,3,16,16]",),
        ("output:float32[batch,2,16,16]",),
    ),
    "pair": Kind(
        Pair,
        "tests/zoo.py:Pair",
        _pair,
        ("image:float32[batch,1,8,8]", "numbers:float32[batch,5]"),
        ("logits:float32[batch,2]", "embedding:float32[batch,4]"),
    ),
}

Save = Callable[[Kind, Any, Path], None]


@dataclass(frozen=True)
class Form:
    """A way to keep a model, and what it takes to convert it from there."""

    save: Save
    suffix: str = ".pt"
    needs: tuple[str, ...] = ("inputs",)
    """Which options: ``inputs``, ``factory``, ``trust``, ``quick``."""
    static: bool = False
    words: Mapping[str, str] = field(default_factory=dict)
    """What it calls free axes that it does not know by name, or the sizes that it fixes them at."""

    def options(self, kind: Kind) -> list[str]:
        """Give the options of convert."""
        choices = {
            "inputs": [part for text in kind.inputs for part in ("--input", text)],
            "factory": ["--factory", str(ROOT / kind.factory)],
            "trust": ["--trust-pickle"],
            "quick": ["--exporter", "torchscript"],  # where the loading is what is tried
        }
        return [word for need in self.needs for word in choices[need]]


def tensors(arrays: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Give torch's tensors of numpy's arrays."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _args(kind: Kind) -> tuple[torch.Tensor, ...]:
    return tuple(tensors(kind.example(2)).values())


def _export(kind: Kind, model: Any, path: Path) -> None:
    torch.export.save(torch.export.export(model, _args(kind)), path)


def _export_free(kind: Kind, model: Any, path: Path) -> None:
    # AUTO, since torch.export fixes the time axis of an LSTM whatever is asked.
    auto, free = torch.export.Dim.AUTO, torch.export.Dim.DYNAMIC
    shapes = tuple({0: free, **dict.fromkeys(kind.free.get(name, {}), auto)} for name in kind.example(2))
    torch.export.save(torch.export.export(model, _args(kind), dynamic_shapes=shapes), path)


def _traced(kind: Kind, model: Any, path: Path) -> None:
    model = kind.make().requires_grad_()  # else a transformer's fast path is traced, one operator that none can export
    torch.jit.save(torch.jit.trace(model, _args(kind), strict=False, check_trace=False), path)


def _scripted(kind: Kind, model: Any, path: Path) -> None:
    torch.jit.save(torch.jit.script(model), path)


def _module(kind: Kind, model: Any, path: Path) -> None:
    torch.save(model, path)


def _weights(change: Callable[[dict[str, Any]], Any], **options: Any) -> Save:
    def save(kind: Kind, model: Any, path: Path) -> None:
        torch.save(change(model.state_dict()), path, **options)

    return save


def _safetensors(kind: Kind, model: Any, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(model.state_dict(), path)


def _onnx(kind: Kind, model: Any, path: Path) -> None:
    shapes = tuple({0: "batch", **_named(kind, name)} for name in kind.example(2))
    torch.onnx.export(
        model,
        _args(kind),
        path,
        dynamo=True,
        opset_version=18,
        verbose=False,
        input_names=list(kind.example(2)),
        output_names=[text.partition(":")[0] for text in kind.outputs],
        dynamic_shapes=shapes,
    )


def _named(kind: Kind, name: str) -> dict[int, str]:
    return {axis: word for axis, word in kind.free.get(name, {}).items() if word != "time"}  # as above


def _prefixed(prefix: str) -> Save:
    return _weights(lambda own: {f"{prefix}{name}": tensor for name, tensor in own.items()})


FORMS = {
    "pt2 with free axes": Form(_export_free, ".pt2", (), words={"time": "7", "seq": "input_ids_1"}),
    "pt2 with fixed axes": Form(_export, ".pt2", (), static=True, words={"time": "7", "seq": "9"}),
    "torchscript, scripted": Form(_scripted),
    "torchscript, traced": Form(_traced),
    "pickled module": Form(_module, needs=("inputs", "trust")),
    "state_dict": Form(_weights(dict), needs=("inputs", "factory")),
    "safetensors": Form(_safetensors, ".safetensors", ("inputs", "factory")),
    "onnx": Form(_onnx, ".onnx", (), words={"time": "7"}),
}
"""What each main net is converted from."""

LAYOUTS = {
    "state_dict": Form(
        _weights(lambda own: {"epoch": 3, "state_dict": own, "best": 0.9, "optimizer": {"lr": [0.1]}}),
        ".ckpt",
        ("inputs", "factory", "quick"),
    ),
    "model": Form(_weights(lambda own: {"model": own, "step": 7}), ".pth", ("inputs", "factory", "quick")),
    "model_state_dict": Form(
        _weights(lambda own: {"model_state_dict": own, "loss": torch.tensor(0.5)}), needs=("inputs", "factory", "quick")
    ),
    "ema": Form(_weights(lambda own: {"ema": own, "updates": 12}), needs=("inputs", "factory", "quick")),
    "module.": Form(_prefixed("module."), needs=("inputs", "factory", "quick")),
    "_orig_mod.module.": Form(_prefixed("_orig_mod.module."), needs=("inputs", "factory", "quick")),
    "legacy": Form(
        _weights(dict, _use_new_zipfile_serialization=False),  # as torch before 1.6 wrote it
        ".th",
        ("inputs", "factory", "quick"),
    ),
}
"""How weights are kept in checkpoints; each is tried with one net."""
