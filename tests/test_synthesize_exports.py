"""What is made up for exported models runs in them, and leaves no row of their tables untouched."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deploykit.samples import coverage, plans, synthesize
from deploykit.tensors import Tensors, TensorSpec

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def encoder() -> Any:
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(50, 8), nn.Embedding(64, 8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            steps = torch.arange(input_ids.shape[1])
            x = self.tokens(input_ids) + self.places(steps)
            scores = x @ x.transpose(1, 2)
            scores = scores.masked_fill(attention_mask[:, None, :] == 0, float("-inf"))
            return scores.softmax(-1) @ x

    torch.manual_seed(0)
    return Encoder().eval()


@pytest.fixture(scope="module", params=[True, False], ids=["dynamo", "torchscript"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("encoder") / "encoder.onnx"
    example = (torch.randint(0, 50, (2, 6)), torch.ones(2, 6, dtype=torch.int64))
    names = ["input_ids", "attention_mask"]
    free = {name: {0: "batch", 1: "seq"} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes: dict[str, Any] = (
            {"dynamic_shapes": free, "external_data": False} if request.param else {"dynamic_axes": free}
        )
        torch.onnx.export(
            encoder(), example, path, input_names=names, output_names=["y"], dynamo=request.param,
            opset_version=18, **shapes,
        )  # fmt: skip
    return path


INPUTS = [TensorSpec.parse(text) for text in ("input_ids:int64[batch,seq]", "attention_mask:int64[batch,seq]")]


def run(proto: Any, cases: list[Tensors]) -> list[npt.NDArray[Any]]:
    import onnxruntime as ort

    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run(None, case)[0] for case in cases]


def test_an_exported_encoder_runs_on_what_was_made_for_it(exported: Path) -> None:
    import onnx_ir as ir

    model = ir.load(exported)
    plan = plans(("batch", "seq"), {"batch": 2, "seq": 8})
    cases = synthesize(model, INPUTS, plan)
    for case, y in zip(cases, run(ir.to_proto(model), cases), strict=True):
        assert y.shape == (*case["input_ids"].shape, 8)
        assert np.isfinite(y).all()
    lines = coverage(model, INPUTS, cases)
    assert any(line.endswith("50 of 50 rows touched") for line in lines), lines
    assert any(line.startswith("attention_mask:") and line.endswith("live") for line in lines), lines


def test_no_row_of_an_exported_table_can_be_damaged_unseen(exported: Path) -> None:
    import onnx
    import onnx_ir as ir

    model = ir.load(exported)
    proto = ir.to_proto(model)
    cases = synthesize(model, INPUTS, plans(("batch", "seq"), {"batch": 2, "seq": 8}))
    right = run(proto, cases)
    place = next(i for i, weight in enumerate(proto.graph.initializer) if list(weight.dims) == [50, 8])
    weight = proto.graph.initializer[place]
    table = onnx.numpy_helper.to_array(weight)
    for row in range(50):
        damaged = table.copy()
        damaged[row] += 1
        weight.CopyFrom(onnx.numpy_helper.from_array(damaged, weight.name))
        assert any(not np.allclose(a, b) for a, b in zip(right, run(proto, cases), strict=True)), row


def test_the_authors_silero_runs_on_what_was_made_for_it() -> None:
    import onnx
    import onnx_ir as ir

    path = SHARED / "vad" / "silero_vad.onnx"
    if not path.exists():
        pytest.skip("the shared data set is not here")
    model = ir.load(path)
    inputs = [
        TensorSpec.parse(text) for text in ("input:float32[batch,512]", "state:float32[2,batch,128]", "sr:int64[]")
    ]
    cases = synthesize(model, inputs, [{"batch": 1}, {"batch": 3}])
    assert all(int(case["sr"]) == 16000 for case in cases)
    assert [y.shape for y in run(onnx.load(path), cases)] == [(1, 1), (3, 1)]
