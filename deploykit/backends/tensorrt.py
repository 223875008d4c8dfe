"""Run TensorRT engines on the CUDA device that is here, in a child process."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, Backend
from deploykit.backends._child import ChildSession
from deploykit.child import Child, Step, silent
from deploykit.errors import MissingPackage, UsageError
from deploykit.golden import Cases, Golden
from deploykit.nvidia import RTX, Bindings, Devices, bindings, devices, pip_line
from deploykit.sidecar import Sidecar, read_sidecar
from deploykit.tensors import Array


@dataclass(frozen=True)
class TensorRT(Backend):
    """TensorRT or TensorRT-RTX, whichever an engine was built with."""

    formats: ClassVar[frozenset[Format]] = frozenset({Format.ENGINE})

    @contextmanager
    def load(self, artifact: Artifact, asked: Asked, step: Step = silent) -> Iterator["EngineSession"]:  # noqa: ARG002
        """Load an engine, of which its sidecar says what goes in.

        Raises:
            MissingPackage: there is no device, it is not one that the engine is for, or the bindings are not installed.
        """
        known = read_sidecar(artifact.path)
        ready = usable(known, devices())
        with Child("tensorrt", step=step) as child:
            doing = f"loading {artifact.path.name} in {ready.kind}"
            told = child.call("load", doing, module=ready.module, path=str(artifact.path))
            yield EngineSession(child, known, {ready.kind: told["version"]})


class EngineSession(ChildSession):
    """An engine that is loaded on a device."""

    called: ClassVar[str] = "the engine"

    def __init__(self, child: Child, known: Sidecar, versions: dict[str, str]) -> None:
        """Take the child in which it is loaded, and what is known of it."""
        self.child, self.known, self.versions = child, known, versions
        self.signature = known.signature
        self.notes = ()
        self._numbers = count()
        usual = {
            spec.name: known.profiles[spec.name][1] for spec in self.signature.inputs if spec.name in known.profiles
        }
        self._sizes = {
            dim: usual[spec.name][axis]
            for spec in self.signature.inputs
            for axis, dim in enumerate(spec.dims)
            if isinstance(dim, str)
        }

    def layers(self) -> str:
        """Give what TensorRT's inspector tells of the layers, as JSON."""
        text: str = self.child.call("layers", "inspecting the engine")
        return text


def in_this_process(path: Path) -> Any:
    """Load an engine in this very process, to be timed: the way to a child's would count; a ``running.Engine``.

    Raises:
        MissingPackage: it can't be run here.
    """
    from deploykit.child.tensorrt.running import Engine

    ready = usable(read_sidecar(path), devices())
    return Engine(importlib.import_module(ready.module), path)


def usable(known: Sidecar, there: Devices) -> Bindings:
    """Make sure that an engine can be run here, and give what runs it.

    Raises:
        MissingPackage: it can't, with what is missing.
    """
    why = unfit(known.targets, known.backend, there)
    if why:
        raise MissingPackage(
            f"{known.engine.name} can't be run here: {why}",
            fix=f"run this on a machine with an NVIDIA GPU{f' ({_listed(known)})' if known.targets else ''}",
        )
    found = next((one for one in bindings() if one.kind == known.backend), None)
    if found is None:
        raise MissingPackage(f"{known.backend} is not installed", fix=pip_line(known.backend))
    return found


def _listed(known: Sidecar) -> str:
    return " or ".join(known.targets)


_OLDEST_RTX = 80
"""The compute capability from which an engine of RTX runs where none was named."""
_NOT_RTX = ("sm90", "sm100", "sm103")


def unfit(targets: tuple[str, ...], backend: str, there: Devices) -> str:
    """Say why an engine for some targets does not run on the first device; nothing where it does.

    Args:
        targets: ``sm89`` and the like; none where they were not named.
        backend: ``tensorrt`` or ``tensorrt-rtx``.
        there: the devices.
    """
    if not there.found:
        return there.why
    first = there.found[0]
    if targets and first.target not in targets:
        return f"it was built for {', '.join(targets)}, and the device is {first.name} ({first.target})"
    old = int(first.target[2:]) < _OLDEST_RTX
    if backend == RTX and not targets and (old or first.target in _NOT_RTX):
        return f"TensorRT-RTX does not run on {first.name} ({first.target})"
    return ""


def within(golden: Golden, known: Sidecar) -> Golden:
    """Give the calls of a golden that are within the profile of an engine; what is not is said.

    Raises:
        UsageError: none is.
    """
    kept = [number for number, case in enumerate(golden.cases) if _takes(known, case.inputs)]
    left = len(golden.cases) - len(kept)
    if not kept:
        raise UsageError(
            f"no call of the golden is within the profile of {known.engine.name}, so that nothing could be compared",
            fix="build it for shapes that were recorded, or record others: deploykit convert --shapes 'batch=1,8,32'",
        )
    if not left:
        return golden
    said = f"{left} of {left + len(kept)} calls are outside of the engine's profile, and were not compared"
    cases = Cases(len(kept), lambda number: golden.cases[kept[number]])
    return replace(golden, cases=cases, notes=(*golden.notes, said))


def _takes(known: Sidecar, inputs: Mapping[str, Array]) -> bool:
    return all(
        low <= size <= high
        for name, (least, _, most) in known.profiles.items()
        for low, size, high in zip(least, inputs[name].shape, most, strict=True)
    )
