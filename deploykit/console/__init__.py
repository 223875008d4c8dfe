"""How results look: rich tables and a spinner in a terminal, or one JSON object on standard output."""

from deploykit.console.chain import show_freed, show_plan, show_recipe, show_run
from deploykit.console.made import (
    show_bench,
    show_calibration,
    show_conversion,
    show_engine,
    show_optimization,
    show_seal,
    show_verification,
)
from deploykit.console.seen import show_examination, show_inspection, show_plugins
from deploykit.console.streams import error_json, plain, print_error, print_json, progress
from deploykit.console.verdict import show_verdict

__all__ = [
    "error_json",
    "plain",
    "print_error",
    "print_json",
    "progress",
    "show_bench",
    "show_calibration",
    "show_conversion",
    "show_engine",
    "show_examination",
    "show_freed",
    "show_inspection",
    "show_optimization",
    "show_plan",
    "show_plugins",
    "show_recipe",
    "show_run",
    "show_seal",
    "show_verdict",
    "show_verification",
]
