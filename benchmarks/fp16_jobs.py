"""What ``benchmarks.fp16`` has done in processes of their own; each prints one JSON object."""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from benchmarks.fp16 import timed


def command(source: str, target: str) -> dict[str, Any]:
    """The whole command."""
    import deploykit
    from deploykit.passes.fp16 import Fp16

    return {"laps": deploykit.optimize(source, target, passes=[Fp16()]).seconds}


def ours(source: str, target: str, golden: str) -> dict[str, Any]:
    """What deploykit does beside golden and proof: measure, choose, rewrite."""
    import onnx_ir  # noqa: F401 - imports are not timed
    import onnxruntime  # noqa: F401

    from deploykit.golden import Golden
    from deploykit.halving.graph import read
    from deploykit.halving.plan import plan
    from deploykit.halving.ranges import measure
    from deploykit.halving.rewrite import Rewriting
    from deploykit.onnx_io import save
    from deploykit.rounding import FLOAT16

    calls = (case.inputs for case in Golden.read(Path(golden)).cases)
    measuring, ranges = timed(lambda: measure(Path(source), FLOAT16, calls, Path(target).parent))

    def rewrite() -> None:
        graph = read(Path(source), FLOAT16)
        Rewriting(graph, plan(graph, ranges)).run()
        save(graph.model, target)

    rewriting, _ = timed(rewrite)
    return {"rewriting": rewriting, "ranges": measuring, "casts": _casts(target)}


def theirs(source: str, target: str) -> dict[str, Any]:
    """What onnxconverter-common does, with inputs and outputs left in float32."""
    import onnx
    from onnxconverter_common import float16

    def convert() -> None:
        onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), target)

    warnings.simplefilter("ignore")
    rewriting, _ = timed(convert)
    return {"rewriting": rewriting, "casts": _casts(target)}


def judged(ours: str, theirs: str, golden: str) -> dict[str, Any]:
    """Judge both where every tensor of float16 is rounded to it: SQNR of the worst output, or why there is none."""
    return {"ours": _verdict(ours, golden), "theirs": _verdict(theirs, golden)}


def _verdict(path: str, golden: str) -> str:
    from deploykit.errors import DeploykitError
    from deploykit.golden import Golden
    from deploykit.onnx_io import load, save, set_lineage
    from deploykit.rounding import emulate
    from deploykit.validation import Demand, prove

    rounded = Path(path).with_suffix(".rounded.onnx")
    try:
        model = load(path)
        set_lineage(model, precision="float16")
        emulate(model)
        save(model, rounded)
        verdict = prove(rounded, Golden.read(Path(golden)), Demand(), artifact=path, reference="the source")
    except DeploykitError as error:
        return error.message
    finally:
        rounded.unlink(missing_ok=True)
    if verdict.passed:
        return f"{min(check.figures['sqnr'] for check in verdict.checks):.0f}"
    return f"FAIL ({verdict.failures[0].why.partition(',')[0][:60]})"


def tensorrt(path: str) -> dict[str, Any]:
    """Build an engine with TensorRT-RTX, where it is installed."""
    try:
        import tensorrt_rtx_bindings as trt
    except ImportError:
        return {"said": "not installed"}
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(path):
        return {"said": f"refused: {parser.get_error(0).desc()}"}
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        size = 224 if len(tensor.shape) > 3 else 128  # an image, or a text
        shapes = [
            [dim if dim > 0 else (size if axis else batch) for axis, dim in enumerate(tensor.shape)]
            for batch in (1, 2, 4)
        ]
        profile.set_shape(tensor.name, *shapes)
    config.add_optimization_profile(profile)
    seconds, engine = timed(lambda: builder.build_serialized_network(network, config))
    return {"said": "no engine" if engine is None else f"builds in {seconds:.1f} s"}


def _casts(path: str) -> int:
    from deploykit.onnx_io import load

    return sum(1 for node in load(path).graph.all_nodes() if node.op_type == "Cast")


if __name__ == "__main__":
    jobs = {job.__name__: job for job in (command, ours, theirs, judged, tensorrt)}
    print(json.dumps(jobs[sys.argv[1]](*sys.argv[2:])))
