"""Run an engine on the first CUDA device. Who calls this has made sure that there is one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.child.tensorrt.cuda import device
from deploykit.child.tensorrt.watching import log_of
from deploykit.errors import ModelError
from deploykit.tensors import Array, Tensors


class Engine:
    """An engine that is loaded."""

    def __init__(self, trt: Any, path: str | Path) -> None:
        """Load it; ``trt`` is the module of the bindings.

        Raises:
            ModelError: it is for another device or another version, or damaged.
        """
        self.trt, self.cuda, self.log = trt, device(), log_of(trt)
        if hasattr(trt, "init_libnvinfer_plugins"):
            trt.init_libnvinfer_plugins(self.log, "")
        self._runtime = trt.Runtime(self.log)
        self.engine = self._runtime.deserialize_cuda_engine(Path(path).read_bytes())
        self.context = self.engine and self.engine.create_execution_context()
        if self.context is None:
            raise ModelError(
                f"{trt.__name__} {trt.__version__} does not load {Path(path).name} on this device",
                fix="build it here again: deploykit build model.onnx",
                details=self.log.of("error")[:5],
            )
        names = [self.engine.get_tensor_name(number) for number in range(self.engine.num_io_tensors)]
        inputs = {name for name in names if self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        self.inputs = tuple(name for name in names if name in inputs)
        self.outputs = tuple(name for name in names if name not in inputs)

    def layers(self) -> str:
        """Give what TensorRT's inspector tells of the layers, as JSON."""
        text: str = self.engine.create_engine_inspector().get_engine_information(self.trt.LayerInformationFormat.JSON)
        return text

    def run(self, tensors: Mapping[str, Array]) -> Tensors:
        """Run one call.

        Raises:
            ModelError: the inputs do not fit, or the device fails.
        """
        return _Bound(self, tensors).run()

    def prepared(self, tensors: Mapping[str, Array]) -> Callable[[], Tensors]:
        """Make room for one call, and give what runs it again, with the copies to the device and back."""
        return _Bound(self, tensors).run


class _Bound:
    """The memory of one call."""

    def __init__(self, engine: Engine, tensors: Mapping[str, Array]) -> None:
        self._own, self._places = engine, dict[str, int]()
        self._inputs = {name: np.asarray(tensors[name], order="C") for name in engine.inputs}
        self._outputs = self._sized()
        for name, array in (self._inputs | self._outputs).items():
            self._places[name] = engine.cuda.allocate(array.nbytes)
            engine.context.set_tensor_address(name, self._places[name])

    def __del__(self) -> None:
        """Give the memory back."""
        for place in self._places.values():
            self._own.cuda.free(place)

    def _sized(self) -> Tensors:
        context, engine, trt = self._own.context, self._own.engine, self._own.trt
        for name, array in self._inputs.items():
            wanted = _dtype(trt, engine.get_tensor_dtype(name), name)
            if array.dtype != wanted:
                raise _unfit(f"'{name}' is {array.dtype}, and the engine takes {wanted}")
            if not context.set_input_shape(name, array.shape):
                raise _unfit(f"'{name}' has the shape {list(array.shape)}, which is not in the engine's profile")
        made = {}
        for name in self._own.outputs:
            shape = tuple(context.get_tensor_shape(name))
            if any(size < 0 for size in shape):
                raise _unfit(f"the size of '{name}' depends on the values of the inputs")
            made[name] = np.empty(shape, _dtype(trt, engine.get_tensor_dtype(name), name))
        return made

    def run(self) -> Tensors:
        cuda, context, log = self._own.cuda, self._own.context, self._own.log
        for name, array in self._inputs.items():
            cuda.put(self._places[name], array)
        if not context.execute_async_v3(cuda.stream.value):
            raise ModelError("TensorRT fails to run the engine", fix="use smaller inputs", details=log.of("error")[-3:])
        cuda.wait()
        for name, array in self._outputs.items():
            cuda.get(array, self._places[name])
        return {name: array.copy() for name, array in self._outputs.items()}


def _dtype(trt: Any, kind: Any, name: str) -> np.dtype[Any]:
    try:
        return np.dtype(trt.nptype(kind))
    except TypeError as error:
        raise _unfit(f"'{name}' is {kind}, which numpy does not have") from error


def _unfit(why: str) -> ModelError:
    return ModelError(f"the engine does not take this call: {why}", fix="deploykit inspect shows what it takes")
