"""What becomes of TensorFlow graphs as ONNX: the same numbers, the names of the user, and no needless nodes."""

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.errors import ModelError
from deploykit.tensors import Tensors, TensorSpec

pytest.importorskip("tf2onnx")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
layers = keras.layers
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from deploykit.child.tensorflow.export.to_onnx import HIGHEST_OPSET, LOWEST_OPSET, to_onnx  # noqa: E402 - it imports TensorFlow
from deploykit.child.tensorflow.graph.freezing import freeze_function  # noqa: E402
from deploykit.child.tensorflow.model import Frozen, Order  # noqa: E402

Counts = collections.Counter[str]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(0)


def traced(function: Any, *specs: TensorSpec, limit: int | None = None) -> tuple[Frozen, Any]:
    """Freeze a Keras model or a function, with inputs of these names."""
    signature = [
        tf.TensorSpec([dim if isinstance(dim, int) else None for dim in one.dims], one.dtype, name=f"in{number}")
        for number, one in enumerate(specs)
    ]
    multiple = isinstance(function, keras.Model) and len(specs) > 1
    call = (lambda *given: function(list(given))) if multiple else function
    concrete = tf.function(call, autograph=False).get_concrete_function(*signature)
    graph_def, weights = freeze_function(concrete) if limit is None else freeze_function(concrete, limit)
    inputs = {one.name: f"in{number}:0" for number, one in enumerate(specs)}
    outputs = {f"out{number}": one.name for number, one in enumerate(concrete.outputs)}
    return Frozen(graph_def, inputs, outputs, weights), concrete


def given(specs: Sequence[TensorSpec], batch: int, steps: int = 7) -> Tensors:
    """Make values for inputs; axes of the name ``batch`` have this size and other named ones ``steps``."""
    generator = np.random.default_rng(batch)
    values: Tensors = {}
    for one in specs:
        shape = [dim if isinstance(dim, int) else batch if dim == "batch" else steps for dim in one.dims]
        normal = generator.normal(size=shape)
        values[one.name] = (np.abs(normal) * 4).astype(one.dtype) if "int" in one.dtype else normal.astype(one.dtype)
    return values


def same(
    path: Path,
    function: Any,
    *specs: TensorSpec,
    opset: int = HIGHEST_OPSET,
    values: Any = given,
    limit: int | None = None,
) -> Counts:
    """Export, compare with the source at three batch sizes, and count the operators."""
    frozen, concrete = traced(function, *specs, limit=limit)
    target = path / "model.onnx"
    assert to_onnx(frozen, Order(str(target), opset, specs)) == []
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(target, options)
    for batch in (1, 2, 3):
        tensors = values(specs, batch)
        wanted = [one.numpy() for one in concrete(*(tf.constant(tensors[one.name]) for one in specs))]
        found = session.run(None, tensors)
        for want, got in zip(wanted, found, strict=True):
            assert want.shape == got.shape
            assert want.dtype == got.dtype
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6 * max(1.0, float(np.abs(want).max(initial=0))))
    return counted(target)


def counted(target: Path) -> Counts:
    return collections.Counter(node.op_type for node in nodes(onnx.load(target).graph))


def nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def image(*sizes: int | str, name: str = "image") -> TensorSpec:
    return TensorSpec(name, "float32", ("batch", *sizes))


def sequential(shape: tuple[int | None, ...], *stack: Any, dtype: str = "float32") -> Any:
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *stack])
    return lambda x: [model(x, training=False)]


def functional(shape: tuple[int | None, ...], build: Any) -> Any:
    start = keras.Input(shape)
    model = keras.Model(start, build(start))
    return lambda x: [model(x, training=False)]


# Names and shapes


def test_inputs_and_outputs_have_the_names_and_the_order_asked_for(tmp_path: Path) -> None:
    names = ("left/a b:0", "right")
    specs = tuple(TensorSpec(name, "float32", ("batch", 3)) for name in names)
    frozen, _ = traced(lambda a, b: [a + b, a * b, tf.constant([1.0, 2.0]), b], *specs)
    outputs = dict(zip(("sum", "Größe:1", "constant", "same/b"), frozen.outputs.values(), strict=True))
    target = tmp_path / "model.onnx"
    to_onnx(
        Frozen(frozen.graph_def, frozen.inputs, {**outputs, "again": outputs["sum"]}), Order(str(target), 18, specs)
    )
    graph = onnx.load(target).graph
    assert [one.name for one in graph.input] == list(names)
    assert [one.name for one in graph.output] == ["sum", "Größe:1", "constant", "same/b", "again"]
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 4, np.float32)
    total, product, constant, same_b, again = onnxruntime.InferenceSession(target).run(None, {names[0]: a, names[1]: b})
    np.testing.assert_array_equal(total, a + b)
    np.testing.assert_array_equal(again, a + b)
    np.testing.assert_array_equal(product, a * b)
    np.testing.assert_array_equal(constant, [1, 2])
    np.testing.assert_array_equal(same_b, b)


