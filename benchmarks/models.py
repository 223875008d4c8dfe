"""The models of the benchmarks: full-sized architectures, most of them of transformers, with random weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def resnet50() -> Any:
    """ResNet-50: 25.6 million parameters."""
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(num_labels=1000))


def mobilenetv2() -> Any:
    """MobileNetV2 1.0: 3.5 million parameters."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    return MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=1000))


def vit_b() -> Any:
    """ViT-B/16: 86.6 million parameters."""
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(num_labels=1000))


def bert_base() -> Any:
    """BERT-base: 109.5 million parameters."""
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig())


def lstm() -> Any:
    """Two layers of a bidirectional LSTM over 64 features, 40 classes: 2.2 million parameters."""
    from torch import nn

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(64, 256, num_layers=2, bidirectional=True, batch_first=True)
            self.norm = nn.LayerNorm(512)
            self.head = nn.Linear(512, 40)

        def forward(self, x: Any) -> Any:
            return self.head(self.norm(self.lstm(x)[0]))

    return Tagger()


def unet() -> Any:
    """U-Net of four levels, batch normalization, bilinear and transposed upsampling: 7.8 million parameters."""
    import torch
    from torch import nn

    def block(before: int, after: int) -> Any:
        halves = ((before, after), (after, after))
        return nn.Sequential(
            *(
                part
                for one, two in halves
                for part in (nn.Conv2d(one, two, 3, padding=1, bias=False), nn.BatchNorm2d(two), nn.ReLU())
            )
        )

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = (32, 64, 128, 256)
            self.down = nn.ModuleList(block(one, two) for one, two in zip((3, *widths), widths, strict=False))
            self.middle = block(256, 512)
            self.rise = nn.ModuleList(
                (
                    nn.ConvTranspose2d(512, 256, 2, 2),
                    nn.Upsample(scale_factor=2, mode="bilinear"),
                    nn.ConvTranspose2d(128, 64, 2, 2),
                    nn.Upsample(scale_factor=2),
                )
            )
            self.up = nn.ModuleList([block(512, 256), block(384, 128), block(128, 64), block(96, 32)])
            self.head = nn.Conv2d(32, 2, 1)

        def forward(self, x: Any) -> Any:
            kept = []
            for down in self.down:
                x = down(x)
                kept.append(x)
                x = nn.functional.max_pool2d(x, 2)
            x = self.middle(x)
            for rise, up in zip(self.rise, self.up, strict=True):
                x = up(torch.cat([rise(x), kept.pop()], 1))
            return self.head(x)

    return UNet()


@dataclass(frozen=True)
class Model:
    """A model and the inputs that it is exported with."""

    factory: Callable[[], Any]
    inputs: dict[str, tuple[int | str, ...]]
    """Dimensions by name of the argument; a word is a dynamic axis."""
    dtype: str

    @property
    def described(self) -> list[str]:
        """The inputs as deploykit's ``--input`` takes them."""
        return [f"{name}:{self.dtype}[{','.join(map(str, dims))}]" for name, dims in self.inputs.items()]


SIZES = {"batch": 2, "seq": 16}
"""What both sides export with: deploykit's own example sizes."""

_IMAGE: dict[str, tuple[int | str, ...]] = {"pixel_values": ("batch", 3, 224, 224)}
_TEXT: dict[str, tuple[int | str, ...]] = {"input_ids": ("batch", "seq"), "attention_mask": ("batch", "seq")}

MODELS = {
    "mobilenetv2": Model(mobilenetv2, _IMAGE, "float32"),
    "resnet50": Model(resnet50, _IMAGE, "float32"),
    "vit_b": Model(vit_b, _IMAGE, "float32"),
    "bert_base": Model(bert_base, _TEXT, "int64"),
}

OWN = {
    "lstm": Model(lstm, {"x": ("batch", "seq", 64)}, "float32"),
    "unet": Model(unet, {"x": ("batch", 3, 128, 128)}, "float32"),
}
"""Kinds of nets that transformers has none of."""
