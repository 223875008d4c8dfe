"""Run PyTorch sources in a child process, and export them there."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked, Backend, described
from deploykit.backends._child import ChildSession, example_from
from deploykit.child import Child, Step, silent
from deploykit.errors import Refused, require
from deploykit.samples import specs_of
from deploykit.tensors import Array, Npz, Tensors, write_npz


class TorchSession(ChildSession):
    """A PyTorch source that runs in its child."""

    def opening(self, cases: Sequence[Mapping[str, Array]], *, batched: bool) -> list[Tensors]:
        """Give a call in which units are active that are not in these, where one is found by their gradients."""
        places = [self.child.scratch / f"opening.{number}.npz" for number in range(len(cases))]
        for place, case in zip(places, cases, strict=True):
            write_npz(place, case)
        target = self.child.scratch / "opening.npz"
        doing = "looking for inputs that open more units"
        found = self.child.call("opening", doing, cases=[*map(str, places)], write=str(target), batched=batched)
        for place in places:
            place.unlink()
        return [dict(Npz(target))] if found else []


@dataclass(frozen=True)
class Torch(Backend):
    """PyTorch on the CPU, in a process of its own."""

    formats: ClassVar[frozenset[Format]] = frozenset(
        {Format.TORCH_EXPORT, Format.TORCHSCRIPT, Format.TORCH_PICKLE, Format.STATE_DICT, Format.SAFETENSORS}
    )

    @contextmanager
    def load(self, artifact: Artifact, asked: Asked, step: Step = silent) -> Iterator[TorchSession]:
        """Start the child, load the source in it and settle its inputs."""
        _check_pickle(artifact, asked)
        if asked.python is None:
            require("torch")
        folder = str(artifact.path.resolve().parent)
        with Child("pytorch", python=asked.python, paths=(folder,), step=step) as child:
            specs, fixed = described(asked)
            data = None
            if artifact.format is not Format.TORCH_EXPORT:  # such an archive has its own example and inputs
                if asked.data is not None and not specs:
                    specs = specs_of(asked.data)
                data = example_from(asked, specs, child)
            source = {
                "path": str(artifact.path),
                "format": str(artifact.format),
                "factory": asked.factory,
                "factory_args": asked.factory_args,
                "trust_pickle": asked.trust_pickle,
            }
            loading = {"inputs": [str(spec) for spec in specs], "fixed": fixed, "data": data, "static": asked.static}
            doing = f"loading {artifact.path.name} in torch"
            yield TorchSession(child, child.call("load", doing, source=source, **loading))


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
