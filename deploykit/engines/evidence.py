"""What an engine is built of, and judged by: the ONNX file in its precision, and the golden of its source."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from deploykit.artifact import Artifact
from deploykit.child import Step
from deploykit.engines.graph import Graph
from deploykit.errors import NotEquivalent, UsageError
from deploykit.plugin import name_of
from deploykit.validation.demand import Bounds
from deploykit.validation.evidence import SAMPLES

if TYPE_CHECKING:
    from deploykit.validation.verdict import Verdict


@dataclass(frozen=True)
class Asking:
    """What is asked of the numbers."""

    to: Any
    """A pass, its name, or None."""
    data: Path | None
    image: str | None
    samples: int | None
    seed: int
    bounds: Bounds
    max_drop: float | None
    labels: str | Path | None

    def check(self) -> None:
        """Make sure that all of it has something to say, before anything runs.

        Raises:
            UsageError: the precision is none that TensorRT has, or an option says nothing.
        """
        if self.to is None:
            if self.image is not None and self.data is None:
                raise UsageError("--image prepares the images of --data, and none are given", fix="--data FOLDER")
            for option, value in (("--max-drop", self.max_drop), ("--labels", self.labels)):
                if value is not None:
                    raise UsageError(
                        f"{option} is for a precision that is made here, and none is named",
                        fix="--int8, --fp16 or --bf16, or leave it out",
                    )
            return
        if name_of(self.chosen) not in ("fp16", "bf16", "int8"):
            raise UsageError(f"no engine is built by {name_of(self.chosen)}", fix="--fp16, --bf16 or --int8")
        self.chosen.check(made_up=self.data is None)

    @property
    def chosen(self) -> Any:
        """Give the pass, int8 as TensorRT has it."""
        from deploykit.passes import PASSES

        one = PASSES.make(self.to) if isinstance(self.to, str) else self.to
        return replace(one, target="tensorrt") if hasattr(one, "target") else one

    @property
    def suffix(self) -> str:
        """Give what an engine is called after, besides its model."""
        return "" if self.to is None else f".{self.chosen.suffix}"


@dataclass(frozen=True)
class Source:
    """What an engine is built of."""

    onnx: Path
    golden: Path
    """In the stage, under the name that it will have."""
    made: Sequence[str] = ()
    """Names of the files in the stage that the ONNX file is made of, where it was made here."""
    did: tuple[str, ...] = ()
    """What the passes did, in words."""
    notes: tuple[str, ...] = ()
    """What there is to say of its golden."""


def prepared(source: Artifact, asking: Asking, stage: Path, target: Path, step: Step) -> Source:
    """Bring a model into the precision that is asked for, and find or record its golden.

    Raises:
        NotEquivalent: it can't be had in that precision.
        DeploykitError: the model or the samples can't be read.
    """
    golden = stage / f"{target.name}.golden.npz"
    lineage = Graph.read(source.path).lineage
    notes = () if "golden.sha256" in lineage or asking.data is not None else (_MADE_UP,)
    if asking.to is None:
        _golden(source, lineage, asking, stage, golden, step)
        return Source(source.path, golden, notes=notes)
    from deploykit.optimization.quantizing import quantize

    place = stage / "quantized"
    place.mkdir()
    try:
        made = quantize(
            source.path,
            place / f"{target.name}.onnx",
            to=asking.chosen,
            max_drop=asking.max_drop,
            labels=asking.labels,
            samples=asking.samples,
            seed=asking.seed,
            step=step,
            data=asking.data,
            image=asking.image,
            **asking.bounds,
        )
    except NotEquivalent as error:
        if error.verdict is not None:
            error.verdict = replace(cast("Verdict", error.verdict), artifact=f"{target}.onnx")
        raise
    for path in (*made.files, made.golden):
        path.rename(stage / path.name)
    did = tuple(f"{one.applied.partition(':')[0]}: {line}" for one in made.stages for line in (one.done, *one.notes))
    return Source(stage / made.path.name, stage / made.golden.name, [path.name for path in made.files], did, notes)


def _golden(source: Artifact, lineage: Mapping[str, str], asking: Asking, stage: Path, place: Path, step: Step) -> None:
    """Copy the golden of a model, or record what the model answers where it has none and so is its own source."""
    from deploykit.validation.evidence import Size, find_golden

    if "golden.sha256" in lineage:
        for option, value in (("--data", asking.data), ("--image", asking.image)):
            if value is not None:
                raise UsageError(
                    f"{option} is for a precision that is made here, or a model without a golden, and"
                    f" {source.path.name} has its golden",
                    fix="--int8, --fp16 or --bf16, or leave it out",
                )
        shutil.copyfile(find_golden(source.path, lineage), place)
        return
    from deploykit.backends import Asked
    from deploykit.optimization.evidence import evidence_of
    from deploykit.validation import Demand

    size = Size(stage / "evidence", asking.samples or SAMPLES, asking.seed)
    evidence_of(source, Asked(data=asking.data, image=asking.image), size, Demand(), step).write(place, lossy=False)


_MADE_UP = "the model has no golden, and it was recorded with inputs that were made up: --data gives real ones"
