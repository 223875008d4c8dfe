"""Load an ONNX file in a process of its own, run it, and print what memory that took: ``alone.py FILE FEED THREADS``.

It is run as a script and imports nothing of deploykit, so that what it takes is what a server would take.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np

CALLS = 3
"""How often it is run: onnxruntime makes room for its tensors in the first call."""


def peak() -> int:
    """Give the largest resident memory of this process up to now, in bytes; 0 where the kernel does not tell.

    getrusage would tell that of the process from which this one was started, where that was larger.
    """
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def main(path: str, feed: str, threads: str) -> None:
    """Load, run, and print ``{"bare": bytes before, "peak": bytes}``."""
    import onnxruntime

    with np.load(feed, allow_pickle=False) as file:
        tensors = {name: one.astype(object) if (one := file[name]).dtype.kind == "U" else one for name in file.files}
    bare = peak()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for _ in range(CALLS):
        session.run(None, tensors)
    sys.stdout.write(json.dumps({"bare": bare, "peak": peak()}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
