"""What has to be put right where an engine takes its place: what an older one left, the timing cache, the proof."""

import shutil
from pathlib import Path
from typing import Any

from deploykit.artifact import staging
from deploykit.errors import DeploykitError
from deploykit.nvidia import Devices
from deploykit.sidecar import read_sidecar
from deploykit.validation.verdict import Verdict


def proof_of(verdict: Verdict | None, why: str, there: Devices) -> dict[str, Any]:
    """Say for the sidecar whether an engine was proved, and on what."""
    if verdict is None:
        return {"state": "unproved", "why": why}
    device = there.found[0]
    return {
        "state": "proved",
        "why": f"equal on {verdict.samples} samples",
        "device": f"{device.name} ({device.target})",
    }


def unlink_older(target: Path) -> None:
    """Remove the ONNX file that was made for an older engine of that name: its golden is about to be replaced."""
    try:
        older = read_sidecar(target).onnx.name if target.exists() else ""
    except DeploykitError:  # what is there was not made by this
        return
    if older == f"{target.name}.onnx":
        (target.parent / older).unlink(missing_ok=True)


def replaced(new: Path, place: Path) -> None:
    """Put a timing cache in its place in one step, so that no build reads half of one."""
    with staging(place.parent) as stage:
        shutil.copyfile(new, stage.folder / place.name)
        stage.commit(place.name)
