"""Samples from folders of images, and what --image says is done to them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deploykit.errors import UsageError
from deploykit.samples import Preprocessing, notes_of, specs_of
from deploykit.samples import read as read_samples
from deploykit.tensors import Array, TensorSpec
from tests.test_samples import refusal, specs

Image = pytest.importorskip("PIL.Image")

IMAGENET = "resize=256,crop=224,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,layout=nchw,scale=255"
Draw = Callable[..., Array]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Save a noisy image and give its pixels."""

    def drawn(name: str, height: int = 6, width: int = 6, mode: str = "RGB") -> Array:
        shape = (height, width, 4)[: 3 if mode != "L" else 2]
        shape = (*shape[:2], len(mode)) if mode != "L" else shape
        pixels = np.random.default_rng(len(name)).integers(0, 256, shape).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
        return pixels

    return drawn


def one(path: Path, spec: str, line: str | None = None) -> Array:
    image = None if line is None else Preprocessing.parse(line)
    (found,) = read_samples(path, [TensorSpec.parse(spec)], limit=100, batch=100, image=image)
    return found["x"]


def said(path: Path, spec: str, line: str) -> str:
    with pytest.raises(UsageError) as caught:
        one(path, spec, line)
    return "\n".join(caught.value.lines())


# The line


def test_the_line_is_read_into_its_parts() -> None:
    assert Preprocessing.parse(IMAGENET) == Preprocessing(
        resize=256, crop=224, scale=255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), layout="nchw"
    )
    assert Preprocessing.parse("resize=224x320, order=BGR") == Preprocessing(resize=(224, 320), order="bgr")
    assert Preprocessing.parse("") == Preprocessing()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("size=3", "no option 'size'; did you mean 'resize'?"),
        ("resize", "'resize' without a value"),
        ("resize=big", "resize=big is no size"),
        ("resize=0", "is no size"),
        ("crop=1x2x3", "is no size"),
        ("crop=99999999", "is no size"),
        ("mean=a:b", "is not made of numbers"),
        ("mean=nan", "is not made of numbers"),
        ("std=0:1:1", "numbers other than 0"),
        ("scale=0", "numbers other than 0"),
        ("scale=1:2", "not one positive number"),
        ("layout=chw", "layout=nchw or nhwc"),
        ("order=gbr", "order=rgb or bgr"),
        ("crop=3,crop=4", "says crop twice"),
    ],
)
def test_a_wrong_line_is_refused_with_a_right_one(line: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        Preprocessing.parse(line)
    assert says in "\n".join(caught.value.lines())


# What is done to images


def test_the_shorter_side_is_resized_and_the_middle_cut_out(tmp_path: Path, draw: Draw) -> None:
    pixels = draw("a.png", 300, 500)
    resized = np.asarray(Image.fromarray(pixels).resize((426, 256), Image.Resampling.BILINEAR))
    scaled = resized[16:240, 101:325].astype(np.float32) / np.float32(255)
    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    expected = (scaled - mean) / std
    found = one(tmp_path, "x:float32[batch,3,224,224]", IMAGENET)
    np.testing.assert_array_equal(found[0], expected.transpose(2, 0, 1))


def test_a_standing_image_is_resized_by_its_width(tmp_path: Path, draw: Draw) -> None:
    draw("a.png", 50, 20)
    assert one(tmp_path, "x:float32[batch,3,h,w]", "resize=8").shape == (1, 3, 20, 8)
    assert one(tmp_path, "x:float32[batch,3,h,w]", "resize=8x9").shape == (1, 3, 8, 9)


def test_an_image_smaller_than_the_crop_gets_black_borders_the_larger_behind(tmp_path: Path, draw: Draw) -> None:
    pixels = draw("a.png", 4, 9)
    found = one(tmp_path, "x:uint8[batch,7,6,3]", "crop=7x6")[0]
    assert not found[:1].any()
    assert not found[5:].any()
    np.testing.assert_array_equal(found[1:5], pixels[:, 2:8])  # (9 - 6) / 2 rounds to the even 2


@pytest.mark.parametrize(
    ("size", "crop", "first"), [(5, 2, 2), (7, 2, 2), (9, 2, 4), (6, 2, 2), (5, 4, 0), (7, 4, 2), (6, 6, 0)]
)
def test_an_odd_rest_of_a_crop_is_rounded_to_even(tmp_path: Path, draw: Draw, size: int, crop: int, first: int) -> None:
    pixels = draw("a.png", size, size)
    found = one(tmp_path, f"x:uint8[batch,{crop},{crop},3]", f"crop={crop}")[0]
    np.testing.assert_array_equal(found, pixels[first : first + crop, first : first + crop])


def test_preprocessing_is_that_of_torchvision_bit_for_bit(draw: Draw) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    rng = np.random.default_rng(0)
    for height, width, resize, crop in rng.integers(1, 80, (60, 4)).tolist():
        image = Image.fromarray(draw("a.png", height, width))
        steps = [transforms.Resize(resize), transforms.CenterCrop(crop), transforms.ToTensor()]
        theirs = transforms.Compose([*steps, transforms.Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])])(image)
        own = Preprocessing(resize=resize, crop=crop, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
        np.testing.assert_array_equal(own.normalized(own.pixels(image)).transpose(2, 0, 1), theirs.numpy())


def test_bgr_turns_the_channels_before_the_mean_is_subtracted(tmp_path: Path, draw: Draw) -> None:
    pixels = draw("a.png").astype(np.float32)
    found = one(tmp_path, "x:float32[batch,6,6,3]", "order=bgr,scale=1,mean=103.9:116.8:123.7")
    np.testing.assert_array_equal(found[0], pixels[..., ::-1] - np.array([103.9, 116.8, 123.7], np.float32))


def test_the_model_decides_between_grey_and_colour_and_the_layout(tmp_path: Path, draw: Draw) -> None:
    pixels = draw("a.png")
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    np.testing.assert_array_equal(one(tmp_path, "x:uint8[batch,1,6,6]")[0, 0], grey)
    np.testing.assert_array_equal(one(tmp_path, "x:uint8[batch,6,6]")[0], grey)
    np.testing.assert_array_equal(one(tmp_path, "x:uint8[batch,6,6,1]")[0, ..., 0], grey)
    np.testing.assert_array_equal(one(tmp_path, "x:uint8[batch,6,6,3]")[0], pixels)
    np.testing.assert_array_equal(one(tmp_path, "x:uint8[batch,c,h,w]")[0], pixels.transpose(2, 0, 1))
    assert one(tmp_path, "x:uint8[batch,4,6,6]")[0, 3].min() == 255, "an opaque image"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_real_inputs_get_their_own_type(tmp_path: Path, draw: Draw, dtype: str) -> None:
    pixels = draw("a.png")
    found = one(tmp_path, f"x:{dtype}[batch,6,6,3]")
    assert str(found.dtype) == dtype
    np.testing.assert_array_equal(found[0], (pixels.astype(np.float32) / np.float32(255)).astype(found.dtype))


def test_without_a_line_images_become_the_inputs_size_and_a_note_says_so(tmp_path: Path, draw: Draw) -> None:
    draw("a.png", 8, 20)
    (spec,) = specs("x:float32[batch,3,4,5]")
    found = one(tmp_path, str(spec))
    assert found.shape == (1, 3, 4, 5)
    assert 0.3 < found.max() <= 1
    (note,) = notes_of(tmp_path, [spec])
    assert note.startswith("images were resized to 4x5 and scaled to 0..1; give --image")
    (free,) = notes_of(tmp_path, specs("x:uint8[batch,3,h,w]"))
    assert free.startswith("images were kept at their size and left as they are")
    assert notes_of(tmp_path, [spec], image=Preprocessing(resize=(4, 5))) == ()


# Files


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.jpg", "a.JPEG"])
def test_images_of_every_kind_are_read(tmp_path: Path, draw: Draw, name: str) -> None:
    draw(name)
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(one(tmp_path, "x:uint8[batch,6,6,3]")[0], expected)
    np.testing.assert_array_equal(one(tmp_path / name, "x:uint8[batch,6,6,3]")[0], expected)


def test_images_come_in_the_order_of_their_names_a_batch_at_a_time(tmp_path: Path, draw: Draw) -> None:
    pixels = {name: draw(name) for name in ("b.png", "ccc.jpg.png", "aa.bmp")}
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "labels.csv").write_text("label\n1\n")
    found = list(read_samples(tmp_path, specs("x:uint8[batch,6,6,3]"), limit=9, batch=2))
    assert [len(tensors["x"]) for tensors in found] == [2, 1]
    for image, name in zip(np.concatenate([tensors["x"] for tensors in found]), sorted(pixels), strict=True):
        np.testing.assert_array_equal(image, pixels[name])
    assert [len(t["x"]) for t in read_samples(tmp_path, specs("x:uint8[2,6,6,3]"), limit=9, batch=9)] == [2]