def test_a_name_that_a_tensor_inside_has_goes_to_the_output(tmp_path: Path) -> None:
    spec = image(3, name="in")
    frozen, _ = traced(lambda x: [tf.nn.relu(tf.identity(x * 2.0, name="mid"), name="end") + 1.0], spec)
    target = tmp_path / "model.onnx"
    inner = {node.name: f"{node.name}:0" for node in frozen.graph_def.node}
    to_onnx(Frozen(frozen.graph_def, frozen.inputs, {"end:0": frozen.outputs["out0"]}), Order(str(target), 18, (spec,)))
    assert "end" in inner
    (found,) = onnxruntime.InferenceSession(target).run(None, {"in": np.ones((1, 3), np.float32)})
    np.testing.assert_array_equal(found, np.full((1, 3), 3))


def test_axes_have_the_sizes_and_names_asked_for(tmp_path: Path) -> None:
    frozen, _ = traced(lambda x: [x * 2.0], TensorSpec("x", "float32", ("batch", "steps", 4)))
    target = tmp_path / "model.onnx"
    to_onnx(frozen, Order(str(target), 18, (TensorSpec("x", "float32", ("batch", 5, 4)),)))
    (value,) = onnx.load(target).graph.input
    dims = [one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim]
    assert dims == ["batch", 5, 4]


def test_an_input_may_be_a_tensor_inside_the_graph(tmp_path: Path) -> None:
    frozen, _ = traced(lambda x: [tf.identity(tf.exp(x), name="middle") * 3.0], image(3))
    target = tmp_path / "model.onnx"
    spec = image(3, name="middle")
    to_onnx(Frozen(frozen.graph_def, {"middle": "middle:0"}, frozen.outputs), Order(str(target), 18, (spec,)))
    assert counted(target) == {"Mul": 1}


def test_an_input_that_is_not_named_is_an_error(tmp_path: Path) -> None:
    frozen, _ = traced(lambda x, y: [x + y], image(3, name="x"), image(3, name="y"))
    only_x = Frozen(frozen.graph_def, {"x": "in0:0"}, frozen.outputs)
    with pytest.raises(ModelError, match="depend on 'in1', which is no input"):
        to_onnx(only_x, Order(str(tmp_path / "model.onnx"), 18, (image(3, name="x"),)))


def test_only_the_operator_sets_in_use_are_imported(tmp_path: Path) -> None:
    same(tmp_path, lambda x: [x + 1.0], image(3))
    assert [one.domain for one in onnx.load(tmp_path / "model.onnx").opset_import] == [""]


