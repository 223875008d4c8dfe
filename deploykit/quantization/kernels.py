"""What onnxruntime really computes in integers, once it has optimized a file."""

import re
import tempfile
from pathlib import Path

_KERNELS = re.compile(r"^(QLinear|QGemm|QAttention|MatMulInteger|DynamicQuantize|ConvInteger)")
_AGAIN = re.compile(r"_token_\d+$")


def in_integers(path: Path) -> set[str]:
    """Name the nodes of a file in QuantizeLinear and DequantizeLinear that onnxruntime has kernels in integers for.

    It loads the file with all optimizations, writes what it made of it, and that is read.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="deploykit-") as folder:
        place = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(place)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(str(place), load_external_data=False).graph.node
    return {_AGAIN.sub("", node.name) for node in nodes if _KERNELS.match(node.op_type)}