def test_a_palette_with_transparency_is_read_as_colours(tmp_path: Path, draw: Draw) -> None:
    pixels = draw("a.png")
    Image.fromarray(pixels).quantize(8).save(tmp_path / "a.png", transparency=0)
    assert one(tmp_path, "x:uint8[batch,6,6,3]").shape == (1, 6, 6, 3)


def test_images_of_different_sizes_are_refused_with_both(tmp_path: Path, draw: Draw) -> None:
    draw("a.png", 6, 6)
    draw("b.png", 6, 7)
    text = refusal(tmp_path, *specs("x:float32[batch,3,h,w]"))
    assert "different sizes: a.png gives [3, 6, 6], b.png gives [3, 6, 7]" in text
    assert "--image 'resize=" in text


def test_an_image_that_can_not_be_read_is_named(tmp_path: Path, draw: Draw) -> None:
    draw("a.png", 40, 40)
    whole = (tmp_path / "a.png").read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2], whole[:40] + bytes(200)):
        (tmp_path / "b.png").write_bytes(content)
        assert f"{tmp_path / 'b.png'} can't be read as an image" in refusal(tmp_path, *specs("x:float32[b,3,40,40]"))


def test_sixteen_bits_are_refused_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 6), 40_000, np.uint16)).save(tmp_path / "a.png")
    assert "more than 8 bits" in refusal(tmp_path, *specs("x:float32[batch,1,6,6]"))


