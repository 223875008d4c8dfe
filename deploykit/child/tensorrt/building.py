"""Build one engine of one ONNX file, strongly typed, with whichever bindings there are.

TensorRT 10, 11 and TensorRT-RTX differ in what they have, and in the numbers of what they share. They raise nothing:
calls give None, False or -1, and the reason is in the log. So what there is is asked by name.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deploykit.child.tensorrt.layers import precisions
from deploykit.child.tensorrt.watching import log_of, monitor_of


def build(trt: Any, onnx: str, target: str, options: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Build an engine and write it.

    Args:
        trt: the module of the bindings.
        onnx: the file; its precision is that of the engine.
        target: the file to write.
        options: profiles, targets, workspace, level, sparse, version_compatible, hardware_compatible, timing_cache,
            new_cache and nodes: the names of those whose precision is asked for.
        say: takes how far it is.

    Returns:
        ``refused``, a list of what the parser does not take; or ``failed``, what the builder says; or what was built.
    """
    log = log_of(trt)
    began, spent = time.perf_counter(), time.process_time()
    builder, network, parser = _parsed(trt, log, onnx)
    parsed = time.perf_counter()
    if parser.num_errors:
        return {"refused": [_refusal(parser.get_error(number)) for number in range(parser.num_errors)]}
    config = builder.create_builder_config()
    config.progress_monitor = monitor = monitor_of(trt, say)
    _configure(trt, config, options)
    cache = _with_cache(config, options["timing_cache"]) if options["new_cache"] else None
    failure = _with_profiles(builder, network, config, options["profiles"])
    plan = None if failure else builder.build_serialized_network(network, config)
    del monitor
    if plan is None:
        return {"failed": [*failure, *log.of("error")]}
    built = time.perf_counter()
    with Path(target).open("wb") as file:
        file.write(plan)
    if cache is not None:
        Path(options["new_cache"]).write_bytes(config.get_timing_cache().serialize())
    return {
        "version": trt.__version__,
        "seconds": {"parse": parsed - began, "engine": built - parsed, "write": time.perf_counter() - built},
        "cpu_seconds": time.process_time() - spent,
        "precisions": precisions(log.layers, options["nodes"]),
        "warnings": log.of("warning"),
    }


def _parsed(trt: Any, log: Any, onnx: str) -> tuple[Any, Any, Any]:
    if hasattr(trt, "init_libnvinfer_plugins"):
        trt.init_libnvinfer_plugins(log, "")
    builder = trt.Builder(log)
    network = builder.create_network(_flag(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"))
    parser = trt.OnnxParser(network, log)
    parser.parse_from_file(onnx)
    return builder, network, parser


def _flag(flags: Any, name: str) -> int:
    """Give the bit of a flag by its name: its number is another in each version. 0 where there is none."""
    return 1 << int(getattr(flags, name)) if hasattr(flags, name) else 0


def _refusal(error: Any) -> dict[str, Any]:
    return {"node": error.node(), "name": error.node_name(), "operator": error.node_operator(), "why": error.desc()}


def _configure(trt: Any, config: Any, options: Mapping[str, Any]) -> None:
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 is float32: 13 bits less are no rounding that a proof would pass
    if options["workspace"]:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options["workspace"])
    if options["level"] is not None:
        config.builder_optimization_level = options["level"]
    _with_flags(trt, config, options)
    if options["hardware_compatible"]:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options["targets"]:
        config.num_compute_capabilities = len(options["targets"])
        for place, name in enumerate(options["targets"]):
            config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), place)


def _with_flags(trt: Any, config: Any, options: Mapping[str, Any]) -> None:
    if options["sparse"]:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if options["version_compatible"]:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)  # no code for the host in the file; RTX has none anyway


def _with_cache(config: Any, place: str) -> Any:
    """Begin with what was timed before; what is of another device or version is not used."""
    old = Path(place).read_bytes() if Path(place).exists() else b""
    cache = config.create_timing_cache(old)
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _with_profiles(builder: Any, network: Any, config: Any, shapes: Mapping[str, list[list[int]]]) -> list[str]:
    """Add the one profile; give why it can't be."""
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        value = network.get_input(number)
        if value.is_shape_tensor:
            return [f"the input '{value.name}' holds a shape, by which the model decides the size of a tensor"]
        if value.name in shapes:
            profile.set_shape(value.name, *shapes[value.name])
    if shapes and config.add_optimization_profile(profile) < 0:
        return ["the optimization profile is refused"]
    return []
