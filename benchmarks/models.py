"""The models that the benchmarks convert: full-sized architectures of transformers, with random weights."""

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
