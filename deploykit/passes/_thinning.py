"""Put zeros into weights, in a pattern or where they matter least."""

from pathlib import Path

import numpy as np

from deploykit.errors import UsageError
from deploykit.passes import Applied, Layer, Work
from deploykit.pruning.linear import linear_layers
from deploykit.pruning.moments import see
from deploykit.pruning.sparse import is_two_of_four, packed, thin
from deploykit.quantization.reading import read
from deploykit.tensors import Array


def thinned(source: Path, work: Work, share: float | None, importance: str, *, refit: bool) -> Applied:
    """Put zeros into the weights of a model.

    Args:
        source: the model.
        work: what the pass works with.
        share: of the weights that become zero; None for two of four.
        importance: which go; ``magnitude`` looks at no samples.
        refit: whether what is left makes up for them, where samples are looked at.

    Raises:
        UsageError: it has no layers for that.
    """
    from deploykit.onnx_io import set_lineage

    model = read(source)
    grams = dict[str, Array]()
    if importance != "magnitude":
        seen = see(model.clone(), linear_layers(model), work.calls, work.step).grams
        grams = {name: one.gram if refit else np.diag(np.diag(one.gram)) for name, one in seen.items()}
    before = packed(model)
    work.step("putting zeros into the weights")
    found = list(thin(model, grams, share))
    done = [one for one in found if not one.why]
    if not done:
        raise UsageError(
            "there is no layer for that pattern",
            fix="--pattern channel, or unstructured",
            details=[f"{one.name}: {one.why}" for one in found[:5]],
        )
    pattern = "2:4" if share is None else "unstructured"
    set_lineage(model, pruned=pattern)
    zeros, total = sum(one.zeros for one in done), sum(one.total for one in done)
    after = packed(model)
    notes = [
        f"as fast and as large as before: packed (zlib) its weights take {after / before:.0%} of what they took"
        + ("; sparse tensor cores make use of it (TensorRT --sparsity)" if share is None else ""),
        *(f"{one.name} ({one.operator}) stays dense: {one.why}" for one in found if one.why),
    ]
    if share is None:
        layers_now = linear_layers(model)
        assert all(is_two_of_four(layers_now[one.name]) for one in done), "a layer is not two of four"
    layers = [Layer(one.name, one.operator, one.why or f"{one.zeros / one.total:.1%} zeros") for one in found]
    said = f"{zeros / total:.1%} of {total} weights in {len(done)} of {len(found)} layers are zero ({pattern})"
    return Applied(work.write(model), said, tuple(notes), tuple(layers))
