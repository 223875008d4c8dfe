"""A torch module that is cut by the masks of ``deploykit prune`` is the pruned model."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit
from deploykit.errors import UsageError

torch = pytest.importorskip("torch")


def _net() -> Any:
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 24, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 5)),
    )
    for part in net:
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
    return net.eval()


def test_a_module_is_cut_as_the_model_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untimed: None) -> None:
    monkeypatch.chdir(tmp_path)
    net, x = _net(), torch.randn(4, 3, 8, 8)
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), "net.onnx", dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    plain: dict[str, Any] = {"importance": "magnitude", "uniform": True, "refit": False}
    made = deploykit.prune(
        "net.onnx", amount=0.4, mask="masks.npz", min_agreement=0.0, min_sqnr=-50, allow_undecided=True, **plain
    )
    import onnxruntime

    session = onnxruntime.InferenceSession(made.path)
    expected = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    cut = deploykit.cut_module(net, "masks.npz")
    with torch.no_grad():
        found = cut(x).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [cut[0].out_channels, cut[3].groups, cut[6].in_channels, cut[10].in_features] == [10, 10, 10, 4 * 14]
    with pytest.raises(UsageError, match="along axis"):
        deploykit.cut_module(cut, "masks.npz")
    with pytest.raises(UsageError, match="has no parameter"):
        deploykit.cut_module(torch.nn.Linear(2, 2), "masks.npz")
