"""Files whose inputs and outputs became float16 on purpose: they are fed and heard as their source is, in float32."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from deploykit.backends import Session
from deploykit.errors import DeploykitError
from deploykit.recording import Answer
from deploykit.tensors import Array, Signature

_ASKED = re.compile(r"\bfp16:(\w+=[^;,]*,)*io=true")


def widened(session: Session, lineage: Mapping[str, str]) -> Session:
    """Give a session that takes and gives float32, where a file's lineage says that its ports were halved.

    Args:
        session: the file, running.
        lineage: what the file says of where it comes from.
    """
    return _Widened(session) if _ASKED.search(lineage.get("passes", "")) else session


class _Widened(Session):
    """Rounds what goes in, and widens what comes out."""

    def __init__(self, inner: Session) -> None:
        self._inner = inner
        own = inner.signature
        self._narrow = {spec.name for spec in own.inputs if spec.dtype == "float16"}
        self.signature = Signature(
            *(
                tuple(replace(spec, dtype="float32") if spec.dtype == "float16" else spec for spec in specs)
                for specs in (own.inputs, own.outputs)
            )
        )
        self.notes, self.tables, self.versions = inner.notes, inner.tables, inner.versions
        self.emulated = inner.emulated

    def run_all(self, cases: Iterable[Mapping[str, Array]], mode: str = "source") -> Iterator[Answer]:
        narrowed = (
            {name: one.astype(np.float16) if name in self._narrow else one for name, one in case.items()}
            for case in cases
        )
        for answer in self._inner.run_all(narrowed, mode):
            if isinstance(answer, DeploykitError):
                yield answer
            else:
                yield {name: one.astype(np.float32) if one.dtype == np.float16 else one for name, one in answer.items()}

    @contextmanager
    def finer(self) -> Iterator[Session | None]:
        with self._inner.finer() as fine:
            yield None if fine is None else _Widened(fine)

    def rounding(self, output: str) -> float:
        return self._inner.rounding(output)
