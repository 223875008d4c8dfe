"""Build an engine with TensorRT-RTX on the CPU, and tell what each of its layers computes in."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest


def build(path: Path) -> list[str]:
    """Build an engine for compute capability 8.9; give the builder's lines about its layers."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    log = _log()
    log.said.clear()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse(path.read_bytes()), [parser.get_error(one).desc() for one in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        value = network.get_input(number)
        shape = [1 if dim < 0 else dim for dim in value.shape]
        profile.set_shape(value.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None, log.said[-5:]
    lines = next((said for said in log.said if said.startswith("Layers:")), "")
    return re.findall(r"^Name: .*$", lines, re.MULTILINE)


@cache
def _log() -> Any:
    """Give the one logger that the library takes in a process."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

    class Log(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.said: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.said.append(message)

    return Log()
