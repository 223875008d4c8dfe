"""The commands as a user meets them: what they print, which model they take, and how they tell right from wrong."""

import json
import shutil
from pathlib import Path

import pytest

import deploykit as api
from deploykit.errors import DeploykitError
from tests.running import Ran, assert_refused, deploykit, finished, listing, spawned

COMMANDS = ("convert", "validate", "bench", "seal", "verify", "inspect", "doctor", "list")


@pytest.mark.parametrize("arguments", [["--help"], []], ids=["--help", "nothing"])
def test_the_help_names_every_command_and_the_exit_codes(arguments: list[str], tmp_path: Path) -> None:
    ran = deploykit(*arguments, cwd=tmp_path)
    for word in (*COMMANDS, "Exit codes"):
        assert word in ran.out + ran.err


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert deploykit("--version", cwd=tmp_path) == Ran(0, f"deploykit {api.__version__}\n", "")


def test_a_wrong_command_is_answered_with_the_nearest(tmp_path: Path) -> None:
    assert_refused(deploykit("convrt", "model.pt", cwd=tmp_path), 2, "convrt", "convert")


@pytest.mark.parametrize(
    "arguments", [["validate"], ["seal"], ["inspect"], ["doctor"], ["list"], ["list", "torch"]], ids=" ".join
)
def test_json_is_one_object_on_standard_output_and_nothing_else(arguments: list[str], here: Path) -> None:
    ran = finished(spawned(*arguments, "--json", cwd=here))
    assert ran.code == 0, ran.err.splitlines()[-1]
    assert isinstance(json.loads(ran.out), dict)
    assert ran.err == ""


def test_convert_prints_one_json_object_whatever_the_model_prints(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(
        "import sys, torch\nprint('made here')\nclass Net(torch.nn.Linear):\n"
        "    def __init__(self):\n        super().__init__(3, 2)\n"
        "    def forward(self, x):\n        print('I run'); sys.stderr.write('and I shout')\n"
        "        return super().forward(x)\n"
    )
    torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "net.pt")
    ran = finished(
        spawned("convert", "net.pt", "--factory", "net.py:Net", "--exporter", "torchscript", "--json", cwd=tmp_path)
    )
    assert ran.code == 0, ran.err
    assert ran.json["verdict"]["passed"] is True
    assert ran.err == ""


@pytest.mark.parametrize("command", ["convert", "validate", "inspect"])
def test_an_error_is_one_json_object_too(command: str, tmp_path: Path) -> None:
    ran = deploykit(command, "nothing.onnx", "--json", cwd=tmp_path)
    assert_refused(ran, 2, "nothing.onnx")
    assert ran.json["exit_code"] == 2
    assert ran.json["error"]["kind"] == "UsageError"
    assert ran.json["error"]["fix"]


def test_a_usage_error_is_json_too_where_it_is_asked_for(tmp_path: Path) -> None:
    ran = deploykit("convert", "--json", cwd=tmp_path)
    assert_refused(ran, 2, "'source'")
    assert ran.json["error"]["kind"] == "UsageError"


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    ran = deploykit("inspect", "nothing.onnx", "--debug", cwd=tmp_path)
    assert ran.code == 2
    assert "Traceback" in ran.err
    assert "error: there is no nothing.onnx" in ran.err


def test_the_api_raises_what_the_command_line_says(tmp_path: Path) -> None:
    with pytest.raises(DeploykitError, match=r"nothing\.onnx") as caught:
        api.inspect(tmp_path / "nothing.onnx")
    assert caught.value.exit_code == 2
    assert caught.value.fix


def test_the_api_validates_and_inspects_as_the_commands_do(here: Path) -> None:
    assert api.validate(here / "digits.onnx").passed
    signature = api.inspect(here / "digits.onnx").signature
    assert signature is not None
    assert [str(spec) for spec in signature.inputs] == ["x:float32[batch,1,8,8]"]


def test_validate_takes_the_latest_and_says_which(here: Path) -> None:
    ran = deploykit("validate", cwd=here)
    assert ran.code == 0
    assert "digits.onnx" in ran.out
    assert "equal" in ran.out


def test_the_latest_is_the_last_that_was_made_and_is_still_there(here: Path) -> None:
    assert deploykit("convert", "digits.onnx", "-o", "second.onnx", cwd=here).code == 0
    assert "second.onnx" in deploykit("validate", cwd=here).out
    (here / "second.onnx").unlink()
    assert "digits.onnx" in deploykit("validate", cwd=here).out


@pytest.mark.parametrize("command", ["validate", "inspect"])
def test_without_an_artifact_there_is_no_latest(command: str, tmp_path: Path) -> None:
    assert_refused(deploykit(command, cwd=tmp_path), 2, "deploykit convert")
    assert not listing(tmp_path)


def test_validate_against_the_source_runs_it_anew(here: Path, digits: Path) -> None:
    ran = deploykit("validate", "digits.onnx", "--against", digits / "digits.ts", "--json", cwd=here)
    assert ran.code == 0, ran.err
    assert ran.json["passed"]
    assert str(ran.json["reference"]).endswith("digits.ts")


