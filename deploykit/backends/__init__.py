"""Backends: what runs a model. One file each; each holds one frozen dataclass derived from ``Backend``."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, TypedDict

from deploykit.artifact import Artifact, Format
from deploykit.child import Step, silent
from deploykit.errors import UsageError, nearest
from deploykit.plugin import Registry
from deploykit.recording import Answer
from deploykit.samples import Preprocessing
from deploykit.samples.shapes import parts
from deploykit.tensors import Array, Signature, Tensors, TensorSpec


class Loading(TypedDict, total=False):
    """The fields of ``Asked``, as keyword arguments of the API."""

    factory: str | None
    factory_args: str | None
    trust_pickle: bool
    python: str | None
    inputs: Sequence[str]
    data: Path | None
    image: str | None
    static: bool
    signature: str | None
    custom_objects: str | None
    graph_inputs: Sequence[str]
    graph_outputs: Sequence[str]
    layout: str | None
    shapes: Sequence[str]


@dataclass(frozen=True)
class Asked:
    """What the user said of a source: how to load it, and what goes into it."""

    factory: str | None = None
    """What makes the module: ``package.module:callable`` or ``file.py:callable``."""
    factory_args: str | None = None
    """Its arguments, as JSON."""
    trust_pickle: bool = False
    """Whether a pickle may be loaded, which runs code from the file."""
    python: str | None = None
    """Another interpreter for the framework."""
    inputs: Sequence[str] = ()
    """``x:float32[batch,3]`` each, or ``sr=16000`` for an argument that is no tensor."""
    data: Path | None = None
    """Samples: a file, a folder, or a function (``samples.source``)."""
    image: str | None = None
    """How images among them are prepared: ``resize=256,crop=224``."""
    static: bool = False
    """Whether the batch axis is fixed too."""
    signature: str | None = None
    """Key of the signature of a SavedModel or TFLite file."""
    custom_objects: str | None = None
    """Python file with the classes and functions that a Keras file names."""
    graph_inputs: Sequence[str] = ()
    """Operations of a frozen GraphDef that are its inputs."""
    graph_outputs: Sequence[str] = ()
    """Operations of a frozen GraphDef that are its outputs."""
    layout: str | None = None
    """``nchw``: inputs of four axes go into the ONNX file channels first; else as the source has them."""
    shapes: Sequence[str] = ()
    """Sizes at which dynamic axes are tried: ``batch=1,8,32``, or ``x:1x3x224x224,8x3x224x224``."""

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How images among the samples are prepared, where the user says it.

        Raises:
            UsageError: it can't be read, or there are no samples.
        """
        if self.image is None:
            return None
        if self.data is None:
            raise UsageError("--image says how images are prepared, and none are given", fix="--data FOLDER")
        return Preprocessing.parse(self.image)


class Session(ABC):
    """A model that is loaded and runs."""

    signature: Signature
    notes: tuple[str, ...] = ()
    emulated: str = ""
    """What of it is not run as it is, since the runtime can't."""
    tables: Mapping[str, str] = MappingProxyType({})
    """sha256 of the tables that rows are looked up in, by name; empty where that is not known."""
    versions: dict[str, str]
    """What runs it: ``{"torch": "2.13.0"}``."""
    quanta: Mapping[str, float] = MappingProxyType({})
    """Size of one quantum of each output that is quantized, in the output's own unit."""
    limit: float | None = None
    """The largest noise ratio of a right artifact, where the source's own arithmetic is coarse; None: the usual one."""

    @property
    def peak_bytes(self) -> int:
        """Largest resident memory of the process that holds it; 0 where that is this one."""
        return 0

    @abstractmethod
    def run_all(self, cases: Iterable[Mapping[str, Array]], mode: str = "source") -> Iterable[Answer]:
        """Run every case, and give its outputs by name, or the error that it failed with; few are held at a time.

        Args:
            cases: tensors by input name.
            mode: ``source`` as it is, ``exact`` in float64, ``moved`` with its numbers an ulp away.
        """

    def opening(self, cases: Sequence[Mapping[str, Array]], *, batched: bool) -> Sequence[Tensors]:  # noqa: ARG002
        """Give more calls, in which units are active that are not in these; none where that can't be found out.

        Args:
            cases: tensors by input name.
            batched: whether axis 0 of all inputs is a batch that may have any size.
        """
        return ()

    @contextmanager
    def finer(self) -> Iterator["Session | None"]:
        """Give the same model in arithmetic that is finer where the runtime's is coarse, or None."""
        yield None

    def rounding(self, output: str) -> float:  # noqa: ARG002
        """Give the absolute error that the runtime itself may add to an output, apart from the arithmetic."""
        return 0.0

    def sizes(self) -> dict[str, int]:
        """Give a size for every dynamic axis with which the model is known to run."""
        return {axis: 2 if axis == "batch" else 16 for axis in self.signature.axes}


