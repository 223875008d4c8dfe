"""How results look: rich tables and a spinner in a terminal, or one JSON object on standard output."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import GenericAlias
from typing import TYPE_CHECKING, Any

from deploykit.child import Step
from deploykit.errors import DeploykitError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from deploykit.benchmarking import Bench
    from deploykit.conversion import Conversion
    from deploykit.examination import Examination
    from deploykit.inspection import Inspection
    from deploykit.listing import Listed
    from deploykit.optimization import Optimization
    from deploykit.optimization.calibration import Calibrated
    from deploykit.sealing import Seal, Verification
    from deploykit.validation.verdict import Check, Verdict

_WIDE = 160


def plain(value: Any) -> Any:
    """Turn a result into what JSON can hold; tensors' descriptions become their text form."""
    from deploykit.tensors import TensorSpec

    if isinstance(value, (TensorSpec, Path, GenericAlias, type)):
        return value.__name__ if isinstance(value, type) and not isinstance(value, GenericAlias) else str(value)
    if is_dataclass(value) and not isinstance(value, type):
        shown = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return {**shown, "passed": value.passed} if hasattr(value, "passed") else shown
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def print_json(content: Any) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json.dumps(plain(content), indent=2) + "\n")


def print_error(error: DeploykitError) -> None:
    """Print an error and its fix on standard error."""
    sys.stderr.write("\n".join(error.lines()) + "\n")


def error_json(error: DeploykitError) -> dict[str, Any]:
    """Describe an error for ``--json``."""
    verdict = getattr(error, "verdict", None)
    return {
        "error": {"kind": type(error).__name__, "message": error.message, "details": error.details, "fix": error.fix},
        "exit_code": error.exit_code,
        **({"verdict": plain(verdict)} if verdict is not None else {}),
    }


