"""The few calls of the CUDA driver that running an engine takes, through ctypes: no package is needed for them."""

import ctypes
from functools import cache
from typing import Any

from deploykit.errors import ModelError
from deploykit.tensors import Array


@cache
def device() -> "Cuda":
    """Open the first device, once in a process."""
    return Cuda()


class Cuda:
    """The first device, with its primary context current in this thread."""

    def __init__(self) -> None:
        """Open the device.

        Raises:
            ModelError: the driver refuses.
        """
        self._driver = ctypes.CDLL("libcuda.so.1")
        device, self._context, self.stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self._call("cuCtxSetCurrent", self._context)
        # A stream that waits for the copies, which may still be under way when their call returns.
        self._call("cuStreamCreate", ctypes.byref(self.stream), 0)

    def allocate(self, size: int) -> int:
        """Give the address of some bytes of the device."""
        place = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(max(size, 1)))
        return place.value

    def free(self, place: int) -> None:
        """Give memory back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(place))

    def put(self, place: int, array: Array) -> None:
        """Copy an array, contiguous, to the device, before anything that the stream does later."""
        self._copy("cuMemcpyHtoD_v2", ctypes.c_uint64(place), ctypes.c_void_p(array.ctypes.data), array)

    def get(self, array: Array, place: int) -> None:
        """Copy from the device into an array."""
        self._copy("cuMemcpyDtoH_v2", ctypes.c_void_p(array.ctypes.data), ctypes.c_uint64(place), array)

    def wait(self) -> None:
        """Wait for all that was started."""
        self._call("cuStreamSynchronize", self.stream)

    def _copy(self, name: str, to: Any, source: Any, array: Array) -> None:
        if array.nbytes:
            self._call(name, to, source, ctypes.c_size_t(array.nbytes))

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(text))
            said = (text.value or b"unknown").decode(errors="replace")
            raise ModelError(
                f"CUDA fails in {name}: {said} ({code})",
                fix="look at the device with nvidia-smi, or use smaller inputs",
            )
