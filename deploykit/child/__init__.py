"""The child process that owns a framework: it loads the source once, exports it, runs it, and ends.

The parent's side is ``Child``; the other side is ``__main__``. They speak JSON, a line each way: ``{"op": ...}`` goes
down, ``{"step": ...}`` and at last ``{"result": ...}`` or ``{"error": ...}`` come up. Tensors travel as .npz files.
The child ends when its standard input does, so that it can't outlive the parent, however the parent ends.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import deploykit
from deploykit.errors import BY_NAME, DeploykitError, ModelError, UsageError

Step = Callable[[str], None]
"""Takes a sentence about what goes on now."""

_SHOWN = 25
_CHATTER = re.compile(r"I\d{4} |.* I tensorflow/|WARNING: All log messages before absl")
"""What TensorFlow says of every start."""
_OLDEST_PYTHON = (3, 11)
_IMPORTED = {"pytorch": "torch", "tensorflow": "tensorflow", "tensorrt": "'deploykit[tensorrt-rtx]'"}

# The other interpreter gets this package by its place, and nothing else of what is installed beside it.
# Nor does a file in the current folder, or beside the model, stand in for a module that is installed: they come last.
_BOOTSTRAP = """
import sys
sys.path[:] = [place for place in sys.path if place]
import importlib.util
if sys.version_info < {oldest}: sys.exit("deploykit needs Python {needed} or newer there, this is " + sys.version)
place = {place!r}
spec = importlib.util.spec_from_file_location("deploykit", place + "/__init__.py", submodule_search_locations=[place])
sys.modules["deploykit"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.path += {paths!r}
from deploykit.child.__main__ import main
main({framework!r}, {scratch!r})
"""


def silent(_: str) -> None:
    """Say nothing of the steps."""


class Child:
    """A running child process; use it in a ``with`` statement."""

    def __init__(
        self, framework: str, *, python: str | None = None, paths: tuple[str, ...] = (), step: Step = silent
    ) -> None:
        """Start Python with the code for ``framework``, a package here, its import path ending with ``paths``.

        Raises:
            UsageError: ``python`` can't be started.
        """
        self.framework = framework
        self.step = step
        self.peak_bytes = 0
        """Largest resident memory that the child has told of."""
        self._doing = "starting"
        self._scratch = tempfile.TemporaryDirectory(prefix="deploykit-")
        self.scratch = Path(self._scratch.name)
        """A folder for the files that go to and fro; it goes with the child, whichever way that ends."""
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed in close()
        place = Path(deploykit.__file__).parent
        code = _BOOTSTRAP.format(
            oldest=_OLDEST_PYTHON,
            needed=".".join(map(str, _OLDEST_PYTHON)),
            place=str(place),
            paths=[*paths, str(Path.cwd())],
            framework=framework,
            scratch=self._scratch.name,
        )
        try:
            self._process = subprocess.Popen(
                [python or sys.executable, "-u", "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,  # Ctrl-C goes to the parent alone, which then ends this one
            )
        except OSError as error:
            raise UsageError(
                f"can't start {python}: {error.strerror}", fix="give the path of a Python interpreter with --python"
            ) from error

    def __enter__(self) -> Self:
        """Give the child itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child process, and all that it has started, at once."""
        self.close()

    def close(self) -> None:
        """End the child process; its memory is free when this returns."""
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()
        self._scratch.cleanup()

    def call(self, op: str, doing: str, **options: object) -> Any:
        """Have one thing done, and wait for its result.

        Args:
            op: the name of the work, as the framework's worker knows it.
            doing: what goes on, for the step shown and for the message should the child die: ``loading model.pt``.
            options: what JSON can hold.

        Raises:
            DeploykitError: what the child reports, or that it died.
        """
        self._doing = doing
        self.step(doing)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, "options": options}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "step" in answer:
                self.step(answer["step"])
                continue
            self.peak_bytes = max(self.peak_bytes, answer["peak_bytes"])
            if "error" in answer:
                error = _error(answer["error"])
                error.add_note(self.log())  # shown with --debug
                raise error
            return answer["result"]
        raise self._death()

    def log(self) -> str:
        """Give all that the child has written to its standard output and error."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _death(self) -> DeploykitError:
        code = self._process.wait()
        tail = [line for line in self.log().splitlines() if line.strip() and not _CHATTER.match(line)][-_SHOWN:]
        if any(line.startswith("Traceback") for line in tail):
            tail.insert(0, tail[-1])  # what is long is cut at its end, and the error stands there
        if code >= 0:
            why = f"ended with exit code {code}"
        elif -code == signal.SIGKILL:
            why = "was killed: most likely the machine ran out of memory"
        else:
            why = f"crashed ({signal.Signals(-code).name})"
        peak = f", {self.peak_bytes / 1e9:.1f} GB at its largest before" if self.peak_bytes else ""
        fix = {
            -signal.SIGKILL: "use a machine with more memory, or smaller inputs with --input",
        }.get(
            code,
            "look at the lines above; with a broken installation: pip install --force-reinstall"
            f" {_IMPORTED[self.framework]}",
        )
        return ModelError(f"the {self.framework} process {why} while {self._doing}{peak}", fix=fix, details=tail)


def _error(told: dict[str, Any]) -> DeploykitError:
    return BY_NAME[told["kind"]](told["message"], fix=told["fix"], details=told["details"])
