"""What a model says of itself: where it comes from, and the versions of ONNX that it is written in."""

from collections.abc import Iterator

from deploykit.errors import ModelError
from deploykit.onnx_io.parse import Model, Proto
from deploykit.onnx_io.weights import INLINE, own_weights, serialized_without, weights

LINEAGE = "deploykit."

# The element types that an older IR version does not have: onnx.proto, its comments on Version.
_TYPES_SINCE = {
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 9),
    "UINT4": 10,
    "INT4": 10,
    "FLOAT4E2M1": 11,
    "FLOAT8E8M0": 12,
    "UINT2": 13,
    "INT2": 13,
}


def lineage(model: Model) -> dict[str, str]:
    """Read where a model comes from: its metadata under ``deploykit.``, without that prefix."""
    return {key.removeprefix(LINEAGE): value for key, value in model.metadata_props.items() if key.startswith(LINEAGE)}


def set_lineage(model: Model, **entries: str) -> None:
    """Add to where a model comes from; a name that is there already gets the new value."""
    model.metadata_props.update({f"{LINEAGE}{key}": value for key, value in entries.items()})


def set_versions(model: Model, *, ir: int, opset: int | None = None) -> None:
    """Set the IR version of a model, and convert it to another ``ai.onnx`` opset; in place.

    Raises:
        ModelError: the model needs a newer IR version, or onnx can't convert it; it is then unchanged.
    """
    for since, what in _needs_ir(model):
        if ir < since:
            raise ModelError(
                f"the model can't have IR version {ir}: {what} came with IR version {since}",
                fix=f"ask for IR version {since} or newer",
            )
    if opset is not None and opset != model.opset_imports.get("", 0):
        _convert(model, opset)
    model.ir_version = ir


def _needs_ir(model: Model) -> Iterator[tuple[int, str]]:
    if model.functions:
        yield 8, "functions"
    if any(value not in model.graph.inputs for value in model.graph.initializers.values()):
        yield 4, "weights that are no inputs"
    for value in (*model.graph.inputs, *weights(model)):
        if value.dtype is not None and value.dtype.name in _TYPES_SINCE:
            yield _TYPES_SINCE[value.dtype.name], f"{value.name}'s type {value.dtype.name}"


def _convert(model: Model, opset: int) -> None:
    import onnx
    import onnx_ir.passes.common

    # onnx converts serialized models only, which end at 2 GiB: large weights are described to it as inputs.
    kept = {value.name: value for value in own_weights(model) if value.const_value.nbytes > INLINE}
    proto = serialized_without(model, kept.values())
    if proto.functions:  # onnx's converter drops them
        inlined = onnx_ir.passes.common.InlinePass()(onnx_ir.serde.deserialize_model(proto)).model
        proto = onnx_ir.serde.serialize_model(inlined)
    large = _swap_out(proto.graph, set(kept))
    try:
        converted = onnx.version_converter.convert_version(proto, opset)
        onnx.checker.check_model(converted)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise _unconverted(model, opset, str(error)) from error
    _swap_in(converted.graph, large, model)
    if lost := _lost_name(model, converted.graph):
        raise _unconverted(model, opset, lost)
    graph = onnx_ir.serde.deserialize_model(converted).graph
    for name, value in kept.items():
        graph.initializers[name].const_value = value.const_value
    model.graph = graph
    model.functions.clear()


def _swap_out(graph: Proto, names: set[str]) -> list[Proto]:
    import onnx

    large = [tensor for tensor in graph.initializer if tensor.name in names]
    small = [tensor for tensor in graph.initializer if tensor.name not in names]
    del graph.initializer[:]
    graph.initializer.extend(small)
    known = {value.name for value in graph.input}
    graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in large
        if tensor.name not in known
    )
    return large


def _swap_in(graph: Proto, large: list[Proto], model: Model) -> None:
    """Make inputs that stood for large weights initializers again, in the order of the model."""
    inputs = {value.name for value in model.graph.inputs}
    kept = [value for value in graph.input if value.name in inputs]
    del graph.input[:]
    graph.input.extend(kept)
    place = {name: number for number, name in enumerate(model.graph.initializers)}
    ordered = sorted((*graph.initializer, *large), key=lambda tensor: place.get(tensor.name, len(place)))
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def _lost_name(model: Model, graph: Proto) -> str | None:
    """Say which name a conversion lost, or None."""
    kinds = (
        ("input", model.graph.inputs, graph.input),
        ("output", model.graph.outputs, graph.output),
        ("initializer", model.graph.initializers.values(), graph.initializer),
    )
    for kind, before, after in kinds:
        lost = {value.name for value in before} - {value.name for value in after}
        if lost:
            return f"the {kind} '{min(lost)}' would be lost"
    return None


def _unconverted(model: Model, opset: int, why: str) -> ModelError:
    return ModelError(
        f"onnx can't convert the model from opset {model.opset_imports.get('', 0)} to {opset}",
        details=[line.strip().rpartition("failed: ")[2] for line in why.strip().splitlines()[:3]],
        fix=f"convert the source again with --opset {opset}, or keep the opset",
    )
