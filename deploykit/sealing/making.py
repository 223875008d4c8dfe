"""``deploykit seal``: prove an artifact once more, and record what exactly was proved."""

import datetime as dt
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from deploykit import __version__, workspace
from deploykit.artifact import Artifact, Format
from deploykit.child import Step, silent
from deploykit.errors import NotEquivalent, UsageError
from deploykit.sealing.manifest import Seal, SealedFile, bounds_given, seal_path, write
from deploykit.validation import validate
from deploykit.validation.demand import Bounds
from deploykit.validation.evidence import find_golden

_LOSSY = "bounds of yours are sealed with it: --min-agreement 97% --min-sqnr 15 --allow-undecided"


def seal(
    artifact: str | Path | None = None,
    *,
    source: str | Path | None = None,
    step: Step = silent,
    **bounds: Unpack[Bounds],
) -> Seal:
    """Validate an artifact with its golden, and write ``model.seal.json`` beside it: checksums, versions, verdict.

    Args:
        artifact: an ONNX file that deploykit made; the latest made in this folder where it is not given.
        source: the model that it was made from, to make sure that this is still the same file; it is not sealed.
        step: takes a sentence about what goes on.
        bounds: what it is asked in the place of the usual rules. They are sealed too, and verify judges by them.

    Raises:
        NotEquivalent: it does not pass, or the source is another; nothing is written.
        UsageError: it has no golden, or changed while it was read, or its folder can't be written to.
        DeploykitError: a file is missing or damaged.
    """
    from deploykit.onnx_io import external_files, lineage, load

    model = Artifact.open(artifact or workspace.latest())
    if model.format is not Format.ONNX:
        raise UsageError(f"{model.path} is {model.format}, and seal takes ONNX files", fix=model.to_onnx)
    origin = lineage(load(model.path))
    paths = (model.path, *external_files(model.path), find_golden(model.path, origin))
    if source is not None:
        step("reading the source")
        _check_source(Artifact.open(source), origin, model.path)
    before = _stamps(paths)
    verdict = validate(model.path, step=step, **bounds)
    if not verdict.passed:
        raise NotEquivalent(
            f"{model.path} does not answer as its source does; it was not sealed",
            fix=[f"deploykit validate {model.path} shows what failed", *([_LOSSY] if verdict.lossy else [])],
            details=[check.said for check in verdict.failures],
            verdict=verdict,
        )
    step("reading the files")
    roles = ("artifact", *["weights"] * (len(paths) - 2), "golden")
    files = tuple(SealedFile.of(role, path, model.path.parent) for role, path in zip(roles, paths, strict=True))
    if _stamps(paths) != before:
        raise UsageError(
            f"{model.path} changed while it was read; it was not sealed", fix="seal it when nothing else writes to it"
        )
    golden = f"{files[-1].name}, recorded from {origin.get('source.name', 'its source')}"
    made = Seal(
        seal_path(model.path),
        dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        files,
        {name: origin.get(f"source.{name}", "") for name in ("name", "sha256")},
        origin.get("passes", ""),
        origin.get("versions", ""),
        versions(),
        replace(verdict, artifact=files[0].name, reference=golden),  # no path of this machine
        bounds_given(bounds),
    )
    write(made)
    return made


def versions() -> dict[str, str]:
    """Say what judges an artifact here."""
    import numpy as np
    import onnxruntime

    return {
        "deploykit": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def _check_source(source: Artifact, origin: Mapping[str, str], model: Path) -> None:
    wanted, found = origin.get("source.sha256", ""), source.sha256()
    if found != wanted:
        raise NotEquivalent(
            f"{source.path} is not the source that {model} was made from: its sha256 is another; nothing was written",
            fix=f"convert it again: deploykit convert {source.path}",
            details=[f"wanted {wanted or 'any: the model does not say'}", f"found  {found}"],
        )


def _stamps(paths: Sequence[Path]) -> list[tuple[int, int, int]]:
    """Say what shows that a file was written to or replaced."""
    return [(status.st_ino, status.st_size, status.st_mtime_ns) for status in (path.stat() for path in paths)]
