"""ONNX files: load them with their weights left on disk, save them whole, check them, and read what they say.

``parse`` reads the protobuf and judges the files that the weights are in; ``read`` makes a model of it, ``write`` a
file again, holding no more than one tensor of ``weights`` at a time; ``versions`` sets what a model says of itself.
"""

from deploykit.onnx_io.describe import describe
from deploykit.onnx_io.precision import judged_as, precision_of
from deploykit.onnx_io.read import UNRANKED, check, every_node, external_files, load, signature, size_of, table_hashes
from deploykit.onnx_io.versions import lineage, set_lineage, set_versions
from deploykit.onnx_io.write import ALIGNMENT, save

__all__ = [
    "ALIGNMENT",
    "UNRANKED",
    "check",
    "describe",
    "every_node",
    "external_files",
    "judged_as",
    "lineage",
    "load",
    "precision_of",
    "save",
    "set_lineage",
    "set_versions",
    "signature",
    "size_of",
    "table_hashes",
]
