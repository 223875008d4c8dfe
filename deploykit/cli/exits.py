"""How a command ends: a message for every error, and its exit code."""

import errno
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from deploykit import console
from deploykit.errors import DeploykitError, ModelError, UsageError

INTERRUPTED = 130
BUG = 70
"""EX_SOFTWARE of sysexits.h."""


def main(command: Callable[[list[str]], int]) -> None:
    """Run a command line; errors become a message and their exit code, a bug its traceback and 70.

    What ends a job in CI, SIGTERM, and what ends a terminal, SIGHUP, are taken as Ctrl-C is: nothing is left behind.
    """
    ends = _Ends()
    try:
        code = command(sys.argv[1:])
        code = ends.code if code == INTERRUPTED else code
    except Exception as error:  # noqa: BLE001 - 1 would say that the numbers are wrong
        import traceback

        traceback.print_exception(error)
        sys.stderr.write("this is a bug of deploykit, not a verdict\n")
        if "--json" in sys.argv:
            console.print_json({"error": {"kind": "bug", "message": str(error)}, "exit_code": BUG})
        code = BUG
    sys.exit(code)


class _Ends:
    """Takes the signals that end a program, and knows which one it was."""

    code = INTERRUPTED

    def __init__(self) -> None:
        for one in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(one) is signal.SIG_DFL:  # nohup has it ignored
                signal.signal(one, self._ended)

    def _ended(self, number: int, _: FrameType | None) -> None:
        self.code = 128 + number
        raise KeyboardInterrupt


def run(app: Any, arguments: list[str]) -> int:
    """Run one command and give its exit code; only bugs raise."""
    try:
        code: int = app(arguments, prog_name="deploykit", standalone_mode=False) or 0
    except DeploykitError as error:
        return _fail(error, arguments)
    except OSError as error:
        return _fail(_system(error), arguments)
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises about the arguments has it
            raise
        context = getattr(error, "ctx", None)
        usage = f"{context.get_usage()}\n" if context is not None else ""
        where = context.command_path if context is not None else "deploykit"
        sys.stderr.write(usage)
        return _fail(UsageError(error.format_message(), fix=f"{where} --help shows what it takes"), arguments)
    else:
        if code == INTERRUPTED:  # typer has taken the KeyboardInterrupt, without a word
            kept = "what was done is kept, and the same command goes on from there"
            sys.stderr.write(f"interrupted: {kept if arguments[:1] == ['run'] else 'nothing was written'}\n")
        return code


def _fail(error: DeploykitError, arguments: list[str]) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exception(error)
    console.print_error(error)
    if "--json" in arguments:
        console.print_json(console.error_json(error))
    return error.exit_code


def _system(error: OSError) -> DeploykitError:
    place = error.filename or "the disk"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ModelError(f"no space left for {place}", fix="free some space, or write elsewhere with -o")
    return UsageError(f"{place}: {error.strerror or error}", fix="check the path and its permissions")
