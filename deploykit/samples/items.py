"""Samples that come one by one: what a function of the user's yields, or files that hold a sample each.

An item is a dictionary of arrays by the names of the inputs, and it is one sample, without the batch axis; where its
arrays have as many axes as the model's inputs it is a batch of samples. What the model does not take is left unread.
"""

import contextlib
import importlib
import importlib.util
import itertools
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from deploykit.errors import UsageError, nearest
from deploykit.samples.columns import UNKNOWN, Column, Source, Take, rechunked
from deploykit.tensors import Array, Tensors, TensorSpec

Item = tuple[str, Mapping[str, Any]]
"""What a message calls it, and its arrays."""

_END = object()


class Items(Source):
    """Items as the samples of a model; the first one tells what arrays there are."""

    def __init__(self, place: str, items: Iterator[Item], inputs: Sequence[TensorSpec] | None) -> None:
        """Take the first item.

        Raises:
            UsageError: there is none, or it is no sample.
        """
        self.place = place
        self._ranks = None if inputs is None else {spec.name: len(spec.dims) for spec in inputs}
        first = next(items, None)
        if first is None:
            raise UsageError(f"{place} has no sample", fix="give one at least")
        self._items = itertools.chain([first], items)
        arrays = self._samples(first)
        self.columns: Mapping[str, Column] = {
            name: Column(name, place, one.dtype, (UNKNOWN, *one.shape[1:]) if one.ndim else ())
            for name, one in arrays.items()
        }

    @contextmanager
    def stream(self, names: Sequence[str]) -> Iterator[Take]:
        """Give the items as they come; they come once."""
        yield rechunked(self._checked(item, names) for item in self._items)

    def naming(self, names: Sequence[str]) -> str:
        """Say how the arrays are given the names of a model's inputs."""
        return f"name the arrays of each sample as the inputs are: {{{', '.join(f'{name!r}: ...' for name in names)}}}"

    def _checked(self, item: Item, names: Sequence[str]) -> Tensors:
        where, _ = item
        arrays = self._samples(item)
        for name in names:
            column = self.columns[name]
            if name not in arrays:
                raise UsageError(
                    f"{where} has no array '{name}', and the first has", fix="give every sample all inputs"
                )
            found = arrays[name]
            texts = found.dtype.kind == column.dtype.kind == "U"  # of which every length is a type of its own
            if found.shape[1:] != column.shape[1:] or (found.dtype != column.dtype and not texts):
                raise UsageError(
                    f"{name} of {where} is {found.dtype}{list(found.shape[1:])}, and of the first sample "
                    f"{column.dtype}{list(column.shape[1:])}",
                    fix="prepare all samples alike: one type, one size",
                )
        lengths = {len(arrays[name]) for name in names if arrays[name].ndim}
        if len(lengths) > 1:
            raise UsageError(
                f"{where} has different numbers of samples in its arrays: {', '.join(map(str, sorted(lengths)))}",
                fix="the first axis of every array of a batch counts the same samples",
            )
        return {name: arrays[name] for name in names}

    def _samples(self, item: Item) -> Tensors:
        """Give the arrays of an item with the batch axis."""
        where, content = item
        arrays = {str(name): self._array(where, str(name), value) for name, value in content.items()}
        ranks = self._ranks
        if ranks is None:
            return {name: array[None] for name, array in arrays.items()}
        if len(arrays) == len(ranks) == 1:
            ranks = dict(zip(arrays, ranks.values(), strict=True))
        more = {ranks[name] - array.ndim for name, array in arrays.items() if ranks.get(name)}
        if len(more) > 1:
            found = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items() if name in ranks)
            raise UsageError(
                f"{where} is neither one sample nor a batch: {found}",
                details=("a sample has one axis less than the input, a batch as many, and all arrays alike",),
                fix="give one sample without the batch axis",
            )
        single = more == {1}
        return {name: array[None] if single and ranks.get(name) else array for name, array in arrays.items()}

    def _array(self, where: str, name: str, value: Any) -> Array:
        try:
            return np.asarray(value)
        except Exception as error:
            if self._ranks is not None and name not in self._ranks:  # nobody asks for it
                return np.zeros(0, object)
            raise UsageError(
                f"{name} of {where} is no array: {error}", fix="give numpy arrays, as in  tensor.detach().numpy()"
            ) from error