@pytest.mark.parametrize(
    ("spec", "line", "says"),
    [
        ("x:float32[batch,3,6,6]", "resize=8", "has 8 on axis 2, not 6: [1, 3, 8, 8]"),
        ("x:float32[batch,10]", "resize=8", "the model takes no images: its input is x:float32[batch,10]"),
        ("x:float32[batch,5,6,6]", "resize=8", "has 5 channels in layout nchw"),
        ("x:float32[batch,3,6,6]", "layout=nhwc", "has 6 channels in layout nhwc"),
        ("x:float32[batch,6,6]", "layout=nhwc", "has no axis for channels"),
        ("x:float32[batch,1,6,6]", "mean=1:2:3", "mean has 3 numbers, and x:float32[batch,1,6,6] has 1 channels"),
        ("x:uint8[batch,3,6,6]", "mean=1", "takes pixels as they are"),
        ("x:int64[batch,3,6,6]", "resize=6", "takes int64, and images are uint8 or real"),
    ],
)
def test_what_does_not_suit_the_input_is_refused(tmp_path: Path, draw: Draw, spec: str, line: str, says: str) -> None:
    draw("a.png")
    assert says in said(tmp_path, spec, line)


def test_images_feed_one_described_input_and_no_other_kind_takes_the_line(tmp_path: Path, draw: Draw) -> None:
    draw("a.png")
    assert "takes 2 inputs" in refusal(tmp_path, *specs("x:float32[b,3,6,6]", "y:float32[b]"))
    with pytest.raises(UsageError, match="do not say what the model takes"):
        specs_of(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros((1, 3), np.float32))
    assert "--image is for images" in said(tmp_path / "x.npy", "x:float32[batch,3]", "resize=8")
