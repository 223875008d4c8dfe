"""A small model that was converted, and sealed with its weights inside or in a file of their own."""

import shutil
from pathlib import Path

import numpy as np

import deploykit as api
from deploykit.onnx_io import load, save
from tests.onnx_models import dense, written
from tests.running import deploykit


def sealed_models(folder: Path) -> None:
    """Make model.onnx, and of it net.onnx in three folders: ``bare``, ``sealed``, and ``external`` sealed too."""
    written(folder, dense())
    (folder / "bare").mkdir()
    ran = deploykit("convert", "../model.onnx", "-o", "net.onnx", cwd=folder / "bare")
    assert ran.code == 0, ran.err
    for name in ("sealed", "external"):
        shutil.copytree(folder / "bare", folder / name, ignore=shutil.ignore_patterns(".deploykit"))
        model = folder / name / "net.onnx"
        save(load(model), model, external=name == "external")
        api.seal(model)


def spoil(path: Path) -> None:
    """Make such a model wrong; it is still whole, and names the same golden."""
    import onnx_ir

    model = load(path)
    weight = model.graph.initializers["weight"]
    weight.const_value = onnx_ir.tensor(weight.const_value.numpy() * np.float32(1.01), name="weight")
    save(model, path)
