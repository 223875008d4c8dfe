"""The work that the child does with one PyTorch source: load it, export it, run it."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deploykit.child.example import REPEATS, apart, example, one_sample, sizes_of
from deploykit.child.heard import Heard
from deploykit.child.pytorch.call import Call, bind, flatten, left_out, parameters, renamed
from deploykit.child.pytorch.exact import in_float64, moved, weights_moved
from deploykit.child.pytorch.export import EXPORTERS, Order
from deploykit.child.pytorch.infer import infer_inputs
from deploykit.child.pytorch.load import Source, load
from deploykit.child.pytorch.opening import opening
from deploykit.child.pytorch.program import program_inputs
from deploykit.child.pytorch.taps import Wanted, described, listening, written
from deploykit.child.pytorch.trial import as_array
from deploykit.child.said import said
from deploykit.errors import ModelError, UsageError
from deploykit.tensors import Tensors, TensorSpec, write_npz


class Worker:
    """One source in memory, and how it is called."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Take the function that tells the parent what goes on."""
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        self._say = say
        self._tried: Any = None
        """What the model gave for the inputs that were tried last."""

    def load(
        self, source: Mapping[str, Any], inputs: list[str], fixed: dict[str, str], data: str | None, *, static: bool
    ) -> dict[str, Any]:
        """Load the source and settle its inputs.

        Args:
            source: the fields of ``load.Source``.
            inputs: the user's descriptions of the inputs, as text; empty to infer them.
            fixed: arguments of forward that are no tensors, as text.
            data: an .npz file with tensors to use as the example, by name.
            static: whether the batch axis is fixed too, at one sample.

        Returns:
            The inputs and outputs as text, the sizes of dynamic axes in the example, and notes.
        """
        loaded = load(Source(**source))
        self.model = loaded.model
        self.runner = self.model.module() if isinstance(self.model, torch.export.ExportedProgram) else self.model
        _refuse_bfloat16(self.runner)
        specs, tensors, notes = self._settle([TensorSpec.parse(text) for text in inputs], fixed, data)
        if static:
            specs, tensors = one_sample(specs, tensors)
        self.inputs = specs
        self.example = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()}
        # A run can take seconds: that of the trial serves, but where there was none, or with another batch.
        whole = self._call(self.example) if static or self._tried is None else self._tried
        self._tried = None
        outputs = flatten(whole, self.call.names)
        left = left_out(whole)
        if left:
            notes = (*notes, f"left out, as no tensor: {', '.join(left)}")
        if not outputs:
            raise ModelError("the model gives no tensor", fix="return a tensor, or tensors in tuples, lists or dicts")
        self._check_repeatable(outputs)
        self.outputs = tuple(outputs)
        return {
            "inputs": [str(spec) for spec in specs],
            "outputs": [str(_spec_of(name, tensor)) for name, tensor in outputs.items()],
            "sizes": sizes_of(specs, tensors),
            "notes": [*loaded.notes, *notes],
            "versions": {"torch": torch.__version__},
        }

    def _settle(
        self, specs: list[TensorSpec], fixed: dict[str, str], data: str | None
    ) -> tuple[tuple[TensorSpec, ...], Tensors, tuple[str, ...]]:
        if isinstance(self.model, torch.export.ExportedProgram):
            found = program_inputs(self.model, specs)
            self.call = Call(tuple(spec.name for spec in found.specs), (), (), {})
            self._arguments = found.arguments
            return found.specs, found.example, found.notes
        notes: tuple[str, ...] = ()
        tensors: Tensors | None = None
        if data:
            specs = self._taken(specs)
            with np.load(data, allow_pickle=False) as file:
                tensors = {spec.name: file[spec.name] for spec in specs}
        elif not specs:
            self._say("looking for inputs that the model runs on")
            inferred = infer_inputs(self.runner)
            specs, tensors, notes = list(inferred.specs), inferred.example, inferred.notes
        self.call = bind(self.runner, [spec.name for spec in specs], fixed)
        notes += renamed(self.runner, self.call)
        self._arguments = self.call.arguments
        if tensors is None:
            return tuple(specs), example(specs, self._rows(), self._fails), notes
        failure = self._fails(tensors)
        if failure is not None and data and any(array.dtype == np.float64 for array in tensors.values()):
            specs, tensors = _in_float32(specs, tensors)  # what people have, and most models do not take
            failure = self._fails(tensors)
        if failure is not None:
            raise UsageError(
                f"the model does not run on {', '.join(map(str, specs))}",
                fix=f"forward takes ({', '.join(map(str, parameters(self.runner).values()))}):"
                " give each with --input 'name:dtype[dims]', or --data samples.npz",
                details=[said(failure)],
            ) from failure
        return tuple(specs), tensors, notes

    def _taken(self, specs: list[TensorSpec]) -> list[TensorSpec]:
        """Leave out what the model does not take, such as labels, where all that it needs is there."""
        known = parameters(self.runner)
        taken = [spec for spec in specs if spec.name.split(".")[0] in known]
        names = {spec.name.split(".")[0] for spec in taken}
        needed = {name for name, one in known.items() if one.default is one.empty and one.kind is not one.VAR_KEYWORD}
        return taken if taken and needed <= names else specs

    def _fails(self, tensors: Tensors) -> Exception | None:
        try:
            self._tried = self._call(
                {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()}
            )
        except (MemoryError, UsageError):
            raise
        except Exception as error:  # noqa: BLE001
            return error
        return None

    def _check_repeatable(self, first: Mapping[str, torch.Tensor]) -> None:
        second = self._outputs(self.example)
        for name, tensor in first.items():
            if tensor.shape != second[name].shape or apart(as_array(tensor), as_array(second[name])) > REPEATS:
                raise ModelError(
                    f"the model gives another '{name}' when it runs on the same inputs again",
                    fix="switch off what is random in it, or make the state that it keeps an input and an output;"
                    " a TorchScript archive can be wrapped: --factory wrap.py:make, make(model) giving the wrapper",
                )

    def _rows(self) -> int:
        tables = [module.num_embeddings for module in self.runner.modules() if hasattr(module, "num_embeddings")]
        return min(tables, default=2)

    def _outputs(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return flatten(self._call(tensors), self.call.names)

    def _call(self, tensors: Mapping[str, torch.Tensor]) -> Any:
        args, kwargs = self._arguments(tensors)
        with torch.no_grad():
            return self.runner(*args, **kwargs)

    def export(self, target: str, exporter: str, opset: int) -> list[str]:
        """Write the model as ONNX, its weights in a file beside it; give what there is to say of it."""
        return EXPORTERS[exporter](Order(self.model, self.call, self.example, self.inputs, self.outputs, opset, target))

    def run(self, cases: list[list[str]], mode: str) -> list[list[str] | None]:
        """Run the source on .npz files of tensors, and write what it gives to others.

        Args:
            cases: the file to read and the file to write, of each case.
            mode: ``source`` as it is, ``exact`` in float64, ``moved`` with inputs and weights an ulp away.

        Returns:
            For each case None, or the lines of the error with which the model itself failed.
        """
        with self._arithmetic(mode):
            return [self._run_case(read, write, mode) for read, write in cases]

    def opening(self, cases: list[str], write: str, *, batched: bool) -> bool:
        """Look for inputs that open units which are shut in all cases.

        Args:
            cases: .npz files of tensors.
            write: the file to write them to.
            batched: whether axis 0 is a batch of any size.

        Returns:
            Whether there are some. A model that has no gradient has none.
        """

        def run(tensors: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
            args, kwargs = self._arguments({name: tensor.clone() for name, tensor in tensors.items()})
            return list(flatten(self.runner(*args, **kwargs), self.call.names).values())

        try:
            found = opening(run, [self._given(read, "source") for read in cases], batched=batched)
        except Exception:  # noqa: BLE001 - of a model whose numbers can't be followed back, as in place or quantized
            found = None
        for buffer in self.runner.buffers():
            if buffer.requires_grad:  # the model has kept something of the run in it
                buffer.detach_()
        if found is not None:
            write_npz(Path(write), {name: as_array(tensor) for name, tensor in found.items()})
        return found is not None

    def tap(self, case: str, mode: str, wanted: dict[str, tuple[str, int]] | None) -> list[Any]:
        """Run the source on one .npz file of tensors, and listen to its modules and operations.

        Args:
            case: the file to read.
            mode: as for ``run``.
            wanted: a file to write for each tensor, by key, and of how many elements it keeps one.

        Returns:
            The keys of what was written; where nothing is wanted, the fields of every tensor and its fingerprint.

        Raises:
            ModelError: the source fails.
        """
        orders = {key: Wanted(*order) for key, order in (wanted or {}).items()}
        hear, found = described() if wanted is None else written(orders)
        args, kwargs = self._arguments(self._given(case, mode))
        try:
            with self._arithmetic(mode), torch.no_grad(), listening(self.runner, hear) as run:
                outputs = run(*args, **kwargs)
            for name, tensor in flatten(outputs, self.call.names).items():
                if tensor.numel() and tensor.is_floating_point():
                    hear(Heard(f"output {name}", "", "output", name, 0, ""), tensor)
        except MemoryError:
            raise
        except Exception as error:
            why = "give --input or --data that it takes"
            raise ModelError("the source fails while it is listened to", fix=why, details=[said(error)]) from error
        return found

    @contextlib.contextmanager
    def _arithmetic(self, mode: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if mode == "exact":
                stack.enter_context(in_float64(self.runner))
            if mode == "moved":
                stack.enter_context(weights_moved(self.runner, seed=1))
            yield

    def _given(self, read: str, mode: str) -> dict[str, torch.Tensor]:
        with np.load(read, allow_pickle=False) as file:
            tensors = {name: torch.from_numpy(file[name]) for name in self.call.names}
        if mode == "exact":
            tensors = {name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}
        if mode == "moved":
            tensors = {name: moved(value, seed=2) for name, value in tensors.items()}
        return tensors

    def _run_case(self, read: str, write: str, mode: str) -> list[str] | None:
        tensors = self._given(read, mode)
        try:
            found = self._outputs(tensors)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001
            shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
            return [f"on {shapes}", said(error)]
        write_npz(Path(write), {name: as_array(tensor) for name, tensor in found.items()})
        return None


def _refuse_bfloat16(model: Any) -> None:
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, torch.Tensor) and tensor.dtype is torch.bfloat16:
            raise ModelError(
                f"the model computes in bfloat16 ({name}), which onnxruntime does not run on CPUs",
                fix="give its weights to a float32 module with --factory, or save model.float()",
            )


def _in_float32(specs: Sequence[TensorSpec], tensors: Tensors) -> tuple[list[TensorSpec], Tensors]:
    return (
        [replace(spec, dtype="float32") if spec.dtype == "float64" else spec for spec in specs],
        {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in tensors.items()},
    )


def _spec_of(name: str, tensor: torch.Tensor) -> TensorSpec:
    return TensorSpec(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
