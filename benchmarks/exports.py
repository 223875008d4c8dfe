"""ONNX files of the six nets, as both of PyTorch's exporters write them: what passes are measured on.

``python -m benchmarks.exports FOLDER [NAME...]`` writes ``NAME.dynamo.onnx`` and ``NAME.torchscript.onnx``.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks.models import MODELS, OWN, SIZES, Model

NETS = MODELS | OWN
EXPORTERS = ("dynamo", "torchscript")


def exported(name: str, exporter: str, folder: Path) -> Path:
    """Export a net, once; its weights are random, and the same for both exporters."""
    path = folder / f"{name}.{exporter}.onnx"
    if not path.exists():
        _export(NETS[name], path, dynamo=exporter == "dynamo")
    return path


def _export(net: Model, path: Path, *, dynamo: bool) -> None:
    import torch

    torch.manual_seed(0)
    module = net.factory()
    _spread(module)
    shapes = [[SIZES[dim] if isinstance(dim, str) else dim for dim in dims] for dims in net.inputs.values()]
    whole = net.dtype == "int64"
    tensors = tuple(torch.ones(one, dtype=torch.int64) if whole else torch.randn(one) for one in shapes)
    free = [{axis: dim for axis, dim in enumerate(dims) if isinstance(dim, str)} for dims in net.inputs.values()]
    how: dict[str, Any] = {"dynamic_shapes": (tuple(free),)} if dynamo else {}
    if not dynamo:
        how["dynamic_axes"] = dict(zip(net.inputs, free, strict=True))
    torch.onnx.export(
        _FirstOutput(module),
        tensors,
        str(path),
        dynamo=dynamo,
        opset_version=18 if dynamo else 17,
        input_names=list(net.inputs),
        output_names=["output"],
        external_data=False,
        verbose=False,
        **how,
    )


def _spread(module: Any) -> None:
    """Give the statistics of batch normalizations other values than 0 and 1, as training does."""
    import torch

    for one in module.modules():
        if isinstance(one, torch.nn.BatchNorm2d):
            one.running_mean.normal_(0, 0.1)
            one.running_var.uniform_(0.5, 1.5)
            one.weight.data.uniform_(0.5, 1.5)
            one.bias.data.normal_(0, 0.1)


def _FirstOutput(module: Any) -> Any:  # noqa: N802 - it makes an instance of a class
    """Wrap a module, so that it gives one tensor."""
    import torch

    class FirstOutput(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module.eval()

        def forward(self, *args: Any) -> Any:
            found = self.inner(*args)
            return found if isinstance(found, torch.Tensor) else found[0]

    return FirstOutput().eval()


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    for one in sys.argv[2:] or NETS:
        for way in EXPORTERS:
            print(exported(one, way, place))
