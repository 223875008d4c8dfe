"""Which onnxruntime and TensorRT take which file: one table of releases with their highest IR version and opset."""

import re
from dataclasses import dataclass

from deploykit.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """The highest IR version and the highest ``ai.onnx`` opset that a release of onnxruntime loads."""

    ir: int
    opset: int


# Up to 1.20: onnxruntime.ai/docs/reference/compatibility. Newer releases are not in that table, so for them it is the
# ONNX release that each is built on (1.21 and 1.22: 1.17, 1.23: 1.18, 1.24: 1.20, from 1.25 on: 1.21), and 1.31 as
# measured: built with ONNX 1.22, it still refuses opset 27.
ONNXRUNTIME: dict[tuple[int, int], Limits] = {
    (1, 8): Limits(7, 14),
    (1, 9): Limits(8, 15),
    (1, 10): Limits(8, 15),
    (1, 11): Limits(8, 16),
    (1, 12): Limits(8, 17),
    (1, 13): Limits(8, 17),
    (1, 14): Limits(8, 18),
    (1, 15): Limits(8, 19),
    (1, 16): Limits(9, 19),
    (1, 17): Limits(9, 20),
    (1, 18): Limits(10, 21),
    (1, 19): Limits(10, 21),
    (1, 20): Limits(10, 21),
    (1, 21): Limits(10, 22),
    (1, 22): Limits(10, 22),
    (1, 23): Limits(11, 23),
    (1, 24): Limits(13, 25),
    (1, 25): Limits(13, 26),
    (1, 26): Limits(13, 26),
    (1, 27): Limits(13, 26),
    (1, 28): Limits(13, 26),
    (1, 29): Limits(13, 26),
    (1, 30): Limits(13, 26),
    (1, 31): Limits(13, 26),
}

# onnx-tensorrt docs/operators.md of these releases, and NVIDIA's ONNX opset guide for 11. Those between are not listed
# there; they take at least what the one before them takes.
TENSORRT: dict[tuple[int, int], int] = {(8, 6): 17, (9, 0): 19, (10, 0): 20, (10, 15): 24, (11, 0): 25}


def limits(version: str) -> Limits:
    """Give what a release of onnxruntime loads, for ``1.19`` as for ``1.19.2``.

    Raises:
        UsageError: the version is not in the table, with the range that is.
    """
    release = _release(version)
    if release not in ONNXRUNTIME:
        first, last = (".".join(map(str, edge)) for edge in (min(ONNXRUNTIME), max(ONNXRUNTIME)))
        raise UsageError(
            f"it is not known what onnxruntime '{version}' loads",
            fix=f"name a release from {first} to {last}, or leave --for-runtime out and give --opset",
        )
    return ONNXRUNTIME[release]


def oldest(ir: int, opset: int) -> str | None:
    """Name the oldest onnxruntime that loads this IR version and ``ai.onnx`` opset, or None where none is known."""
    able = [release for release, limit in ONNXRUNTIME.items() if limit.ir >= ir and limit.opset >= opset]
    return ".".join(map(str, min(able))) if able else None


def oldest_tensorrt(opset: int) -> str | None:
    """Name the first TensorRT that is known to parse this ``ai.onnx`` opset, or None where none is known."""
    able = [release for release, limit in TENSORRT.items() if limit >= opset]
    return ".".join(map(str, min(able))) if able else None


def installed_limits() -> Limits:
    """Give what the onnxruntime of this environment loads; one newer than the table loads at least its last row."""
    import onnxruntime

    release = _release(onnxruntime.__version__)
    return limits(onnxruntime.__version__) if release <= max(ONNXRUNTIME) else ONNXRUNTIME[max(ONNXRUNTIME)]


def _release(version: str) -> tuple[int, int]:
    match = re.match(r"^(\d+)\.(\d+)(?:\D|$)", version.strip())
    return (int(match[1]), int(match[2])) if match else (0, 0)
