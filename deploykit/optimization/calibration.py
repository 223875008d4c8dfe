"""``deploykit calibrate``: the ranges of a model on a part of the data, and those of several parts together."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Unpack

from deploykit import workspace
from deploykit.artifact import Artifact, staging
from deploykit.backends import Asked, Loading, check_options
from deploykit.child import Step, silent
from deploykit.clock import Clock
from deploykit.errors import UsageError
from deploykit.optimization import checked
from deploykit.optimization.chain import Chain
from deploykit.optimization.evidence import evidence_of
from deploykit.optimization.quantizing import CALIBRATION_SAMPLES
from deploykit.passes import PASSES
from deploykit.quantization.calibrating import Calibration, check_place, fingerprint
from deploykit.quantization.calibrating import calibrate as counted
from deploykit.quantization.health import Health, chosen
from deploykit.quantization.reading import read
from deploykit.quantization.regions import Named, find_regions
from deploykit.quantization.targets import target_of
from deploykit.tensors import Array, Signature
from deploykit.validation import Demand
from deploykit.validation.evidence import Size, batches, is_batched

_BATCH = 8


@dataclass(frozen=True)
class Calibrated:
    """A file of ranges that was written."""

    path: Path
    model: Path | None
    """What was run; None where files were merged."""
    merged: tuple[Path, ...]
    """The files that it is from."""
    samples: int
    tensors: int
    notes: tuple[str, ...]


def calibrate(
    model: str | Path | None = None,
    output: str | Path | None = None,
    *,
    merge: Sequence[str | Path] = (),
    target: str = "auto",
    samples: int | None = None,
    step: Step = silent,
    **loading: Unpack[Loading],
) -> Calibrated:
    """Count the values of a model's tensors on samples, for ``quantize`` to take: on one machine, or on many.

    Args:
        model: the ONNX file that is to be quantized; the latest made in this folder where it is not given.
        output: the file to write; ``MODEL.ranges.json`` where it is not given.
        merge: files that were made so on parts of the data, to be made one; no model is run then.
        target: the rules that say which tensors are looked at.
        samples: at most so many of the user's samples; 512 where nothing is said.
        step: takes a sentence about what goes on.
        loading: ``data``, and how images are prepared.

    Raises:
        UsageError: there are no samples, or the files are of different models.
    """
    if output is not None:
        check_place(Path(output))
    if merge:
        if model is not None:
            raise UsageError("--merge takes files of ranges, and no model", fix="leave the model out")
        found = _merged([Path(one) for one in merge])
        files = tuple(Path(one) for one in merge)
        return _written(found, Path(output or "merged.ranges.json"), None, files, target)
    asked = Asked(**loading)
    source = Artifact.open(model or workspace.latest(suffix=".onnx"))
    check_options(asked, source)
    if asked.data is None:
        raise UsageError("there is nothing to calibrate with", fix="--data calib.npz")
    found = _counted(source, asked, target, samples or CALIBRATION_SAMPLES, step)
    return _written(found, Path(output or f"{source.path.stem}.ranges.json"), source.path, (), target)


def _counted(source: Artifact, asked: Asked, target: str, samples: int, step: Step) -> Calibration:
    """Run the model as quantize will have it: simplified."""
    from deploykit.onnx_io import load, signature

    rules = target_of(target)
    simplify, quantize = PASSES.make("simplify"), PASSES.make("int8", target=target, synthetic_calibration=True)
    checked(source, Asked(), [simplify, quantize], Demand(), keep_slower=False)
    with tempfile.TemporaryDirectory(prefix="deploykit-") as folder, staging(Path(folder)) as stage:
        evidence = evidence_of(source, Asked(), Size(stage.folder / "evidence"), Demand(), step)
        chain = Chain(source, Path("model.onnx"), stage, evidence, Clock(), step)
        simplified, _ = chain.applied(simplify, source.path, stage.folder / "simplified")
        graph = read(simplified, rules)
        named = Named.of(find_regions(graph, rules))
        calls = partial(_calls, asked, signature(load(simplified)), samples)
        found = counted(graph, named.calibrated, named.channels, calls, Path(folder), step)
        found.model = fingerprint(read(simplified))
    return found


def _calls(asked: Asked, signature: Signature, samples: int) -> Iterator[Mapping[str, Array]]:
    assert asked.data is not None
    return batches(asked, asked.data, signature, samples, [_BATCH] if is_batched(signature) else None)


def _merged(files: Sequence[Path]) -> Calibration:
    found = Calibration.read(files[0])
    for path in files[1:]:
        found = found.merged(Calibration.read(path))
    return found


def _written(found: Calibration, path: Path, model: Path | None, merged: tuple[Path, ...], target: str) -> Calibrated:
    health = Health.of(found, chosen(found, target_of(target)))
    found.save(path, asdict(health))
    return Calibrated(path, model, merged, found.samples, len(found.counts), tuple(health.said()))