@pytest.mark.parametrize("opset", [LOWEST_OPSET, 15, HIGHEST_OPSET, 20])
def test_the_opset_is_the_one_asked_for_or_the_nearest_below(tmp_path: Path, opset: int) -> None:
    stack = (layers.Conv2D(4, 3), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax"))
    same(tmp_path, sequential((8, 8, 3), *stack), image(8, 8, 3), opset=opset)
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == min(opset, HIGHEST_OPSET)


def test_an_opset_that_is_too_old_is_an_error(tmp_path: Path) -> None:
    frozen, _ = traced(lambda x: [x + 1.0], image(3))
    with pytest.raises(ModelError, match="opset 9") as caught:
        to_onnx(frozen, Order(str(tmp_path / "model.onnx"), 9, (image(3),)))
    assert f"--opset {LOWEST_OPSET}" in caught.value.fix[0]


# Layout


def residual(x: Any) -> Any:
    y = layers.Conv2D(8, 3, padding="same")(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.Add()([y, layers.DepthwiseConv2D(3, padding="same")(y)])
    return layers.Concatenate()([y, layers.Conv2D(4, 1)(y), layers.MaxPooling2D(3, 1, padding="same")(y)])


def excited(x: Any) -> Any:
    y = layers.Conv2D(8, 3, activation="silu")(x)
    s = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(y))
    s = layers.Conv2D(8, 1, activation="hard_sigmoid")(layers.Conv2D(2, 1, activation="relu")(s))
    return layers.GlobalMaxPooling2D()(layers.Multiply()([y, s]))


CONVOLUTIONAL = {
    "residual": (residual, 2),
    "excited": (excited, 1),
    "dense after flattening": (lambda x: layers.Dense(3)(layers.Flatten()(layers.Conv2D(4, 3)(x))), 2),
    "pooled": (lambda x: layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))), 1),
    "grouped": (lambda x: layers.Conv2D(6, 3, groups=2)(layers.Conv2D(4, 3, padding="same")(x)), 2),
    "parametric": (lambda x: layers.Conv2D(3, 3)(layers.PReLU(shared_axes=(1, 2))(layers.Conv2D(4, 3)(x))), 2),
    "padded and cut": (
        lambda x: layers.Conv2D(3, 3)(layers.Cropping2D(1)(layers.ZeroPadding2D(2)(layers.Conv2D(4, 3)(x)))),
        2,
    ),
    "resized": (lambda x: layers.Conv2D(3, 1)(layers.Resizing(5, 5, "bicubic")(layers.Conv2D(4, 3)(x))), 2),
    "enlarged": (
        lambda x: layers.Conv2D(3, 1)(layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(4, 3)(x))),
        2,
    ),
    "transposed": (lambda x: layers.Conv2DTranspose(3, 3, strides=2)(layers.Conv2D(4, 3)(x)), 2),
    "averaged over an axis": (
        lambda x: layers.Conv2D(2, 1)(layers.Conv2D(4, 3)(x) - keras.ops.mean(x, axis=(1, 2), keepdims=True)[..., :1]),
        2,
    ),
    "split": (lambda x: layers.Conv2D(2, 1)(keras.ops.split(layers.Conv2D(4, 3)(x), 2, axis=-1)[1]), 2),
    "mixture of channels": (lambda x: layers.Conv2D(2, 1)(layers.Softmax(axis=-1)(layers.Conv2D(4, 3)(x))), 2),
}


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutions_do_not_transpose(tmp_path: Path, name: str) -> None:
    build, transposes = CONVOLUTIONAL[name]
    model = functional((10, 10, 3), build)
    assert same(tmp_path, model, image(10, 10, 3))["Transpose"] <= transposes


def test_inputs_may_come_with_the_channels_first(tmp_path: Path) -> None:
    spec = image(10, 10, 3)
    frozen, concrete = traced(functional((10, 10, 3), excited), spec)
    target = tmp_path / "model.onnx"
    to_onnx(frozen, Order(str(target), 18, (spec,), nchw=("image",)))
    value = given([spec], 2)["image"]
    (found,) = onnxruntime.InferenceSession(target).run(None, {"image": value.transpose(0, 3, 1, 2).copy()})
    np.testing.assert_allclose(found, concrete(tf.constant(value))[0], rtol=1e-5, atol=1e-6)
    assert counted(target)["Transpose"] == 0
    shape = onnx.load(target).graph.input[0].type.tensor_type.shape.dim
    assert [one.dim_param or one.dim_value for one in shape] == ["batch", 3, 10, 10]


def test_a_factor_and_an_offset_after_a_convolution_go_into_its_weights(tmp_path: Path) -> None:
    stack = (layers.Conv2D(4, 3, use_bias=False), layers.Rescaling(0.5, 0.25), layers.ReLU())
    counts = same(tmp_path, sequential((8, 8, 3), *stack), image(8, 8, 3))
    assert counts == {"Transpose": 2, "Conv": 1, "Relu": 1}


def test_weights_that_two_convolutions_share_stay_as_they_are_for_the_other(tmp_path: Path) -> None:
    shared = layers.Conv2D(3, 3, padding="same")
    counts = same(tmp_path, functional((6, 6, 3), lambda x: shared(shared(x) * 2.0)), image(6, 6, 3))
    assert counts["Conv"] == 2


def test_zeros_around_a_pool_count_where_all_else_is_negative(tmp_path: Path) -> None:
    stack = (layers.ZeroPadding2D(1), layers.MaxPooling2D(3, 2))
    below_zero = lambda specs, batch: {name: -np.abs(value) - 1 for name, value in given(specs, batch).items()}  # noqa: E731
    same(tmp_path, sequential((6, 6, 2), *stack), image(6, 6, 2), values=below_zero)


