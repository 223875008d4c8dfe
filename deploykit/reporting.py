"""Tell a verdict to those who do not sit at the terminal: report files, GitHub's summary and its annotations."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from deploykit.errors import UsageError
from deploykit.validation.reports import REPORTS, save
from deploykit.validation.verdict import Verdict

_NO_REPORTS = frozenset(
    {".onnx", ".npz", ".npy", ".pt", ".pth", ".pt2", ".ts", ".safetensors", ".keras", ".h5", ".tflite", ".pb", ".data"}
)
"""What is never the place of a report: models and samples, which it would overwrite."""


def check_places(files: Mapping[str, Path | None], taken: Iterable[Path | None]) -> None:
    """Make sure, before anything runs, that no report overwrites a model, the samples or another report.

    Args:
        files: where each report goes, by the name of its option.
        taken: the files that the command reads.

    Raises:
        UsageError: one would.
    """
    places = {path.resolve(): f"{path}, which is read" for path in taken if path is not None}
    for name, path in files.items():
        if path is None:
            continue
        before = places.get(path.resolve())
        if before is None and path.suffix.lower() in _NO_REPORTS:
            before = f"{path}, which looks like a model or samples"
        if before is not None:
            raise UsageError(f"--{name} would overwrite {before}", fix=f"name another file: --{name} report.{name}")
        places[path.resolve()] = f"{path}, which --{name} writes"


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
        append(REPORTS.make("markdown").write(verdict), Path(summary))
    if environment.get("GITHUB_ACTIONS") != "true":
        return ""
    return REPORTS.make("github", root=environment.get("GITHUB_WORKSPACE", "")).write(verdict)


def append(text: str, path: Path) -> None:
    """Add to a file that other steps have written to."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(
            f"can't write {path}, which GITHUB_STEP_SUMMARY names: {error.strerror}", fix="unset GITHUB_STEP_SUMMARY"
        ) from error
