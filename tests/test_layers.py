"""Imports only point down: what is below knows nothing of what is above."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "deploykit"

LAYERS = (
    ("cli",),
    ("console",),
    ("recipes",),
    ("engines",),
    ("benchmarking", "conversion", "optimization", "inspection", "examination", "listing", "reporting", "sealing"),
    ("exporters", "passes"),
    ("halving", "quantization", "rewrites"),
    ("timing", "validation"),
    ("backends", "metrics"),
    ("promotion", "recording", "rounding"),
    ("golden", "samples", "sidecar", "onnx_io", "workspace", "child"),
    ("artifact",),
    ("sniff",),
    ("clock", "machine", "nvidia", "pickles", "plugin", "runtimes", "tensors"),
    ("opcodes", "protobuf", "typed"),
    ("errors",),
)
"""From the top: each may import what is in the rows under it, and what is in its own file or folder."""

UPWARDS = {("sniff", "artifact"): "an artifact is opened by sniffing, and what sniffing says is an artifact's Format"}

IN_THE_CHILD = {"errors", "tensors", "artifact"}
"""What the framework's code may know of the rest: it also runs in environments with little else."""

FILES = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


def unit(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path) -> Iterator[str]:
    """Give the dotted names below the package that a file imports, in functions too, but not for type checkers."""
    tree = ast.parse(file.read_text())
    checked = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    passed_over = {id(inner) for node in checked for part in node.body for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in passed_over:
            assert node.level == 0, f"{file} imports relatively"
            module = node.module or ""
            names = [f"{module}.{one.name}" for one in node.names] if module == "deploykit" else [module]
            yield from (name.removeprefix("deploykit.") for name in names if name.startswith("deploykit."))
        if isinstance(node, ast.Import) and id(node) not in passed_over:
            yield from (one.name.removeprefix("deploykit.") for one in node.names if one.name.startswith("deploykit."))


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])
def test_a_file_imports_only_what_is_below_it(file: Path) -> None:
    rows = {name: row for row, names in enumerate(LAYERS) for name in names}
    own = unit(file)
    assert own in rows, f"{own} has no layer yet: give it one"
    for name in {imported_name.partition(".")[0] for imported_name in imported(file)} - {"__version__"}:
        if name not in rows:  # the package's own functions, which load lazily
            assert own == "cli", f"{file.name} imports {name} of the package itself"
        elif name != own and (own, name) not in UPWARDS:
            assert rows[own] < rows[name], f"{own} is not above {name}"


@pytest.mark.parametrize(
    "file", sorted((PACKAGE / "child").glob("*/**/*.py")), ids=lambda file: f"{file.parent.name}/{file.name}"
)
def test_the_code_that_runs_beside_the_framework_knows_little_of_the_rest(file: Path) -> None:
    for name in imported(file):
        assert name.startswith("child.") or name.partition(".")[0] in IN_THE_CHILD, f"{file.name}: {name}"


def test_the_check_sees_imports_inside_functions_and_not_those_for_types(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from deploykit.cli import app\n"
        "def f():\n    from deploykit.golden import Golden\n    import deploykit.child\n"
    )
    assert set(imported(tmp_path / "x.py")) == {"golden", "child"}
