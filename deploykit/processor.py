"""What the CPU has: the instruction sets that matter to models, as /proc/cpuinfo lists them."""

import re
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


def found_instructions(cpuinfo: str) -> tuple[str, ...]:
    """Find the instruction sets that matter in the text of /proc/cpuinfo; none where it says nothing."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    flags = set(lines[0].split()) if lines else set()
    return tuple(name for flag, name in INSTRUCTIONS.items() if flag in flags)


def instructions() -> tuple[str, ...]:
    """Give the instruction sets of this machine that matter; none where it does not say."""
    try:
        return found_instructions(Path("/proc/cpuinfo").read_text())
    except OSError:
        return ()
