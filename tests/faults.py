"""Faults to plant in ONNX models: every kind of damage that a conversion has done somewhere."""

from collections.abc import Callable, Iterator
from typing import Any

from tests import faulty_nodes, faulty_outputs, faulty_weights
from tests.faulty_weights import Fault

Places = Callable[[Any], Iterator[Fault]]
"""Gives a fault of one kind for every place in a model that it fits."""

KINDS: dict[str, Places] = {
    places.__name__: places
    for places in (
        faulty_weights.one_weight,
        faulty_weights.embedding_row,
        faulty_weights.swapped_entries,
        faulty_weights.bias_sign,
        faulty_weights.transposed_weight,
        faulty_weights.coarse_weight,
        faulty_weights.scale_constant,
        faulty_nodes.epsilon,
        faulty_nodes.transposed,
        faulty_nodes.transposed_input,
        faulty_nodes.float16_between,
        faulty_nodes.missing_activation,
        faulty_nodes.other_activation,
        faulty_nodes.padding,
        faulty_nodes.resize,
        faulty_nodes.axis,
        faulty_nodes.joined_in_other_order,
        faulty_nodes.recurrence,
        faulty_nodes.dropped_mask,
        faulty_nodes.baked_batch,
        faulty_outputs.outputs,
    )
}
