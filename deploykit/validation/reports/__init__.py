"""Reports: a verdict as the text of a file that somebody else opens. One file each; each holds one frozen dataclass.

``_words`` and ``_markup`` are what they share: sentences, and text that no name of an output can break out of.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from deploykit.artifact import staging
from deploykit.errors import UsageError
from deploykit.plugin import Registry
from deploykit.validation.verdict import Verdict


@dataclass(frozen=True)
class Report(ABC):
    """One way to tell a verdict."""

    @abstractmethod
    def write(self, verdict: Verdict) -> str:
        """Give the text of the file: the same verdict gives the same text, and all of it can be written as UTF-8."""


REPORTS = Registry("deploykit.validation.reports", Report, "report")


def save(text: str, path: Path) -> None:
    """Write a file whole or not at all, in a folder that is made where there is none.

    What is no plain file, such as ``/dev/stdout`` or a pipe, is written to as it is: it must not be replaced.

    Raises:
        UsageError: the place can't be written to.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        place = path.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        with staging(place.parent) as stage:
            (stage.folder / place.name).write_text(text, encoding="utf-8")
            stage.commit(place.name)
    except (OSError, UsageError) as error:
        why = error.strerror if isinstance(error, OSError) else error.message
        raise UsageError(f"can't write {path}: {why}", fix="name a file in a folder that can be written to") from error
