"""Say plainly what tf2onnx stops at."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tf2onnx

from deploykit.child.said import line_of, said
from deploykit.errors import ModelError


@contextmanager
def explained(whole: str, one: str, fix: str) -> Iterator[None]:
    """Turn a failure of tf2onnx into an error that names the operation.

    Args:
        whole: what can't be written where no operation is to blame: ``the model``.
        one: what an operation is called, with a place for its type and its name: ``{} at '{}'``.
        fix: what to do about it.

    Raises:
        ModelError: what is within fails.
    """
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        node = _node_at(error)
        where = one.format(node.type.removeprefix("TFL_"), node.name) if node is not None else whole
        raise ModelError(
            f"{where} can't be written as ONNX: {line_of(error).removeprefix('make_sure failure: ')}",
            fix=fix,
            details=[said(error)],
        ) from error


def _node_at(error: BaseException) -> Any:
    """Give the node whose translation failed: tf2onnx does not name it, but calls it ``node`` all over."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("node")
        if isinstance(node, tf2onnx.graph.Node) and frame.f_code.co_name != "tensorflow_onnx_mapping":
            return node
    return None