def yielded(place: str, inputs: Sequence[TensorSpec] | None) -> Items:
    """Call ``module:function`` or ``file.py:function`` and take the dictionaries that it yields.

    Raises:
        UsageError: there is no such function, it fails, or gives something else.
    """
    with _running(place):
        made = _function(place)()
    if not isinstance(made, Iterable) or isinstance(made, (Mapping, str, bytes)):
        raise UsageError(
            f"{place} gives {type(made).__name__}, not samples one after another",
            fix="yield dictionaries of arrays by the names of the inputs",
        )
    return Items(place, _numbered(place, made), inputs)


def from_files(place: Path, files: Sequence[Path], inputs: Sequence[TensorSpec] | None) -> Items:
    """Take each file as one item: an ``.npy`` is the array of the one input, an ``.npz`` holds arrays by name.

    Raises:
        UsageError: the first is damaged, or the model has several inputs and the files hold one array.
    """
    names = [spec.name for spec in inputs] if inputs is not None else [place.resolve().name]
    if len(names) != 1 and files[0].suffix == ".npy":
        raise UsageError(
            f"{place} has one array in each file, and the model takes {len(names)}: {', '.join(names)}",
            fix=f"name one file after each input ({names[0]}.npy, ...), or save each sample as an .npz",
        )
    return Items(str(place), ((str(file), _loaded(file, names)) for file in files), inputs)


def _loaded(file: Path, names: Sequence[str]) -> Mapping[str, Array]:
    try:
        with file.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return {names[0]: found}
            return {name: found[name] for name in found.files if name in names or not set(names) <= set(found.files)}
    except Exception as error:
        pickled = "allow_pickle" in str(error)
        why = "holds Python objects, and reading them would run code from the file" if pickled else "is damaged"
        fix = "save numbers, as in  np.save(path, x.astype(np.float32))" if pickled else "save or copy it again"
        raise UsageError(f"{file} {why}", details=(str(error).partition("\n")[0],), fix=fix) from error


def _numbered(place: str, made: Iterable[Any]) -> Iterator[Item]:
    with _running(place):
        items = iter(made)
    for number in itertools.count():
        with _running(place):
            item = next(items, _END)
        if item is _END:
            return
        if not isinstance(item, Mapping):
            raise UsageError(
                f"sample {number} of {place} is {type(item).__name__}, not a dictionary of arrays",
                fix="yield {'name of the input': array, ...}",
            )
        yield f"sample {number} of {place}", item


@contextmanager
def _running(place: str) -> Iterator[None]:
    """Run the user's code: what it prints is no result of ours, and what it raises is its own."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except UsageError:
        raise
    except Exception as error:
        frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename != __file__]
        theirs = [f"{one.filename}:{one.lineno}" for one in frames if not one.filename.startswith("<")]
        raise UsageError(
            f"{place} fails: {type(error).__name__}: {error}",
            fix=f"mend {theirs[-1]}" if theirs else "name a function that can be called without arguments",
        ) from error


def _function(place: str) -> Any:
    module, _, name = place.rpartition(":")
    found: Any = _imported(module, place)
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(
                f"{module} has no '{name}'{nearest(part, vars(found))}", fix="name a function of it: file.py:function"
            )
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"{place} is {type(found).__name__}, not a function", fix="name a function without arguments")
    return found


def _imported(module: str, place: str) -> ModuleType:
    if not module.endswith(".py"):
        _import_from(Path.cwd())  # as python -m does, and the console script does not
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            raise UsageError(
                f"there is no module {module}, nor a file {place}",
                fix="run in the folder that holds it, or give the file: file.py:function",
            )
        return importlib.import_module(module)
    path = Path(module)
    if not path.is_file():
        raise UsageError(f"there is no {path}", fix="give the Python file that yields the samples")
    _import_from(path.resolve().parent)  # what stands beside it can be imported by it
    name = f"deploykit_samples_{path.stem}"  # a name of its own: the file may be called as a package is
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def _import_from(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
