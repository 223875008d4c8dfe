"""A source that is alive in its framework's child process: what every framework's session has in common."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from deploykit.backends import Asked, Session
from deploykit.child import Child
from deploykit.errors import ModelError
from deploykit.recording import Answer
from deploykit.samples import read
from deploykit.tensors import Array, Signature, TensorSpec, write_npz


class ChildSession(Session):
    """A source that runs in its child, and is exported there."""

    called: ClassVar[str] = "the source itself"

    def __init__(self, child: Child, told: Mapping[str, Any]) -> None:
        """Take the child in which the source is loaded, and what it has told of it."""
        self.child = child
        self.signature = Signature(
            tuple(map(TensorSpec.parse, told["inputs"])), tuple(map(TensorSpec.parse, told["outputs"]))
        )
        self.notes = tuple(told["notes"])
        self.versions = told["versions"]
        self.quanta = told.get("quanta", {})
        self.limit = told.get("limit")
        self._sizes: dict[str, int] = told["sizes"]
        self._numbers = count()

    @property
    def peak_bytes(self) -> int:
        """Largest resident memory that the child has told of."""
        return self.child.peak_bytes

    def sizes(self) -> dict[str, int]:
        """Give the sizes of the example that the source was loaded with."""
        return self._sizes

    def export(self, target: Path, exporter: str, opset: int) -> list[str]:
        """Write the source as ONNX with one of its framework's exporters, and give what there is to say of it.

        Raises:
            ModelError: that exporter can't.
        """
        said: list[str] = self.child.call(
            "export", f"exporting with {exporter}, opset {opset}", target=str(target), exporter=exporter, opset=opset
        )
        return said

    def run_all(self, cases: Iterable[Mapping[str, Array]], mode: str = "source") -> Iterator[Answer]:
        """Run every case in the child, some at a time; tensors go there and back as files."""
        done, left = 0, iter(cases)
        while files := self._written(left):
            failures = self.child.call(
                "run",
                f"{_DOING[mode]}, inputs {done + 1} to {done + len(files)}",
                cases=[[str(given), str(found)] for given, found in files],
                mode=mode,
            )
            done += len(files)
            for (given, found), failure in zip(files, failures, strict=True):
                yield _answer(found, failure, self.called)
                given.unlink()
                found.unlink(missing_ok=True)

    def _written(self, cases: Iterator[Mapping[str, Array]]) -> list[tuple[Path, Path]]:
        """Write the next cases for the child, and name the files for its answers."""
        files: list[tuple[Path, Path]] = []
        size = 0
        for case in cases:
            place = self.child.scratch / f"{next(self._numbers)}.in.npz"
            write_npz(place, case)
            files.append((place, place.with_suffix(".out.npz")))
            size += place.stat().st_size
            if len(files) == _MOST_CASES or size > _MOST_BYTES:
                break
        return files


_DOING = {
    "source": "running the source",
    "exact": "running the source in float64",
    "moved": "running the source moved by an ulp",
}
_MOST_CASES, _MOST_BYTES = 64, 64 << 20
"""What the child runs in one go; its answers wait on the disk."""


def _answer(found: Path, failure: list[str] | None, called: str) -> Answer:
    if failure is not None:
        return ModelError(f"{called} fails {failure[0]}", fix="give --input or --data that it takes", details=failure)
    with np.load(found, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def example_from(asked: Asked, specs: Sequence[TensorSpec], child: Child) -> str | None:
    """Write the first two of the user's samples, if there are any, where the child finds them; axis 0 is the batch."""
    if asked.data is None:
        return None
    path = child.scratch / "example.npz"
    write_npz(path, next(read(asked.data, specs, limit=2, batch=2, image=asked.preprocessing)))
    return str(path)
