"""Put the weights of a ``.weights.h5`` file of Keras 3 into a model, which Keras finds by the model's structure."""

import tempfile
from pathlib import Path
from typing import Any

import h5py

from deploykit.child.tensorflow.keras.weights import NO_WEIGHT, listed, unfit
from deploykit.errors import nearest


def shapes_below(file: h5py.Group) -> dict[str, tuple[int, ...]]:
    """List the variables of a ``.weights.h5`` file of Keras 3, without those of training; none in any other file."""
    found: dict[str, tuple[int, ...]] = {}

    def visit(path: str, item: Any) -> None:
        parts = path.split("/")
        if len(parts) > 1 and parts[-2] == "vars" and isinstance(item, h5py.Dataset) and not NO_WEIGHT.search(path):
            # Keras 2.13 calls the group of the layers so.
            found[path.replace("_layer_checkpoint_dependencies", "layers")] = item.shape

    for name in file:
        hard = isinstance(file.get(name, getlink=True), h5py.HardLink)
        if name not in {"optimizer", "metrics"} and hard and isinstance(file[name], h5py.Group):
            file[name].visititems(lambda path, item, name=name: visit(f"{name}/{path}", item))
    return found


def put_saved(path: Path, model: Any, what: str, whose: str) -> None:
    """Give a model the weights of a ``.weights.h5`` file of Keras 3.

    Args:
        path: where the file is.
        model: a built model.
        what: the file, for what is said.
        whose: whose model it is, for what is said.

    Raises:
        ModelError: the weights are not those of the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Only Keras itself knows where it looks for a variable: what it would write shows it.
        own = Path(folder, "own.weights.h5")
        model.save_weights(own)
        with h5py.File(own) as file:
            expected = shapes_below(file)
        own.unlink()
        with h5py.File(path) as file:
            stored = shapes_below(file)
        missing = [name for name in expected if name not in stored]
        lines = [
            *listed("missing in the file", missing),
            *listed("not in the model", [name + nearest(name, missing) for name in stored if name not in expected]),
            *listed(
                "of another shape",
                [
                    f"{name}: the file has {list(stored[name])}, the model {list(shape)}"
                    for name, shape in expected.items()
                    if name in stored and stored[name] != shape
                ],
            ),
        ]
        if lines:
            raise unfit(what, whose, lines)
        link = Path(folder, "model.weights.h5")
        link.symlink_to(path.resolve())
        # What draws at random may have no state in the file; all that counts was just seen to be there.
        model.load_weights(link, skip_mismatch=True)
