"""What a file says about itself, and which runtimes take it."""

import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit import runtimes
from deploykit.artifact import sha256
from deploykit.errors import DeploykitError, UsageError
from deploykit.inspection import inspect
from deploykit.runtimes import Limits

DATA = Path(__file__).parents[1].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not here")


def model(nodes: list[Any], weights: dict[str, Any], *, opset: int = 20, ir: int = 10) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8]) for name in "xy")
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    return helper.make_model(graph, ir_version=ir, opset_imports=opsets, producer_name="tests")


def matmul(dtype: type = np.float32) -> Any:
    from onnx import helper

    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.eye(8, dtype=dtype)})


def qdq(*, activations: bool) -> Any:
    """Two MatMuls, the first of which is quantized."""
    from onnx import helper

    weights = {
        "s": np.array(0.1, np.float32),
        "zx": np.array(128, np.uint8),
        "zw": np.array(0, np.int8),
        "w": np.ones((8, 8), np.int8),
        "v": np.eye(8, dtype=np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "s", "zw"], ["wd"]),
        helper.make_node("MatMul", ["xd" if activations else "x", "wd"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    return model(nodes if activations else nodes[2:], weights)


def saved(folder: Path, proto: Any) -> Path:
    import onnx

    onnx.save(proto, str(folder / "model.onnx"))
    return folder / "model.onnx"


# ONNX


@needs_data
def test_a_real_model_is_described_in_full() -> None:
    path = DATA / "vad" / "silero_vad.onnx"
    found = inspect(path)
    assert (found.format, found.ir_version, found.opsets, found.producer) == ("onnx", 8, {"ai.onnx": 16}, "spox")
    assert found.sha256 == sha256(path)
    assert found.size == path.stat().st_size
    assert found.operators["LSTM"] == 4  # all of them in branches of If
    assert found.precision == "float32"
    assert (found.onnxruntime, found.tensorrt) == ("1.11", "8.6")
    assert found.signature is not None
    assert [str(spec) for spec in found.signature.inputs][1:] == ["state:float32[2,state_1,128]", "sr:int64[]"]


@needs_data
def test_parameters_of_branches_are_counted() -> None:
    import onnx
    from onnx import numpy_helper

    def sizes(graph: Any) -> int:
        total = 0
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            size = numpy_helper.to_array(attribute.t).size if attribute.HasField("t") else 0
            total += (size if size > 1 else 0) + (sizes(attribute.g) if attribute.HasField("g") else 0)
        return total

    path = DATA / "vad" / "silero_vad.onnx"
    assert inspect(path).parameters == sizes(onnx.load(str(path)).graph)


def test_external_weights_count_for_the_size(tmp_path: Path) -> None:
    import onnx

    proto = model([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((8, 512), np.float32)})
    path = tmp_path / "model.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    found = inspect(path)
    assert found.size == path.stat().st_size + (tmp_path / "weights.bin").stat().st_size
    assert found.parameters == 8 * 512


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_the_type_of_the_weights_is_the_precision(tmp_path: Path, dtype: type) -> None:
    assert inspect(saved(tmp_path, matmul(dtype))).precision == np.dtype(dtype).name


def test_weights_of_two_types_are_both_named_and_a_shape_is_not(tmp_path: Path) -> None:
    proto = matmul()
    mixed = model(list(proto.graph.node), {"w": np.ones((8, 8), np.float32), "table": np.arange(40)})
    assert inspect(saved(tmp_path, mixed)).precision == "float32 + int64"
    shaped = model(list(proto.graph.node), {"w": np.ones((64, 64), np.float32), "shape": np.array([1, 8])})
    assert inspect(saved(tmp_path, shaped)).precision == "float32"


def test_a_partly_quantized_model_says_how_much_of_it_is(tmp_path: Path) -> None:
    assert inspect(saved(tmp_path, qdq(activations=True))).precision == "int8 QDQ (1 of 2 MatMul)"


def test_quantized_weights_alone_are_told_from_quantized_activations(tmp_path: Path) -> None:
    assert inspect(saved(tmp_path, qdq(activations=False))).precision == "int8 weight-only (1 of 2 MatMul)"


def test_what_onnxruntime_quantizes_is_recognized(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(saved(tmp_path, matmul()), tmp_path / "int8.onnx")
    assert inspect(tmp_path / "int8.onnx").precision == "int8 dynamic (1 of 1 MatMul)"


def test_operators_of_functions_and_other_domains_are_counted(tmp_path: Path) -> None:
    from onnx import helper

    proto = matmul()
    opsets = [helper.make_opsetid("", 20)]
    body = [helper.make_node("Relu", ["a"], ["b"])]
    proto.functions.append(helper.make_function("own", "Rectify", ["a"], ["b"], body, opsets))
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.graph.node[0].output[0] = "h"
    proto.graph.node.append(helper.make_node("Rectify", ["h"], ["y"], domain="own"))
    assert inspect(saved(tmp_path, proto)).operators == {"MatMul": 1, "own.Rectify": 1, "Relu": 1}


def test_an_output_that_is_no_tensor_is_a_note(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    proto = matmul()
    proto.graph.node.append(helper.make_node("SequenceConstruct", ["y"], ["many"]))
    proto.graph.output.append(helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, None))
    found = inspect(saved(tmp_path, proto))
    assert found.signature is None
    assert "'many'" in found.notes[0]


# other formats


def test_a_file_of_safetensors_lists_its_tensors(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from safetensors.numpy import save_file

    tensors = {"w": np.ones((3, 4), np.float16), "n": np.array(7, np.int64)}
    save_file(tensors, str(tmp_path / "weights.safetensors"))
    found = inspect(tmp_path / "weights.safetensors")
    assert sorted(map(str, found.tensors)) == ["n:int64[]", "w:float16[3,4]"]
    assert (found.format, found.parameters, found.precision) == ("safetensors", 13, "float16 + int64")


def test_a_golden_shows_its_own_summary(tmp_path: Path) -> None:
    path = tmp_path / "model.golden.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("golden.json", json.dumps({"source": "abc", "cases": 3}))
    found = inspect(path)
    assert (found.format, dict(found.golden)) == ("golden", {"source": "abc", "cases": 3})


@needs_data
def test_a_checkpoint_says_what_it_would_import() -> None:
    found = inspect(DATA / "cifar10" / "resnet20-12fca82f.th")
    assert found.imports == ("collections.OrderedDict", "torch.FloatStorage", "torch._utils._rebuild_tensor")


@needs_data
@pytest.mark.parametrize(
    ("name", "kind"),
    [("kws/kws_ref_model", "saved-model"), ("vww/vww_96.h5", "keras-h5"), ("vad/silero_vad.jit", "torchscript")],
)
def test_a_format_that_is_not_looked_into_still_has_size_and_hash(name: str, kind: str) -> None:
    found = inspect(DATA / name)
    assert (found.format, len(found.sha256)) == (kind, 64)
    assert found.size > 100_000


@needs_data
def test_no_framework_is_imported_to_look_at_its_files() -> None:
    names = ["vad/silero_vad.onnx", "vad/silero_vad.jit", "cifar10/resnet20-12fca82f.th", "kws/kws_ref_model"]
    code = (
        "import sys; from deploykit.inspection import inspect; [inspect(path) for path in sys.argv[1:]];"
        "print([name for name in ('torch', 'tensorflow', 'onnxruntime', 'safetensors') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, *(str(DATA / name) for name in names)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("proto", [matmul, lambda: qdq(activations=True)], ids=["float", "int8"])
def test_an_inspection_becomes_json_as_it_is(tmp_path: Path, proto: Any) -> None:
    found = inspect(saved(tmp_path, proto()))
    assert json.loads(json.dumps(asdict(found)))["opsets"]["ai.onnx"] == 20


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"not a model at all"], ids=["empty", "zeros", "text"])
def test_what_is_no_model_is_an_error_of_the_user(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(DeploykitError):
        inspect(tmp_path / "model.onnx")


# runtimes


@pytest.mark.parametrize("version", ["1.19", "1.19.2", "1.19.0+cu12"])
def test_a_release_is_known_with_and_without_its_patch(version: str) -> None:
    assert runtimes.limits(version) == Limits(10, 21)


@pytest.mark.parametrize("version", ["1.2", "9.9", "latest", "", "1"])
def test_an_unknown_release_is_answered_with_the_range(version: str) -> None:
    with pytest.raises(UsageError) as caught:
        runtimes.limits(version)
    assert "from 1.8 to 1.31" in caught.value.fix[0]


def test_no_release_loads_less_than_the_one_before_it() -> None:
    rows = [limit for _, limit in sorted(runtimes.ONNXRUNTIME.items())]
    assert all(before.ir <= after.ir and before.opset <= after.opset for before, after in pairwise(rows))


@pytest.mark.parametrize(("ir", "opset", "release"), [(8, 17, "1.12"), (10, 20, "1.18"), (13, 26, "1.25")])
def test_the_oldest_release_satisfies_both_limits(ir: int, opset: int, release: str) -> None:
    assert runtimes.oldest(ir, opset) == release


def test_for_a_file_newer_than_every_release_there_is_none() -> None:
    assert runtimes.oldest(99, 20) is None
    assert runtimes.oldest_tensorrt(99) is None


def loads(ir: int, opset: int) -> bool:
    import onnxruntime
    from onnx import helper

    proto = model([helper.make_node("Relu", ["x"], ["y"])], {}, ir=ir, opset=opset)
    try:
        onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime has an exception class for each of its codes
        # another reason would be a fault of this test's model
        return not re.search("IR version|under development", str(error))
    return True


def test_the_installed_onnxruntime_loads_up_to_its_limits_and_no_further() -> None:
    limit = runtimes.installed_limits()
    assert loads(limit.ir, limit.opset)
    assert not loads(limit.ir + 1, limit.opset)
    assert not loads(limit.ir, limit.opset + 1)
