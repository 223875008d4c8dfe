"""Start this process again with memory at the same addresses each time, so that two builds give the same engine.

TensorRT-RTX 1.7 numbers some sizes of an engine in the order of addresses. Linux puts memory at random ones, and then
32 of 300 builds of a small net differed from the rest in 7 bytes, with one thread as often as with many.
"""

import ctypes
import os
import sys

_FIXED = 0x0040000
"""ADDR_NO_RANDOMIZE of sys/personality.h."""
_ASK = 0xFFFFFFFF
_AGAIN = "again"


def fix_addresses() -> None:
    """Start again with fixed addresses; where the system does not allow it, as in some containers, go on as it is."""
    if sys.platform != "linux" or sys.argv[-1] == _AGAIN:
        return
    personality = ctypes.CDLL(None).personality
    personality.argtypes = (ctypes.c_ulong,)
    now = personality(_ASK)
    if now == -1 or now & _FIXED or personality(now | _FIXED) == -1:
        return
    os.execv(sys.executable, [*sys.orig_argv, _AGAIN])  # noqa: S606 - the same program, with no shell
