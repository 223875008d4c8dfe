"""GitHub annotations: what failed, shown at the artifact's file in a pull request."""

import os.path
from dataclasses import dataclass, field

from deploykit.validation.reports import Report
from deploykit.validation.reports._words import line, visible, worst_first
from deploykit.validation.verdict import Check, Verdict


@dataclass(frozen=True)
class Github(Report):
    """Annotations of GitHub Actions, one for each failed check; nothing where all passed.

    They are lines of standard output, ``::error file=...,title=...::message``, with the escapes of the toolkit that
    GitHub gives for it (packages/core/src/command.ts of actions/toolkit). GitHub shows ten of a step: the worst first.
    """

    root: str = field(default="", metadata={"help": "Folder of the repository, $GITHUB_WORKSPACE: files are relative."})

    def write(self, verdict: Verdict) -> str:
        """Give the lines."""
        file = _property(_relative(verdict.artifact, self.root))
        failed = (check for check in worst_first(verdict) if not check.passed)
        return "".join(f"::error file={file},title={_property(_title(check))}::{_told(check)}\n" for check in failed)


def _relative(artifact: str, root: str) -> str:
    """Say where an artifact is in the repository: a step may run in another folder of it."""
    if not root:
        return artifact
    path = os.path.relpath(artifact, root)
    return artifact if path.startswith(os.pardir) else path


def _title(check: Check) -> str:
    return f"{check.what} is {'undecided' if check.undecided else 'not equal'}"


def _told(check: Check) -> str:
    return _message(f"{line(check.why)}; asked for: {line(check.rule)}")


def _message(text: str) -> str:
    return visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(line(text)).replace(":", "%3A").replace(",", "%2C")
