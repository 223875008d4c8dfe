"""Run PyTorch sources in a child process, and export them there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, Backend, Session, described
from deploykit.child import Child, Step, silent
from deploykit.errors import ModelError, Refused, require
from deploykit.recording import Answer
from deploykit.samples import npz_specs, read_npz
from deploykit.tensors import Signature, Tensors, TensorSpec, write_npz


@dataclass(frozen=True)
class Torch(Backend):
    """PyTorch on the CPU, in a process of its own."""

    formats: ClassVar[frozenset[Format]] = frozenset(
        {Format.TORCH_EXPORT, Format.TORCHSCRIPT, Format.TORCH_PICKLE, Format.STATE_DICT, Format.SAFETENSORS}
    )

    @contextmanager
    def load(self, artifact: Artifact, asked: Asked, step: Step = silent) -> Iterator["TorchSession"]:
        """Start the child and load the source in it."""
        _check_pickle(artifact, asked)
        if asked.python is None:
            require("torch")
        folder = str(artifact.path.resolve().parent)
        with Child("pytorch", python=asked.python, paths=(folder,), step=step) as child:
            yield TorchSession(child, artifact, asked)


def _check_pickle(artifact: Artifact, asked: Asked) -> None:
    """Refuse what runs code of the file when it is loaded: a pickled module, and a .pt2 with pickles in it."""
    if artifact.format not in (Format.TORCH_PICKLE, Format.TORCH_EXPORT) or asked.trust_pickle:
        return
    from deploykit.pickles import holds_module, unsafe_globals

    path = artifact.path
    names = unsafe_globals(path)
    if not names:
        return
    what = "a pickled nn.Module" if holds_module(path) else "a pickle with more than weights in it"
    raise Refused(
        f"{path} holds {what}, and loading it would run code from the file.",
        fix=[
            f"deploykit convert {path} --trust-pickle          (only if you trust the file)",
            "deploykit convert weights.pt --factory net:Net  (a state_dict: runs no code of the file)",
        ],
        details=[f"needs: {', '.join(names)}"],
    )


class TorchSession(Session):
    """A PyTorch source, alive in its child."""

    def __init__(self, child: Child, artifact: Artifact, asked: Asked) -> None:
        """Load the source and settle its inputs."""
        self.child = child
        specs, fixed = described(asked)
        data = None
        if asked.data is not None:
            specs, data = _from_data(asked.data, specs, child.scratch / "example.npz")
        loaded = child.call(
            "load",
            f"loading {artifact.path.name} in torch",
            source={
                "path": str(artifact.path),
                "format": str(artifact.format),
                "factory": asked.factory,
                "factory_args": asked.factory_args,
                "trust_pickle": asked.trust_pickle,
            },
            inputs=[str(spec) for spec in specs],
            fixed=fixed,
            data=data,
            static=asked.static,
        )
        self.signature = Signature(
            tuple(map(TensorSpec.parse, loaded["inputs"])), tuple(map(TensorSpec.parse, loaded["outputs"]))
        )
        self.notes = tuple(loaded["notes"])
        self.versions = loaded["versions"]
        self._sizes: dict[str, int] = loaded["sizes"]

    @property
    def peak_bytes(self) -> int:
        """Largest resident memory that the child has told of."""
        return self.child.peak_bytes

    def sizes(self) -> dict[str, int]:
        """Give the sizes of the example that the source was loaded with."""
        return self._sizes

    def export(self, target: Path, exporter: str, opset: int) -> list[str]:
        """Write the source as ONNX with ``dynamo`` or ``torchscript``, and give what there is to say of it.

        Raises:
            ModelError: that exporter can't.
        """
        said: list[str] = self.child.call(
            "export", f"exporting with {exporter}, opset {opset}", target=str(target), exporter=exporter, opset=opset
        )
        return said

    def run_all(self, cases: Sequence[Tensors], mode: str = "source") -> list[Answer]:
        """Run every case in the child; tensors go there and back as files."""
        words = {"source": "running the source", "exact": "running the source in float64"}
        files = [
            (self.child.scratch / f"{number}.in.npz", self.child.scratch / f"{number}.out.npz")
            for number in range(len(cases))
        ]
        for case, (given, _) in zip(cases, files, strict=True):
            write_npz(given, case)
        failures = self.child.call(
            "run",
            f"{words.get(mode, 'running the source moved by an ulp')} on {len(cases)} inputs",
            cases=[[str(given), str(found)] for given, found in files],
            mode=mode,
        )
        return [_answer(found, failure) for (_, found), failure in zip(files, failures, strict=True)]


def _answer(found: Path, failure: list[str] | None) -> Answer:
    if failure is not None:
        return ModelError(
            f"the source itself fails {failure[0]}", fix="give --input or --data that it takes", details=failure
        )
    with np.load(found, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _from_data(data: Path, specs: tuple[TensorSpec, ...], example: Path) -> tuple[tuple[TensorSpec, ...], str]:
    """Take inputs from the user's samples: the first two are the example; axis 0 is the batch."""
    specs = specs or npz_specs(data)
    tensors = next(iter(read_npz(data, specs, limit=2, batch=2)))
    write_npz(example, tensors)
    return specs, str(example)
