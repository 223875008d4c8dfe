"""The machine that this runs on: its CPU, what this process may use of it, and what others take meanwhile."""

import math
import os
import platform
import re
import resource
import time
from pathlib import Path

INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX512F",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "avx512_bf16": "AVX512-BF16",
    "asimddp": "ASIMD-DOT",
    "i8mm": "I8MM",
    "sve": "SVE",
}
"""As /proc/cpuinfo calls them, and as people do."""


def cpu(cpuinfo: str) -> str:
    """Name the CPU, from the text of /proc/cpuinfo; ``unknown`` where nothing says it."""
    match = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or "unknown"


def found_instructions(cpuinfo: str) -> tuple[str, ...]:
    """Find the instruction sets that matter in the text of /proc/cpuinfo; none where it says nothing."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    flags = set(lines[0].split()) if lines else set()
    return tuple(name for flag, name in INSTRUCTIONS.items() if flag in flags)


def instructions() -> tuple[str, ...]:
    """Give the instruction sets of this machine that matter; none where it does not say."""
    return found_instructions(text("/proc/cpuinfo"))


_SUMS_BYTES = frozenset({"AVX512-VNNI", "AVX-VNNI", "AMX-INT8", "ASIMD-DOT", "I8MM"})


def sums_bytes() -> bool:
    """Tell whether this machine has an instruction for sums of products of 8 bits, which do not saturate."""
    return bool(_SUMS_BYTES.intersection(instructions()))


def block() -> int:
    """Give how many channels onnxruntime's convolutions take at once on this CPU: it fills up what is missing."""
    return 16 if "AVX512F" in instructions() else 8


def cores() -> int:
    """Count the cores that this process may use: affinity and the container's limit."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = text("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():  # noqa: PLR2004 - microseconds allowed, and the period that they are of
        usable = min(usable, math.ceil(int(quota[0]) / int(quota[1])))
    return max(usable, 1)


def memory() -> int | None:
    """Give the bytes that this process may use: the machine's, or the container's limit; None where none is known."""
    total = re.search(r"^MemTotal:\s*(\d+) kB", text("/proc/meminfo"), re.MULTILINE)
    limit = text("/sys/fs/cgroup/memory.max").strip()
    known = [int(total[1]) * 1024] if total else []
    known += [int(limit)] if limit.isdigit() else []
    return min(known, default=None)


def text(path: str) -> str:
    """Read a file of the kernel's; nothing where it is not there."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


class Watch:
    """What others take of the machine's cores, from now on."""

    def __init__(self) -> None:
        """Start."""
        self._start, self._busy, self._own = time.perf_counter(), _busy(), _own()

    def others(self) -> float | None:
        """Give the share of all cores that other processes took, 0 to 1; None where the kernel does not tell."""
        busy, seconds = _busy(), time.perf_counter() - self._start
        if busy is None or self._busy is None or seconds <= 0:
            return None
        taken = busy - self._busy - (_own() - self._own)
        return min(1.0, max(0.0, taken / seconds / (os.cpu_count() or 1)))


def _own() -> float:
    """Give the CPU seconds of this process, of all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _busy() -> float | None:
    """Give the CPU seconds that all cores have worked since the machine started, or were lent to another machine."""
    words = text("/proc/stat").partition("\n")[0].split()
    if words[:1] != ["cpu"] or len(words) < 9:  # noqa: PLR2004 - up to steal, as in man 5 proc
        return None
    user, nice, system, _idle, _wait, *rest = map(int, words[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
