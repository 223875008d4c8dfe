"""The steps of an artifact as a recipe has them: passes, and in the end the building of an engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from deploykit.errors import DeploykitError, UsageError
from deploykit.passes import PASSES, Pass
from deploykit.typed import filled, value_of

if TYPE_CHECKING:
    from deploykit.engines.options import Options


def _texts(value: Any, at: str, problems: list[str]) -> tuple[str, ...]:
    """Read one text, or several: shapes have their own signs between them."""
    return cast(
        "tuple[str, ...]", value_of(tuple[str, ...], [value] if isinstance(value, str) else value, at, problems)
    )


@dataclass(frozen=True)
class Engine:
    """The step ``tensorrt``, the last one of an artifact: its options are those of ``deploykit build``."""

    targets: tuple[str, ...] = field(default=(), metadata={"name": "for"})
    shape: tuple[str, ...] = field(default=(), metadata={"read": _texts})
    backend: str = "auto"
    workspace: str | None = None
    level: int | None = None
    timing_cache: str | None = None
    sparse: bool = False
    hardware_compatible: bool = False
    version_compatible: bool = False
    allow_unproved: bool = False
    """Whether it stays where there was no device to run it on."""


ENGINE = "tensorrt"


def options_of(engine: Engine) -> "Options":
    """Give the options of an engine as ``deploykit.build`` takes them."""
    from deploykit.engines.options import Options, targets_of

    return Options(
        engine.backend, engine.shape, engine.workspace, engine.level, targets_of(",".join(engine.targets)),
        Path(engine.timing_cache) if engine.timing_cache else None, engine.sparse, engine.hardware_compatible,
        engine.version_compatible,
    )  # fmt: skip


def misbuilt(engine: Engine) -> list[str]:
    """Find what this TensorRT lacks; that none is installed is another error."""
    from deploykit.engines.options import chosen
    from deploykit.nvidia import devices

    found = chosen(engine.backend, devices())
    try:
        options_of(engine).check(found)
    except DeploykitError as error:
        return [error.message, *error.fix]
    return []


def _engine(options: Mapping[str, Any]) -> Engine:
    problems: list[str] = []
    found = filled(Engine, options, ENGINE, problems)
    if problems:
        raise UsageError(
            f"{ENGINE} can't be done so: {problems[0]}", fix="see deploykit build --help", details=problems[1:]
        )
    return cast("Engine", found)


def read_steps(value: Any, at: str, problems: list[str]) -> tuple[Pass | Engine, ...]:
    """Read ``["simplify", "int8:target=cpu", {int8 = {target = "cpu"}}]``."""
    if not isinstance(value, (list, tuple)):
        problems.append(f"{at} is {value!r}, and must be a list")
        return ()
    made = []
    for one in value:
        try:
            made.append(_step(one, at))
        except DeploykitError as error:
            problems.extend((f"{at}: {error.message}", *error.details))
    return tuple(made)


def _step(value: Any, at: str) -> Pass | Engine:
    if isinstance(value, str):
        return Engine() if value == ENGINE else PASSES.parse(value)
    if isinstance(value, Mapping) and len(value) == 1:
        name, options = next(iter(value.items()))
        if isinstance(options, Mapping):
            return _engine(options) if name == ENGINE else PASSES.configured(name, options)
    said = f'{value!r} is no step: write "simplify", or {{ int8 = {{ target = "cpu" }} }}'
    raise UsageError(said, fix=f"mend {at}")
