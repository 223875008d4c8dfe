"""Run a model for its calibration: one pass over the samples, and nothing of them is kept but counts."""

import gc
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from deploykit.artifact import Artifact, Format, staging
from deploykit.backends import Asked, backend_for
from deploykit.child import Step
from deploykit.errors import ModelError, UsageError
from deploykit.golden import rows
from deploykit.quantization.counts import Counts
from deploykit.quantization.weighted import Model
from deploykit.tensors import Array, Signature
from deploykit.validation.evidence import is_batched

_AT_ONCE = 1 << 24
"""Values of all tensors looked at that a call may give."""
_LOOKED_AT = 64
"""Places of a sample at which it is looked whether a channel changes."""


@dataclass
class Channels:
    """Means over the samples of each channel of a tensor: what rounded weights shift is known from them."""

    sums: Array
    count: int
    """Values that were added in each channel."""
    lowest: Array
    """Of each channel, where it was looked at: at some places of each call, for that is enough to find what is dead."""
    highest: Array

    @property
    def constant(self) -> int:
        """So many channels had one value wherever they were looked at."""
        return int((self.lowest == self.highest).sum())

    def merged(self, other: "Channels") -> "Channels":
        """Give what both saw."""
        lowest, highest = np.minimum(self.lowest, other.lowest), np.maximum(self.highest, other.highest)
        return Channels(self.sums + other.sums, self.count + other.count, lowest, highest)

    def to_json(self) -> dict[str, Any]:
        """Give what is kept in a file."""
        ends = {"lowest": self.lowest.tolist(), "highest": self.highest.tolist()}
        return {"sums": self.sums.tolist(), "count": self.count, **ends}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Self:
        """Read it back.

        Raises:
            ValueError, TypeError, KeyError: it is not whole.
        """
        ends = (np.array(kept[name], np.float32) for name in ("lowest", "highest"))
        return cls(np.array(kept["sums"], np.float64), int(kept["count"]), *ends)

    @property
    def means(self) -> Array:
        """The mean of each channel."""
        return self.sums / max(self.count, 1)


