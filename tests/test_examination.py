"""What the doctor sees on a machine, and what it advises."""

import json
import tomllib
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from deploykit.examination import OLDEST, examine, findings, installed, int8_advice
from deploykit.machine import found_instructions

FITTING = {
    "numpy": "2.4.6",
    "onnx": "1.23.2",
    "onnx-ir": "1.1.0",
    "onnxruntime": "1.31.1",
    "typer": "0.29.2",
    "rich": "15.0.0",
}

EPYC = "model name\t: AMD EPYC\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_bf16\n\nflags\t\t: fpu\n"
HASWELL = "flags\t\t: fpu sse2 avx avx2 fma\n"
GRAVITON = "Features\t: fp asimd asimddp sve i8mm\n"


def problems(**changes: str | None) -> list[str]:
    """What is found where these distributions differ from a fitting set; None takes one away."""
    named = {name.replace("_", "-"): version for name, version in changes.items()}
    versions = {name: version for name, version in {**FITTING, **named}.items() if version is not None}
    found = findings(versions)
    assert all(finding.fix for finding in found)
    return [finding.problem for finding in found]


def test_this_machine_is_examined() -> None:
    import onnxruntime

    found = examine()
    assert found.packages["onnx"] == metadata.version("onnx")
    assert found.packages["onnxruntime"] == onnxruntime.__version__
    assert "CPUExecutionProvider" in found.providers
    assert found.cores >= 1
    assert found.memory is None or found.memory > 1 << 28
    assert json.loads(json.dumps(asdict(found)))["python"] == found.python


def test_a_package_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_torch(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", without_torch)
    assert "torch" not in installed()
    assert "onnx" in installed()


def test_a_fitting_set_of_packages_has_nothing_to_find() -> None:
    assert problems() == []


def test_two_onnxruntimes_are_in_each_others_way() -> None:
    (problem,) = problems(onnxruntime_gpu="1.31.1")
    assert "onnxruntime and onnxruntime-gpu" in problem


def test_onnxruntime_for_gpus_alone_is_as_good() -> None:
    assert problems(onnxruntime=None, onnxruntime_gpu="1.31.1") == []


def test_a_core_package_that_is_missing_is_named() -> None:
    (problem,) = problems(onnx_ir=None)
    assert problem.startswith("onnx-ir is not installed")


@pytest.mark.parametrize(("framework", "partner"), [("torch", "onnxscript"), ("tensorflow_cpu", "tf2onnx")])
def test_a_framework_without_its_exporter_is_found(framework: str, partner: str) -> None:
    (problem,) = problems(**{framework: "99.0"})
    assert partner in problem
    assert problems(**{framework: "99.0", partner: "99.0"}) == []


@pytest.mark.parametrize(("version", "count"), [("2.8.1+cpu", 1), ("2.9", 0), ("2.13.0+cpu", 0), ("2.10.0rc1", 0)])
def test_versions_are_compared_as_numbers(version: str, count: int) -> None:
    assert len(problems(torch=version, onnxscript="0.7.2")) == count


def test_the_oldest_versions_are_those_of_pyproject() -> None:
    project: Any = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["torch"], *extras["tensorflow"]]
    assert dict(line.split(">=") for line in wanted) == OLDEST


@pytest.mark.parametrize(
    ("cpuinfo", "found"),
    [
        (EPYC, ("AVX2", "AVX512F", "AVX512-VNNI", "AVX512-BF16")),
        (HASWELL, ("AVX2",)),
        (GRAVITON, ("ASIMD-DOT", "I8MM", "SVE")),
        ("", ()),
    ],
    ids=["epyc", "haswell", "graviton", "unreadable"],
)
def test_instruction_sets_are_read_from_cpuinfo(cpuinfo: str, found: tuple[str, ...]) -> None:
    assert found_instructions(cpuinfo) == found


@pytest.mark.parametrize(
    ("instructions", "word"),
    [
        (("AVX2", "AVX512F", "AVX512-VNNI", "AMX-INT8"), "AMX"),
        (("AVX2", "AVX-VNNI"), "uint8 activations with int8 weights are fast"),
        (("AVX2", "AVX512F"), "reduced range (7 bits)"),
        (("ASIMD-DOT", "I8MM"), "I8MM"),
        (("ASIMD-DOT",), "ASIMD-DOT"),
        ((), "not known"),
    ],
)
def test_the_advice_on_int8_follows_the_best_instruction_set(instructions: tuple[str, ...], word: str) -> None:
    assert word in int8_advice(instructions)
