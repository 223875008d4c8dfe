"""TFLite files: run by TFLite's interpreter, written as ONNX through tf2onnx."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from deploykit.child.tensorflow.model import Model, Order, Port, Run, Source
from deploykit.child.tensorflow.tflite.export import export_tflite
from deploykit.child.tensorflow.tflite.file import TfliteFile, read_tflite, refused, scales_of, threads, type_of
from deploykit.child.tensorflow.tflite.moved import hybrid, moved
from deploykit.errors import ModelError, UsageError
from deploykit.tensors import Tensors, TensorSpec

_HYBRID = (
    "weights are int8 and the arithmetic is float: TFLite's hybrid kernels round activations to 8 bits at run time, "
    "the ONNX file does not"
)
_ODD_TYPES = {"STRING": "string", "RESOURCE": "resource", "VARIANT": "variant"}
_KERNELS = tf.lite.experimental.OpResolverType
_MOVES_ONLY = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE")


def load_tflite(source: Source) -> Model:
    """Load a TFLite file.

    Raises:
        ModelError: it is damaged, or TFLite's interpreter does not take it.
        UsageError: it has several signatures and none was chosen, or not the one that was.
    """
    file = read_tflite(source.path, source.signature)
    custom = file.custom()
    try:
        return TfliteModel(file)
    except (RuntimeError, ValueError) as error:
        if not custom:
            raise refused(source.path, error) from error
        raise ModelError(
            f"{source.path} has operations that are not TFLite's own: {', '.join(custom)}",
            fix=(
                "convert the model that it was made of instead: the SavedModel, or the .keras file",
                "or make it of TFLite's own only: converter.target_spec.supported_ops = [TFLITE_BUILTINS]",
            ),
        ) from error


class TfliteModel(Model):
    """A graph of a TFLite file."""

    def __init__(self, file: TfliteFile) -> None:
        """Take a file.

        Raises:
            RuntimeError: the interpreter has no kernel for an operation.
        """
        self._file = file
        self._kernels = _reference_kernels(file)
        self._runner = _Runner(file, file.content, self._kernels)
        self.inputs = tuple(self._port(wire.name, file.tensor(wire.tensor)) for wire in file.inputs)
        self.notes = (_HYBRID,) if hybrid(file) else ()

    def _port(self, name: str, tensor: Any) -> Port:
        signature = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
        sizes = () if signature is None else tuple(None if size < 0 else int(size) for size in signature)
        return Port(name, _ODD_TYPES.get(type_of(tensor)) or type_of(tensor).lower(), sizes)

    def run(self, tensors: Tensors) -> Tensors:
        """Run the file in TFLite's interpreter, with the kernels that it takes by default."""
        return self._runner.run(tensors)

    @contextmanager
    def variant(self, mode: str, inputs: tuple[TensorSpec, ...]) -> Iterator[Run]:  # noqa: ARG002 - any are taken
        """Give the file with its weights moved a little, as its own arithmetic rounds.

        Integers have no such neighbours: where the outputs are quantized, TFLite's plain kernels take the place of the
        fast ones, which round in other places.

        Raises:
            ModelError: there is no float64 arithmetic in TFLite.
        """
        if mode == "exact":
            raise ModelError(
                "TFLite has no float64 kernels", fix="none is needed: the noise floor is found another way"
            )
        content = moved(self._file)
        kernels = _KERNELS.BUILTIN_REF if self.quanta() else self._kernels
        runner = _Runner(self._file, content or self._file.content, kernels)
        yield runner.run

    def export(self, order: Order) -> list[str]:
        """Write the file as ONNX.

        Raises:
            ModelError: it can't be exported.
        """
        return export_tflite(self._file, order)

    def fix(self, values: Tensors) -> None:
        """Refuse: what a TFLite file computes was settled when it was made.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"a TFLite file's inputs are its own: {', '.join(values)} can't be held at a value",
            fix="hold it in the model, before it becomes a TFLite file",
        )

    def quanta(self) -> dict[str, float]:
        """Give the size of one quantum of each output of 8 bits: 1 for integers, the scale where they become real.

        Outputs of 16 bits are none: TFLite looks softmax and tanh up in tables, a thousandth off at most, which is many
        quanta. What is around their noise floor is right.
        """
        sizes = ((wire.name, self._quantum(wire.tensor)) for wire in self._file.outputs)
        return {name: size for name, size in sizes if size is not None}

    def limit(self) -> float | None:
        """Give the largest noise ratio of a right artifact: what TFLite rounds to integers, it rounds coarsely.

        Measured on right conversions: at most 3.9 with 8 bits, 8.8 with activations of 16 bits, whose tables err more,
        15 in float, where moving the weights shows only a part of what the kernels round.
        """
        types = {type_of(self._file.tensor(one)) for operator in self._file.graph.operators for one in operator.outputs}
        if "INT16" in types:
            return 20.0
        return 6.0 if self.quanta() or hybrid(self._file) else 30.0

    def _quantum(self, number: int) -> float | None:
        if _in_8_bits(self._file.tensor(number)):
            return 1.0
        maker = next((one for one in self._file.graph.operators if number in one.outputs), None)
        while maker is not None and self._file.operation(maker) in _MOVES_ONLY:
            number = maker.inputs[0]
            maker = next((one for one in self._file.graph.operators if number in one.outputs), None)
        if maker is None or self._file.operation(maker) != "DEQUANTIZE":
            return None
        source = self._file.tensor(maker.inputs[0])
        return scales_of(source)[0] if _in_8_bits(source) else None


def _in_8_bits(tensor: Any) -> bool:
    return bool(scales_of(tensor)) and type_of(tensor) != "INT16"


def _reference_kernels(file: TfliteFile) -> Any:
    """Choose the kernels that say what the file means: those that the interpreter takes by default, with XNNPACK.

    They run in the field, and they round a product of scales once, in float32, as ONNX's QuantizeLinear is defined;
    the plain kernels round twice, in fixed point, and end up to a hundred quanta away behind a softmax.
    """
    if any(file.operation(one) == "BATCH_MATMUL" and _in_integers(file, one) for one in file.graph.operators):
        # XNNPACK leaves out the zero point of the second operand: far from both of TFLite's own kernels.
        return _KERNELS.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return _KERNELS.AUTO


def _in_integers(file: TfliteFile, operator: Any) -> bool:
    return all(scales_of(file.tensor(one)) for one in operator.inputs)


class _Runner:
    """TFLite's interpreter, allocated for the shapes that it ran last."""

    def __init__(self, file: TfliteFile, content: bytes, kernels: Any) -> None:
        self._file = file
        self._interpreter = tf.lite.Interpreter(
            model_content=content, num_threads=threads(), experimental_op_resolver_type=kernels
        )
        self._interpreter.allocate_tensors()
        details = {one["index"]: one for one in self._interpreter.get_input_details()}
        self._shapes = {wire.tensor: tuple(details[wire.tensor]["shape"]) for wire in file.inputs}

    def run(self, tensors: Tensors) -> Tensors:
        given = {wire.tensor: tensors[wire.name] for wire in self._file.inputs}
        self._fit({tensor: array.shape for tensor, array in given.items()})
        self._interpreter.reset_all_variables()  # a recurrent layer's state would go on from the run before
        for tensor, array in given.items():
            self._interpreter.set_tensor(tensor, np.ascontiguousarray(array))
        self._interpreter.invoke()
        return {wire.name: self._interpreter.get_tensor(wire.tensor) for wire in self._file.outputs}

    def _fit(self, shapes: dict[int, tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        for tensor, shape in shapes.items():
            if shape != self._shapes[tensor]:
                self._interpreter.resize_tensor_input(tensor, shape, strict=True)
        self._interpreter.allocate_tensors()
        self._shapes = shapes
