"""Real trained models with labelled data, as ONNX files, calibration samples and test samples."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import ROOT
from benchmarks.int8 import command

DATA = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Real:
    """A model, and files of samples that it was not trained on; those for calibration are none of the test's."""

    onnx: Path
    calibration: Path
    test: Path


def _converted(place: Path, weights: str, *options: str) -> tuple[Path, str]:
    import onnxruntime

    path = place / f"{Path(weights).stem}.onnx"
    command("convert", DATA / weights, "-o", path, *options)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return path, session.get_inputs()[0].name


def _kept(place: Path, name: str, tensor: str, x: Any, y: Any) -> Path:
    path = place / f"{name}.npz"
    np.savez(path, **{tensor: np.ascontiguousarray(x, np.float32), "y": y})
    return path


def _torch(factory: str, shape: str) -> tuple[str, ...]:
    return "--factory", f"{DATA / 'architectures.py'}:{factory}", "--input", shape


def _cifar(weights: str, options: tuple[str, ...], prepared: Callable[[Any], Any]) -> Callable[[Path], Real]:
    def make(place: Path) -> Real:
        onnx, tensor = _converted(place, f"cifar10/{weights}", *options)
        files = []
        for name in ("cifar10_jpeg_train_500", "cifar10_jpeg_test_2000"):
            with np.load(DATA / "cifar10" / f"{name}.npz") as samples:
                kept = f"{onnx.stem}.{name}"
                files.append(_kept(place, kept, tensor, prepared(samples["x"].astype(np.float32)), samples["y"]))
        return Real(onnx, *files)

    return make


def _normalized(mean: tuple[float, ...], spread: tuple[float, ...]) -> Callable[[Any], Any]:
    middle, wide = (np.array(one, np.float32).reshape(3, 1, 1) for one in (mean, spread))
    return lambda x: (x - middle) / wide


_IMAGENET = _normalized((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_CIFAR = _normalized((125.307, 122.961, 113.8575), (51.5865, 50.847, 51.255))
_RESNET = _torch("CifarResNet", "x:float32[batch,3,32,32]")


def _lenet(place: Path) -> Real:
    import torch

    onnx, tensor = _converted(
        place, "mnist/lenet_epoch12_test_acc0.991.pth", *_torch("LeNet5", "image:float32[batch,1,32,32]")
    )
    with gzip.open(DATA / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(DATA / "mnist" / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
    large = torch.nn.functional.interpolate(torch.from_numpy(images / np.float32(255)), (32, 32), mode="bilinear")
    x = large.numpy()
    return Real(
        onnx,
        _kept(place, "mnist.calib", tensor, x[:500], labels[:500]),
        _kept(place, "mnist.test", tensor, x[500:], labels[500:]),
    )


def _people(place: Path) -> Real:
    """MobileNetV1: the labelled images are few, so that half of them calibrate and all of them test."""
    onnx, tensor = _converted(place, "vww/vww_96.h5")
    with np.load(DATA / "vww" / "vww_coco_train2017_128.npz") as samples:
        x, y = samples["x"].astype(np.float32) / 255, samples["y"]
    return Real(onnx, _kept(place, "vww.calib", tensor, x[::2], y[::2]), _kept(place, "vww.test", tensor, x, y))


REAL: dict[str, Callable[[Path], Real]] = {
    "resnet20 tuned": _cifar("resnet20_jpeg_finetuned.pt", _RESNET, _IMAGENET),
    "resnet20": _cifar("resnet20-12fca82f.th", _RESNET, _IMAGENET),
    "resnet32": _cifar("resnet32-d509ac18.th", (*_RESNET, "--factory-args", '{"depth": 32}'), _IMAGENET),
    "samplenet": _cifar("samplenet.pth", _torch("SampLeNet", "x:float32[batch,3,32,32]"), _CIFAR),
    "resnet8 of Keras": _cifar("pretrainedResnet.h5", (), lambda x: x.transpose(0, 2, 3, 1)),
    "lenet": _lenet,
    "mobilenet of Keras": _people,
}
