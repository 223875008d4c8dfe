"""Every error that a user can cause, in one place.

    DeploykitError            a message, its details, and how to fix it
    ├── NotEquivalent    1    the numbers are wrong, or a bound of the user's was missed
    ├── UsageError       2    the command line, an option or the data given is wrong
    ├── ModelError       3    the model can't be read, converted or built
    │   └── ValueDependent    it decides by the values of its inputs, which no trace can hold
    ├── MissingPackage   4    a package that this work needs is not installed
    └── Refused          5    unsafe without the user's word

A bug is no DeploykitError: it crashes with a traceback.
"""

import difflib
import importlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

EXTRAS = {
    "torch": "torch",
    "onnxscript": "torch",
    "safetensors": "torch",
    "tensorflow": "tensorflow",
    "tf2onnx": "tensorflow",
    "PIL": "images",
    "pyarrow": "parquet",
    "distributed": "dask",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
}


class DeploykitError(Exception):
    """What happened, to what, and what to do about it."""

    exit_code: ClassVar[int]

    def __init__(self, message: str, *, fix: str | Sequence[str], details: Sequence[str] = ()) -> None:
        """Take one sentence, the commands or words that mend it, and the lines that show it."""
        super().__init__(message)
        self.message = message
        self.fix = (fix,) if isinstance(fix, str) else tuple(fix)
        self.details = tuple(details)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel between processes whole: pools and parallel tests pickle errors."""
        return _again, (type(self), self.__dict__.copy())

    def lines(self) -> Iterator[str]:
        """Give the text as a terminal shows it, a line at a time."""
        yield f"error: {self.message}"
        yield from (f"  {line}" for line in self.details)
        for number, line in enumerate(self.fix):
            yield f"  fix: {line}" if number == 0 else f"       {line}"


def _again(kind: type[DeploykitError], fields: dict[str, object]) -> DeploykitError:
    error = kind.__new__(kind, fields["message"])
    error.__dict__.update(fields)
    return error


class NotEquivalent(DeploykitError):
    """The artifact does not answer as its source does, or misses a bound that the user set."""

    exit_code = 1

    def __init__(
        self, message: str, *, fix: str | Sequence[str], details: Sequence[str] = (), verdict: object = None
    ) -> None:
        """Take the verdict too, for whoever shows it."""
        super().__init__(message, fix=fix, details=details)
        self.verdict = verdict


class UsageError(DeploykitError):
    """The command, an option or the data given with it is wrong."""

    exit_code = 2


class ModelError(DeploykitError):
    """The model can't be read, converted or built."""

    exit_code = 3


class ValueDependent(ModelError):
    """The model decides in Python by the values of a tensor: a trace would keep one of its ways only."""


class MissingPackage(DeploykitError):
    """A package that this work needs is not installed, or does not load."""

    exit_code = 4


class Refused(DeploykitError):
    """The work would run code, or do harm, that the user has not agreed to."""

    exit_code = 5


_KINDS = (NotEquivalent, UsageError, ModelError, ValueDependent, MissingPackage, Refused)
BY_NAME = {kind.__name__: kind for kind in _KINDS}


def nearest(word: str, known: Iterable[str]) -> str:
    """Say what the user may have meant, as the end of a sentence: ``; did you mean 'opset'?``."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


@contextmanager
def needs(*packages: str) -> Iterator[None]:
    """Turn a missing package into its pip line, and a broken one into its own message.

    Raises:
        MissingPackage: a package is not installed, or fails while it is imported.
    """
    for package in packages:
        require(package)
        try:
            importlib.import_module(package)
        except Exception as error:
            raise MissingPackage(
                f"{package} is installed, but does not load: {error}",
                fix=f"reinstall it: {_pip_line(package)} --force-reinstall",
            ) from error
    yield


def require(package: str) -> None:
    """Make sure that a package is installed, without importing it.

    Raises:
        MissingPackage: it is not.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingPackage(f"{package} is not installed", fix=_pip_line(package))


def _pip_line(package: str) -> str:
    extra = EXTRAS.get(package)
    return f"pip install 'deploykit[{extra}]'" if extra else f"pip install {package.replace('_', '-')}"
