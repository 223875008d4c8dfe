"""Put the weights of an HDF5 file into a Keras model, layer by layer and strictly: all of them, and no others."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import h5py
import keras
import numpy as np

from deploykit.child.tensorflow.keras.old import plain_name
from deploykit.errors import ModelError, nearest
from deploykit.tensors import Array

Named = list[tuple[str, Any]]
"""The weights of a layer in the file: names and datasets."""

_SHOWN = 12
NO_WEIGHT = re.compile(r"StateVar|seed_generator|(^|/)rng_state")
"""State that is no part of the arithmetic: of what draws at random."""
_PERHAPS = re.compile(r"/(count|renorm_\w+|moving_stddev)(:0)?$")
"""What training keeps count of, for which not every version of Keras has a place."""
_TOP = "top_level_model_weights"
_GATES = (3, 4)


def read_layers(group: h5py.Group) -> dict[str, Named]:
    """List the layers that have weights, in the order of the file.

    Raises:
        ModelError: the file names weights that it does not hold.
    """
    layers: dict[str, Named] = {}
    for name in (*attribute(group, "layer_names"), *([_TOP] if _TOP in group else [])):
        inside = _member(group, name)
        kept = [one for one in attribute(inside, "weight_names") if not NO_WEIGHT.search(one)]
        if kept:
            layers[plain_name(name)] = [(one, _member(inside, one)) for one in kept]
    return layers


def attribute(group: h5py.Group, name: str) -> list[str]:
    """Give an attribute that lists names; a long one is in several parts."""
    parts = (
        [name]
        if name in group.attrs
        else sorted(
            (key for key in group.attrs if re.fullmatch(rf"{name}\d+", key)), key=lambda key: int(key[len(name) :])
        )
    )
    return [one.decode() if isinstance(one, bytes) else str(one) for part in parts for one in group.attrs[part]]


def put(layers: Mapping[str, Named], model: Any, what: str, whose: str) -> tuple[str, ...]:
    """Give a model the weights of a file, by the layers' names, or in their order where the names differ.

    Args:
        layers: of the file.
        model: a built model.
        what: the file, for what is said.
        whose: whose model it is, for what is said.

    Returns:
        What the user should know of it.

    Raises:
        ModelError: the weights are not those of the model; all that is missing, unexpected or of another shape.
    """
    own = _own_layers(model)
    same = set(own) == set(layers)
    matched, notes = ({name: name for name in own}, ()) if same else _in_order(layers, own)
    pairs = {name: _paired(layers[theirs], own[name]) for name, theirs in matched.items()}
    lines = [*_unmatched(layers, own, matched), *(line for name in pairs for line in _misfits(name, pairs[name]))]
    if lines:
        raise unfit(what, whose, lines)
    for found in pairs.values():
        for variable, array in found:
            variable.assign(array)
    for layer in _leaves(model):
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return notes


def _member(group: h5py.Group, name: str) -> Any:
    # A link could lead to any other file of the machine.
    place: Any = group
    for part in name.split("/"):
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) and part in place else None
        if not isinstance(link, h5py.HardLink):
            raise ModelError(
                f"{group.file.filename} lists the weights '{name}', but does not hold them",
                fix="the file is damaged: copy it again, or save it again",
            )
        place = place[part]
    return place


def _own_layers(model: Any) -> dict[str, list[Any]]:
    layers: dict[str, list[Any]] = {}
    for layer in model.layers:
        variables = _weights(layer)
        if variables:
            layers[layer.name] = variables
    mine = {id(variable) for variables in layers.values() for variable in variables}
    rest = [variable for variable in _weights(model) if id(variable) not in mine]
    return {**layers, _TOP: rest} if rest else layers


def _weights(layer: Any) -> list[Any]:
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _in_order(layers: Mapping[str, Named], own: Mapping[str, list[Any]]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Match layers in their order, where as many are there and each fits; else those of the same name."""
    together = list(zip(own, layers, strict=False))
    fit = all(not list(_misfits(name, _paired(layers[theirs], own[name]))) for name, theirs in together)
    if len(own) != len(layers) or not fit:
        return {name: name for name in own if name in layers}, ()
    name, theirs = next((name, theirs) for name, theirs in together if name != theirs)
    return dict(together), (
        f"layers go by other names in the file ('{theirs}' is '{name}'): they were matched by their order and shapes",
    )


