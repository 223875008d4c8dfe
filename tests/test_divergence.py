"""The first tensor that differs is the one that was damaged, whatever the artifact is held against."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.artifact import Artifact
from deploykit.backends import Asked
from deploykit.errors import UsageError
from deploykit.validation.divergence import Divergence, bytes_of, locatable, locate
from deploykit.validation.divergence.apart import apart
from deploykit.validation.tolerance import LIMIT
from tests.conftest import Once

pytest.importorskip("torch")

from tests import residual

SOURCE = Asked(factory=residual.FACTORY, inputs=residual.INPUTS)
FAULTS = {
    "weight": ("Conv", -2, residual.other_weight),
    "activation": ("Relu", -2, residual.no_activation),
    "operands": ("Sub", -1, residual.swapped),
    "epsilon": ("LayerNormalization", 0, residual.other_epsilon),
    "padding": ("Conv", 0, residual.more_padding),
}


@pytest.fixture(scope="session")
def net(once: Once) -> Path:
    return once("residual", residual.write_all)


def against(reference: Path, artifact: Path, asked: Asked = Asked(), **options: Any) -> Divergence:  # noqa: B008
    return locate(artifact, Artifact.open(reference), asked, [residual.case()], **options)


def damaged(net: Path, exporter: str, fault: str, folder: Path) -> tuple[Path, str]:
    path = folder / "damaged.onnx"
    return path, residual.planted(net / f"{exporter}.onnx", path, *FAULTS[fault])


def first(found: Divergence) -> Any:
    assert found.first is not None, "nothing was found"
    return found.first


@pytest.mark.parametrize("exporter", residual.EXPORTERS)
@pytest.mark.parametrize("fault", ["weight", "activation"])
def test_a_fault_is_placed_against_the_torch_source(net: Path, exporter: str, fault: str, tmp_path: Path) -> None:
    path, tensor = damaged(net, exporter, fault, tmp_path)
    found = against(net / "net.pt", path, SOURCE)
    assert first(found).tensor == tensor
    assert first(found).module.startswith("layer1.1")
    assert found.last_right is not None
    assert found.last_right.ratio < 10 < first(found).ratio
    if exporter == "dynamo":
        assert first(found).line.startswith("residual.py:")
        assert "self.bn1(self.conv1(x))" in first(found).line


@pytest.mark.parametrize(("archive", "exporter"), [("net.ts", "torchscript"), ("net.pt2", "dynamo")])
def test_a_fault_is_placed_against_an_archive(net: Path, archive: str, exporter: str, tmp_path: Path) -> None:
    path, tensor = damaged(net, exporter, "weight", tmp_path)
    assert first(against(net / archive, path, Asked(inputs=residual.INPUTS))).tensor == tensor


@pytest.mark.parametrize("exporter", residual.EXPORTERS)
def test_a_right_file_diverges_nowhere(net: Path, exporter: str) -> None:
    found = against(net / "net.pt", net / f"{exporter}.onnx", SOURCE)
    assert found.first is None
    assert max(layer.ratio for layer in found.steps) < 5
    # The folded convolution is held against the normalization, everything but the parts of norm and mean is matched.
    assert len(found.steps) > 0.7 * found.tensors


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("exporter", residual.EXPORTERS)
def test_a_fault_is_placed_against_the_right_onnx_file(net: Path, exporter: str, fault: str, tmp_path: Path) -> None:
    if fault == "epsilon" and exporter == "torchscript":
        pytest.skip("this exporter writes the normalization out")
    path, tensor = damaged(net, exporter, fault, tmp_path)
    found = against(net / f"{exporter}.onnx", path)
    assert first(found).tensor == tensor
    assert len(found.steps) == found.tensors
    if fault == "padding":
        assert first(found).form.startswith("has shape [3, 6, 10, 10]")


@pytest.mark.parametrize("fault", ["weight", "operands", "epsilon"])
def test_a_fault_is_placed_where_all_tensors_were_renamed(net: Path, fault: str, tmp_path: Path) -> None:
    path, tensor = damaged(net, "dynamo", fault, tmp_path)
    residual.renamed(path, tmp_path / "renamed.onnx")
    found = against(net / "dynamo.onnx", tmp_path / "renamed.onnx")
    assert first(found).counterpart == tensor
    assert first(found).matched == "structure"


def test_the_two_exporters_files_are_matched_by_structure(net: Path) -> None:
    found = against(net / "dynamo.onnx", net / "torchscript.onnx")
    assert found.first is None
    assert sum(layer.matched == "structure" for layer in found.steps) >= 10


def test_what_comes_later_only_passes_a_fault_on(net: Path, tmp_path: Path) -> None:
    path, _ = damaged(net, "dynamo", "weight", tmp_path)
    found = against(net / "dynamo.onnx", path)
    begun = found.steps.index(first(found))
    assert all(layer.ratio == 0 for layer in found.steps[:begun])
    assert all(layer.growth < 3 for layer in found.steps[begun + 1 :])
    assert first(found).growth > 1000


def half(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def test_a_float16_file_agrees_within_its_own_rounding(net: Path, tmp_path: Path) -> None:
    half(net / "dynamo.onnx", tmp_path / "half.onnx")
    found = against(net / "dynamo.onnx", tmp_path / "half.onnx")
    assert found.first is None
    assert 100 < max(layer.ratio for layer in found.steps) < found.limit


def test_the_layer_that_overflows_in_float16_is_found(net: Path, tmp_path: Path) -> None:
    def grow(model: Any, node: Any) -> None:
        import onnx_ir as ir

        for number in (1, 2):
            own = node.inputs[number].const_value.numpy()
            node.inputs[number].const_value = ir.tensor(own * np.float32(1e6), name=node.inputs[number].name)

    large = tmp_path / "large.onnx"
    tensor = residual.planted(net / "dynamo.onnx", large, "Conv", 3, grow)
    half(large, tmp_path / "half.onnx")
    found = against(large, tmp_path / "half.onnx")
    assert first(found).tensor == tensor
    assert first(found).error == np.inf


def quantize(source: Path, target: Path) -> None:
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter([residual.case(16)])

        def get_next(self) -> Any:
            return next(self.rest, None)

    quantization.quantize_static(str(source), str(target), Reader())


def test_a_quantized_file_is_held_against_the_float_one_tensor_by_tensor(net: Path, tmp_path: Path) -> None:
    quantize(net / "dynamo.onnx", tmp_path / "int8.onnx")
    found = against(net / "dynamo.onnx", tmp_path / "int8.onnx")
    assert found.first is None
    assert sum(layer.operator == "DequantizeLinear" for layer in found.steps) >= 8


@pytest.mark.parametrize(
    ("scale", "operator"), [("relu_2_scale", "DequantizeLinear"), ("layer1.1.conv1.weight_scale", "Conv")]
)
def test_a_broken_scale_is_found(net: Path, scale: str, operator: str, tmp_path: Path) -> None:
    import onnx_ir as ir

    path = tmp_path / "int8.onnx"
    quantize(net / "dynamo.onnx", path)
    model = ir.load(path)
    value = model.graph.initializers[scale]
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(0.1), name=scale)
    ir.save(model, path)
    layer = first(against(net / "dynamo.onnx", path))
    assert layer.operator == operator
    assert layer.counterpart == {"DequantizeLinear": "relu_2", "Conv": "getitem_6"}[operator]


@pytest.mark.parametrize("reference", ["dynamo.onnx", "net.pt"])
def test_windows_keep_within_the_bound_and_find_the_same(net: Path, reference: str, tmp_path: Path) -> None:
    path, tensor = damaged(net, "dynamo", "weight", tmp_path)
    asked = Asked() if reference.endswith("onnx") else SOURCE
    whole = against(net / reference, path, asked)
    parts = against(net / reference, path, asked, max_bytes=40_000)
    assert parts.windows > whole.windows == 1
    assert parts.peak_bytes <= 40_000 < whole.peak_bytes
    assert first(parts).tensor == first(whole).tensor == tensor
    assert [layer.ratio for layer in parts.steps] == pytest.approx([layer.ratio for layer in whole.steps], rel=0.01)


def test_a_tensor_over_the_bound_is_sampled_and_that_is_said(net: Path, tmp_path: Path) -> None:
    path, tensor = damaged(net, "dynamo", "weight", tmp_path)
    found = against(net / "dynamo.onnx", path, max_bytes=3_000)
    assert found.peak_bytes <= 3_000
    assert first(found).tensor == tensor
    assert any("sampled: conv2d, getitem" in note for note in found.notes)


def test_the_bodies_of_control_flow_are_skipped_and_that_is_said(tmp_path: Path) -> None:
    import onnx

    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    branches (float[n, 4] x, bool c) => (float[n, 4] y) {
        two = Constant <value_float = 2.0> ()
        a = Mul (x, two)
        b = If (c) <
            then_branch = yes () => (float[n, 4] p) { p = Exp (a) },
            else_branch = no () => (float[n, 4] q) { q = Neg (a) }
        >
        y = Tanh (b)
    }
    """
    right, wrong = tmp_path / "right.onnx", tmp_path / "wrong.onnx"
    onnx.save(onnx.parser.parse_model(text), right)
    onnx.save(onnx.parser.parse_model(text.replace("Exp", "Sqrt")), wrong)
    case = {"x": np.random.default_rng(0).random((3, 4)).astype(np.float32), "c": np.array(True)}
    found = locate(wrong, Artifact.open(right), Asked(), [case])
    assert first(found).tensor == "b"
    assert first(found).operator == "If"
    assert found.notes[0].startswith("the bodies of 1 If were skipped")


