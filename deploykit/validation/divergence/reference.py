"""What an artifact is held against: another ONNX file, or a running PyTorch source, tensor by tensor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.backends._child import ChildSession
from deploykit.child.prints import Print
from deploykit.errors import ModelError
from deploykit.tensors import Array, Tensors, write_npz
from deploykit.validation.divergence.graph import Graph
from deploykit.validation.divergence.onnx_side import OnnxSide
from deploykit.validation.divergence.scopes import Tap, match_modules
from deploykit.validation.divergence.structure import Match, match_graphs

Prints = Mapping[str, Print]
Answer = tuple[str, Array, Array]
"""A tensor's key, the best that is known of it, and another run as good as the source: their distance is noise."""


_FLOAT32 = 4
"""Bytes of one element."""
_NEAR = 0.1
"""How far the source's two runs may be apart in a tensor, in relation to its size; beyond, they went other ways."""


class Reference(ABC):
    """A model whose tensors can be asked for."""

    @abstractmethod
    def bytes_each(self, ours: int) -> int:
        """Say how many bytes one element takes in both runs together, where the artifact's takes ``ours``."""

    @abstractmethod
    def match(self, graph: Graph, prints: Callable[[], Prints], case: Tensors) -> dict[str, Match]:
        """Find the counterpart of every tensor of an artifact.

        Args:
            graph: the artifact's.
            prints: takes the fingerprints of its tensors, which costs a run or several.
            case: inputs.
        """

    @abstractmethod
    def fetch(self, wanted: Mapping[str, tuple[int, int]], case: Tensors) -> Iterator[Answer]:
        """Run a case twice and give the wanted tensors; what only one of the runs has is left out.

        Args:
            wanted: for each key the number of elements, and of how many one is to be kept.
            case: inputs.
        """


class OnnxReference(Reference):
    """An ONNX file: run as it is, and with inputs and weights moved by one unit in the last place."""

    def __init__(self, side: OnnxSide) -> None:
        """Take the file."""
        self.side = side

    def bytes_each(self, ours: int) -> int:
        """Count both runs in float32, or in float64."""
        return 2 * max(ours, _FLOAT32)

    def match(self, graph: Graph, prints: Callable[[], Prints], case: Tensors) -> dict[str, Match]:
        """Match by names and structure; no values are needed."""
        del prints, case
        real = set(self.side.real)
        return {name: match for name, match in match_graphs(graph, self.side.graph).items() if match[0] in real}

    def fetch(self, wanted: Mapping[str, tuple[int, int]], case: Tensors) -> Iterator[Answer]:
        """Run the file and its moved copy, one after the other."""
        own = self.side.fetch(wanted, case)
        other = self.side.fetch(wanted, case, other=True)
        for name in wanted:
            if own[name].shape == other[name].shape:
                yield name, own.pop(name), other.pop(name)


class TorchReference(Reference):
    """A PyTorch source in its child: in float64, and as it is; tensors come as files, one at a time."""

    def __init__(self, session: ChildSession) -> None:
        """Take the running source."""
        self._session = session
        self._modes = ("exact", "source")

    def bytes_each(self, ours: int) -> int:
        """Count one run in float64, and one as it is."""
        return 2 * _FLOAT32 + max(ours, _FLOAT32)

    def match(self, graph: Graph, prints: Callable[[], Prints], case: Tensors) -> dict[str, Match]:
        """Listen to the source in both of its runs, and match what it gives in both, by values and scopes."""
        own = self._heard(case, "source")
        try:
            other = self._heard(case, "exact")
        except ModelError:
            self._modes = ("source", "moved")
            other = self._heard(case, "moved")
        far = {tap.key: tap.print.distance(other[tap.key].print) for tap in own.values() if tap.key in other}
        taps = [tap for key, tap in own.items() if far.get(key, 1.0) <= _NEAR]
        return match_modules(graph, taps, prints())

    def fetch(self, wanted: Mapping[str, tuple[int, int]], case: Tensors) -> Iterator[Answer]:
        """Run the source in float64 and as it is; where it does not run so, as it is and moved by an ulp."""
        first, second = (self._files(wanted, case, mode) for mode in self._modes)
        for key in wanted:
            files = [found.get(key) for found in (first, second)]
            if files[0] is not None and files[1] is not None:
                reference, noisy = np.load(files[0]), np.load(files[1])
                if reference.shape == noisy.shape:
                    yield key, reference, noisy
            for file in filter(None, files):
                file.unlink()

    def _heard(self, case: Tensors, mode: str) -> dict[str, Tap]:
        heard = self._tap(case, mode, None)
        return {one["key"]: Tap(**{**one, "print": Print.read(one["print"])}) for one in heard}

    def _files(self, wanted: Mapping[str, tuple[int, int]], case: Tensors, mode: str) -> dict[str, Path]:
        scratch = self._session.child.scratch
        files = {key: scratch / f"tap.{mode}.{number}.npy" for number, key in enumerate(wanted)}
        orders = {key: (str(files[key]), every) for key, (_, every) in wanted.items()}
        return {key: files[key] for key in self._tap(case, mode, orders)}

    def _tap(self, case: Tensors, mode: str, wanted: Mapping[str, tuple[str, int]] | None) -> list[Any]:
        given = self._session.child.scratch / "tap.in.npz"
        write_npz(given, case)
        found: list[Any] = self._session.child.call(
            "tap", "listening to the source", case=str(given), mode=mode, wanted=wanted
        )
        with suppress(OSError):
            given.unlink()
        return found