@dataclass(frozen=True)
class Backend(ABC):
    """Loads artifacts of some formats into sessions."""

    formats: ClassVar[frozenset[Format]]

    @abstractmethod
    def load(self, artifact: Artifact, asked: Asked, step: Step = silent) -> AbstractContextManager[Session]:
        """Load a model; leaving the context frees it.

        Raises:
            ModelError: the model can't be loaded.
            UsageError: what was asked does not fit it.
        """


BACKENDS = Registry("deploykit.backends", Backend, "backend")


def backend_for(format_: Format) -> Backend:
    """Give the backend that runs a format.

    Raises:
        KeyError: none does.
    """
    for name in BACKENDS.names():
        if format_ in BACKENDS.kind(name).formats:
            return BACKENDS.make(name)
    raise KeyError(format_)


_KERAS = frozenset({Format.KERAS, Format.KERAS_H5})
_TENSORFLOW = _KERAS | {Format.SAVED_MODEL, Format.GRAPH_DEF, Format.TFLITE}
_MADE = frozenset(Format) - (_TENSORFLOW - _KERAS) - {Format.ONNX, Format.GOLDEN, Format.ENGINE}
_FITS = {
    "signature": frozenset({Format.SAVED_MODEL, Format.TFLITE}),
    "custom_objects": _KERAS,
    "graph_inputs": frozenset({Format.GRAPH_DEF}),
    "graph_outputs": frozenset({Format.GRAPH_DEF}),
    "layout": _TENSORFLOW,
    "factory": _MADE,
    "factory_args": _MADE,
}
_LAYOUTS = ("nhwc", "nchw")


def check_options(asked: Asked, *artifacts: Artifact) -> None:
    """Refuse what says nothing about any of these artifacts, before anything is loaded.

    Raises:
        UsageError: an option is not for their formats, or has no such value.
    """
    for name, formats in _FITS.items():
        if getattr(asked, name) and not any(one.format in formats for one in artifacts):
            option = f"--{name.removeprefix('graph_').replace('_', '-')}"
            raise UsageError(
                f"{option} says nothing about {artifacts[0].path}, which is {artifacts[0].format}",
                fix=f"leave it out; it is for {', '.join(sorted(formats))}",
            )
    if asked.layout not in (None, *_LAYOUTS):
        raise UsageError(
            f"there is no layout '{asked.layout}'{nearest(asked.layout, _LAYOUTS)}", fix="--layout nchw or nhwc"
        )
    _ = asked.preprocessing, parts(asked.shapes)  # raise where they can't be read


def fitting(artifact: Artifact, asked: Asked) -> Asked:
    """Give what was asked without the options that say nothing about this artifact: they are for the other one."""
    usual = Asked()
    return replace(asked, **{name: getattr(usual, name) for name, fit in _FITS.items() if artifact.format not in fit})


def described(asked: Asked) -> tuple[tuple[TensorSpec, ...], dict[str, str]]:
    """Split what the user said of the inputs into tensors and fixed arguments (``sr=16000``).

    Raises:
        UsageError: a description can't be read, or a name is there twice.
    """
    fixed = dict(text.split("=", 1) for text in asked.inputs if "=" in text.partition("[")[0])
    specs = tuple(TensorSpec.parse(text) for text in asked.inputs if "=" not in text.partition("[")[0])
    names = [*fixed, *(spec.name for spec in specs)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"the input '{twice}' is described twice", fix=f"give --input '{twice}:...' once")
    return specs, fixed
