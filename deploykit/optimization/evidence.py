"""By what the results of passes are judged."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from itertools import chain as together
from pathlib import Path

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, backend_for
from deploykit.child import Step
from deploykit.errors import UsageError
from deploykit.golden import Golden
from deploykit.tensors import Array
from deploykit.validation import Demand, prove
from deploykit.validation.evidence import Size, find_golden, make_golden
from deploykit.validation.verdict import Verdict


@dataclass(frozen=True)
class Evidence:
    """By what results are judged."""

    golden: Golden
    """Of the original source."""
    path: Path | None
    """Where it lies; None where it was recorded just now, from the model itself."""
    data: Golden | None
    """What the model that came in, which is proved, answers to the user's samples."""
    source: str
    """What the verdict calls the source."""
    demand: Demand
    """What is asked of a result in fewer bits."""
    looked_at: Callable[[], Iterator[Mapping[str, Array]]] | None = None
    """Gives other samples for passes to look at than those that results are judged by."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say of it."""
        if self.path is not None:
            return ()
        return (f"{self.source} was not made by deploykit: it is itself the source that the result is held to",)

    def calls(self) -> Iterator[Mapping[str, Array]]:
        """Give the inputs of every call that passes look at: the user's where there are any."""
        if self.looked_at is not None:
            return self.looked_at()
        return (case.inputs for case in (self.data or self.golden).cases)

    def judge(self, path: Path, target: Path, *, lossy: bool, fewer: bool) -> Verdict:
        """Judge a file by the source's own answers, and by those to the user's samples where there are any.

        What has lost something is judged by the user's samples alone: to inputs that are made up it answers worse.

        Args:
            path: the file.
            target: what the verdict calls it.
            lossy: whether it has lost something on purpose.
            fewer: whether it has fewer bits, so that the user's bounds are for it.
        """
        demand = self.demand if fewer else Demand()
        prove_by = partial(prove, path, artifact=str(target), reference=self.source)
        if lossy:
            return prove_by(self.data or self.golden, demand=demand)
        verdict = prove_by(self.golden, demand=demand.without_labels())
        return prove_by(self.data, demand=demand) if self.data is not None and verdict.passed else verdict

    def digest(self) -> str:
        """Give a sha256 of what a result in fewer bits is judged by, and of what is asked of it."""
        from deploykit.samples import labels

        whole = hashlib.sha256(repr((self.demand.bounds, self.demand.tolerances, self.demand.allow_undecided)).encode())
        if self.demand.labels is not None:
            whole.update(labels(self.demand.labels).tobytes())
        judged = ({**case.inputs, **case.reference} for case in (self.data or self.golden).cases)
        for tensors in together(judged, self.looked_at() if self.looked_at is not None else ()):
            for name, array in tensors.items():
                whole.update(f"{name}{array.dtype}{array.shape}".encode())
                whole.update(array.tobytes())
        return whole.hexdigest()

    def write(self, place: Path, *, lossy: bool) -> None:
        """Write the golden that the result is to have beside it."""
        if lossy and self.data is not None:
            part = _within(self.data, _KEPT)
            replace(part, source={**self.golden.source, "data": self.data.source["data"]}).write(place)
        elif self.path is None:
            self.golden.write(place)
        else:
            shutil.copyfile(self.path, place)


_KEPT = 64 << 20
"""Bytes of the user's samples that stay with a result."""


def _within(golden: Golden, most: int) -> Golden:
    """Give the first calls of a golden, one at least, whose inputs are of so many bytes together."""
    sizes = [sum(array.nbytes for array in case.inputs.values()) for case in golden.cases]
    kept = max(1, sum(total <= most for total in accumulate(sizes)))
    return replace(golden, cases=golden.cases[:kept]) if kept < len(sizes) else golden


def evidence_of(source: Artifact, asked: Asked, wanted: Size, demand: Demand, step: Step) -> Evidence:
    """Find the golden of the original source; of a model that has none, the model is the source."""
    from deploykit.onnx_io import lineage, load

    wanted.folder.mkdir()
    about = lineage(load(source.path))
    path = find_golden(source.path, about) if "golden.sha256" in about else None
    if path is not None and asked.data is None:
        if asked.inputs or asked.shapes:
            raise UsageError(
                f"--input and --shapes are for inputs that are made up, and {source.path.name} has its golden",
                fix="leave them out",
            )
        golden = Golden.read(path)
        return Evidence(golden, path, None, golden.source.get("path", "its source"), demand)
    step(f"recording what {source.path.name} answers")
    with backend_for(Format.ONNX).load(source, asked, step) as session:
        recorded = make_golden(session, load(source.path), source, asked, wanted)
    if path is None:
        return Evidence(recorded, None, recorded if asked.data is not None else None, str(source.path), demand)
    golden = Golden.read(path)
    return Evidence(golden, path, recorded, golden.source.get("path", "its source"), demand)
