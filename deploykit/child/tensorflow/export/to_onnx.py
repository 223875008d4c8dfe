"""Write a frozen graph as ONNX through tf2onnx, under the names that the user knows."""

from pathlib import Path

from deploykit.child.tensorflow.export.naming import describe_inputs, drop_unused_domains, rename_ports
from deploykit.child.tensorflow.export.ports import with_ports
from deploykit.child.tensorflow.export.translation import translated
from deploykit.child.tensorflow.model import Frozen, Order
from deploykit.errors import ModelError

HIGHEST_OPSET = 18
"""The newest ai.onnx opset that tf2onnx writes; a newer one is reached by onnx's own conversion."""
LOWEST_OPSET = 13
"""The oldest one at which the translations are kept right: tf2onnx tests no older one either."""


def to_onnx(frozen: Frozen, order: Order) -> list[str]:
    """Write a frozen graph as ONNX, at the opset asked for or the highest that is written.

    Large weights go to a file beside it, ``<target>.data``: a protobuf message ends at 2 GiB.

    Returns:
        What the user should know of it.

    Raises:
        ModelError: an operation has no translation, or the opset is too old.
    """
    if order.opset < LOWEST_OPSET:
        raise ModelError(
            f"TensorFlow models can't be written at opset {order.opset}",
            fix=f"take opset {LOWEST_OPSET} or newer: --opset {LOWEST_OPSET}",
        )
    graph = with_ports(frozen, order)
    names = (list(frozen.inputs), list(frozen.outputs))
    del frozen  # its weights may go now
    target = Path(order.target)
    proto = translated(graph, min(order.opset, HIGHEST_OPSET), target)
    rename_ports(proto, *names)
    describe_inputs(proto, order)
    drop_unused_domains(proto)
    target.write_bytes(proto.SerializeToString())
    return []
