"""``--data`` takes what people have: folders of images, tables, functions; the golden is made of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.running import assert_refused, deploykit

torch = pytest.importorskip("torch")


@pytest.fixture
def images(digits: Path) -> Any:
    """Give 12 images, float32 [12, 1, 8, 8] of 0 to 1."""
    with np.load(digits / "digits_val.npz") as samples:
        return samples["x"][:12]


def write(kind: str, images: Any, folder: Path) -> str:
    """Write the images in one form, and give what --data names."""
    if kind == "images":
        from PIL import Image

        (folder / "images").mkdir()
        for number, image in enumerate(images):
            Image.fromarray((image[0] * 255).round().astype(np.uint8)).save(folder / "images" / f"{number:02}.png")
    elif kind == "arrays":
        (folder / "arrays").mkdir()
        np.save(folder / "arrays" / "x.npy", images)
    elif kind == "one.npy":
        np.save(folder / kind, images)
    else:
        np.save(folder / "kept.npy", images)
        code = "import numpy as np\n\ndef samples():\n    for x in np.load('kept.npy'):\n        yield {'x': x}\n"
        (folder / "feed.py").write_text(code)
        return "feed.py:samples"
    return kind


@pytest.mark.parametrize("kind", ["images", "arrays", "one.npy", "function"])
def test_a_golden_is_made_of_samples_in_any_form(kind: str, images: Any, digits: Path, tmp_path: Path) -> None:
    from deploykit.golden import Golden

    given = ("--data", write(kind, images, tmp_path), "--input", "x:float32[batch,1,8,8]")
    ran = deploykit("convert", digits / "digits.ts", *given, "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.json["verdict"]["samples"] == 12
    cases = Golden.read(tmp_path / "digits.golden.npz").cases
    kept = np.concatenate([case.inputs["x"] for case in cases])
    assert kept == pytest.approx(images, abs=1 / 255 if kind == "images" else 0)
    assert any("images" in note for note in ran.json["verdict"]["notes"]) is (kind == "images")


def test_images_are_prepared_as_the_user_says(images: Any, digits: Path, tmp_path: Path) -> None:
    from deploykit.golden import Golden

    data = write("images", images, tmp_path)
    steps = ("--image", "scale=255,mean=0.5,std=0.25")
    source = ("convert", digits / "digits.ts", "--data", data, "--input", "x:float32[batch,1,8,8]")
    ran = deploykit(*source, *steps, cwd=tmp_path)
    assert ran.code == 0, ran.err
    kept = np.concatenate([case.inputs["x"] for case in Golden.read(tmp_path / "digits.golden.npz").cases])
    assert kept == pytest.approx((images - 0.5) / 0.25, abs=0.02)


def test_a_table_is_the_features_of_a_net(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).eval()
    torch.jit.save(torch.jit.script(net), tmp_path / "net.ts")
    (tmp_path / "t.csv").write_text("a,b,c\n" + "\n".join(f"{n},{n / 3},{-n}" for n in range(9)) + "\n")
    ran = deploykit("convert", "net.ts", "--data", "t.csv", "--input", "x:float32[batch,3]", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.json["verdict"]["samples"] == 9


def test_an_exported_program_takes_data_by_the_names_that_it_has(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 2)).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(net, (torch.zeros(2, 3),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    np.savez(tmp_path / "d.npz", anything=np.random.default_rng(0).normal(size=(7, 3)))
    ran = deploykit("convert", "net.pt2", "--data", "d.npz", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.json["verdict"]["samples"] == 7


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--image", "resize=8"), "--data FOLDER"),
        (("--data", "one.npy", "--image", "resize=8"), "--image"),
        (("--data", "none.npz"), "none.npz"),
        (("--data", "empty"), "empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_samples_that_can_not_be_read_are_a_wrong_usage(
    options: tuple[str, ...], says: str, images: Any, digits: Path, tmp_path: Path
) -> None:
    write("one.npy", images, tmp_path)
    (tmp_path / "empty").mkdir()
    ran = deploykit("convert", digits / "digits.ts", "--input", "x:float32[batch,1,8,8]", *options, cwd=tmp_path)
    assert_refused(ran, 2)
    assert says in ran.err