@dataclass
class Calibration:
    """What the tensors of a model were like on some samples."""

    counts: dict[str, Counts] = field(default_factory=dict)
    channels: dict[str, Channels] = field(default_factory=dict)
    samples: int = 0
    model: str = ""
    """What the model that it was taken from is known by: see ``fingerprint``."""
    synthetic: bool = False
    """Whether the samples were made up."""

    def merged(self, other: "Calibration") -> "Calibration":
        """Give what both saw.

        Raises:
            UsageError: they are of other models.
        """
        if self.model != other.model:
            raise UsageError(
                "the calibrations are of different models", fix="merge those that were taken from the same file"
            )
        counts = {name: one.merged(other.counts[name]) for name, one in self.counts.items() if name in other.counts}
        both = self.channels.keys() & other.channels.keys()
        channels = {name: one.merged(other.channels[name]) for name, one in self.channels.items() if name in both}
        made_up = self.synthetic or other.synthetic
        return Calibration(counts, channels, self.samples + other.samples, self.model, made_up)

    def write(self, path: Path, report: Mapping[str, Any] | None = None) -> None:
        """Write it as JSON; with a report, which is for people and is not read back."""
        kept = {
            "deploykit": "calibration",
            "model": self.model,
            "samples": self.samples,
            "synthetic": self.synthetic,
            "report": report or {},
            "tensors": {name: one.to_json() for name, one in self.counts.items()},
            "channels": {name: one.to_json() for name, one in self.channels.items()},
        }
        path.write_text(json.dumps(kept))

    def save(self, path: Path, report: Mapping[str, Any]) -> None:
        """Put it in a place of the user's, whole or not at all.

        Raises:
            UsageError: the folder can't be written to.
        """
        with staging(path.parent) as stage:
            self.write(stage.folder / path.name, report)
            stage.commit(path.name)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read one back.

        Raises:
            UsageError: there is none, or it is damaged.
        """
        try:
            kept = json.loads(path.read_text())
            return cls(
                {name: Counts.from_json(one) for name, one in kept["tensors"].items()},
                {name: Channels.from_json(one) for name, one in kept["channels"].items()},
                int(kept["samples"]),
                str(kept["model"]),
                bool(kept["synthetic"]),
            )
        except OSError as error:
            raise UsageError(
                f"can't read the calibration {path}: {error.strerror}", fix="name one that is there"
            ) from error
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise UsageError(
                f"{path} is no calibration, or is damaged",
                fix="make it again: deploykit quantize --int8 --save-calibration",
            ) from error


def check_place(path: Path) -> None:
    """Make sure that a calibration can be put in a place, before anything runs.

    Raises:
        UsageError: it can't be, or is the place of something else.
    """
    if path.suffix != ".json" or path.is_dir():
        raise UsageError(f"the ranges are written as JSON, and {path} is no name of such a file", fix="ranges.json")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"can't write to the folder {path.parent}", fix="make the folder, or name another place")


def fingerprint(model: Model) -> str:
    """Give a sha256 of the nodes and weights of a graph, whatever is written about it in its metadata."""
    whole = hashlib.sha256()
    for node in model.graph.all_nodes():
        names = [node.op_type, *(value.name if value is not None else "" for value in (*node.inputs, *node.outputs))]
        whole.update("\0".join(names).encode())
    for name, value in sorted(model.graph.initializers.items()):
        whole.update(name.encode())
        array = value.const_value.numpy()
        whole.update(repr(array.tolist()).encode() if array.dtype == object else array.tobytes())
    return whole.hexdigest()


def calibrate(
    model: Model,
    tensors: Sequence[str],
    channels: Mapping[str, int],
    calls: Callable[[], Iterable[Mapping[str, Array]]],
    folder: Path,
    step: Step,
) -> Calibration:
    """Run a model over samples and count the values of some of its tensors.

    Args:
        model: the graph; it is changed.
        tensors: names of what is counted: inputs, and results of nodes.
        channels: the axis of the channels of those whose means are wanted too.
        calls: gives inputs by name.
        folder: where a copy of the model may lie.
        step: takes a sentence about what goes on.

    Raises:
        ModelError: the model does not run, or gives what is no number.
    """
    found = Calibration({name: Counts() for name in tensors})
    for count, answer in watched(model, tensors, calls, folder, step):
        _count(found, channels, answer)
        found.samples += count
        step(f"calibrating: {found.samples} samples")
    return found


def watched(
    model: Model,
    tensors: Sequence[str],
    calls: Callable[[], Iterable[Mapping[str, Array]]],
    folder: Path,
    step: Step,
) -> Iterator[tuple[int, Mapping[str, Array]]]:
    """Run a model over samples and give some of its tensors, with its inputs, by name; and how many rows they are of.

    Only these leave the runtime, and the rest of the graph is optimized as usual. Calls are cut so small that memory
    stays within a bound, whatever the number of samples.

    Args:
        model: the graph; it is changed.
        tensors: names of what is given: inputs, and results of nodes.
        calls: gives inputs by name.
        folder: where a copy of the model may lie.
        step: takes a sentence about what goes on.

    Raises:
        ModelError: the model does not run.
    """
    copy = folder / "watched" / "model.onnx"  # and its weights beside it, where they are large
    copy.parent.mkdir()
    _with_outputs(model, tensors, copy)
    del model
    gc.collect()  # a graph is cyclic, and its weights would stay beside those of the session
    try:
        with backend_for(Format.ONNX).load(Artifact(copy, Format.ONNX), Asked(), step) as session:
            most = 1
            for call in calls():
                for part in parts_of(call, most, session.signature):
                    answer = next(iter(session.run_all([part])))
                    if isinstance(answer, ModelError):
                        raise answer
                    count = rows(part)
                    most = max(1, _AT_ONCE * count // max(sum(one.size for one in answer.values()), 1))
                    yield count, {**part, **answer}
                    del answer
    finally:
        shutil.rmtree(copy.parent)


def _count(found: Calibration, channels: Mapping[str, int], tensors: Mapping[str, Array]) -> None:
    for name, counts in found.counts.items():
        array = tensors[name]
        try:
            counts.add(array)
        except ModelError as error:
            raise ModelError(f"the tensor '{name}' can't be calibrated: {error.message}", fix=error.fix) from error
        if name in channels and array.ndim > 1:
            _add_channels(found, name, array, channels[name])


def _add_channels(found: Calibration, name: str, array: Array, axis: int) -> None:
    count = array.shape[axis]
    parts = array.reshape(len(array), count, -1).sum(axis=2) if axis == 1 else array.reshape(-1, count)
    sums = parts.sum(axis=0, dtype=np.float64)
    looked_at = _some(array, count, axis)
    seen = Channels(sums, array.size // max(count, 1), looked_at.min(axis=0), looked_at.max(axis=0))
    own = found.channels.get(name)
    if own is None or own.sums.shape == sums.shape:
        found.channels[name] = seen if own is None else own.merged(seen)


def _some(array: Array, count: int, axis: int) -> Array:
    """Give some values of each channel, [values, channels]."""
    if axis != 1:
        rows_ = array.reshape(-1, count)
        return rows_[:: -(-len(rows_) // _LOOKED_AT) or 1]
    flat = array.reshape(len(array), count, -1)
    few = flat[:, :, :: -(-flat.shape[2] // _LOOKED_AT) or 1]
    return np.moveaxis(few, 1, 2).reshape(-1, count)


def parts_of(call: Mapping[str, Array], most: int, signature: Signature) -> Iterator[dict[str, Array]]:
    """Cut a call into such of so many rows, along the axis that all of its inputs share; whole where there is none."""
    if not is_batched(signature):
        yield dict(call)
        return
    for start in range(0, rows(call), most):
        yield {name: array[start : start + most] if array.ndim else array for name, array in call.items()}


def _with_outputs(model: Model, tensors: Iterable[str], copy: Path) -> None:
    """Write a model so that it gives some of its tensors, and these alone."""
    import onnx_ir

    from deploykit.onnx_io import save

    values = {value.name: value for node in model.graph for value in node.outputs}
    wanted = [values[name] for name in tensors if name in values]
    for value in wanted:
        value.dtype = value.dtype or onnx_ir.DataType.FLOAT
    if wanted:  # a graph has to give something, also where only its inputs are looked at
        model.graph.outputs.clear()
        model.graph.outputs.extend(wanted)
    save(model, copy)
