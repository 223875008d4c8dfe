"""``deploykit verify``: are the files of a seal what was sealed, and do they still answer as their source does?"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploykit import workspace
from deploykit.artifact import Artifact, Format, sha256
from deploykit.child import Step, silent
from deploykit.errors import DeploykitError, UsageError
from deploykit.sealing.making import versions
from deploykit.sealing.manifest import SUFFIX, Seal, SealedFile, read, seal_path
from deploykit.validation import validate
from deploykit.validation.verdict import Verdict


@dataclass(frozen=True)
class Found:
    """What became of one file."""

    role: str
    name: str
    as_sealed: bool
    why: str
    """What was found, in plain words."""


@dataclass(frozen=True)
class Verification:
    """Whether the files are those that were sealed, and, where they were run, whether they still pass."""

    manifest: Path
    sealed: str
    """Date and time, ISO 8601, UTC."""
    files: tuple[Found, ...]
    verdict: Verdict | None
    """None where a file is not as it was sealed, or only the files were asked for."""
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all files are as they were sealed, and the model answers as its source does where it was run."""
        return all(file.as_sealed for file in self.files) and (self.verdict is None or self.verdict.passed)


def verify(path: str | Path | None = None, *, files_only: bool = False, step: Step = silent) -> Verification:
    """Hold the files of a seal against it; where all are there and the same, validate the artifact with its golden.

    Args:
        path: the manifest, or the ONNX file that it lies beside; the latest made in this folder where it is not given.
        files_only: whether to leave it at the files, and run nothing.
        step: takes a sentence about what goes on.

    Raises:
        UsageError: there is no seal.
        ModelError: the seal is damaged.
        Refused: it names a file outside of its folder.
        DeploykitError: the artifact can't be run in this environment.
    """
    given = Path(path) if path is not None else _only_seal() or workspace.latest()
    seal = _seal_of(given)
    step("reading the files")
    files = tuple(_found(seal.path.parent, file) for file in seal.files)
    files = (*files, *_unsealed(seal, given), *_source(seal))
    if files_only or not all(file.as_sealed for file in files):
        return Verification(seal.path, seal.sealed, files, None)
    verdict = validate(seal.path.parent / seal.artifact.name, step=step, **seal.bounds)
    return Verification(seal.path, seal.sealed, files, verdict, (*_bounds(seal), *_other_versions(seal)))


def _only_seal() -> Path | None:
    """Give the seal of this folder where there is one, and no more."""
    seals = list(Path().glob("*.seal.json"))
    return seals[0] if len(seals) == 1 else None


def _seal_of(given: Path) -> Seal:
    if given.name.endswith(".json"):
        return read(given)
    if given.is_dir():
        raise UsageError(f"{given} is a folder", fix=f"name the seal or the model: deploykit verify model{SUFFIX}")
    path = seal_path(given)
    if not path.exists():
        there = Artifact.open(given)  # which says where there is none
        if there.format is Format.ENGINE:
            raise UsageError(
                f"{there.path} is an engine, and seals are of ONNX files", fix=f"deploykit validate {there.path}"
            )
        raise UsageError(
            f"{there.path} has no seal: {path.name} is not beside it",
            fix=[f"make one: deploykit seal {there.path}", f"or name it: deploykit verify model{SUFFIX}"],
        )
    return read(path)


def _found(folder: Path, sealed: SealedFile) -> Found:
    path = folder / sealed.name
    try:
        why = _difference(path, sealed)
    except OSError as error:
        why = f"can't be read: {error.strerror}"
    return Found(sealed.role, sealed.name, as_sealed=why is None, why=why or "as sealed")


def _difference(path: Path, sealed: SealedFile) -> str | None:
    if not path.is_file():
        return "missing: there is something else in its place" if path.exists() else "missing"
    size = path.stat().st_size
    if size != sealed.bytes:
        return f"changed: it has {size} bytes, and was sealed with {sealed.bytes}"
    if (digest := sha256(path)) != sealed.sha256:
        return f"changed: its sha256 is {digest}, and was sealed as {sealed.sha256}"
    return None


def _unsealed(seal: Seal, given: Path) -> Iterator[Found]:
    """Find what belongs to the model here, and was not sealed."""
    from deploykit.onnx_io import external_files

    folder = seal.path.parent
    own = folder / seal.artifact.name
    if given != seal.path and os.path.normpath(given) != os.path.normpath(own):
        yield Found("artifact", given.name, as_sealed=False, why=f"not sealed: {seal.path.name} is of {own.name}")
    known = {file.name for file in seal.files}
    try:
        beside = external_files(own) if Artifact.open(own).format is Format.ONNX else ()
    except DeploykitError:  # the artifact is missing or damaged, which is said already
        return
    for file in beside:
        name = os.path.relpath(os.path.normpath(file), os.path.normpath(folder))
        if Path(name).as_posix() not in known:
            yield Found("weights", name, as_sealed=False, why="not sealed: the model takes weights from it")


def _source(seal: Seal) -> Iterator[Found]:
    """Look at the source where it lies beside the seal: a model of an older one is not what it seems to be."""
    name = seal.source.get("name", "")
    path = seal.path.parent / name
    if not name or not path.exists() or name in {file.name for file in seal.files}:  # made from one of the same name
        return
    try:
        same = Artifact.open(path).sha256() == seal.source.get("sha256")
    except DeploykitError:
        same = False
    why = "as sealed" if same else "changed: the model was made from another"
    yield Found("source", path.name, as_sealed=same, why=why)


def _bounds(seal: Seal) -> Iterator[str]:
    if seal.bounds:
        said = ", ".join(f"{name} {value}" for name, value in seal.bounds.items())
        yield f"judged by the bounds that it was sealed with: {said}"


def _other_versions(seal: Seal) -> Iterator[str]:
    here = versions()
    for name in ("onnxruntime", "deploykit"):  # which decide how it answers, and how that is judged
        sealed = seal.versions.get(name)
        if sealed != here[name]:
            yield f"sealed with {name} {sealed or 'of no known version'}, verified with {here[name]}"
