"""The same net exported again: by either of torch's exporters, at any opset, from other examples, sizes free or not."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.verdict_ready import Ready, listed
from deploykit.tensors import TensorSpec


@dataclass(frozen=True)
class Export:
    """How an export is made."""

    dynamo: bool
    opset: int
    batch: int = 2
    sizes: int = 0
    """Which of the net's sizes the example has."""
    static: bool = False
    plain: bool = False
    """Whether nothing is optimized on the way: constants not folded, BatchNorm left as it is."""

    def __str__(self) -> str:
        """Say what it is."""
        words = ["dynamo" if self.dynamo else "torchscript", f"opset {self.opset}", f"batch {self.batch}"]
        words += ["other sizes"] if self.sizes else []
        words += ["static"] if self.static else []
        return ", ".join([*words, *(["not optimized"] if self.plain else [])])


def export(right: Ready, how: Export, path: Path) -> None:
    """Export a net with ``torch.onnx.export``."""
    import torch

    rng = np.random.default_rng(how.batch)
    given = right.kind.draw(rng, {"batch": how.batch, **right.kind.sizes[how.sizes % len(right.kind.sizes)]})
    tensors = tuple(torch.from_numpy(array) for array in given.values())
    more = _dynamo(right, how) if how.dynamo else _torchscript(right, how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _flat(right.module),
            tensors,
            str(path),
            opset_version=how.opset,
            input_names=list(given),
            output_names=right.outputs,
            verbose=False,
            external_data=False,
            **more,
        )


def _flat(module: Any) -> Any:
    """Wrap a module so that its outputs are a tuple."""
    from torch import nn

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *given: Any) -> Any:
            return tuple(listed(self.inner(*given)))

    return Flat().eval()


def _free(right: Ready) -> dict[str, dict[int, str]]:
    specs = [TensorSpec.parse(text) for text in right.kind.inputs]
    return {spec.name: {axis: dim for axis, dim in enumerate(spec.dims) if isinstance(dim, str)} for spec in specs}


def _dynamo(right: Ready, how: Export) -> dict[str, Any]:
    free = None if how.static else (tuple(_free(right).values()),)
    return {"dynamo": True, "dynamic_shapes": free, "optimize": not how.plain}


def _torchscript(right: Ready, how: Export) -> dict[str, Any]:
    import torch

    outputs = {name: {0: "batch"} for name in right.outputs}
    mode = torch.onnx.TrainingMode
    return {
        "dynamo": False,
        "dynamic_axes": None if how.static else {**_free(right), **outputs},
        "do_constant_folding": not how.plain,
        "training": mode.PRESERVE if how.plain else mode.EVAL,
    }
