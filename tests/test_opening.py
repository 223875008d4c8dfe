"""Units that no made-up sample opens are opened by inputs that gradients find, whatever form the source has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit import convert, validate
from deploykit.golden import Golden

pytest.importorskip("torch")
SHUT = 2
"""Units that open only for a pattern that noise does not have."""
Check = Callable[[Any], Any]


def net(rectifier: str = "relu") -> Any:
    """Make an image net of which some units are shut for all noise, and open within its range."""
    import torch
    from torch import nn

    made = {"relu": nn.ReLU(), "in place": nn.ReLU(inplace=True), "relu6": nn.ReLU6(), "relu6 in place": nn.ReLU6(True)}
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), made[rectifier], nn.Flatten(), nn.Linear(6 * 36, 3)).eval()
    pattern = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0]).reshape(1, 3, 3)
    with torch.no_grad():
        model[0].weight[:SHUT] = pattern
        model[0].bias[:SHUT] = -30.0
    return model


def rows() -> Any:
    """Make a net of rows of numbers whose units are on the last axis, which is not the second."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    with torch.no_grad():
        model[0].weight[:SHUT] = 1.0
        model[0].bias[:SHUT] = -24.0
    return model


def drawn(*shapes: tuple[int, ...]) -> list[dict[str, Any]]:
    import torch

    torch.manual_seed(1)
    return [{"x": 1.4 * torch.randn(shape)} for shape in shapes]


IMAGES = ((2, 1, 8, 8), (1, 1, 2, 2), (40, 1, 8, 8))
"""The second is too small for the kernel, and is refused."""


def opening(model: Any, cases: list[dict[str, Any]], *, batched: bool = True) -> dict[str, Any] | None:
    from deploykit.child.pytorch.opening import opening as found

    return found(lambda tensors: [model(tensors["x"].clone())], cases, batched=batched)


def shut(model: Any, given: Any, axis: int = 1) -> int:
    """Count the units of the first layer that an input leaves shut."""
    import torch

    with torch.no_grad():
        before = model[0](given).movedim(axis, 0)
    return int((before.reshape(len(before), -1).amax(1) <= 0).sum())


def as_it_is(model: Any) -> Any:
    return model


def scripted(model: Any) -> Any:
    import torch

    return torch.jit.script(model)


def exported(model: Any) -> Any:
    import torch

    batch = torch.export.Dim("batch")
    return torch.export.export(model, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: batch},)).module()


@pytest.mark.parametrize("form", [as_it_is, scripted, exported])
@pytest.mark.parametrize("rectifier", ["relu", "in place", "relu6", "relu6 in place"])
def test_units_that_all_samples_leave_shut_are_opened(form: Check, rectifier: str) -> None:
    model, cases = net(rectifier), drawn(*IMAGES)
    assert shut(model, cases[-1]["x"]) == SHUT
    found = opening(form(model), cases)
    assert found is not None
    assert shut(net(), found["x"]) < SHUT
    assert float(found["x"].abs().max()) <= max(float(case["x"].abs().max()) for case in cases), "it is in the range"
    assert len(found["x"]) <= SHUT, "only what opens something is kept"


def test_units_may_be_on_the_last_axis() -> None:
    model, cases = rows(), drawn((2, 4, 9), (40, 4, 9))
    assert shut(model, cases[-1]["x"], -1) == SHUT
    found = opening(model, cases)
    assert found is not None
    assert shut(model, found["x"], -1) < SHUT


def test_a_batch_that_is_fixed_stays_as_it_is() -> None:
    found = opening(net(), drawn((2, 1, 8, 8), (2, 1, 8, 8)), batched=False)
    assert found is not None
    assert found["x"].shape == (2, 1, 8, 8)


def test_the_same_samples_give_the_same_inputs() -> None:
    import torch

    first, second = (opening(net(), drawn(*IMAGES)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert torch.equal(first["x"], second["x"])


def test_nothing_is_looked_for_where_all_units_open() -> None:
    model, cases = net(), drawn(*IMAGES)
    model[0].bias.data.zero_()
    assert opening(model, cases) is None


def test_flags_and_ids_stay_as_they_are() -> None:
    import torch

    from deploykit.child.pytorch.opening import opening as found

    model = net()
    mask = (torch.arange(48).reshape(-1, 1, 1, 1) % 2).float()
    (case,) = drawn((48, 1, 8, 8))
    case |= {"mask": mask, "id": torch.arange(48)}
    given = found(lambda t: [model(t["x"]) * t["mask"].flatten(1) + t["id"][:, None]], [case], batched=True)
    assert given is not None
    assert set(given["mask"].unique().tolist()) <= {0.0, 1.0}
    assert given["id"].dtype == torch.int64
    for row, number in enumerate(given["id"].tolist()):
        assert given["mask"][row] == mask[number], "samples stay whole"


def test_a_fault_behind_a_unit_that_noise_leaves_shut_is_found(tmp_path: Path) -> None:
    import onnx
    import torch

    torch.jit.script(net()).save(str(tmp_path / "m.ts"))
    made = convert(tmp_path / "m.ts", tmp_path / "m.onnx", inputs=["x:float32[batch,1,8,8]"])
    golden = Golden.read(made.golden)
    assert not [note for note in golden.notes if note.startswith("coverage")]
    assert validate(made.path).passed
    model = onnx.load(made.path)
    (weight,) = [one for one in model.graph.initializer if list(one.dims) == [6, 1, 3, 3]]
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] *= np.float32(1.05)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, made.path)
    assert not validate(made.path).passed


def test_a_source_without_gradients_is_converted_as_before(tmp_path: Path) -> None:
    import torch

    model = net()
    for weight in model.parameters():
        weight.requires_grad_(False)

    class Classes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).argmax(1)

    torch.jit.script(Classes()).save(str(tmp_path / "m.ts"))
    made = convert(tmp_path / "m.ts", tmp_path / "m.onnx", inputs=["x:float32[batch,1,8,8]"])
    assert f"coverage: {SHUT} of 6 ReLU units never active" in "".join(Golden.read(made.golden).notes)