def test_a_file_whose_nodes_are_in_no_order_is_read(net: Path, tmp_path: Path) -> None:
    import onnx

    path, tensor = damaged(net, "dynamo", "weight", tmp_path)
    proto = onnx.load(path)
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, path)
    assert first(against(net / "dynamo.onnx", path)).tensor == tensor


def test_what_can_not_be_looked_into_is_refused_with_what_to_do(tmp_path: Path) -> None:
    from deploykit.artifact import Format

    for reference in (None, Artifact(tmp_path / "a.golden.npz", Format.GOLDEN)):
        with pytest.raises(UsageError) as refused:
            locatable(reference)
        assert "--against" in refused.value.fix[0]
    with pytest.raises(UsageError, match="which is keras") as refused:
        locatable(Artifact(tmp_path / "net.keras", Format.KERAS))
    assert "another ONNX file" in refused.value.fix[0]


@pytest.mark.parametrize(
    ("text", "count"), [("1GB", 10**9), ("500 MB", 5 * 10**8), ("2GiB", 2**31), ("1.5kb", 1500), (4096, 4096)]
)
def test_an_amount_of_memory_is_read(text: str | int, count: int) -> None:
    assert bytes_of(text) == count


@pytest.mark.parametrize("text", ["", "much", "1 XB", "-1GB", "0", "12"])
def test_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="memory") as refused:
        bytes_of(text)
    assert "--max-memory 1GB" in refused.value.fix[0]


def test_what_a_mask_fills_in_does_not_hide_the_errors_beside_it() -> None:
    exact = np.random.default_rng(0).standard_normal((4, 6, 6))
    exact[:, :, 4:] = -1e9
    own = exact.astype(np.float32)
    wrong = own.copy()
    wrong[:, :, :4] *= np.float32(1 + 1e-3)
    assert apart(exact, own, own).ratio() < LIMIT
    assert apart(exact, own, wrong).ratio() > 100 * LIMIT
    other = own.copy()
    other[0, 0, 5] = 0.1
    assert apart(exact, own, other).ratio() == np.inf, "what was filled in is not"
    one_hot = np.eye(6)
    assert apart(one_hot, one_hot, one_hot * 1.01).ratio() > LIMIT, "zeros beside a one are no rest"
