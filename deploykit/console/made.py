"""How what was made looks: models, ranges, seals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploykit.console.pieces import escaped, facts, new_table, number, rate, size, terminal
from deploykit.console.verdict import show_verdict

if TYPE_CHECKING:
    from deploykit.benchmarking import Bench
    from deploykit.conversion import Conversion
    from deploykit.engines import Built
    from deploykit.optimization import Optimization
    from deploykit.optimization.calibration import Calibrated
    from deploykit.passes import Layer
    from deploykit.sealing import Seal, Verification
    from deploykit.validation.verdict import Verdict


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
    facts(rows)
    show_verdict(made.verdict)
    spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in made.seconds.items())
    facts([("wrote", ", ".join(f"{file} ({size(file.stat().st_size)})" for file in made.files)), ("time", spent)])


def _floor(verdict: "Verdict") -> str:
    ways = {
        "float64": "noise floor from the source in float64",
        "ulp": "noise floor from the spread of the source's own answers",
    }
    return ways.get(verdict.method, verdict.method)


def show_optimization(made: "Optimization") -> None:
    """Print what each pass did, and the verdict on the last."""
    before, after = made.before, made.stages[-1].made
    facts([("model", f"{made.model} ({size(before.bytes)}, {before.nodes} nodes)")])
    facts([("note", note) for note in made.notes])
    for stage in made.stages:
        facts([(stage.applied.partition(":")[0], stage.done), *(("note", note) for note in stage.notes)])
        show_layers(stage.layers)
    show_verdict(made.verdict)
    if made.speed is not None:
        from deploykit.timing.words import told

        facts([("speed", f"{line} ({made.speed.cpu}, {made.speed.threads} thread)") for line in told(made.speed)])
    spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in made.seconds.items())
    files = ", ".join(f"{file} ({size(file.stat().st_size)})" for file in made.files)
    facts([("wrote", f"{files}, {after.nodes} nodes"), ("time", spent)])


def show_engine(made: "Built") -> None:
    """Print what an engine was built of and for, what its layers compute in, and its verdict."""
    known = made.sidecar
    versions = ", ".join(f"{name} {version}" for name, version in known.versions.items() if name == known.backend)
    targets = ", ".join(known.targets) or "no device by name"
    facts([("model", str(made.model)), *(("pass", line) for line in made.did)])
    facts([("built", f"with {versions}, for {targets}"), *(("profile", line) for line in made.profiles)])
    facts([*(("layers", line) for line in made.layers), *(("note", line) for line in made.warnings)])
    if made.verdict is not None:
        show_verdict(made.verdict)
    if made.speed is not None:
        rate_ = f"{rate(made.speed.samples_per_second)} samples/s"
        facts([("speed", f"{number(made.speed.p50_ms)} ms a call, with its copies, {rate_}")])
    if made.unproved:
        terminal().print(f"[bold yellow]UNPROVED[/]: built, not run: {escaped(made.unproved)}", soft_wrap=True)
    spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in made.seconds.items())
    facts([("wrote", ", ".join(f"{file} ({size(file.stat().st_size)})" for file in made.files)), ("time", spent)])


_LAYERS = 12
"""So many lines tell of layers; --json has all."""


def show_layers(layers: "Sequence[Layer]") -> None:
    """Print what layers do to the outputs alone, where that was measured, and what became of them; the worst first."""
    measured = sorted((one for one in layers if one.alone is not None), key=lambda one: one.alone or 0.0)
    if not measured:
        return
    table = new_table("layer", "operator", "SQNR dB alone>", "fate")
    for one in measured[:_LAYERS]:
        table.add_row(escaped(one.name), one.operator, number(one.alone), escaped(one.fate))
    terminal().print(table)
    rest = len(measured) - _LAYERS
    if rest > 0:
        facts([("", f"and {rest} that harm less: --json has them")])


def show_calibration(made: "Calibrated") -> None:
    """Print what the ranges are from."""
    origin = ", ".join(map(str, made.merged)) if made.model is None else str(made.model)
    facts([("from", origin), ("ranges", f"of {made.tensors} tensors on {made.samples} samples")])
    facts([*(("note", note) for note in made.notes), ("wrote", f"{made.path} ({size(made.path.stat().st_size)})")])


def show_bench(made: "Bench") -> None:
    """Print a line for each file and size of a batch, and in words which is faster."""
    from deploykit.timing.words import times

    first = made.comparisons[0]
    threads = f"{first.threads} thread{'s' if first.threads > 1 else ''}"
    facts([("machine", f"{first.cpu}, {threads}, onnxruntime {first.onnxruntime}"), ("inputs", made.inputs)])
    columns = ("batch>", "p50 ms>", "p90 ms>", "p99 ms>", "samples/s>", "size>", "peak memory>", "times the first>")
    table = new_table("artifact", *columns)
    for one in made.comparisons:
        for row in one.rows:
            figures = map(number, (row.p50_ms, row.p90_ms, row.p99_ms))
            sizes = size(row.bytes), size(row.memory.peak) if row.memory else "", times(row.ratio) if row.ratio else ""
            table.add_row(escaped(row.artifact), str(one.batch), *figures, rate(row.samples_per_second), *sizes)
    terminal().print(table)
    rounds = "; ".join(f"{one.rounds} rounds, {sum(row.calls for row in one.rows)} calls" for one in made.comparisons)
    facts([("timed", rounds), *(("note", note) for note in made.notes), *(("result", line) for line in made.words)])


def show_seal(made: "Seal") -> None:
    """Print what was sealed, and its verdict."""
    show_verdict(made.verdict)
    facts([(file.role, f"{file.name} ({size(file.bytes)}), sha256 {file.sha256}") for file in made.files])
    facts([("source", f"{made.source['name']}, sha256 {made.source['sha256']}")])
    tools = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    facts([("tools", f"{tools}; exported with {made.exported_with}"), ("wrote", str(made.path))])


def show_verification(found: "Verification") -> None:
    """Print what became of each file, and the verdict where the model was run."""
    facts([("sealed", f"{found.sealed}, in {found.manifest}")])
    facts([(file.role, f"{file.name}: {file.why}") for file in found.files])
    facts([("note", note) for note in found.notes])
    wrong = [file.name for file in found.files if not file.as_sealed]
    if wrong:
        terminal().print(f"[bold red]NOT WHAT WAS SEALED[/]: {escaped(', '.join(wrong))}", soft_wrap=True)
    elif found.verdict is None:
        terminal().print("[bold green]as sealed[/]: every file; nothing was run")
    else:
        show_verdict(found.verdict)
