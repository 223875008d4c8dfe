"""Run deploykit as a user does: a command line in, an exit code and two streams out."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.cli import run

ROOT = Path(__file__).parents[1]
# A shell lets its background jobs ignore Ctrl-C, and what they start inherits that; a terminal does not.
SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from deploykit.cli import main
main()
"""
FIX = "  fix: "


@dataclass(frozen=True)
class Ran:
    """What became of one command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on standard output; a failure where there is anything else."""
        return json.loads(self.out)


def deploykit(*arguments: object, cwd: Path) -> Ran:
    """Run one command in this process, in a folder."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(cwd):
        code = run([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), err.getvalue())


def spawned(*arguments: object, cwd: Path, script: str = SCRIPT, **environment: str) -> "subprocess.Popen[str]":
    """Start a command in a process of its own, as the console script does."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=cwd,
        env=surroundings(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(process: "subprocess.Popen[str]", timeout: float = 60) -> Ran:
    """Wait for a command that was started."""
    out, err = process.communicate(timeout=timeout)
    return Ran(process.returncode, out, err)


def surroundings(changes: Mapping[str, str]) -> dict[str, str]:
    """Give a fresh terminal's environment: without what importing deploykit here has set."""
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def listing(folder: Path) -> set[str]:
    """Name all that lies in a folder, the hidden too, but for the journal of the workspace."""
    return {entry.name for entry in folder.iterdir()} - {".deploykit"}


def assert_refused(ran: Ran, code: int, *words: str) -> None:
    """Make sure that a command ended with one plain message and a way out, and no more than that."""
    assert ran.code == code, f"exit {ran.code} instead of {code}:\n{ran.err}"
    lines = ran.err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == [next(x for x in lines if x.startswith("error: "))]
    assert any(line.startswith(FIX) and line != FIX for line in lines), ran.err
    assert "Traceback" not in ran.err
    assert ".deploykit-stage" not in ran.err, "a hidden folder is no place that a user knows"
    for word in words:
        assert word in ran.err, f"'{word}' is not in:\n{ran.err}"


def until(done: Callable[[], object], seconds: float) -> bool:
    """Wait for something to be so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(0.05)
    return False


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