# Recurrent layers

RECURRENT = {"LSTM": layers.LSTM, "GRU": layers.GRU, "RNN": layers.SimpleRNN}


@pytest.mark.parametrize("operator", RECURRENT)
def test_recurrent_layers_become_one_operator_each(tmp_path: Path, operator: str) -> None:
    layer = RECURRENT[operator]
    stack = (layers.Bidirectional(layer(4, return_sequences=True)), layer(3, go_backwards=True, use_bias=False))
    counts = same(tmp_path, sequential((None, 5), *stack), image("steps", 5, name="x"))
    assert counts[operator] == 3
    assert counts["Loop"] == 0


@pytest.mark.parametrize(
    ("operator", "layer"),
    [
        ("GRU", layers.GRU(4, reset_after=False)),
        ("GRU", layers.GRU(4, activation="relu", recurrent_activation="hard_sigmoid")),
        ("LSTM", layers.LSTM(4, activation="softsign", recurrent_activation="hard_sigmoid")),
        ("RNN", layers.SimpleRNN(4, activation="relu")),
    ],
)
def test_recurrent_layers_with_other_activations_do_too(tmp_path: Path, operator: str, layer: Any) -> None:
    counts = same(tmp_path, sequential((6, 5), layer), image(6, 5, name="x"))
    assert counts[operator] == 1
    assert counts["Loop"] == 0


def masked(kind: str) -> Any:
    """Give values with steps of zeros, which Masking takes out."""

    def values(specs: Sequence[TensorSpec], batch: int) -> Tensors:
        tensors = given(specs, batch)
        steps = np.arange(7)
        rows = np.random.default_rng(batch).integers(0, 6, (batch, 1))
        masks = {
            "right": steps < rows,
            "left": steps >= rows,
            "anywhere": (steps * 5 + rows) % 3 > 0,
            "nothing": steps < 0,
        }
        return {**tensors, "x": tensors["x"] * np.broadcast_to(masks[kind], (batch, 7))[..., None].astype(np.float32)}

    return values


@pytest.mark.parametrize("kind", ["right", "left", "anywhere", "nothing"])
@pytest.mark.parametrize("operator", RECURRENT)
def test_masked_steps_are_skipped_wherever_they_are(tmp_path: Path, operator: str, kind: str) -> None:
    layer = RECURRENT[operator]
    first = layers.Bidirectional(layer(4, return_sequences=True))
    stack = (layers.Masking(), first, layer(3, return_sequences=True, zero_output_for_mask=True), layer(3))
    counts = same(tmp_path, sequential((None, 5), *stack), image("steps", 5, name="x"), values=masked(kind))
    assert counts[operator] == 4
    assert counts["Loop"] == 0


def test_states_go_in_and_out_past_a_mask(tmp_path: Path) -> None:
    start, states = keras.Input((None, 5)), [keras.Input((4,)), keras.Input((4,))]
    outputs = layers.LSTM(4, return_sequences=True, return_state=True)(layers.Masking()(start), initial_state=states)
    specs = (image("steps", 5, name="x"), image(4, name="h"), image(4, name="c"))
    counts = same(tmp_path, keras.Model([start, *states], outputs), *specs, values=masked("left"))
    assert counts["LSTM"] == 1


def test_an_embedding_passes_its_mask_on(tmp_path: Path) -> None:
    model = sequential((None,), layers.Embedding(40, 4, mask_zero=True), layers.GRU(3), dtype="int32")
    assert same(tmp_path, model, TensorSpec("words", "int32", ("batch", "steps")))["GRU"] == 1


def test_a_recurrent_layer_of_another_kind_stays_a_loop(tmp_path: Path) -> None:
    cells = layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)])
    assert same(tmp_path, sequential((None, 4), cells), image("steps", 4, name="x"))["Loop"] == 1


def test_in_float64_a_recurrent_layer_stays_a_loop_which_onnxruntime_can_run(tmp_path: Path) -> None:
    spec = TensorSpec("x", "float64", ("batch", 5, 4))
    assert same(tmp_path, sequential((5, 4), layers.GRU(3, dtype="float64"), dtype="float64"), spec)["Loop"] == 1


