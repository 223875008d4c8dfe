"""What can be asked of an engine, and which TensorRT has it: what one lacks is refused by name, never ignored."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploykit.errors import MissingPackage, UsageError, nearest
from deploykit.nvidia import RTX, TENSORRT, Bindings, Devices, bindings, pip_line

BACKENDS = ("auto", TENSORRT, RTX)
TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""Compute capabilities that TensorRT-RTX builds for, wherever it runs. There is no sm90: the H100 and H200."""
LEVELS = range(6)


@dataclass(frozen=True)
class Options:
    """How an engine is built."""

    backend: str = "auto"
    """``tensorrt``, ``tensorrt-rtx``, or ``auto`` for the one that is installed; of both, RTX where no device is."""
    shapes: Sequence[str] = ()
    """``x:1x3x224x224,8x3x224x224,32x3x224x224``: the smallest, the usual and the largest of an input."""
    workspace: str | int | None = None
    """What a layer may take for its work: ``2GB``, or bytes."""
    level: int | None = None
    """How long the builder looks for better kernels, 0 to 5."""
    targets: Sequence[str] = ()
    """``sm89``, ``sm120``: the devices that it shall run on."""
    timing_cache: Path | None = None
    """Keeps what was timed, for the next build."""
    sparse: bool = False
    """Whether weights with two zeros in four may use the kernels for that."""
    hardware_compatible: bool = False
    """Whether it shall run on all devices from Ampere on."""
    version_compatible: bool = False
    """Whether later versions of TensorRT shall load it."""

    @property
    def workspace_bytes(self) -> int:
        """Give the workspace in bytes; 0 where nothing is said.

        Raises:
            UsageError: it is no amount of memory.
        """
        if self.workspace is None:
            return 0
        from deploykit.validation.divergence.windows import bytes_of

        return bytes_of(self.workspace, "--workspace")

    def check(self, found: Bindings) -> None:
        """Make sure that these bindings have all of it, before anything runs.

        Raises:
            UsageError: one of them is lacking, or makes no sense.
        """
        for option, why, fix in _lacking(self, found):
            raise UsageError(f"{found.kind} {found.version} has no {option}: {why}", fix=fix)
        if self.level is not None and self.level not in LEVELS:
            raise UsageError(f"there is no level {self.level}", fix="--level 0 to 5; 3 is the usual one")
        if self.timing_cache is not None and not self.timing_cache.absolute().parent.is_dir():
            raise UsageError(f"there is no folder for {self.timing_cache}", fix="make it, or name another place")
        _ = self.workspace_bytes


_AMPERE = f"--for {','.join(TARGETS[1:5])}"


def _lacking(asked: Options, found: Bindings) -> Iterator[tuple[str, str, str]]:
    other = f"leave it out, or build with full TensorRT: --backend {TENSORRT}"
    if found.kind == TENSORRT:
        if asked.targets:
            why = "it builds for the device that it runs on"
            yield f"--for {','.join(asked.targets)}", why, f"leave it out, or --backend {RTX}"
        return
    ignored = (
        (asked.timing_cache, "--timing-cache", "it times nothing, and would ignore it", other),
        (asked.hardware_compatible, "--hardware-compatible", "it would ignore it", f"{_AMPERE}, or leave it out"),
        (asked.sparse, "--sparse", "it builds the same engine with and without, as measured", other),
        (asked.level is not None, "--level", "it builds the same engine at every level, as measured", other),
    )
    yield from ((option, why, fix) for given, option, why, fix in ignored if given)
    for name in asked.targets:
        if name not in TARGETS:
            why = "the H100 and H200 need full TensorRT" if name == "sm90" else f"it builds for {', '.join(TARGETS)}"
            yield f"target {name}{nearest(name, TARGETS)}", why, f"--for {','.join(TARGETS[3:5])}, or {other}"


def targets_of(text: str | None) -> tuple[str, ...]:
    """Read ``sm89,sm120``; also ``8.9``."""
    parts = (part.strip().lower() for part in (text or "").split(","))
    return tuple(dict.fromkeys(re.sub(r"^(?:sm_?)?(\d+)\.?(\d)$", r"sm\1\2", part) for part in parts if part))


def chosen(backend: str, devices: Devices) -> Bindings:
    """Choose the bindings.

    Raises:
        UsageError: there is no backend of that name.
        MissingPackage: it is not installed, or can't build without a device.
    """
    if backend not in BACKENDS:
        raise UsageError(f"there is no backend '{backend}'{nearest(backend, BACKENDS)}", fix=" or ".join(BACKENDS))
    there = {one.kind: one for one in bindings()}
    if backend == "auto":
        order = (TENSORRT, RTX) if devices.found else (RTX, TENSORRT)
        backend = next((kind for kind in order if kind in there), RTX)
    if backend not in there:
        raise MissingPackage(f"{backend} is not installed", fix=pip_line(backend))
    if backend == TENSORRT and not devices.found:
        raise MissingPackage(
            f"full TensorRT builds on the device that the engine is for, and there is {devices.why}",
            fix=["build on a machine with an NVIDIA GPU", f"or --backend {RTX} --for sm89, which builds without one"],
        )
    return there[backend]
