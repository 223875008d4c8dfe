"""An ONNX file that can be asked for any of its tensors, a few at a time, with onnxruntime's optimizations off."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.backends.onnxruntime import moved
from deploykit.errors import ModelError, needs
from deploykit.tensors import Array, Tensors
from deploykit.validation.divergence.graph import Graph, graph_of

_REAL = {"tensor(float)": 4, "tensor(float16)": 2, "tensor(double)": 8}
"""Bytes of one element."""
_SHAPE = "deploykit.shape."
_SAMPLE = "deploykit.sample."


class OnnxSide:
    """The file, and copies of it that give other outputs; all copies read the same weights, which lie beside them."""

    def __init__(self, path: Path, folder: Path) -> None:
        """Read the file.

        Args:
            path: of the ONNX file.
            folder: an empty one for the copies.

        Raises:
            ModelError: it can't be read.
        """
        from deploykit.onnx_io import load, save

        folder.mkdir()
        self.path, self._folder = path, folder
        model = load(path)
        self.graph: Graph = graph_of(model)
        save(model, folder / "whole.onnx", external=True)

    @cached_property
    def real(self) -> dict[str, int]:
        """The tensors that hold real numbers and depend on the inputs, in the order of execution: bytes of an element.

        Raises:
            ModelError: onnxruntime refuses the file.
        """
        names = [name for step in self.graph.steps for name in step.outputs]
        session = self._session("whole.onnx", names, [])
        types = {output.name: output.type for output in session.get_outputs()}
        return {name: _REAL[types[name]] for name in names if types.get(name) in _REAL}

    def shapes(self, case: Tensors) -> dict[str, tuple[int, ...]]:
        """Run a case and give the shape of every real tensor, without keeping their values.

        Raises:
            ModelError: it does not run.
        """
        import onnx

        nodes = [onnx.helper.make_node("Shape", [name], [f"{_SHAPE}{name}"]) for name in self.real]
        found = self._run("whole.onnx", [node.output[0] for node in nodes], nodes, case)
        return {name.removeprefix(_SHAPE): tuple(shape.tolist()) for name, shape in found.items()}

    def fetch(self, wanted: Mapping[str, tuple[int, int]], case: Tensors, *, other: bool = False) -> Tensors:
        """Run a case and give tensors by name.

        Args:
            wanted: for each name its number of elements, and of how many one is to be kept; 1 gives it as it is.
            case: the inputs.
            other: whether to move inputs and weights by one unit in the last place.

        Raises:
            ModelError: it does not run.
        """
        import onnx

        nodes: list[Any] = []
        for name, (size, every) in wanted.items():
            if every > 1:
                index = onnx.numpy_helper.from_array(np.arange(0, size, every), f"{_SAMPLE}{name}.index")
                put = onnx.helper.make_node
                nodes += [
                    put("Constant", [], [f"{_SAMPLE}{name}.index"], value=index),
                    put("Flatten", [name], [f"{_SAMPLE}{name}.flat"], axis=0),
                    put("Gather", [f"{_SAMPLE}{name}.flat", f"{_SAMPLE}{name}.index"], [f"{_SAMPLE}{name}"], axis=1),
                ]
        outputs = [f"{_SAMPLE}{name}" if every > 1 else name for name, (_, every) in wanted.items()]
        given = {name: moved(array) for name, array in case.items()} if other else case
        found = self._run(self._moved_copy if other else "whole.onnx", outputs, nodes, given)
        return {
            name: found[output].reshape(-1) if wanted[name][1] > 1 else found[output]
            for name, output in zip(wanted, outputs, strict=True)
        }

    @cached_property
    def _moved_copy(self) -> str:
        """Write a copy whose real weights are at neighbouring numbers."""
        import onnx_ir

        from deploykit.onnx_io import load, save

        model = load(self._folder / "whole.onnx")
        for value in model.graph.initializers.values():
            own = value.const_value
            if own is not None and own.dtype in (onnx_ir.DataType.FLOAT, onnx_ir.DataType.DOUBLE):
                value.const_value = onnx_ir.LazyTensor(
                    lambda own=own: onnx_ir.tensor(moved(own.numpy()), name=own.name),
                    dtype=own.dtype,
                    shape=own.shape,
                    name=own.name,
                )
        save(model, self._folder / "moved.onnx", external=True)
        return "moved.onnx"

    def _run(self, file: str, outputs: Sequence[str], nodes: Sequence[Any], case: Tensors) -> dict[str, Array]:
        if not outputs:
            return {}
        session = self._session(file, outputs, nodes)
        try:
            return dict(zip(outputs, session.run(list(outputs), case), strict=True))
        except Exception as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in case.items())
            raise ModelError(
                f"{self.path.name} fails in onnxruntime on {shapes} with its optimizations off",
                fix="give inputs that it takes: --input 'name:dtype[dims]' or --data samples.npz",
                details=[str(error).splitlines()[0]],
            ) from error

    def _session(self, file: str, outputs: Sequence[str], nodes: Sequence[Any]) -> Any:
        """Load a copy that gives these outputs and no others; ``nodes`` come behind its own."""
        with needs("onnxruntime"):
            import onnx
            import onnxruntime

        proto = onnx.load(str(self._folder / file), load_external_data=False)
        del proto.graph.output[:]
        proto.graph.node.extend(nodes)
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        if nodes and not any(entry.domain in ("", "ai.onnx") for entry in proto.opset_import):
            proto.opset_import.append(onnx.helper.make_opsetid("", 13))
        tapped = self._folder / "tapped.onnx"
        onnx.save(proto, str(tapped))
        del proto
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = False  # what one window took is given back before the next
        try:
            return onnxruntime.InferenceSession(str(tapped), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(
                f"onnxruntime {importlib.metadata.version('onnxruntime')} refuses {self.path.name} with its"
                " optimizations off, so its tensors can't be looked at",
                fix=f"deploykit inspect {self.path.name} shows what it needs",
                details=[str(error).splitlines()[0]],
            ) from error