@contextmanager
def progress() -> Iterator[Step]:
    """Give a function that shows what goes on now: a spinner on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    console = _console(stderr=True)
    with console.status("starting") as status:
        yield lambda words: status.update(f"{words} ...")


def show_conversion(made: "Conversion") -> None:
    """Print what a conversion made, and its verdict."""
    golden = made.verdict
    rows = [
        ("source", f"{made.source.path} ({made.source.format})"),
        ("inputs", ", ".join(map(str, made.signature.inputs))),
        ("outputs", ", ".join(map(str, made.signature.outputs))),
        ("exported", f"with {made.exporter}, opset {made.opset}, IR {made.ir_version}"),
        *(("note", note) for note in made.notes),
        ("golden", f"{made.golden}: {golden.samples} samples, {_floor(golden)}"),
    ]
    _facts(rows)
    show_verdict(made.verdict)
    spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in made.seconds.items())
    _facts([("wrote", ", ".join(f"{file} ({_bytes(file.stat().st_size)})" for file in made.files)), ("time", spent)])


def show_optimization(made: "Optimization") -> None:
    """Print what each pass did, and the verdict on the last."""
    before, after = made.before, made.stages[-1].made
    _facts([("model", f"{made.model} ({_bytes(before.bytes)}, {before.nodes} nodes)")])
    _facts([("note", note) for note in made.notes])
    for stage in made.stages:
        _facts([(stage.applied.partition(":")[0], stage.done), *(("note", note) for note in stage.notes)])
    show_verdict(made.verdict)
    if made.speed is not None:
        from deploykit.timing.words import told

        _facts([("speed", f"{line} ({made.speed.cpu}, {made.speed.threads} thread)") for line in told(made.speed)])
    spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in made.seconds.items())
    files = ", ".join(f"{file} ({_bytes(file.stat().st_size)})" for file in made.files)
    _facts([("wrote", f"{files}, {after.nodes} nodes"), ("time", spent)])


def show_calibration(made: "Calibrated") -> None:
    """Print what the ranges are from."""
    origin = ", ".join(map(str, made.merged)) if made.model is None else str(made.model)
    _facts([("from", origin), ("ranges", f"of {made.tensors} tensors on {made.samples} samples")])
    _facts([*(("note", note) for note in made.notes), ("wrote", f"{made.path} ({_bytes(made.path.stat().st_size)})")])


def _floor(verdict: "Verdict") -> str:
    ways = {
        "float64": "noise floor from the source in float64",
        "ulp": "noise floor from the spread of the source's own answers",
    }
    return ways.get(verdict.method, verdict.method)


def show_verdict(verdict: "Verdict") -> None:
    """Print a verdict: a line for each output, the worst first, and pass or fail."""
    table = _table("output", "noise ratio>", "limit>", "max abs>", "SQNR dB>", "", "found")
    for check in sorted(verdict.checks, key=lambda one: (one.passed, -(one.value or 0))):
        table.add_row(
            check.what,
            *((_number(check.value), _number(check.limit)) if check.rule.startswith("noise ratio") else ("", "")),
            _number(check.figures.get("max_abs")),
            _number(check.figures.get("sqnr")),
            _result(check),
            _escaped(check.why if check.rule.startswith("noise ratio") else f"{check.why} ({check.rule})"),
        )
    console = _console()
    console.print(table)
    for note in verdict.notes:
        console.print(f"[bold]note[/]      {_escaped(note)}", soft_wrap=True)
    _facts(_diverged(verdict))
    equal = "within its budget" if verdict.lossy else "equal"
    word = f"[bold green]{equal}[/]" if verdict.passed else "[bold red]NOT EQUAL[/]"
    if verdict.undecided:
        word = "[bold yellow]UNDECIDED[/]"
    console.print(
        f"{word}: {_escaped(verdict.artifact)} against {_escaped(verdict.reference)}, {verdict.values} values of "
        f"{verdict.samples} samples in {len(set(verdict.shapes))} shapes",
        soft_wrap=True,
    )


def _result(check: "Check") -> str:
    if check.undecided:
        return "[yellow]undecided[/]"
    return "[green]pass[/]" if check.passed else "[red]FAIL[/]"


def _diverged(verdict: "Verdict") -> Iterable[tuple[str, str]]:
    from deploykit.validation.divergence.words import told

    return told(verdict.divergence) if verdict.divergence is not None else ()


def show_bench(made: "Bench") -> None:
    """Print a line for each file and size of a batch, and in words which is faster."""
    from deploykit.timing.words import times

    first = made.comparisons[0]
    threads = f"{first.threads} thread{'s' if first.threads > 1 else ''}"
    _facts([("machine", f"{first.cpu}, {threads}, onnxruntime {first.onnxruntime}"), ("inputs", made.inputs)])
    columns = ("batch>", "p50 ms>", "p90 ms>", "p99 ms>", "samples/s>", "size>", "peak memory>", "times the first>")
    table = _table("artifact", *columns)
    for one in made.comparisons:
        for row in one.rows:
            figures = map(_number, (row.p50_ms, row.p90_ms, row.p99_ms))
            sizes = _bytes(row.bytes), _bytes(row.memory.peak), times(row.ratio) if row.ratio else ""
            table.add_row(_escaped(row.artifact), str(one.batch), *figures, _rate(row.samples_per_second), *sizes)
    _console().print(table)
    rounds = "; ".join(f"{one.rounds} rounds, {sum(row.calls for row in one.rows)} calls" for one in made.comparisons)
    _facts([("timed", rounds), *(("note", note) for note in made.notes), *(("result", line) for line in made.words)])


def show_seal(made: "Seal") -> None:
    """Print what was sealed, and its verdict."""
    show_verdict(made.verdict)
    _facts([(file.role, f"{file.name} ({_bytes(file.bytes)}), sha256 {file.sha256}") for file in made.files])
    _facts([("source", f"{made.source['name']}, sha256 {made.source['sha256']}")])
    tools = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    _facts([("tools", f"{tools}; exported with {made.exported_with}"), ("wrote", str(made.path))])


def show_verification(found: "Verification") -> None:
    """Print what became of each file, and the verdict where the model was run."""
    _facts([("sealed", f"{found.sealed}, in {found.manifest}")])
    _facts([(file.role, f"{file.name}: {file.why}") for file in found.files])
    _facts([("note", note) for note in found.notes])
    wrong = [file.name for file in found.files if not file.as_sealed]
    if wrong:
        _console().print(f"[bold red]NOT WHAT WAS SEALED[/]: {_escaped(', '.join(wrong))}", soft_wrap=True)
    elif found.verdict is None:
        _console().print("[bold green]as sealed[/]: every file; nothing was run")
    else:
        show_verdict(found.verdict)


def show_inspection(seen: "Inspection") -> None:
    """Print what is in an artifact."""
    _facts(_inspected(seen))


def show_examination(found: "Examination") -> None:
    """Print what is installed, what the machine can do, and what stands in the way."""
    _facts(_examined(found))


def show_plugins(found: "Sequence[Listed]") -> None:
    """Print plug-ins by role; the options too where it is one."""
    for one in found:
        _facts([(one.role, f"{one.name}: {one.text}")])
        if len({each.name for each in found}) == 1:
            _facts([("", f"  {option.name} = {option.default}  {option.text}") for option in one.options])


def _inspected(seen: "Inspection") -> Iterator[tuple[str, str]]:
    yield "file", f"{seen.path} ({seen.format}, {_bytes(seen.size)})"
    yield "sha256", seen.sha256
    if seen.signature is not None:
        yield "inputs", ", ".join(map(str, seen.signature.inputs))
        yield "outputs", ", ".join(map(str, seen.signature.outputs))
    if seen.ir_version is not None:
        opsets = ", ".join(f"{domain} {version}" for domain, version in seen.opsets.items())
        yield "opset", f"{opsets}; IR {seen.ir_version}"
        yield "needs", f"onnxruntime {seen.onnxruntime or 'newer than any known'}"
    if seen.operators:
        yield "operators", ", ".join(f"{count} {name}" for name, count in seen.operators.items())
    if seen.parameters is not None:
        yield "weights", f"{seen.parameters:,} parameters"
    if seen.precision:
        yield "precision", seen.precision
    yield from (("lineage", f"{name}: {text}") for name, text in seen.lineage.items())
    yield from (("golden", f"{name}: {text}") for name, text in seen.golden.items())
    yield from (("tensor", str(spec)) for spec in seen.tensors)
    if seen.imports:
        yield "imports", ", ".join(seen.imports)
    yield from (("note", note) for note in seen.notes)


def _examined(found: "Examination") -> Iterator[tuple[str, str]]:
    memory = "unknown memory" if found.memory is None else f"{_bytes(found.memory)} of memory"
    yield "python", found.python
    yield "machine", f"{found.platform}; {found.cpu}, {found.cores} cores, {memory}"
    for name, version in found.packages.items():
        yield "package", f"{name} {version or '- not installed'}"
    yield "providers", ", ".join(found.providers) or "none"
    yield "CPU has", ", ".join(found.instructions) or "none of the instruction sets that speed up int8"
    yield "int8", found.int8
    for finding in found.findings:
        yield "problem", finding.problem
        yield "  fix", finding.fix


def _table(*titles: str) -> "Table":
    """Start a table; the columns whose title ends with ``>`` hold numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title.rstrip(">"), justify="right" if title.endswith(">") else "left", overflow="fold")
    return table


def _facts(rows: Iterable[tuple[str, str]]) -> None:
    console = _console()
    for name, text in rows:
        console.print(f"[bold]{name:<9}[/] {_escaped(text)}", soft_wrap=True)


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _WIDE)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _rate(value: float) -> str:
    """Write 8.24, 59.2 and 176,233."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _bytes(count: float) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