def test_a_loop_over_no_sequence_stays_one(tmp_path: Path) -> None:
    def grown(x: Any) -> list[Any]:
        return [tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * 1.5), (0, x))[1]]

    assert same(tmp_path, grown, image(3))["Loop"] == 1


# Operations that tf2onnx lacks or has wrong


def small(specs: Sequence[TensorSpec], batch: int) -> Tensors:
    return {name: (value / 50).astype(value.dtype) for name, value in given(specs, batch).items()}


def test_expm1_and_log1p_keep_the_digits_of_small_numbers(tmp_path: Path) -> None:
    def close(x: Any) -> list[Any]:
        return [
            tf.math.expm1(x * 1e-5) * 1e5,
            tf.math.log1p(x * 1e-5) * 1e5,
            tf.math.expm1(x),
            tf.math.log1p(tf.abs(x)),
        ]

    same(tmp_path, close, image(9))


def test_whole_numbers_are_divided_downwards(tmp_path: Path) -> None:
    def divided(x: Any) -> list[Any]:
        moved = x - 6
        return [moved // 4, moved % 4, moved // -4, moved % -4]

    same(tmp_path, divided, TensorSpec("x", "int32", ("batch", 9)))


@pytest.mark.parametrize("function", [keras.ops.argmax, keras.ops.argmin, keras.ops.erf, keras.activations.celu])
def test_operations_of_keras_convert(tmp_path: Path, function: Any) -> None:
    same(tmp_path, lambda x: [function(x)], image(4, 5, name="x"))


def test_zero_is_more_than_minus_zero_as_in_keras(tmp_path: Path) -> None:
    def zeros(specs: Sequence[TensorSpec], batch: int) -> Tensors:
        return {specs[0].name: np.array([[-0.0, 0.0, -1.0], [0.0, -0.0, -1.0]] * batch, np.float32)}

    same(tmp_path, lambda x: [keras.ops.argmax(x, -1), keras.ops.argmin(x, -1)], image(3, name="x"), values=zeros)


def test_patches_and_diagonals_convert(tmp_path: Path) -> None:
    def cut(x: Any) -> list[Any]:
        patches = tf.image.extract_patches(x, [1, 3, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], "SAME")
        return [patches, tf.linalg.diag(patches[:, 0, 0, :4])]

    same(tmp_path, cut, image(7, 6, 3))


def test_gelu_searchsorted_and_discretization_convert(tmp_path: Path) -> None:
    edges = layers.Discretization([-1.0, 0.0, 0.5])
    ordered = np.array([-1.0, 0.0, 1.0], np.float32)
    same(
        tmp_path,
        lambda x: [
            keras.activations.gelu(x, approximate=False),
            edges(x),
            keras.ops.searchsorted(ordered, x[0], "right"),
        ],
        image(5, name="x"),
    )


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"])
@pytest.mark.parametrize("size", [(5, 4), (9, 11)])
def test_resizing_is_the_same_in_every_mode(tmp_path: Path, interpolation: str, size: tuple[int, int]) -> None:
    counts = same(tmp_path, sequential((8, 7, 3), layers.Resizing(*size, interpolation)), image(8, 7, 3))
    assert sum(counts.values()) <= 6


def test_nearest_resizing_by_an_awkward_factor_gives_the_size_asked_for(tmp_path: Path) -> None:
    same(tmp_path, sequential((11, 11, 1), layers.Resizing(13, 13, "nearest")), image(11, 11, 1))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_convolutions_in_one_and_three_dimensions_convert(tmp_path: Path, padding: str) -> None:
    flat = (layers.Conv1D(4, 3, padding=padding, groups=2), layers.Conv1D(4, 3, dilation_rate=2, padding="causal"))
    same(tmp_path, sequential((9, 4), *flat), image(9, 4))
    deep = (layers.Conv3D(4, 2, padding=padding, groups=2), layers.MaxPooling3D(2, padding=padding))
    same(tmp_path, sequential((5, 6, 7, 2), *deep), image(5, 6, 7, 2))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_transposed_convolutions_convert_at_any_size(tmp_path: Path, padding: str) -> None:
    fixed = layers.Conv2DTranspose(3, 3, strides=2, padding=padding, output_padding=1)
    same(tmp_path, sequential((5, 6, 2), fixed), image(5, 6, 2))
    free = (layers.Conv2DTranspose(3, 3, padding=padding), layers.Conv2DTranspose(3, 3, strides=2, padding=padding))
    same(tmp_path, sequential((None, None, 2), *free), image("high", "wide", 2))


def test_attention_converts_with_a_free_length(tmp_path: Path) -> None:
    start = keras.Input((None, 8))
    mixed = layers.MultiHeadAttention(2, 4)(start, start, use_causal_mask=True)
    mixed = layers.GroupQueryAttention(4, 4, 2)(layers.LayerNormalization()(start + mixed), start)
    model = keras.Model(start, mixed)
    same(tmp_path, lambda x: [model(x, training=False)], image("steps", 8, name="x"))


def test_preprocessing_converts(tmp_path: Path) -> None:
    stack = (layers.Rescaling(1 / 127.5, -1), layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]))
    crop = layers.Resizing(4, 4, crop_to_aspect_ratio=True)
    model = sequential((8, 6, 3), *stack, layers.CenterCrop(6, 5), crop, dtype="uint8")
    same(tmp_path, model, TensorSpec("image", "uint8", ("batch", 8, 6, 3)))


