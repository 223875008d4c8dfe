"""What is imported when: nothing heavy for help, no framework without need, and telemetry off before all else."""

from pathlib import Path

import pytest

from tests.running import ROOT, finished, spawned

HEAVY = {"numpy", "torch", "onnx", "onnx_ir", "onnxruntime", "rich", "tensorflow", "transformers", "safetensors"}
FRAMEWORKS = {"torch", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "tensorflow", "safetensors", "transformers"}
FRAMEWORKS |= {"tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"}
COMMANDS = ("convert", "build", "validate", "bench", "seal", "verify", "inspect", "doctor", "list")

IMPORTED = """
import sys
from deploykit.cli import run
code = run(sys.argv[1:])
print("IMPORTED", code, *sorted({name.partition(".")[0] for name in sys.modules}))
"""

IMPORT_EACH = """
import importlib, os, sys
for name in sys.argv[1:]:
    pid = os.fork()
    if not pid:
        before = set(sys.modules)
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(name, "fails:", repr(error), flush=True)
        print(name, *sorted({new.partition(".")[0] for new in set(sys.modules) - before}), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""

WITHOUT_FRAMEWORKS = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "tensorflow", "onnxscript", "safetensors", "transformers"}:
            raise ImportError(name + " can't be imported here")
sys.meta_path.insert(0, Blocked())
from deploykit.cli import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["-h"], 0),
        *[([command, "--help"], 0) for command in COMMANDS],
        (["convrt", "model.pt"], 2),
        (["convert"], 2),
        (["convert", "model.pt", "--no-such-option"], 2),
        (["convert", "model.pt", "--opset", "high"], 2),
    ],
    ids=str,
)
def test_help_version_and_usage_errors_import_nothing_heavy(arguments: list[str], code: int, tmp_path: Path) -> None:
    ran = finished(spawned(*arguments, cwd=tmp_path, script=IMPORTED))
    said = next(line for line in ran.out.splitlines() if line.startswith("IMPORTED")).split()
    assert int(said[1]) == code
    assert not HEAVY & set(said[2:])


def test_every_module_imports_by_itself_and_without_a_framework(tmp_path: Path) -> None:
    files = [file.relative_to(ROOT).with_suffix("") for file in (ROOT / "deploykit").rglob("*.py")]
    names = sorted(".".join(file.parts).removesuffix(".__init__") for file in files)
    beside = [name for name in names if not name.startswith(("deploykit.child.pytorch", "deploykit.child.tensorflow"))]
    assert len(beside) > 30
    ran = finished(spawned(*beside, cwd=tmp_path, script=IMPORT_EACH), timeout=180)
    lines = [line.split() for line in ran.out.splitlines()]
    assert [line[0] for line in lines] == beside, ran.out + ran.err
    assert not [line for line in lines if FRAMEWORKS & set(line[1:])]


@pytest.mark.parametrize("command", ["validate", "seal", "inspect", "list", "doctor"])
def test_a_machine_without_torch_is_enough_for_all_but_convert(command: str, here: Path) -> None:
    ran = finished(spawned(command, "--json", cwd=here, script=WITHOUT_FRAMEWORKS))
    assert ran.code == 0, ran.err
    assert command != "validate" or ran.json["passed"] is True


def test_an_onnx_file_converts_without_torch(here: Path) -> None:
    ran = finished(spawned("convert", "digits.onnx", "-o", "new.onnx", cwd=here, script=WITHOUT_FRAMEWORKS))
    assert ran.code == 0, ran.err


def test_nothing_is_reported_to_anyone(here: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for command in (["convert", "digits.onnx", "-o", "new.onnx"], ["validate"], ["inspect"], ["doctor"]):
        assert finished(spawned(*command, cwd=here, HOME=str(home))).code == 0
    assert not [path for path in home.rglob("*") if "Microsoft" in str(path)]


def test_nothing_is_reported_from_a_conversion_with_torch(digits: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert finished(spawned("convert", digits / "digits.ts", cwd=tmp_path, HOME=str(home))).code == 0
    assert not [path for path in home.rglob("*") if "Microsoft" in str(path)]


def test_telemetry_is_off_before_onnxruntime_is_imported(tmp_path: Path) -> None:
    script = """
import os, sys
assert "ORT_DISABLE_TELEMETRY" not in os.environ
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print("off" if os.environ.get("ORT_DISABLE_TELEMETRY") == "1" else "on")
sys.meta_path.insert(0, Watch())
from deploykit.cli import run
run(["doctor", "--json"])
"""
    ran = finished(spawned(cwd=tmp_path, script=script))
    assert ran.out.splitlines()[0] == "off", ran.err
