"""``deploykit build`` with TensorRT-RTX on the CPU: engines that are really built, and what is really refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as api
from deploykit import nvidia
from deploykit.artifact import Artifact, Format, sha256
from deploykit.child import Child
from deploykit.engines.lint import ABSENT, PLUGINS, RUNTIMES_OWN
from deploykit.engines.options import Options
from deploykit.engines.refusing import failed
from deploykit.errors import ModelError, UsageError
from deploykit.golden import Golden
from deploykit.sidecar import read_sidecar, sidecar_path
from tests.conftest import Once
from tests.engine_nets import resnet50
from tests.half_nets import normal
from tests.refused_nets import REFUSED, Refused, written
from tests.rtx import bindings, log
from tests.running import Ran, assert_refused, deploykit, finished, is_running, listing, spawned, until

THREE = "sm86,sm89,sm120"
HERE = nvidia.devices()
_ASK = """from deploykit.child.tensorrt.addresses import fix_addresses; import ctypes; fix_addresses()
print(bool(ctypes.CDLL(None).personality(0xFFFFFFFF) & 0x0040000))"""
ADDRESSES_FIXED = subprocess.check_output([sys.executable, "-c", _ASK], text=True) == "True\n"
"""Where the system does not allow that, two builds may differ in a few bytes."""
without_a_device = pytest.mark.skipif(bool(HERE.found), reason="there is a CUDA device here")
FILES = {"digits.engine", "digits.engine.json", "digits.engine.golden.npz"}
PROVED = {"digits.onnx", "digits.golden.npz"}


@without_a_device
def test_an_engine_is_built_but_not_called_proved_where_no_device_is(here: Path) -> None:
    ran = deploykit("build", "--for", THREE, cwd=here)
    assert ran.code == 1
    assert f"UNPROVED: built, not run: {HERE.why}" in ran.out
    assert "asked float32: 2 of 2 convolutions in float32" in ran.out
    assert listing(here) == PROVED | FILES
    first = sha256(here / "digits.engine")
    again = deploykit("build", "digits.onnx", "--for", THREE, "--allow-unproved", "--json", cwd=here)
    assert again.code == 0
    assert again.json["passed"] is False
    assert again.json["verdict"] is None
    assert again.json["unproved"] == HERE.why
    if ADDRESSES_FIXED:
        assert again.json["sidecar"]["engine"]["sha256"] == first, "two builds give two engines"


@pytest.fixture(scope="session")
def engines(once: Once, digits: Path, proved: Path) -> Path:
    """Give a folder with the digits net as an engine in int8 and what belongs to it; tests copy it."""

    def make(folder: Path) -> None:
        for name in ("digits.onnx", "digits.golden.npz"):
            shutil.copy(proved / name, folder)
        data = ["--data", digits / "digits_val.npz", "--allow-undecided"]
        ran = deploykit(
            *("build", "digits.onnx", "-o", "digits.engine", "--int8", "--for", THREE, *data),
            *("--shape", "x:1x1x8x8,8x1x8x8,64x1x8x8", "--allow-unproved"),
            cwd=folder,
        )
        assert ran.code == 0, ran.err
        (folder / "said").write_text(ran.out)

    return once("engines", make)


@pytest.fixture
def built(engines: Path, tmp_path: Path) -> Path:
    shutil.copytree(engines, tmp_path / "built")
    return tmp_path / "built"


def test_int8_goes_into_the_onnx_file_first_which_is_proved_and_stays(built: Path) -> None:
    said = (built / "said").read_text()
    assert "asked int8: 2 of 2 convolutions in int8" in said
    known = read_sidecar(built / "digits.engine")
    assert known.precision == "int8"
    assert known.targets == ("sm86", "sm89", "sm120")
    assert known.profiles == {"x": ((1, 1, 8, 8), (8, 1, 8, 8), (64, 1, 8, 8))}
    assert known.onnx.sha256 == sha256(built / "digits.engine.onnx")
    assert known.golden.sha256 == sha256(built / "digits.engine.golden.npz")
    assert known.lineage["source.name"] == "digits.ts"
    assert "target=tensorrt" in known.lineage["passes"]
    assert deploykit("validate", "digits.engine.onnx", "--allow-undecided", cwd=built).code == 0


@pytest.mark.parametrize(
    ("option", "layers"),
    [
        ("--fp16", {"Conv": {"float16": 2}, "Gemm": {"float16": 1}}),
        # The proof of bfloat16 leaves the convolutions in float32, and it is said that they are.
        ("--bf16", {"Conv": {"float32": 2}, "Gemm": {"bfloat16": 1}}),
    ],
)
def test_halves_are_made_and_built_strongly_typed(option: str, layers: dict[str, dict[str, int]], here: Path) -> None:
    ran = deploykit("build", "digits.onnx", option, "--for", "sm89", "--allow-unproved", "--json", cwd=here)
    assert ran.code == 0, ran.err
    name = f"digits.{option[2:]}.engine"
    assert listing(here) == PROVED | {name, f"{name}.json", f"{name}.onnx", f"{name}.golden.npz"}
    assert ran.json["sidecar"]["layers"] == layers
    assert ".deploykit-stage" not in ran.out


@without_a_device
@pytest.mark.parametrize("command", ["validate", "bench"])
def test_what_needs_a_device_says_that_it_is_missing(command: str, built: Path) -> None:
    assert_refused(deploykit(command, "digits.engine", cwd=built), 4, HERE.why, "NVIDIA GPU")
    assert_refused(deploykit("validate", "digits.engine", "--against", "digits.onnx", cwd=built), 4, HERE.why)


def test_an_engine_is_known_by_its_content_and_told_by_its_sidecar(built: Path) -> None:
    assert Artifact.open(built / "digits.engine").format is Format.ENGINE
    ran = deploykit("inspect", "digits.engine", cwd=built)
    for word in (
        "sm86, sm89, sm120",
        "asked int8: 2 of 2 convolutions",
        "tensorrt-rtx version: 1.7",
        "1x1x8x8, 8x1x8x8, 64x1x8x8",
    ):
        assert word in ran.out
    sidecar_path(built / "digits.engine").unlink()
    bare = deploykit("inspect", "digits.engine", cwd=built)
    assert bare.code == 0
    assert "sidecar" in bare.out
    assert_refused(deploykit("validate", "digits.engine", cwd=built), 2, "sidecar")


@pytest.mark.parametrize(
    "command", ["convert", "optimize", "quantize --fp16", "seal", "verify", "build", "calibrate --data x.npz"]
)
def test_an_engine_is_the_end_of_the_chain(command: str, built: Path) -> None:
    assert_refused(deploykit(*command.split(), "digits.engine", cwd=built), 2, "digits.engine")
    assert_refused(deploykit("validate", "digits.onnx", "--against", "digits.engine", cwd=built), 2, "digits.engine")


def test_doctor_names_the_bindings_the_devices_and_what_can_be_built(tmp_path: Path) -> None:
    found = deploykit("doctor", "--json", cwd=tmp_path).json
    assert [one["kind"] for one in found["tensorrt"]] == [one.kind for one in nvidia.bindings()]
    assert found["devices"]["why"] == HERE.why
    assert found["engines"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--for", "sm90"], 2, ["sm90", "H200"]),
        (["--timing-cache", "cache"], 2, ["--timing-cache", "ignore"]),
        (["--hardware-compatible"], 2, ["--hardware-compatible"]),
        (["--level", "6"], 2, ["--level"]),
        (["--level", "5"], 2, ["--level", "every level"]),
        (["--for", ""], 2, ["--for", "sm89"]),
        (["--for="], 2, ["--for", "sm89"]),
        (["--shape", "x:99999999999999999999x1x8x8"], 2, ["--shape", "more than"]),
        (["--backend", "tensort"], 2, ["did you mean 'tensorrt'"]),
        (["--shape", "x:4x1x8x8,2x1x8x8,8x1x8x8"], 2, ["do not grow"]),
        (["--shape", "y:1x1x8x8"], 2, ["no such input"]),
        (["--workspace", "1kB"], 3, ["--workspace"]),
        (["--for", "sm75"], 3, ["sm75 has no float32 product", "Gemm", "--fp16"]),
        (["--fp16", "--int8"], 2, ["--fp16 and --int8"]),
        (["--int8"], 2, ["samples", "--data"]),
        (["--data", "x.npz"], 2, ["--data", "--int8"]),
        (["--image", "scale=255"], 2, ["--image", "--data"]),
        (["--synthetic-calibration"], 2, ["--int8"]),
        (["-o", "digits.onnx"], 2, [".engine"]),
        (["-o", "none/x.engine"], 2, ["none"]),
    ],
    ids=str,
)
def test_a_wrong_build_is_one_plain_message_and_leaves_nothing(
    arguments: list[str], code: int, words: list[str], here: Path
) -> None:
    assert_refused(deploykit("build", "digits.onnx", *arguments, cwd=here), code, *words)
    assert listing(here) == PROVED


ONE: list[tuple[int, ...]] = [(1, 3)] * 3


def asked(onnx: Path, folder: Path, **profiles: list[tuple[int, ...]]) -> dict[str, Any]:
    """Ask TensorRT itself to build a file, past all rules of ours."""
    options = {
        "profiles": profiles,
        "targets": ["sm89"],
        "workspace": 0,
        "level": None,
        "nodes": [],
        "timing_cache": "",
        **dict.fromkeys(("sparse", "version_compatible", "hardware_compatible"), False),
        "new_cache": "",
    }
    with Child("tensorrt") as child:
        places = {"onnx": str(onnx), "target": str(folder / "x.engine")}
        told: dict[str, Any] = child.call("build", "building", module=bindings().__name__, options=options, **places)
    return told


@pytest.mark.parametrize("net", REFUSED, ids=lambda net: net.name)
def test_what_is_refused_before_the_build_tensorrt_refuses_too_or_misunderstands(net: Refused, tmp_path: Path) -> None:
    path = net.write(tmp_path)
    with pytest.raises(ModelError) as refused:
        api.build(path, tmp_path / "net.engine", options=api_options(*net.targets))
    assert all(node in " ".join(refused.value.details) for node, _ in net.nodes)
    assert listing(tmp_path) == {"net.onnx"}
    if "sm89" in net.targets[:1]:
        told = asked(path, tmp_path, **({"x": ONE} if "batch" in net.text else {}))
        assert ("version" in told) == net.taken, told


def api_options(*targets: str) -> Options:

    return Options(targets=targets)


def test_the_operators_that_are_called_absent_are_those_that_the_parser_does_not_have() -> None:
    trt = bindings()
    parser = trt.OnnxParser(trt.Builder(log()).create_network(0), log())
    assert [name for name in ABSENT if parser.supports_operator(name)] == []
    assert [name for name in PLUGINS if not parser.supports_operator(name)] == []
    assert [name for name in RUNTIMES_OWN if not parser.supports_operator(name)] == []


@pytest.mark.parametrize(
    ("profile", "word"),
    [({}, "profile"), ({"x": [(4, 3), (2, 3), (8, 3)]}, "MIN<=OPT"), ({"x": [(1, 5)] * 3}, "has 3")],
)
def test_tensorrt_refuses_profiles_too(profile: dict[str, list[tuple[int, ...]]], word: str, tmp_path: Path) -> None:
    path = written(tmp_path, "(float[batch,3] x) => (float[batch,4] y) { y = MatMul (x, w) }", w=normal(3, 4))
    assert word in str(asked(path, tmp_path, **profile)["failed"])


def test_an_input_that_holds_a_shape_is_said(tmp_path: Path) -> None:
    text = "(float[a,b] x, int64[2] s) => (float[c,d] y) { y = Reshape (x, s) }"
    told = asked(written(tmp_path, text), tmp_path, x=[(2, 4)] * 3)
    error = failed(tmp_path / "net.onnx", told["failed"])
    assert "the input 's' holds a shape" in error.details[0]
    assert "fixed" in error.fix[0]


def test_what_is_no_precision_of_tensorrt_is_refused(here: Path) -> None:
    with pytest.raises(UsageError, match="dynamic"):
        api.build(here / "digits.onnx", here / "digits.engine", to="dynamic")


def test_a_model_without_a_golden_is_its_own_source(tmp_path: Path) -> None:
    path = written(tmp_path, "(float[batch,3] x) => (float[batch,4] y) { y = MatMul (x, w) }", w=normal(3, 4))
    made = api.build(path, tmp_path / "net.engine", options=api_options("sm89"))
    assert made.sidecar.profiles["x"][0] == (1, 3)
    assert (tmp_path / "net.engine.golden.npz").exists()
    assert json.loads(sidecar_path(made.path).read_text())["layers"]["MatMul"] == {"float32": 1}


def test_it_is_recorded_from_samples_where_they_are_given_and_else_said_to_be_made_up(tmp_path: Path) -> None:
    path = written(tmp_path, "(float[batch,3] x) => (float[batch,4] y) { y = MatMul (x, w) }", w=normal(3, 4))
    samples = tmp_path / "x.npz"
    np.savez(samples, x=np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    made = api.build(path, tmp_path / "net.engine", options=api_options("sm89"), data=samples)
    golden = Golden.read(tmp_path / "net.engine.golden.npz")
    assert np.concatenate([case.inputs["x"] for case in golden.cases])[:2].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert not made.warnings
    far = Options(targets=("sm89",), shapes=("x:64x3",))
    again = api.build(path, tmp_path / "net.engine", options=far)
    assert "made up" in again.warnings[0]
    assert "can't be proved" in again.warnings[1]


def _written(folder: Path) -> None:
    resnet50(folder, "float32")


@pytest.fixture
def slow(once: Once, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Start the build of a ResNet-50, and give its process and that of its child, which is at work."""
    folder = once("resnet50", _written)
    process = spawned("build", folder / "resnet50.float32.onnx", "-o", "net.engine", cwd=tmp_path)
    assert until(lambda: children(process.pid) and list(tmp_path.glob(".deploykit-stage-*")), 60)
    child = children(process.pid)[0]
    assert until(lambda: "libtensorrt" in Path(f"/proc/{child}/maps").read_text(), 60), "it has not begun"
    yield process, child
    process.kill()
    process.communicate()
    assert until(lambda: not is_running(child), 10)


def children(pid: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found += [int(place.parent.name)] if words[1] == str(pid) else []
    return found


def test_ctrl_c_ends_the_build_and_leaves_no_file(slow: tuple["subprocess.Popen[str]", int], tmp_path: Path) -> None:
    process, child = slow
    process.send_signal(signal.SIGINT)
    ran: Ran = finished(process)
    assert ran.code == 130
    assert "interrupted: nothing was written" in ran.err
    assert until(lambda: not is_running(child), 5)
    assert not listing(tmp_path)


def test_a_killed_build_leaves_no_child_and_the_next_command_tidies_up(
    slow: tuple["subprocess.Popen[str]", int], tmp_path: Path
) -> None:
    process, child = slow
    os.kill(process.pid, signal.SIGKILL)
    assert until(lambda: not is_running(child), 10)
    assert deploykit("inspect", "none.onnx", cwd=tmp_path).code == 2
    assert not listing(tmp_path)


def test_a_killed_child_is_a_clear_error(slow: tuple["subprocess.Popen[str]", int], tmp_path: Path) -> None:
    process, child = slow
    os.kill(child, signal.SIGKILL)
    assert_refused(finished(process), 3, "was killed", "net.engine")
    assert not listing(tmp_path)