# What can't be converted


def test_every_operation_without_translation_is_named(tmp_path: Path) -> None:
    def special(x: Any) -> list[Any]:
        return [tf.math.digamma(x, name="first") + tf.math.lgamma(x) + tf.math.digamma(x * 2.0)]

    frozen, _ = traced(special, image(3))
    with pytest.raises(
        ModelError, match="2 operations of the model can't be written as ONNX: Digamma, Lgamma"
    ) as caught:
        to_onnx(frozen, Order(str(tmp_path / "model.onnx"), 18, (image(3),)))
    assert caught.value.details[0].startswith("Digamma: 2 of them, such as '")


def test_an_operation_whose_translation_fails_is_named(tmp_path: Path) -> None:
    frozen, _ = traced(lambda x: [tf.math.real(tf.signal.rfft(x, name="wave"))], image(8))
    with pytest.raises(ModelError, match=r"the operation RFFT at 'wave' can't be written as ONNX"):
        to_onnx(frozen, Order(str(tmp_path / "model.onnx"), 18, (image(8),)))


def test_a_lookup_table_is_named(tmp_path: Path) -> None:
    lookup = layers.IntegerLookup(vocabulary=[3, 5])
    frozen, _ = traced(lambda x: [lookup(x)], TensorSpec("x", "int64", ("batch", 2)))
    with pytest.raises(ModelError, match="looks something up in a table"):
        to_onnx(frozen, Order(str(tmp_path / "model.onnx"), 18, (TensorSpec("x", "int64", ("batch", 2)),)))


def test_bfloat16_is_refused(tmp_path: Path) -> None:
    frozen, _ = traced(lambda x: [tf.cast(tf.cast(x, tf.bfloat16) * 2, tf.float32)], image(3))
    with pytest.raises(ModelError, match="computes in bfloat16"):
        to_onnx(frozen, Order(str(tmp_path / "model.onnx"), 18, (image(3),)))


# Weights


def test_weights_that_are_not_in_the_graph_are_written_too(tmp_path: Path) -> None:
    wide = layers.Dense(600, activation="relu")  # 1.4 MB: only such weights stay outside
    model = sequential((None, 600), wide, layers.LSTM(300))
    frozen, _ = traced(model, image("steps", 600, name="x"), limit=0)
    assert len(frozen.weights) == 3
    assert len(frozen.graph_def.SerializeToString()) < 1 << 20
    counts = same(tmp_path, model, image("steps", 600, name="x"), limit=0)
    assert counts["LSTM"] == 1


def test_weights_are_computed_with_beforehand_though_they_are_large(tmp_path: Path) -> None:
    weight = tf.Variable(np.random.default_rng(0).normal(size=(600, 600)).astype(np.float32))
    for limit in (0, None):
        counts = same(tmp_path, lambda x: [x @ (weight * 2.0 + 1.0)], image(600, name="x"), limit=limit)
        assert counts == {"MatMul": 1}


def test_large_weights_go_to_a_file_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploykit.child.tensorflow.export.storage.INLINE_LIMIT", 100_000)
    same(tmp_path, sequential((300,), layers.Dense(400), layers.Dense(200)), image(300, name="x"))
    assert (tmp_path / "model.onnx").stat().st_size < 10_000
    assert (tmp_path / "model.onnx.data").stat().st_size == 4 * (300 * 400 + 400 * 200)
