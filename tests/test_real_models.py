"""Trained models of others convert, and the ONNX files keep the accuracy that was measured on real data."""

import gzip
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.running import deploykit

REAL = Path(__file__).parents[1].parent / "shared" / "data"
ARCHITECTURES = REAL / "architectures.py"

pytestmark = pytest.mark.skipif(not ARCHITECTURES.exists(), reason="the real models are not here: ../shared/data")
torch = pytest.importorskip("torch")

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(3, 1, 1)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(3, 1, 1)
CIFAR_MEAN = np.array([125.307, 122.961, 113.8575], np.float32).reshape(3, 1, 1)
CIFAR_STD = np.array([51.5865, 50.847, 51.255], np.float32).reshape(3, 1, 1)


class Made:
    """A real model as an ONNX file in onnxruntime, and its source."""

    def __init__(self, folder: Path, weights: str, factory: str, *options: str) -> None:
        import onnxruntime

        before = (REAL / weights).read_bytes()
        place = ("--factory", f"{ARCHITECTURES}:{factory}", "-o", "made.onnx", "--json")
        ran = deploykit("convert", REAL / weights, *place, *options, cwd=folder)
        assert ran.code == 0, ran.err
        assert (REAL / weights).read_bytes() == before, "the source was touched"
        self.told = ran.json
        self.session = onnxruntime.InferenceSession(folder / "made.onnx", providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name
        assert deploykit("validate", cwd=folder).code == 0

    def run(self, x: Any, batch: int = 250) -> Any:
        parts = [x[start : start + batch] for start in range(0, len(x), batch)]
        return np.concatenate([self.session.run(None, {self.name: np.ascontiguousarray(part)})[0] for part in parts])

    def accuracy(self, x: Any, labels: Any) -> float:
        return float((self.run(x).argmax(1) == labels).mean())


def imagenet_scaled(x: Any) -> Any:
    return (x.astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD


def cifar_scaled(x: Any) -> Any:
    return (x - CIFAR_MEAN) / CIFAR_STD


@pytest.mark.parametrize(
    ("weights", "factory", "scaled", "measured"),
    [
        ("resnet20-12fca82f.th", ("CifarResNet",), imagenet_scaled, (0.9250, 0.8095)),
        (
            "resnet32-d509ac18.th",
            ("CifarResNet", "--factory-args", '{"depth": 32}'),
            imagenet_scaled,
            (0.9150, 0.8350),
        ),
        ("resnet20_jpeg_finetuned.pt", ("CifarResNet",), imagenet_scaled, (0.9100, 0.8780)),
        ("samplenet.pth", ("SampLeNet",), cifar_scaled, (0.6850, 0.6495)),
    ],
    ids=["resnet20", "resnet32", "resnet20 finetuned", "samplenet"],
)
def test_cifar_nets_keep_their_accuracy(
    weights: str,
    factory: tuple[str, ...],
    scaled: Callable[[Any], Any],
    measured: tuple[float, float],
    tmp_path: Path,
) -> None:
    made = Made(tmp_path, f"cifar10/{weights}", *factory, "--input", "x:float32[batch,3,32,32]")
    for name, wanted in zip(("cifar10_lossless_200", "cifar10_jpeg_test_2000"), measured, strict=True):
        with np.load(REAL / "cifar10" / f"{name}.npz") as samples:
            found = made.accuracy(scaled(samples["x"]), samples["y"])
        assert found == pytest.approx(wanted, abs=0.00051), name


def test_lenet_keeps_its_accuracy_on_mnist(tmp_path: Path) -> None:
    made = Made(tmp_path, "mnist/lenet_epoch12_test_acc0.991.pth", "LeNet5", "--input", "image:float32[batch,1,32,32]")
    with gzip.open(REAL / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(REAL / "mnist" / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    sized = torch.nn.functional.interpolate(
        torch.from_numpy(images.astype(np.float32) / 255), (32, 32), mode="bilinear"
    )
    assert made.accuracy(sized.numpy(), labels) == pytest.approx(0.9908, abs=0.00011)


def test_dncnn_takes_images_of_any_size_and_denoises_them_as_published(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    made = Made(tmp_path, "denoise/dncnn_25.pth", "DnCNN", "--input", "x:float32[batch,1,height,width]")
    assert made.told["signature"]["inputs"] == ["x:float32[batch,1,height,width]"]
    source = runpy.run_path(str(ARCHITECTURES))["DnCNN"]()
    source.load_state_dict(torch.load(REAL / "denoise" / "dncnn_25.pth", weights_only=True))
    rng = np.random.default_rng(0)
    for file in sorted((REAL / "denoise" / "set12").iterdir())[:3]:
        clean = np.asarray(pillow.open(file).convert("L"), np.float32)[:161, :203] / 255
        noisy = (clean + rng.standard_normal(clean.shape) * 25 / 255).astype(np.float32)[None, None]
        found = made.run(noisy)[0, 0]
        with torch.no_grad():
            wanted = source.eval()(torch.from_numpy(noisy)).numpy()[0, 0]
        assert peak_to_noise(found, clean) > peak_to_noise(noisy[0, 0], clean) + 6
        assert peak_to_noise(found, clean) == pytest.approx(peak_to_noise(wanted, clean), abs=0.001)


def peak_to_noise(image: Any, clean: Any) -> float:
    return float(-10 * np.log10(np.mean((np.clip(image, 0, 1) - clean) ** 2)))


def test_crepe_gives_the_activations_that_its_authors_published(tmp_path: Path) -> None:
    made = Made(tmp_path, "pitch/tiny.pth", "CrepeTiny", "--input", "frames:float32[batch,1024]")
    with np.load(REAL / "pitch" / "crepe_frames_1001.npz") as samples:
        found, published = made.run(samples["frames"]), samples["activation"]
    assert np.abs(found - published).max() < 5e-6
    assert (found.argmax(1) == published.argmax(1)).all()


def test_a_gru_keeps_its_accuracy_and_takes_clips_of_any_length(tmp_path: Path) -> None:
    made = Made(tmp_path, "digits_audio/digits_gru.pt", "DigitsGRU", "--input", "x:float32[batch,time,40]")
    assert made.told["signature"]["inputs"] == ["x:float32[batch,time,40]"]
    with np.load(REAL / "digits_audio" / "fsdd_yweweler_500.npz") as samples:
        clips, labels = samples["x"].astype(np.float32), samples["y"]
    assert made.accuracy(clips, labels) == pytest.approx(0.9260, abs=0.0021)
    assert made.run(clips[:3, :37]).shape == (3, 10)


def test_real_samples_make_the_golden_of_a_real_model(tmp_path: Path) -> None:
    with np.load(REAL / "cifar10" / "cifar10_lossless_200.npz") as samples:
        np.savez(tmp_path / "data.npz", x=imagenet_scaled(samples["x"]), y=samples["y"])
    options = ("--input", "x:float32[batch,3,32,32]", "--data", str(tmp_path / "data.npz"), "--samples", "64")
    made = Made(tmp_path, "cifar10/resnet20-12fca82f.th", "CifarResNet", *options)
    assert made.told["verdict"]["samples"] == 64


STREAM = '''
import torch


class Stream(torch.nn.Module):
    """The 16 kHz net of silero, its state an input and an output instead of kept inside."""

    def __init__(self, archive):
        super().__init__()
        self.model = archive._model

    def forward(self, x, state):
        return self.model(x, state)
'''


def test_a_torchscript_archive_that_keeps_state_converts_when_it_is_wrapped(tmp_path: Path) -> None:
    import onnxruntime

    archive = REAL / "vad" / "silero_vad.jit"
    alone = deploykit("convert", archive, "--input", "x:float32[batch,512]", "--input", "sr=16000", cwd=tmp_path)
    assert alone.code == 3
    assert "--factory wrap.py:make" in alone.err
    (tmp_path / "wrap.py").write_text(STREAM)
    inputs = ("--input", "x:float32[batch,576]", "--input", "state:float32[2,batch,128]")
    ran = deploykit("convert", archive, "--factory", "wrap.py:Stream", *inputs, "-o", "vad.onnx", cwd=tmp_path)
    assert ran.code == 0, ran.err
    session = onnxruntime.InferenceSession(tmp_path / "vad.onnx", providers=["CPUExecutionProvider"])
    ours, theirs = heard(session, torch.jit.load(archive, map_location="cpu"))
    assert 0 < (theirs > 0.5).mean() < 1, "both speech and silence are there"
    assert np.abs(ours - theirs).max() < 1e-5


def heard(session: Any, source: Any) -> tuple[Any, Any]:
    """Give the probability of speech in each of 300 frames, from the ONNX file and from its source."""
    import wave

    with wave.open(str(REAL / "vad" / "test.wav")) as file:
        sound = np.frombuffer(file.readframes(512 * 300), np.int16).astype(np.float32) / 32768
    state, before = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32)
    ours, theirs = [], []
    for frame in sound.reshape(300, 1, 512):
        x = np.concatenate([before, frame], 1)
        answer, state = session.run(None, {"x": x, "state": state})
        before = x[:, -64:]
        ours.append(float(answer[0, 0]))
        with torch.no_grad():
            theirs.append(source(torch.from_numpy(frame.copy()), 16000).item())
    return np.array(ours), np.array(theirs)