def _paired(stored: Named, variables: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Bring together the weights of a layer: by name where the names say it, else in order."""
    if len(stored) > len(variables):
        stored = [(name, data) for name, data in stored if not _PERHAPS.search(name)]
    theirs = [_tail(name) for name, _ in stored]
    mine = [_tail(variable.path) for variable in variables]
    if len(set(mine)) == len(mine) and sorted(theirs) == sorted(mine):
        order = {name: data for name, (_, data) in zip(theirs, stored, strict=True)}
        arrays = [order[name] for name in mine]
    else:
        arrays = [data for _, data in stored]
    if len(arrays) != len(variables):
        return [(variables, arrays)]
    return list(zip(variables, _from_cudnn([np.asarray(data) for data in arrays], variables), strict=True))


def _tail(name: str) -> str:
    return "/".join(re.sub(r":\d+$", "", name).split("/")[-2:])


def _from_cudnn(arrays: list[Array], variables: Sequence[Any]) -> list[Array]:
    """Turn the weights of a CuDNNLSTM or CuDNNGRU into those of an LSTM or GRU.

    CuDNN keeps each gate's matrices transposed, and two biases where an LSTM has their sum.
    """
    turned = list(arrays)
    for at in range(len(arrays) - 2):
        kernel, recurrent, bias = arrays[at : at + 3]
        if kernel.ndim != 2 or recurrent.ndim != 2 or recurrent.shape[1] != kernel.shape[1]:  # noqa: PLR2004
            continue
        gates = recurrent.shape[1] // recurrent.shape[0]
        if gates not in _GATES or bias.shape != (2 * recurrent.shape[1],) or variables[at + 2].shape == bias.shape:
            continue
        units = recurrent.shape[0]
        parts = np.hsplit(kernel, gates)
        turned[at] = np.hstack([part.T.reshape(part.shape, order="F") for part in parts])
        turned[at + 1] = np.hstack([recurrent[:, units * gate : units * (gate + 1)].T for gate in range(gates)])
        halves = bias.reshape(2, -1)
        turned[at + 2] = halves.sum(axis=0) if gates == max(_GATES) else halves
    return turned


def _unmatched(layers: Mapping[str, Named], own: Mapping[str, list[Any]], matched: Mapping[str, str]) -> Iterator[str]:
    missing = [name for name in own if name not in matched]
    unexpected = [name for name in layers if name not in matched.values()]
    yield from listed("layers missing in the file", missing)
    yield from listed("layers not in the model", [name + nearest(name, missing) for name in unexpected])


def listed(title: str, names: list[str]) -> list[str]:
    """Give a title and the names under it, the first of many."""
    if not names:
        return []
    more = [f"  ... and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return [f"{title}:", *(f"  {name}" for name in names[:_SHOWN]), *more]


def _misfits(name: str, pairs: list[tuple[Any, Any]]) -> Iterator[str]:
    for variable, array in pairs:
        if isinstance(variable, Sequence):
            yield f"{name}: the file has {len(array)} tensors, the model {len(variable)}"
        elif tuple(variable.shape) != tuple(array.shape):
            yield f"{name}/{variable.name}: the file has {list(array.shape)}, the model {list(variable.shape)}"


def _leaves(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)


def unfit(what: str, whose: str, lines: list[str]) -> ModelError:
    """Make the error that weights are not those of the model."""
    return ModelError(
        f"the weights of {what} do not fit {whose}",
        fix="give the factory that the weights were trained with, or its arguments: --factory-args '{\"units\": 128}'",
        details=lines,
    )
