"""Inputs for proving and calibrating: read from the user's files, or synthesized from an ONNX graph.

``read`` streams whatever ``source`` opens: arrays (``npz``, ``npy``, ``safetensors``), tables (``csv_file``,
``parquet``), ``images``, ``items`` of a function, each a ``Source`` (``columns``). ``labels`` are read with them.

``purpose`` says what an input is for by following it through the graph (``trace``), ``roles`` draws values for each
purpose, and ``synthesize`` puts them together into calls of several sizes, which ``shapes`` chooses.
"""

from deploykit.samples.labels import labels
from deploykit.samples.preprocessing import Preprocessing
from deploykit.samples.read import notes_of, read, specs_of
from deploykit.samples.shapes import plans
from deploykit.samples.synthesize import coverage, covering, synthesize, unread_tables

__all__ = [
    "Preprocessing",
    "coverage",
    "covering",
    "labels",
    "notes_of",
    "plans",
    "read",
    "specs_of",
    "synthesize",
    "unread_tables",
]
