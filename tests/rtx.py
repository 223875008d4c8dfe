"""Build an engine with TensorRT-RTX on the CPU, and tell what each of its layers computes in."""

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from deploykit import nvidia
from deploykit.child.tensorrt.watching import log_of


@cache
def bindings() -> Any:
    """Give the module; it is installed wherever these tests run."""
    return importlib.import_module(next(one.module for one in nvidia.bindings() if one.kind == nvidia.RTX))


@cache
def log() -> Any:
    """Give the one logger that the library takes in a process."""
    return log_of(bindings())


def refusals(path: Path) -> list[str]:
    """Say what the parser refuses."""
    trt = bindings()
    network = trt.Builder(log()).create_network(0)
    parser = trt.OnnxParser(network, log())
    parser.parse_from_file(str(path))
    return [parser.get_error(number).desc() for number in range(parser.num_errors)]


def build(path: Path) -> list[str]:
    """Build an engine for compute capability 8.9; give the builder's lines about its layers."""
    trt, said = bindings(), log()
    said.said.clear()
    said.layers = ""
    builder = trt.Builder(said)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, said)
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
    assert builder.build_serialized_network(network, config) is not None, said.of("error")
    return re.findall(r"^Name: .*$", said.layers, re.MULTILINE)
