"""Tell a verdict to those who do not sit at the terminal: report files, GitHub's summary and its annotations."""

from collections.abc import Mapping
from pathlib import Path

from deploykit.errors import UsageError
from deploykit.validation.reports import REPORTS, save
from deploykit.validation.verdict import Verdict


def publish(verdict: Verdict, files: Mapping[str, Path | None], environment: Mapping[str, str]) -> str:
    """Write a verdict's reports; in GitHub Actions also the summary of the step.

    Args:
        verdict: what to tell.
        files: where each report goes, by its name; None for one that nobody wants.
        environment: the variables of the process: ``GITHUB_STEP_SUMMARY``, ``GITHUB_ACTIONS``, ``GITHUB_WORKSPACE``.

    Returns:
        The annotations to print where GitHub Actions runs this, else nothing.

    Raises:
        UsageError: a file can't be written.
    """
    for name, path in files.items():
        if path is not None:
            save(REPORTS.make(name).write(verdict), path)
    summary = environment.get("GITHUB_STEP_SUMMARY")
    if summary:
        _append(REPORTS.make("markdown").write(verdict), Path(summary))
    if environment.get("GITHUB_ACTIONS") != "true":
        return ""
    return REPORTS.make("github", root=environment.get("GITHUB_WORKSPACE", "")).write(verdict)


def _append(text: str, path: Path) -> None:
    """Add to a file that other steps have written to."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(
            f"can't write {path}, which GITHUB_STEP_SUMMARY names: {error.strerror}", fix="unset GITHUB_STEP_SUMMARY"
        ) from error
