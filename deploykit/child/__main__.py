"""The child's side: take an order from standard input, do it, answer, until the input ends."""

import importlib
import json
import os
import queue
import resource
import shutil
import sys
import threading
import traceback
from typing import Any, TextIO

from deploykit.child.tensorrt.addresses import fix_addresses
from deploykit.errors import DeploykitError, MissingPackage, ModelError

_PACKAGES = {"pytorch": "torch onnxscript", "tensorflow": "tensorflow tf2onnx", "tensorrt": "tensorrt"}


def main(framework: str, scratch: str) -> None:
    """Serve the worker of one framework, a package here; of the folder ``scratch`` no trace is left."""
    if framework == "tensorrt":
        fix_addresses()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the model's own code prints is no answer
    orders: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(orders, scratch), daemon=True).start()

    def say(step: str) -> None:
        _answer(answers, {"step": step})

    worker: Any = None
    while True:
        order = json.loads(orders.get())
        try:
            if worker is None:
                worker = _worker(framework)(say)
            result = getattr(worker, order["op"])(**order["options"])
            _answer(answers, {"result": result})
        except DeploykitError as error:
            _answer(answers, {"error": _told(error)})
        except MemoryError:
            full = ModelError(
                f"out of memory in '{order['op']}'",
                fix="use a machine with more memory, or smaller inputs with --input",
            )
            _answer(answers, {"error": _told(full)})


def _worker(framework: str) -> Any:
    try:
        return importlib.import_module(f"deploykit.child.{framework}.worker").Worker
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"{error.name} is not installed in {sys.executable}",
            fix=f"{sys.executable} -m pip install numpy {_PACKAGES[framework]}",
        ) from error


def _read(orders: "queue.Queue[str]", scratch: str) -> None:
    for line in sys.stdin:
        orders.put(line)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)  # the parent is gone: nobody wants the answer


def _answer(answers: TextIO, content: dict[str, Any]) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    answers.write(json.dumps({**content, "peak_bytes": peak}) + "\n")


def _told(error: DeploykitError) -> dict[str, Any]:
    if error.__cause__ is not None:
        traceback.print_exception(error.__cause__, file=sys.stderr)
    return {"kind": type(error).__name__, "message": error.message, "fix": error.fix, "details": error.details}
