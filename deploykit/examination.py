"""What this machine and this Python can do: packages, providers, instruction sets, and what does not fit."""

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from deploykit import machine, nvidia
from deploykit.machine import found_instructions
from deploykit.nvidia import Bindings, Devices

NAMES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("numpy", "onnx", "onnx-ir", "typer", "rich", "torch", "onnxscript", "safetensors")},
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tensorflow-macos"),
    "tf2onnx": ("tf2onnx",),
    "keras": ("keras",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt_rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings"),
}
"""What can be of use, and under which names an index has it."""

CORE = ("numpy", "onnx", "onnx-ir", "onnxruntime", "typer", "rich")
OLDEST = {
    "typer": "0.15",
    "rich": "13",
    "numpy": "1.26",
    "onnx": "1.18",
    "onnx-ir": "0.1.12",
    "onnxruntime": "1.20",
    "torch": "2.9",
    "onnxscript": "0.5.4",
    "safetensors": "0.4",
    "tensorflow": "2.18",
    "tf2onnx": "1.17",
}
"""The same as in pyproject.toml, which a test holds it to."""
PARTNERS = {"torch": (("onnxscript",), "torch"), "tensorflow": (("tf2onnx",), "tensorflow")}
"""What a framework can't be converted without, and the extra that brings it."""


@dataclass(frozen=True)
class Finding:
    """Something that does not fit, and what to do about it."""

    problem: str
    fix: str


@dataclass(frozen=True)
class Examination:
    """What there is to work with; an unknown text is ``unknown``, an unknown number is None."""

    python: str
    platform: str
    cpu: str
    cores: int
    """Cores that this process may use: affinity and the container's limit."""
    memory: int | None
    """Bytes that this process may use: the machine's, or the container's limit."""
    packages: dict[str, str | None]
    """Installed version by name, or None."""
    providers: tuple[str, ...]
    """Execution providers of the onnxruntime that is installed."""
    instructions: tuple[str, ...]
    """Instruction sets that decide how fast int8 and bf16 are."""
    tensorrt: tuple[Bindings, ...]
    """The bindings of TensorRT that can be imported."""
    devices: Devices
    """The GPUs, and the driver."""
    engines: str
    """Which engines can be built and run here, in one sentence."""
    int8: str
    """What they mean for int8 on this machine, in one sentence."""
    findings: tuple[Finding, ...]


def examine() -> Examination:
    """Look at this machine and this Python; of the packages only onnxruntime is imported."""
    versions = installed()
    text = machine.text("/proc/cpuinfo")
    packages = {
        name: next((versions[dist] for dist in dists if dist in versions), None) for name, dists in NAMES.items()
    }
    loaded, problem = _providers() if packages["onnxruntime"] else ((), None)
    instructions = found_instructions(text)
    found, there = nvidia.bindings(), nvidia.devices()
    return Examination(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=machine.cpu(text),
        cores=machine.cores(),
        memory=machine.memory(),
        packages=packages,
        providers=loaded,
        instructions=instructions if text else ("unknown",),
        tensorrt=found,
        devices=there,
        engines=engine_advice(found, there),
        int8=int8_advice(instructions),
        findings=(*findings(versions), *([problem] if problem else [])),
    )


def installed() -> dict[str, str]:
    """Give the version of every distribution in ``NAMES`` that is installed, without importing it."""
    versions = {}
    for dist in (dist for dists in NAMES.values() for dist in dists):
        try:
            versions[dist] = metadata.version(dist)
        except metadata.PackageNotFoundError:
            continue
    return versions


def findings(versions: Mapping[str, str]) -> tuple[Finding, ...]:
    """Say what does not fit among installed distributions, given by name and version."""
    return (*_missing(versions), *_too_old(versions), *_in_each_others_way(versions), *_partners(versions))


def int8_advice(instructions: tuple[str, ...]) -> str:
    """Say in one sentence what instruction sets mean for an int8 model on onnxruntime."""
    for names, sentence in _ADVICE:
        if any(name in instructions for name in names):
            return sentence
    return "It is not known what this CPU has for int8: measure with deploykit bench before you choose it."


def engine_advice(found: Sequence[Bindings], there: Devices) -> str:
    """Say in one sentence which TensorRT engines can be built and run here."""
    kinds = [one.kind for one in found]
    if not found:
        return f"none can be built: no TensorRT is installed ({there.why or there.found[0].name})"
    if there.found:
        first = there.found[0]
        return f"{' and '.join(kinds)} can build here; an engine for {first.target} fits {first.name}"
    if nvidia.RTX in kinds:
        return f"tensorrt-rtx builds for other machines (--for sm86,sm89,sm120), and none can be run: {there.why}"
    return f"none can be built: full TensorRT builds where the device is, and there is {there.why}"


_FAST = "uint8 activations with int8 weights are fast here, and their sums do not saturate"
_ADVICE = (
    (("AMX-INT8",), f"AMX multiplies int8 in tiles: {_FAST}, most of all in large matrices."),
    (("AVX512-VNNI", "AVX-VNNI"), f"VNNI multiplies int8 in one instruction: {_FAST}."),
    (
        ("AVX512F", "AVX2"),
        "There is no VNNI: int8 sums saturate unless weights have a reduced range (7 bits), and the gain is small.",
    ),
    (("I8MM",), "I8MM multiplies int8 matrices in one instruction: int8 is fast here, signed or not."),
    (("ASIMD-DOT",), "ASIMD-DOT sums int8 products in one instruction: int8 is fast here, signed or not."),
)


def _missing(versions: Mapping[str, str]) -> Iterator[Finding]:
    for name in CORE:
        if not any(dist in versions for dist in NAMES[name]):
            yield Finding(f"{name} is not installed, and nothing works without it", f"pip install {name}")


def _too_old(versions: Mapping[str, str]) -> Iterator[Finding]:
    for name, oldest in OLDEST.items():
        for dist in NAMES[name]:
            if dist in versions and _number(versions[dist]) < _number(oldest):
                yield Finding(
                    f"{dist} {versions[dist]} is older than {oldest}, the oldest that deploykit works with",
                    f"pip install --upgrade '{dist}>={oldest}'",
                )


def _in_each_others_way(versions: Mapping[str, str]) -> Iterator[Finding]:
    for name in ("onnxruntime", "tensorflow"):
        present = [dist for dist in NAMES[name] if dist in versions]
        # On Windows tensorflow is a front for tensorflow-intel; two of onnxruntime overwrite one another's files.
        if len(present) > 1 and "tensorflow-intel" not in present:
            yield Finding(
                f"{' and '.join(present)} are installed, and are all imported as {name}: it is chance which one is",
                f"pip uninstall {' '.join(present)}, then pip install the one that you want",
            )


def _partners(versions: Mapping[str, str]) -> Iterator[Finding]:
    for framework, (partners, extra) in PARTNERS.items():
        for partner in partners:
            if any(dist in versions for dist in NAMES[framework]) and partner not in versions:
                yield Finding(
                    f"{framework} is installed, but {partner} is not: its models can't be converted",
                    f"pip install 'deploykit[{extra}]'",
                )


def _number(version: str) -> tuple[int, ...]:
    """Make the release part of a version comparable: 2.13.0+cpu is (2, 13, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _providers() -> tuple[tuple[str, ...], Finding | None]:
    try:
        import onnxruntime
    except Exception as error:  # noqa: BLE001 - a broken package fails in any way, and that is the finding
        problem = f"onnxruntime is installed, but does not load: {error}"
        return (), Finding(problem, "pip install --force-reinstall onnxruntime")
    return tuple(onnxruntime.get_available_providers()), None
