"""What a user writes by hand to build an engine: ``python -m benchmarks.tensorrt_bare ONNX ENGINE TARGET``."""

import json
import os
import sys
import time
from pathlib import Path


def main(onnx: str, engine: str, target: str) -> None:
    """Parse, build and write; print the seconds of each."""
    import tensorrt_rtx_bindings as trt

    began, spent = time.perf_counter(), time.process_time()
    log = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(onnx):
        sys.exit(parser.get_error(0).desc())
    parsed = time.perf_counter()
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), 0)
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        value = network.get_input(number)
        shape = [1 if dim < 0 else dim for dim in value.shape]
        profile.set_shape(value.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    built = time.perf_counter()
    with Path(engine).open("wb") as file:
        file.write(plan)
    seconds = {"parse": parsed - began, "engine": built - parsed, "write": time.perf_counter() - built}
    sys.stdout.write(json.dumps({**seconds, "cpu": time.process_time() - spent}))


if __name__ == "__main__":
    os.setsid()  # as deploykit's child does: the kernel shares a busy machine out among sessions
    main(*sys.argv[1:])
