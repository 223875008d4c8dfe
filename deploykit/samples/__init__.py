"""Inputs for proving and calibrating: read from the user's files, or synthesized from an ONNX graph.

``read`` streams files; ``purpose`` says what an input is for by following it through the graph (``trace``), ``roles``
draws values for each purpose, and ``synthesize`` puts them together into calls of several sizes.
"""

from deploykit.samples.read import npz_specs, read_npz
from deploykit.samples.synthesize import coverage, covering, plans, synthesize, unread_tables

__all__ = ["coverage", "covering", "npz_specs", "plans", "read_npz", "synthesize", "unread_tables"]
