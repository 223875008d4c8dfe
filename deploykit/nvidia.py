"""What there is of NVIDIA's here: the Python bindings of TensorRT, and the devices.

Nothing of TensorRT is loaded for it: without a device the runtime of full TensorRT gives objects that crash. The driver
alone is asked, through ctypes.
"""

import ctypes
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

TENSORRT, RTX = "tensorrt", "tensorrt-rtx"
MODULES = {TENSORRT: ("tensorrt", "tensorrt_bindings"), RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings")}
"""The Python modules of each, any of which will do."""
_DISTRIBUTIONS = {
    TENSORRT: ("tensorrt", *(f"tensorrt{cuda}{part}" for part in ("_bindings", "") for cuda in ("_cu13", "_cu12"))),
    RTX: tuple(f"tensorrt_rtx{name}" for name in ("_cu13_bindings", "_cu12_bindings", "")),
}


@dataclass(frozen=True)
class Bindings:
    """TensorRT as it is installed."""

    kind: str
    """``tensorrt`` or ``tensorrt-rtx``."""
    module: str
    """What Python imports."""
    version: str


@dataclass(frozen=True)
class Device:
    """A GPU."""

    name: str
    capability: str
    """Of computing, ``8.9``."""
    memory: int
    """Bytes."""

    @property
    def target(self) -> str:
        """Give the name that an engine for it has: ``sm89``."""
        return f"sm{self.capability.replace('.', '')}"


@dataclass(frozen=True)
class Devices:
    """The GPUs that the driver shows."""

    driver: str
    """The CUDA version of the driver, ``13.0``; empty where there is none."""
    found: tuple[Device, ...]
    why: str
    """Why there is none; empty where there is one."""


def pip_line(kind: str) -> str:
    """Say how bindings are installed: those of full TensorRT lie on an index of NVIDIA's own."""
    index = " --extra-index-url URL, where URL is NVIDIA's own index" if kind == TENSORRT else ""
    return f"pip install 'deploykit[{kind}]'{index}"


def bindings() -> tuple[Bindings, ...]:
    """List the bindings that are installed; none is imported."""
    return tuple(_installed())


def _installed() -> Iterator[Bindings]:
    for kind, modules in MODULES.items():
        module = next(filter(_is_installed, modules), None)
        if module is not None:
            yield Bindings(kind, module, _version(kind))


def _is_installed(module: str) -> bool:
    found = importlib.util.find_spec(module)
    return found is not None and found.origin is not None  # a folder of that name is a module too, without a file


def _version(kind: str) -> str:
    for name in _DISTRIBUTIONS[kind]:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


_NONE = "no CUDA device"
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h."""


def devices(library: str = "libcuda.so.1") -> Devices:
    """Ask the driver for its devices.

    Args:
        library: the driver's.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return Devices("", (), f"{_NONE}: {library}, the driver's library, is not here")
    code = cuda.cuInit(0)
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    code = code or cuda.cuDeviceGetCount(ctypes.byref(count))
    if code:
        return Devices(driver, (), f"{_NONE}: the driver answers with error {code}")
    found = tuple(_device(cuda, number) for number in range(count.value))
    return Devices(driver, found, "" if found else f"{_NONE}: the driver shows none")


def _device(cuda: ctypes.CDLL, number: int) -> Device:
    handle, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(handle), number)
    cuda.cuDeviceGetName(name, len(name), handle)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    parts = []
    for attribute in (_MAJOR, _MINOR):
        part = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(part), attribute, handle)
        parts.append(part.value)
    return Device(name.value.decode(errors="replace"), ".".join(map(str, parts)), memory.value)