def test_validate_against_the_source_takes_real_samples(here: Path, digits: Path) -> None:
    given = ("--against", digits / "digits.ts", "--data", digits / "digits_val.npz", "--samples", 50)
    ran = deploykit("validate", "digits.onnx", *given, "--input", "x:float32[batch,1,8,8]", "--json", cwd=here)
    assert ran.code == 0, ran.err
    assert ran.json["samples"] == 50


@pytest.mark.parametrize("against", ["digits.golden.npz", "twin.onnx"])
def test_validate_against_a_golden_or_another_onnx_file(against: str, here: Path) -> None:
    shutil.copy(here / "digits.onnx", here / "twin.onnx")
    assert deploykit("validate", "digits.onnx", "--against", against, cwd=here).code == 0


def test_validate_tells_a_model_from_another(here: Path, tmp_path: Path) -> None:
    other = spoiled(here / "digits.onnx", here / "other.onnx")
    ran = deploykit("validate", other, "--against", "digits.golden.npz", cwd=here)
    assert ran.code == 1
    assert "NOT EQUAL" in ran.out
    assert "FAIL" in ran.out
    assert "output" in ran.out


def spoiled(source: Path, target: Path) -> Path:
    """Write a model with one weight changed."""
    import onnx

    model = onnx.load(source)
    weight = next(one for one in model.graph.initializer if len(one.dims) == 4)
    values = onnx.numpy_helper.to_array(weight).copy()
    values.ravel()[7] += 0.05
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, target)
    return target


def test_validate_without_the_golden_says_how_to_get_one(here: Path) -> None:
    (here / "digits.golden.npz").unlink()
    assert_refused(deploykit("validate", cwd=here), 2, "digits.golden.npz", "--against")


def test_validate_notices_a_golden_that_was_changed(here: Path) -> None:
    golden = here / "digits.golden.npz"
    content = bytearray(golden.read_bytes())
    content[len(content) // 2] ^= 1
    golden.write_bytes(content)
    assert_refused(deploykit("validate", cwd=here), 2, "sha256")


def test_validate_takes_only_onnx_files(here: Path, digits: Path) -> None:
    assert_refused(deploykit("validate", digits / "digits.ts", cwd=here), 2, "torchscript", "--against")


def test_options_of_a_source_need_a_source(here: Path) -> None:
    assert_refused(deploykit("validate", "--factory", "net.py:Net", cwd=here), 2, "--against")


def test_a_bare_onnx_file_is_validated_after_it_was_given_a_golden(here: Path) -> None:
    import onnx

    model = onnx.load(here / "digits.onnx")
    del model.metadata_props[:]
    onnx.save(model, here / "bare.onnx")
    assert_refused(deploykit("validate", "bare.onnx", cwd=here), 2, "convert bare.onnx")
    assert deploykit("convert", "bare.onnx", cwd=here).code == 0
    assert deploykit("validate", "bare.proved.onnx", cwd=here).code == 0


def test_inspect_shows_signature_operators_and_lineage(here: Path) -> None:
    seen = deploykit("inspect", "--json", cwd=here).json
    assert seen["signature"] == {"inputs": ["x:float32[batch,1,8,8]"], "outputs": ["output:float32[batch,10]"]}
    assert seen["operators"]["Conv"] == 2
    assert seen["opsets"] == {"ai.onnx": 20}
    assert set(seen["lineage"]) >= {"source.sha256", "golden.sha256", "passes", "versions"}
    text = deploykit("inspect", cwd=here).out
    for word in ("x:float32[batch,1,8,8]", "2 Conv", "source.sha256", "parameters", "onnxruntime 1.17"):
        assert word in text


def test_inspect_lists_what_a_pickle_would_import_and_runs_nothing(digits: Path, tmp_path: Path) -> None:
    seen = deploykit("inspect", digits / "digits.pt", "--json", cwd=tmp_path).json
    assert seen["format"] == "state-dict"
    assert "torch._utils._rebuild_tensor_v2" in seen["imports"]


def test_doctor_shows_packages_providers_and_what_the_machine_means_for_int8(tmp_path: Path) -> None:
    found = deploykit("doctor", "--json", cwd=tmp_path).json
    assert found["packages"]["onnxruntime"]
    assert "CPUExecutionProvider" in found["providers"]
    assert "int8" in found["int8"]
    assert "onnxruntime" in deploykit("doctor", cwd=tmp_path).out


def test_list_shows_the_plug_ins_and_the_options_of_one(tmp_path: Path) -> None:
    text = deploykit("list", cwd=tmp_path).out
    for role, name in (("exporter", "torch"), ("backend", "onnxruntime"), ("metric", "sqnr")):
        assert any(line.split()[:2] == [role, f"{name}:"] for line in text.splitlines())
    assert "opset" in deploykit("list", "torch", cwd=tmp_path).out
    assert_refused(deploykit("list", "torhc", cwd=tmp_path), 2, "torhc", "did you mean 'torch'")


def test_a_command_whose_reader_has_gone_ends_quietly(here: Path) -> None:
    process = spawned("inspect", "--json", cwd=here)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) in (0, 141)
