"""What ``deploykit convert`` makes of options, and of nets that need care or can't be converted."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.running import ROOT, Ran, assert_refused, deploykit, listing

torch = pytest.importorskip("torch")

ZOO = ROOT / "tests" / "zoo.py"
REFUSED = ROOT / "tests" / "zoo_refused.py"


def from_zoo(net: str, place: Path, folder: Path, *options: str, weights: Any = None) -> Ran:
    """Save a net's weights and convert them with the net as the factory."""
    if weights is None:
        import tests.zoo
        import tests.zoo_refused

        torch.manual_seed(0)
        weights = getattr(tests.zoo_refused if place == REFUSED else tests.zoo, net)().state_dict()
    torch.save(weights, folder / "net.pt")
    return deploykit("convert", "net.pt", "--factory", f"{place}:{net}", "--json", *options, cwd=folder)


def versions(path: Path) -> tuple[int, int]:
    """Give the IR version and the opset that a file says it has."""
    import onnx

    model = onnx.load(path)
    return model.ir_version, next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))


def answers(path: Path, feed: dict[str, Any]) -> list[Any]:
    import onnxruntime

    return list(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed))


def test_the_output_is_named_after_the_source_and_lies_in_the_current_folder(digits: Path, tmp_path: Path) -> None:
    ran = deploykit("convert", digits / "digits.ts", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert listing(tmp_path) == {"digits.onnx", "digits.golden.npz"}
    for said in ("x:float32[batch,1,8,8]", "output:float32[batch,10]", "equal", "digits.onnx", "inferred"):
        assert said in ran.out


def test_the_output_may_be_a_folder_or_a_file_in_another_one(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert deploykit("convert", digits / "digits.ts", "-o", "out", cwd=tmp_path).code == 0
    assert deploykit("convert", digits / "digits.ts", "--output", "out/net.onnx", cwd=tmp_path).code == 0
    assert listing(tmp_path / "out") == {"digits.onnx", "digits.golden.npz", "net.onnx", "net.golden.npz"}
    assert listing(tmp_path) == {"out"}


def test_the_same_source_gives_the_same_bytes(proved: Path, digits: Path, tmp_path: Path) -> None:
    assert deploykit("convert", digits / "digits.ts", "-o", "digits.onnx", cwd=tmp_path).code == 0
    for name in ("digits.onnx", "digits.golden.npz"):
        assert (tmp_path / name).read_bytes() == (proved / name).read_bytes(), name


def test_static_fixes_every_axis(digits: Path, tmp_path: Path) -> None:
    ran = deploykit("convert", digits / "digits.ts", "--static", "--json", cwd=tmp_path)
    assert ran.json["signature"] == {"inputs": ["x:float32[1,1,8,8]"], "outputs": ["output:float32[1,10]"]}
    with pytest.raises(Exception, match="Got invalid dimensions"):
        answers(tmp_path / "digits.onnx", {"x": np.zeros((3, 1, 8, 8), np.float32)})


@pytest.mark.parametrize("opset", [9, 13, 17, 20])
def test_the_opset_is_the_one_asked_for(opset: int, digits: Path, tmp_path: Path) -> None:
    ran = deploykit("convert", digits / "digits.ts", "--opset", opset, cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert versions(tmp_path / "digits.onnx")[1] == opset


@pytest.mark.parametrize(
    ("runtime", "ir", "opset"), [("1.8", 7, 14), ("1.12", 8, 17), ("1.15", 8, 19), ("1.19", 10, 20)]
)
def test_an_older_runtime_gets_an_ir_version_and_an_opset_that_it_loads(
    runtime: str, ir: int, opset: int, digits: Path, tmp_path: Path
) -> None:
    ran = deploykit("convert", digits / "digits.ts", "--for-runtime", runtime, cwd=tmp_path)
    assert ran.code == 0, ran.err
    found = versions(tmp_path / "digits.onnx")
    assert found[0] <= ir
    assert found[1] == opset
    assert deploykit("validate", cwd=tmp_path).code == 0


def test_an_older_runtime_than_dynamo_writes_for_gets_the_other_exporter(tmp_path: Path) -> None:
    ran = from_zoo("Plain", ZOO, tmp_path, "--for-runtime", "1.12")
    assert ran.json["exporter"] == "torchscript"
    assert versions(tmp_path / "net.onnx")[1] == 17


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--opset", "99"], ["99", "--opset"]),
        (["--opset", "21", "--for-runtime", "1.17"], ["1.17", "20", "21"]),
        (["--for-runtime", "7.3"], ["7.3", "1.8"]),
        (["--for-runtime", "new"], ["new"]),
        (["--exporter", "dynmo"], ["dynmo", "did you mean 'dynamo'"]),
        (["--exporter", "dynamo"], ["torchscript"]),
        (["--opset", "6"], ["--opset", "7"]),
        (["-o", "digits.pt"], [".onnx"]),
        (["-o", "no/such/folder/x.onnx"], ["no/such/folder"]),
        (["--samples", "0"], ["--samples"]),
        (["--seed", "-1"], ["--seed"]),
        (["--opset", "new"], ["--opset"]),
        (["--wrong"], ["--wrong"]),
        (["--python", "/no/such/python"], ["/no/such/python"]),
    ],
)
def test_an_option_that_can_not_be_is_refused(
    options: list[str], words: list[str], digits: Path, tmp_path: Path
) -> None:
    ran = deploykit("convert", digits / "digits.ts", *options, cwd=tmp_path)
    assert_refused(ran, 2, *words)
    assert not listing(tmp_path)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_the_exporter_is_the_one_asked_for(exporter: str, tmp_path: Path) -> None:
    assert from_zoo("Plain", ZOO, tmp_path, "--exporter", exporter).json["exporter"] == exporter


def test_an_onnx_source_keeps_its_name_apart_and_is_given_a_golden(proved: Path, tmp_path: Path) -> None:
    shutil.copy(proved / "digits.onnx", tmp_path)
    ran = deploykit("convert", "digits.onnx", "--opset", 21, "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert listing(tmp_path) == {"digits.onnx", "digits.proved.onnx", "digits.proved.golden.npz"}
    assert versions(tmp_path / "digits.proved.onnx")[1] == 21
    assert (tmp_path / "digits.onnx").read_bytes() == (proved / "digits.onnx").read_bytes()


@pytest.mark.parametrize("output", ["digits.onnx", "./digits.onnx", "link.onnx"])
def test_the_output_is_never_the_source(output: str, proved: Path, tmp_path: Path) -> None:
    shutil.copy(proved / "digits.onnx", tmp_path)
    (tmp_path / "link.onnx").symlink_to("digits.onnx")
    assert_refused(deploykit("convert", "digits.onnx", "-o", output, cwd=tmp_path), 2, "the source itself")
    assert (tmp_path / "digits.onnx").read_bytes() == (proved / "digits.onnx").read_bytes()


def test_a_second_conversion_replaces_model_and_golden_together(proved: Path, digits: Path, tmp_path: Path) -> None:
    shutil.copytree(proved, tmp_path, dirs_exist_ok=True)
    assert deploykit("convert", digits / "digits.ts", "-o", "digits.onnx", "--static", cwd=tmp_path).code == 0
    assert (tmp_path / "digits.onnx").read_bytes() != (proved / "digits.onnx").read_bytes()
    assert deploykit("validate", "digits.onnx", cwd=tmp_path).code == 0


def test_a_module_left_in_train_mode_is_put_into_eval_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.zoo import Plain

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    torch.manual_seed(0)
    net = Plain().train()
    torch.save(net, tmp_path / "net.pt")
    ran = deploykit("convert", "net.pt", "--trust-pickle", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert any("train mode" in note and "eval" in note for note in ran.json["notes"])
    x = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    with torch.no_grad():
        wanted = net.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(answers(tmp_path / "net.onnx", {"x": x})[0], wanted, rtol=1e-4, atol=1e-6)


def test_a_shared_weight_converts(tmp_path: Path) -> None:
    ran = from_zoo("Tied", ZOO, tmp_path, "--input", "ids:int64[batch,seq]")
    assert ran.code == 0, ran.err
    assert answers(tmp_path / "net.onnx", {"ids": np.array([[0, 49, 3]] * 4)})[0].shape == (4, 3, 50)


def test_control_flow_that_depends_on_the_data_is_refused_with_its_line(tmp_path: Path) -> None:
    ran = from_zoo("Branch", REFUSED, tmp_path, "--input", "x:float32[batch,4]")
    assert_refused(ran, 3, "if x.sum() > 0", "zoo_refused.py:", "torch.where")
    assert listing(tmp_path) <= {"net.pt", "net.repro.py"}


def test_control_flow_in_a_scripted_module_is_kept(tmp_path: Path) -> None:
    from tests.zoo_refused import Branch

    torch.manual_seed(0)
    net = Branch().eval()
    torch.jit.save(torch.jit.script(net), tmp_path / "net.pt")
    ran = deploykit("convert", "net.pt", "--input", "x:float32[batch,4]", cwd=tmp_path)
    assert ran.code == 0, ran.err
    for sign in (1, -1):
        x = np.full((3, 4), sign, np.float32)
        with torch.no_grad():
            wanted = net(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(answers(tmp_path / "net.onnx", {"x": x})[0], wanted, rtol=1e-5, atol=1e-6)


def test_a_batch_that_tracing_bakes_in_is_found_with_its_node(tmp_path: Path) -> None:
    ran = from_zoo("Baked", REFUSED, tmp_path, "--input", "x:float32[batch,6]", "--exporter", "torchscript")
    assert_refused(ran, 1, "baked in", "batch", "node /Reshape")
    assert listing(tmp_path) == {"net.pt"}
    assert ran.json["verdict"]["passed"] is False


def test_a_batch_that_only_tracing_bakes_in_is_left_free_by_dynamo(tmp_path: Path) -> None:
    ran = from_zoo("Baked", REFUSED, tmp_path, "--input", "x:float32[batch,6]")
    assert ran.code == 0, ran.err
    assert ran.json["exporter"] == "dynamo"
    assert answers(tmp_path / "net.onnx", {"x": np.zeros((9, 6), np.float32)})[0].shape == (9, 4)


def test_a_batch_that_the_source_itself_has_fixed_is_refused_and_converts_as_such(tmp_path: Path) -> None:
    ran = from_zoo("FixedBatch", REFUSED, tmp_path, "--input", "x:float32[batch,6]")
    assert ran.code in (2, 3)
    assert_refused(ran, ran.code, "[4, 6]", "--input")
    assert listing(tmp_path) == {"net.pt"}
    fixed = from_zoo("FixedBatch", REFUSED, tmp_path, "--input", "x:float32[4,6]")
    assert fixed.json["signature"] == {"inputs": ["x:float32[4,6]"], "outputs": ["output:float32[4,4]"]}


def test_an_operator_that_no_exporter_has_is_named_with_a_script_that_shows_it(tmp_path: Path) -> None:
    ran = from_zoo("NoOperator", REFUSED, tmp_path)
    assert_refused(ran, 3, "dynamo", "aten._linalg_eigh", "torchscript", "net.repro.py")
    assert listing(tmp_path) == {"net.pt", "net.repro.py"}
    shown = subprocess.run([sys.executable, "net.repro.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.returncode == 1
    assert "_linalg_eigh" in shown.stderr
    assert "deploykit.cli" not in (tmp_path / "net.repro.py").read_text()


@pytest.mark.parametrize("net", ["Random", "Counting"])
def test_a_model_that_answers_otherwise_each_time_is_refused(net: str, tmp_path: Path) -> None:
    assert_refused(from_zoo(net, REFUSED, tmp_path), 3, "'output'", "random", "state")
    assert listing(tmp_path) == {"net.pt"}


def test_a_models_own_error_is_shown(tmp_path: Path) -> None:
    ran = from_zoo("Failing", REFUSED, tmp_path, "--input", "x:float32[batch,4]")
    assert_refused(ran, 2, "ValueError: this net does not work")
    assert listing(tmp_path) == {"net.pt"}


@pytest.mark.parametrize(("signal", "word"), [(9, "was killed"), (11, "SIGSEGV"), (6, "SIGABRT")])
def test_the_death_of_the_child_is_a_clear_error(signal: int, word: str, tmp_path: Path) -> None:
    options = ("--input", "x:float32[batch,4]", "--factory-args", f'{{"signal": {signal}}}')
    assert_refused(from_zoo("Dying", REFUSED, tmp_path, *options), 3, word, "loading net.pt")
    assert listing(tmp_path) == {"net.pt"}


def test_a_fault_in_the_source_that_only_shows_in_numbers_stops_the_artifact(proved: Path, tmp_path: Path) -> None:
    import onnx

    shutil.copytree(proved, tmp_path, dirs_exist_ok=True)
    model = onnx.load(tmp_path / "digits.onnx")
    weight = next(one for one in model.graph.initializer if len(one.dims) == 2)
    values = onnx.numpy_helper.to_array(weight).copy()
    values[3, 100] += 0.01
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "digits.onnx")
    ran = deploykit("validate", "digits.onnx", "--json", cwd=tmp_path)
    assert ran.code == 1
    assert ran.json["passed"] is False


def test_an_archive_whose_outputs_are_of_a_class_of_transformers_is_loaded(tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50)
    net = BertModel(config).eval()
    ids = torch.ones(2, 6, dtype=torch.int64)
    batch = torch.export.Dim("batch")
    torch.export.save(
        torch.export.export(net, (), {"input_ids": ids}, dynamic_shapes={"input_ids": {0: batch}}),
        tmp_path / "bert.pt2",
    )
    ran = deploykit("convert", "bert.pt2", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.json["signature"]["outputs"][0].startswith("last_hidden_state:float32[batch,6,16]")
