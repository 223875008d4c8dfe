"""How what was looked at looks: artifacts, the machine, plug-ins."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from deploykit.console.pieces import facts, size

if TYPE_CHECKING:
    from deploykit.examination import Examination
    from deploykit.inspection import Inspection
    from deploykit.listing import Listed


def show_inspection(seen: "Inspection") -> None:
    """Print what is in an artifact."""
    facts(_inspected(seen))


def show_examination(found: "Examination") -> None:
    """Print what is installed, what the machine can do, and what stands in the way."""
    facts(_examined(found))


def show_plugins(found: "Sequence[Listed]") -> None:
    """Print plug-ins by role; the options too where it is one."""
    for one in found:
        facts([(one.role, f"{one.name}: {one.text}")])
        if len({each.name for each in found}) == 1:
            facts([("", f"  {option.name} = {option.default}  {option.text}") for option in one.options])


def _inspected(seen: "Inspection") -> Iterator[tuple[str, str]]:
    yield "file", f"{seen.path} ({seen.format}, {size(seen.size)})"
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
    yield from (("engine", f"{name}: {text}") for name, text in seen.engine.items())
    yield from (("layers", line) for line in seen.layers)
    yield from (("tensor", str(spec)) for spec in seen.tensors)
    if seen.imports:
        yield "imports", ", ".join(seen.imports)
    yield from (("note", note) for note in seen.notes)


def _examined(found: "Examination") -> Iterator[tuple[str, str]]:
    memory = "unknown memory" if found.memory is None else f"{size(found.memory)} of memory"
    yield "python", found.python
    yield "machine", f"{found.platform}; {found.cpu}, {found.cores} cores, {memory}"
    for name, version in found.packages.items():
        yield "package", f"{name} {version or '- not installed'}"
    yield "providers", ", ".join(found.providers) or "none"
    yield "CPU has", ", ".join(found.instructions) or "none of the instruction sets that speed up int8"
    yield "int8", found.int8
    yield from (("tensorrt", f"{one.kind} {one.version}, imported as {one.module}") for one in found.tensorrt)
    yield "driver", f"CUDA {found.devices.driver}" if found.devices.driver else "none of NVIDIA's"
    for device in found.devices.found:
        yield "device", f"{device.name}, {device.target}, {size(device.memory)}"
    yield "engines", found.engines
    for finding in found.findings:
        yield "problem", finding.problem
        yield "  fix", finding.fix
