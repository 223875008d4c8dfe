"""The memory that a model takes, measured in a process that does nothing else."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploykit.errors import ModelError
from deploykit.tensors import Array, write_npz
from deploykit.timing import alone


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process that loads one model and runs it a few times, in bytes."""

    peak: int
    """The largest, of the whole process."""
    bare: int
    """What of it Python, numpy and onnxruntime took before the model was loaded."""


def memory_of(path: Path, inputs: Mapping[str, Array], threads: int) -> Memory:
    """Measure the memory of a model.

    Raises:
        ModelError: that process did not come to its end.
    """
    with tempfile.TemporaryDirectory(prefix="deploykit-") as folder:
        feed = Path(folder) / "feed.npz"
        write_npz(feed, {name: one.astype(str) if one.dtype == np.object_ else one for name, one in inputs.items()})
        # -P: a file in the current folder does not stand in for a module.
        command = [sys.executable, "-P", alone.__file__, str(path), str(feed), str(threads)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise ModelError(
            f"{path.name} does not run in a process of its own, which measures its memory: exit {ended.returncode}",
            fix="free some memory, or use smaller inputs",
            details=ended.stderr.splitlines()[-3:],
        )
    told = json.loads(ended.stdout)
    return Memory(told["peak"], told["bare"])
