"""The sizes that the user asks for: tried in the source before anything is recorded, since they may not be left out."""

from collections.abc import Sequence

from deploykit.backends import Session
from deploykit.errors import ModelError, UsageError
from deploykit.samples.shapes import Sizes
from deploykit.tensors import Tensors, TensorSpec


def check_asked(session: Session, asked: Sizes, inputs: Sequence[Tensors]) -> None:
    """Run the source once at every size that was asked for.

    Args:
        session: the source, running.
        asked: the sizes, by axis.
        inputs: the calls that will be recorded.

    Raises:
        UsageError: the source refuses a size, or no call has it, which too few samples are the cause of.
    """
    wanted = {
        (axis, size): _having(session.signature.inputs, axis, size, inputs) for axis in asked for size in asked[axis]
    }
    missing = [f"{axis}={size}" for (axis, size), call in wanted.items() if call is None]
    if missing:
        raise UsageError(
            f"there are too few samples in --data for a call with {missing[0]}",
            fix="give more samples, or leave this size out of --shapes",
        )
    calls = [call for call in dict.fromkeys(wanted.values()) if call is not None]
    answers = dict(zip(calls, session.run_all([inputs[call] for call in calls]), strict=True))
    for (axis, size), call in wanted.items():
        answer = answers[call] if call is not None else None
        if isinstance(answer, ModelError):
            raise UsageError(
                f"--shapes asks for {axis}={size}, and the source itself refuses it",
                fix=f"leave {size} out of the sizes of '{axis}'",
                details=answer.details,
            )


def _having(specs: Sequence[TensorSpec], axis: str, size: int, inputs: Sequence[Tensors]) -> int | None:
    """Give the number of the first call in which an axis has a size."""
    name, place = next((spec.name, spec.dims.index(axis)) for spec in specs if axis in spec.dims)
    return next((number for number, call in enumerate(inputs) if call[name].shape[place] == size), None)
