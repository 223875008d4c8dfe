"""The work that the child does with one TensorFlow source: load it, run it, export it."""

import contextlib
import gc
import importlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # the source is judged on the CPU, as the artifact is

import tensorflow as tf

from deploykit.artifact import Format
from deploykit.child.example import REPEATS, apart, example, one_sample, sizes_of
from deploykit.child.said import said
from deploykit.child.tensorflow.graph.exact import moved_inputs
from deploykit.child.tensorflow.model import Model, Order, Run, Source
from deploykit.child.tensorflow.settle import channels_first, channels_last, constants, images, settle, turned
from deploykit.errors import DeploykitError, ModelError, UsageError
from deploykit.tensors import Array, Tensors, TensorSpec, write_npz

_LOADERS = {
    Format.KERAS: ("keras.model", "load_keras"),
    Format.KERAS_H5: ("keras.model", "load_keras"),
    Format.SAVED_MODEL: ("graph.saved_model", "load_saved_model"),
    Format.GRAPH_DEF: ("graph.graph_def", "load_graph_def"),
    Format.TFLITE: ("tflite.model", "load_tflite"),
}


class Worker:
    """One source in memory, and how it is called."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Take the function that tells the parent what goes on."""
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        tf.config.threading.set_intra_op_parallelism_threads(cores)
        tf.config.threading.set_inter_op_parallelism_threads(min(cores, 2))
        self._say = say

    def load(
        self, source: Mapping[str, Any], inputs: list[str], fixed: dict[str, str], *, static: bool, nchw: bool
    ) -> list[str]:
        """Load the source and settle its inputs.

        Args:
            source: the fields of ``model.Source``.
            inputs: what the user says of the inputs, as text.
            fixed: inputs that are held at a value, as text.
            static: whether the batch axis is fixed too, at one sample.
            nchw: whether images go into the ONNX file channels first.

        Returns:
            The inputs of the ONNX file, as text.
        """
        self.model = _load(Source(**source))
        held = constants(self.model.inputs, fixed)
        if held:
            self.model.fix(held)
        asked = [TensorSpec.parse(text) for text in inputs]
        self.nchw: tuple[str, ...] = ()
        if nchw:
            wanted = {spec.name: len(spec.dims) for spec in asked}
            asked = [channels_last(spec) if wanted[spec.name] == 4 else spec for spec in asked]  # noqa: PLR2004
        self.specs = settle([port for port in self.model.inputs if port.name not in held], asked)
        if nchw:
            self.nchw = images(self.specs)
        self._static = static
        said = {spec.name for spec in asked}
        self._assumed = [
            f"{port.name} is taken for {port.dtype}, which the file does not say: give --input to say otherwise"
            for port in self.model.inputs
            if port.assumed and port.name not in said
        ]
        return [str(spec) for spec in self._outside()]

    def _outside(self) -> list[TensorSpec]:
        """Describe the inputs as the ONNX file has them."""
        return [channels_first(spec) if spec.name in self.nchw else spec for spec in self.specs]

    def start(self, data: str | None) -> dict[str, Any]:
        """Run the source once, and say what it is.

        Args:
            data: an .npz file with tensors to use as the example, by name.

        Returns:
            The inputs and outputs as text, the sizes of dynamic axes in the example, notes and versions.
        """
        if data is None:
            given = example(self.specs, 2, self._fails)
        else:
            with np.load(data, allow_pickle=False) as file:
                given = turned({spec.name: file[spec.name] for spec in self.specs}, self.nchw)
        if self._static:
            self.specs, given = one_sample(self.specs, given)
        outputs = self._run_once(given)
        texts = [name for name, array in outputs.items() if array.dtype.kind in "OSU"]
        return {
            "inputs": [str(spec) for spec in self._outside()],
            "outputs": [str(_spec_of(name, array)) for name, array in outputs.items() if name not in texts],
            "sizes": sizes_of(self.specs, given),
            "notes": [
                *self.model.notes,
                *self._assumed,
                *(f"left out, as no tensor of numbers: {name}" for name in texts),
            ],
            "versions": {"tensorflow": tf.__version__},
            "quanta": self.model.quanta(),
            "limit": self.model.limit(),
        }

    def _fails(self, tensors: Tensors) -> Exception | None:
        try:
            self.model.run(tensors)
        except (MemoryError, DeploykitError):
            raise
        except Exception as error:  # noqa: BLE001
            return error
        return None

    def _run_once(self, given: Tensors) -> Tensors:
        try:
            outputs, again = self.model.run(given), self.model.run(given)
        except (MemoryError, DeploykitError):
            raise
        except Exception as error:
            raise UsageError(
                f"the model does not run on {', '.join(map(str, self.specs))}",
                fix="give --input with the sizes that the model was trained with, or --data samples.npz",
                details=[said(error)],
            ) from error
        for name, array in outputs.items():
            if array.dtype.kind in "fiu" and (array.shape != again[name].shape or apart(array, again[name]) > REPEATS):
                bools = {port.name for port in self.model.inputs if port.dtype == "bool"}
                steering = {one: "false" if one in bools else "1" for one in self.model.random_inputs()}
                raise ModelError(
                    f"the model gives another '{name}' when it runs on the same inputs again: it draws random numbers",
                    fix=[f"hold what steers them:  --input {one}={value}" for one, value in steering.items()]
                    or "save it for inference, without dropout in training mode and without random operations",
                )
        if not any(array.dtype.kind not in "OSU" for array in outputs.values()):
            raise ModelError("the model gives no tensor of numbers", fix="save a model that returns tensors")
        return outputs

    def export(self, target: str, exporter: str, opset: int) -> list[str]:  # noqa: ARG002 - there is one
        """Write the model as ONNX; give what there is to say of it."""
        notes = self.model.export(Order(target, opset, self.specs, self.nchw))
        gc.collect()  # tf2onnx's graphs hold the weights, and go in cycles
        return notes

    def run(self, cases: list[list[str]], mode: str) -> list[list[str] | None]:
        """Run the source on .npz files of tensors, and write what it gives to others.

        Args:
            cases: the file to read and the file to write, of each case.
            mode: ``source`` as it is, ``exact`` in float64, ``moved`` with inputs and weights an ulp away.

        Returns:
            For each case None, or the lines of the error with which the model itself failed.
        """
        try:
            with self._in(mode) as run:
                return [self._run_case(run, read, write, mode) for read, write in cases]
        except ModelError as error:  # this arithmetic can't be had: the parent has another way
            return [[f"in mode {mode}", error.message, *error.details] for _ in cases]

    @contextlib.contextmanager
    def _in(self, mode: str) -> Iterator[Run]:
        if mode == "source":
            yield self.model.run
            return
        with self.model.variant(mode, self.specs) as run:
            yield run

    def _run_case(self, run: Run, read: str, write: str, mode: str) -> list[str] | None:
        with np.load(read, allow_pickle=False) as file:
            tensors = turned({spec.name: file[spec.name] for spec in self.specs}, self.nchw)
        if mode == "exact":
            tensors = {
                name: array.astype(np.float64) if array.dtype.kind == "f" else array for name, array in tensors.items()
            }
        if mode == "moved":
            tensors = moved_inputs(tensors, seed=2)
        try:
            found = run(tensors)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in tensors.items())
            return [f"on {shapes}", said(error)]
        write_npz(Path(write), {name: array for name, array in found.items() if array.dtype.kind not in "OSU"})
        return None


def _load(source: Source) -> Model:
    file, name = _LOADERS[Format(source.format)]
    load = getattr(importlib.import_module(f"deploykit.child.tensorflow.{file}"), name)
    try:
        model: Model = load(source)
    except (DeploykitError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"{source.path} can't be loaded by tensorflow {tf.__version__}: {said(error)}",
            fix="save it again with the tensorflow that made it, or use that one's interpreter with --python",
        ) from error
    return model


def _spec_of(name: str, array: Array) -> TensorSpec:
    return TensorSpec(name, str(array.dtype), array.shape)
