"""The sizes that the user asks for: tried in the source before anything is recorded, since they may not be left out."""

from collections.abc import Iterable, Sequence

from deploykit.backends import Session
from deploykit.errors import ModelError, UsageError
from deploykit.samples.shapes import Sizes
from deploykit.tensors import Tensors, TensorSpec


def check_asked(session: Session, asked: Sizes, inputs: Iterable[Tensors]) -> None:
    """Run the source once at every size that was asked for.

    Args:
        session: the source, running.
        asked: the sizes, by axis.
        inputs: the calls that will be recorded; of them, the first with each size is kept meanwhile.

    Raises:
        UsageError: the source refuses a size, or no call has it, which too few samples are the cause of.
    """
    wanted = [(axis, size) for axis in asked for size in asked[axis]]
    calls = _first_calls(session.signature.inputs, wanted, inputs)
    missing = [f"{axis}={size}" for axis, size in wanted if (axis, size) not in calls]
    if missing:
        raise UsageError(
            f"there are too few samples in --data for a call with {missing[0]}",
            fix="give more samples, or leave this size out of --shapes",
        )
    for (axis, size), answer in zip(calls, session.run_all(calls.values()), strict=True):
        if isinstance(answer, ModelError):
            raise UsageError(
                f"--shapes asks for {axis}={size}, and the source itself refuses it",
                fix=f"leave {size} out of the sizes of '{axis}'",
                details=answer.details,
            )


def _first_calls(
    specs: Sequence[TensorSpec], wanted: Sequence[tuple[str, int]], inputs: Iterable[Tensors]
) -> dict[tuple[str, int], Tensors]:
    """Find for each axis and size the first call that has it."""
    found: dict[tuple[str, int], Tensors] = {}
    for call in inputs if wanted else ():
        for axis, size in wanted:
            name, place = next((spec.name, spec.dims.index(axis)) for spec in specs if axis in spec.dims)
            if call[name].shape[place] == size:
                found.setdefault((axis, size), call)
        if len(found) == len(wanted):
            break
    return found
