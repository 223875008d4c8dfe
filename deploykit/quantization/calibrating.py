"""Run a model for its calibration: one pass over the samples, and nothing of them is kept but counts."""

import gc
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from deploykit.artifact import Artifact, Format
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


@dataclass
class Channels:
    """Means over the samples of each channel of a tensor: what rounded weights shift is known from them."""

    sums: Array
    count: int
    """Values that were added in each channel."""

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
        channels = {
            name: Channels(one.sums + other.channels[name].sums, one.count + other.channels[name].count)
            for name, one in self.channels.items()
            if name in other.channels
        }
        made_up = self.synthetic or other.synthetic
        return Calibration(counts, channels, self.samples + other.samples, self.model, made_up)

    def health(self) -> Iterator[str]:
        """Say what the user should know of it."""
        if self.synthetic:
            yield f"calibrated with {self.samples} samples that were made up: real ones may be quite different"
        growing = [name for name, one in self.counts.items() if one.calls > 3 and one.grew_at > 0.8 * one.calls]  # noqa: PLR2004
        if len(growing) > 0.1 * len(self.counts):
            yield (
                f"the ranges of {len(growing)} of {len(self.counts)} tensors were still growing at the last samples"
                f" ({', '.join(growing[:3])}): more samples may help"
            )
        still = [name for name, one in self.counts.items() if one.lowest == one.highest]
        if still:
            yield f"{len(still)} of {len(self.counts)} tensors never change: {', '.join(still[:3])}"

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        kept = {
            "deploykit": "calibration",
            "model": self.model,
            "samples": self.samples,
            "synthetic": self.synthetic,
            "tensors": {name: one.to_json() for name, one in self.counts.items()},
            "channels": {name: {"sums": one.sums.tolist(), "count": one.count} for name, one in self.channels.items()},
        }
        path.write_text(json.dumps(kept))

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
                {name: Channels(np.array(one["sums"]), int(one["count"])) for name, one in kept["channels"].items()},
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
    own = found.channels.setdefault(name, Channels(np.zeros(sums.shape), 0))
    if own.sums.shape == sums.shape:
        own.sums += sums
        own.count += array.size // max(count, 1)


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
