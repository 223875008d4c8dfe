"""The other side of the comparison: what a user writes by hand, one call of ``torch.onnx.export`` in a fresh process.

``python -m benchmarks.bare export NAME WEIGHTS OUT OPSET`` exports; ``save NAME WEIGHTS`` writes the random weights;
``import NAME`` only imports what the export needs, to know what that alone costs; ``infer NAME WEIGHTS ONNX SAMPLES``
runs the source and the ONNX file on samples, and prints how far they are apart.
"""

import json
import sys
import time
from collections.abc import Callable

from benchmarks.models import MODELS, SIZES


def save(name: str, weights: str) -> None:
    import torch

    torch.manual_seed(0)
    torch.save(MODELS[name].factory().state_dict(), weights)


def export(name: str, weights: str, out: str, opset: str) -> None:
    start = time.perf_counter()
    import torch

    imported = time.perf_counter()
    model = MODELS[name]
    module = model.factory()
    module.load_state_dict(torch.load(weights))
    module.eval()
    loaded = time.perf_counter()
    torch.manual_seed(0)
    shapes = [[SIZES[dim] if isinstance(dim, str) else dim for dim in dims] for dims in model.inputs.values()]
    if model.dtype == "int64":
        tensors = [torch.ones(shape, dtype=torch.int64) for shape in shapes]
    else:
        tensors = [torch.randn(shape) for shape in shapes]
    torch.onnx.export(
        module,
        tuple(tensors),
        out,
        dynamo=True,
        opset_version=int(opset),
        input_names=list(model.inputs),
        dynamic_shapes=tuple(
            {axis: dim for axis, dim in enumerate(dims) if isinstance(dim, str)} for dims in model.inputs.values()
        ),
        verbose=False,
    )
    exported = time.perf_counter()
    sys.stdout.write(json.dumps({"import": imported - start, "load": loaded - imported, "export": exported - loaded}))


def import_only(name: str) -> None:
    import onnxscript  # noqa: F401
    import torch.onnx

    with torch.device("meta"):  # imports the model's own code, and takes no memory for weights
        MODELS[name].factory()


def infer(name: str, weights: str, onnx: str, samples: str) -> None:
    import numpy as np
    import onnxruntime
    import torch

    at_once = 13
    module = MODELS[name].factory()
    module.load_state_dict(torch.load(weights))
    module.eval()
    with np.load(samples) as file:
        arrays = dict(file)
    count = len(next(iter(arrays.values())))
    batches = [{key: value[at : at + at_once] for key, value in arrays.items()} for at in range(0, count, at_once)]
    with torch.no_grad():
        own = [module(**{key: torch.from_numpy(value) for key, value in batch.items()})[0].numpy() for batch in batches]
    del module
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    found = [session.run(None, batch)[0] for batch in batches]
    apart = max(float(np.abs(one - other).max()) for one, other in zip(own, found, strict=True))
    sys.stdout.write(json.dumps({"apart": apart}))


if __name__ == "__main__":
    orders: dict[str, Callable[..., None]] = {"save": save, "export": export, "import": import_only, "infer": infer}
    orders[sys.argv[1]](*sys.argv[2:])
