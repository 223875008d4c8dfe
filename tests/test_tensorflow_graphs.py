"""GraphDefs and SavedModels as sources: what goes in and comes out, how they are frozen, and their float64 form."""

import gzip
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from deploykit.child.tensorflow.graph.exact import in_float64, moved, moved_inputs  # noqa: E402
from deploykit.child.tensorflow.graph.graph_def import load_graph_def  # noqa: E402
from deploykit.child.tensorflow.graph.model import GraphModel  # noqa: E402
from deploykit.child.tensorflow.graph.saved_model import load_saved_model  # noqa: E402
from deploykit.child.tensorflow.graph.session import running  # noqa: E402
from deploykit.child.tensorflow.model import Frozen, Source  # noqa: E402
from deploykit.errors import ModelError, UsageError  # noqa: E402
from deploykit.tensors import Tensors, TensorSpec  # noqa: E402

REAL = Path(__file__).parents[1].parent / "shared" / "data"
real = pytest.mark.skipif(not (REAL / "mnist").exists(), reason="the real models are not here: ../shared/data")
old = tf.compat.v1


def drawn(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def written(folder: Path, build: Callable[[], Any]) -> str:
    """Write the graph that a function builds, and give its path."""
    with tf.Graph().as_default() as graph:
        build()
    (folder / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    return str(folder / "graph.pb")


def graph_def(path: str | Path, inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ()) -> GraphModel:
    return load_graph_def(Source(str(path), "graph_def", graph_inputs=inputs, graph_outputs=outputs))


def saved(path: str | Path, signature: str | None = None) -> GraphModel:
    return load_saved_model(Source(str(path), "saved_model", signature=signature))


def specs(model: GraphModel) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(port.name, port.dtype, tuple(size or f"axis_{axis}" for axis, size in enumerate(port.shape or ())))
        for port in model.inputs
    )


def ran(frozen: Frozen, tensors: Tensors) -> Tensors:
    with running(frozen) as run:
        return run(tensors)


def operations(frozen: Frozen) -> set[str]:
    return {node.op for node in frozen.graph_def.node}


def in_both(build: Callable[[Any], Any], x: Any, shape: tuple[int | None, ...] | None = None) -> tuple[Any, Any]:
    """Give what a graph answers, and what its float64 form answers."""
    with tf.Graph().as_default() as graph:
        given = old.placeholder(x.dtype, shape, "x")
        tf.identity(build(given), "y")
    frozen = Frozen(graph.as_graph_def(), {"x": "x:0"}, {"y": "y:0"})
    exact = ran(in_float64(frozen), {"x": x})["y"]
    assert exact.dtype == np.float64
    return ran(frozen, {"x": x})["y"], exact


# what goes in and comes out of a GraphDef


def test_placeholders_are_inputs_and_what_nothing_takes_is_an_output(tmp_path: Path) -> None:
    def build() -> None:
        x = old.placeholder(tf.float32, [None, 4], "x")
        factor = old.placeholder_with_default(tf.constant(3.0), [], "factor")
        old.placeholder(tf.float32, [None], "labels")
        tf.split(x, 2, 1, name="halves")
        tf.multiply(x, factor, name="scaled")
        old.assert_greater(x, -100.0)

    model = graph_def(written(tmp_path, build))
    assert [(port.name, port.dtype, port.shape) for port in model.inputs] == [("x", "float32", (None, 4))]
    answers = model.run({"x": np.ones((1, 4), np.float32)})
    assert list(answers) == ["halves", "halves_1", "scaled"]
    assert answers["scaled"].tolist() == [[3, 3, 3, 3]]


def test_tensors_that_are_named_are_the_inputs_and_outputs_even_amid_the_graph(tmp_path: Path) -> None:
    def build() -> None:
        image = tf.io.decode_jpeg(old.placeholder(tf.string, [], "file"), channels=3)
        x = tf.expand_dims(tf.cast(image, tf.float32), 0, name="decoded")
        tf.identity(tf.nn.conv2d(x, drawn(3, 3, 3, 2), 1, "SAME"), name="out")

    path = written(tmp_path, build)
    with pytest.raises(ModelError, match=r"'file' of .* takes text or bytes") as caught:
        graph_def(path)
    assert "--inputs DecodeJpeg" in caught.value.fix[0]
    model = graph_def(path, ("decoded:0",), ("out", "decoded"))
    x = drawn(1, 5, 6, 3)
    answers = model.run({"decoded": x})
    frozen = model.freeze((TensorSpec("decoded", "float32", (1, "height", 6, 3)),))
    assert list(answers) == ["out", "decoded_out"]
    assert [node.op for node in frozen.graph_def.node if "Decode" in node.op] == []
    for name, array in ran(frozen, {"decoded": x}).items():
        np.testing.assert_array_equal(array, answers[name])


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ((), ("outptu",), "no tensor 'outptu'; did you mean 'output'"),
        (("x:7",), (), "no tensor 'x:7'"),
        (("output",), ("scaled",), "need x too"),
        (("x", "scaled"), ("output",), "depends on 'x'"),
    ],
)
def test_a_wrong_name_is_said(inputs: tuple[str, ...], outputs: tuple[str, ...], said: str, tmp_path: Path) -> None:
    def build() -> None:
        scaled = tf.multiply(old.placeholder(tf.float32, [None], "x"), 2.0, name="scaled")
        tf.identity(scaled, name="output")

    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        graph_def(written(tmp_path, build), inputs, outputs)


def test_an_input_of_unknown_shape_has_the_shape_that_its_weights_need(tmp_path: Path) -> None:
    def build() -> None:
        rows, image, planes = (old.placeholder(tf.float32, None, name) for name in ("rows", "image", "planes"))
        old.placeholder(tf.float32, None, "free") + 1
        tf.raw_ops.MatMul(a=tf.identity(rows), b=drawn(7, 2))
        tf.nn.conv2d(image, drawn(3, 3, 5, 2), 1, "SAME")
        tf.nn.conv2d(planes, drawn(3, 3, 5, 2), 1, "SAME", data_format="NCHW")

    shapes = {port.name: port.shape for port in graph_def(written(tmp_path, build)).inputs}
    assert shapes == {
        "rows": (None, 7),
        "image": (None, None, None, 5),
        "planes": (None, 5, None, None),
        "free": None,
    }


# what is no frozen graph


def a_variable() -> None:
    tf.identity(old.placeholder(tf.float32, [2, 2]) @ old.get_variable("w", [2, 2], use_resource=False))


def no_input() -> None:
    tf.identity(tf.constant(1.0), "y")


@pytest.mark.parametrize(("build", "said"), [(a_variable, "not frozen.*such as w"), (no_input, "plainly its output")])
def test_a_graph_that_can_not_be_a_source_is_refused(build: Callable[[], Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        graph_def(written(tmp_path, build))


def test_an_operation_that_this_tensorflow_does_not_know_is_named(tmp_path: Path) -> None:
    def build() -> None:
        tf.nn.relu(tf.multiply(old.placeholder(tf.float32, [2], "x"), 2.0, name="before"), name="r")

    path = Path(written(tmp_path, build))
    graph = old.GraphDef.FromString(path.read_bytes())
    next(node for node in graph.node if node.op == "Relu").op = "ContribRelu"
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ModelError, match="does not know: ContribRelu") as caught:
        graph_def(path)
    assert caught.value.details == ("ContribRelu: r",)
    assert graph_def(path, outputs=("before",)).run({"x": np.array([-1, 1], np.float32)})["before"].tolist() == [-2, 2]


def test_another_file_is_said_to_be_what_it_is(tmp_path: Path) -> None:
    def build() -> None:
        tf.multiply(old.placeholder(tf.float32, [None, 50]), np.ones((1, 50), np.float32))
        old.train.export_meta_graph(str(tmp_path / "meta"))

    whole = Path(written(tmp_path, build)).read_bytes()
    kinds = {"meta": "a meta graph", "half": "truncated", "empty": "truncated"}
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").write_bytes(b"")
    for name, said in kinds.items():
        with pytest.raises(ModelError, match=said):
            graph_def(tmp_path / name)


# inputs that are held at a value


def dropped(modern: bool) -> None:
    x, keep = old.placeholder(tf.float32, [None, 4], "x"), old.placeholder(tf.float32, None, "keep_prob")
    if modern:
        tf.identity(old.nn.dropout(x, rate=1 - keep), "y")
    else:
        drawn_ones = tf.floor(keep + tf.random.uniform(tf.shape(x)))
        tf.identity(x / keep * drawn_ones, "y")


@pytest.mark.parametrize("modern", [False, True])
def test_a_dropout_that_keeps_all_is_gone_from_the_frozen_graph(modern: bool, tmp_path: Path) -> None:
    model = graph_def(written(tmp_path, lambda: dropped(modern)))
    assert model.random_inputs() == ("keep_prob",)
    x = drawn(3, 4)
    assert not np.array_equal(model.run({"x": x, "keep_prob": np.array(0.5, np.float32)})["y"], x)
    model.fix({"keep_prob": np.array(1)})
    assert [port.name for port in model.inputs] == ["x"]
    frozen = model.freeze(specs(model))
    assert not any("Random" in op for op in operations(frozen))
    assert dict(frozen.inputs) == {"x": "x:0"}
    np.testing.assert_array_equal(ran(frozen, {"x": x})["y"], x)
    np.testing.assert_array_equal(model.run({"x": x})["y"], x)


def test_a_dropout_that_drops_stays(tmp_path: Path) -> None:
    model = graph_def(written(tmp_path, lambda: dropped(False)))
    model.fix({"keep_prob": np.array(0.5, np.float32)})
    assert "RandomUniform" in operations(model.freeze(specs(model)))


def test_a_branch_that_is_never_taken_is_gone_from_the_frozen_graph(tmp_path: Path) -> None:
    def build() -> None:
        x, training = old.placeholder(tf.float32, [None, 4], "x"), old.placeholder(tf.bool, [], "is_training")
        tf.identity(old.cond(training, lambda: old.nn.dropout(x, rate=0.5), lambda: x * 1.5), "y")

    was = old.control_flow_v2_enabled()
    old.disable_control_flow_v2()
    try:
        model = graph_def(written(tmp_path, build))
    finally:
        if was:
            old.enable_control_flow_v2()
    assert model.random_inputs() == ("is_training",)
    assert list(model.run({"x": drawn(2, 4), "is_training": np.array(True)})) == ["y"]
    model.fix({"is_training": np.array(False)})
    frozen = model.freeze(specs(model))
    assert not operations(frozen) & {"Switch", "Merge", "RandomUniform"}
    x = drawn(2, 4)
    np.testing.assert_array_equal(ran(frozen, {"x": x})["y"], x * np.float32(1.5))
    np.testing.assert_array_equal(model.run({"x": x})["y"], x * np.float32(1.5))


def test_a_value_that_the_input_can_not_hold_is_refused(tmp_path: Path) -> None:
    def build() -> None:
        tf.add(old.placeholder(tf.int32, [None], "x"), old.placeholder(tf.int32, [], "n"), name="y")

    model = graph_def(written(tmp_path, build))
    with pytest.raises(UsageError, match=r"'n' is int32, which can't hold 1.5"):
        model.fix({"n": np.array(1.5)})
    model.fix({"n": np.array(2.0)})
    assert model.run({"x": np.array([1], np.int32)})["y"].tolist() == [3]


# SavedModels


class Scaler(tf.Module):  # type: ignore[name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable([1.0, 2.0])

    def two(self, x: Any, by: Any) -> Any:
        return {"x": x * self.factor * by, "also": x}

    def many(self, zebra: Any, apple: Any) -> Any:
        return {f"output_{number}": zebra * self.factor + apple[:, :1] * number for number in range(11)}

    def text(self, words: Any) -> Any:
        return tf.strings.length(words)


def exported(folder: Path, **signatures: tuple[str, dict[str, Any]]) -> Path:
    module = Scaler()
    functions = {
        key: tf.function(getattr(module, name)).get_concrete_function(
            **{one: tf.TensorSpec(shape, dtype, one) for one, (shape, dtype) in takes.items()}
        )
        for key, (name, takes) in signatures.items()
    }
    tf.saved_model.save(module, str(folder), signatures=functions)
    return folder


TWO = ("two", {"x": ((None, 2), tf.float32), "by": ((), tf.float32)})
MANY = ("many", {"zebra": ((None, 2), tf.float32), "apple": ((None, 3), tf.float32)})
TEXT = ("text", {"words": ((None,), tf.string)})


def test_a_signature_keeps_its_names_and_the_order_of_its_function(tmp_path: Path) -> None:
    model = saved(exported(tmp_path / "model", serving_default=MANY, other=TWO))
    assert [port.name for port in model.inputs] == ["zebra", "apple"]
    given = {"zebra": drawn(2, 2), "apple": drawn(2, 3)}
    answers = model.run(given)
    assert list(answers) == [f"output_{number}" for number in range(11)]
    np.testing.assert_array_equal(
        answers["output_10"], given["zebra"] * np.array([1, 2], np.float32) + given["apple"][:, :1] * 10
    )
    frozen = model.freeze(specs(model))
    assert (list(frozen.inputs), list(frozen.outputs)) == (["zebra", "apple"], list(answers))
    for name, array in ran(frozen, given).items():
        np.testing.assert_array_equal(array, answers[name])


def test_an_input_of_a_signature_can_be_held_and_no_output_has_an_inputs_name(tmp_path: Path) -> None:
    model = saved(exported(tmp_path / "model", predict=TWO))
    assert model.notes == ("its only signature is taken: predict",)
    model.fix({"by": np.array(3, np.float32)})
    x = drawn(4, 2)
    answers = model.run({"x": x})
    assert set(answers) == {"also", "x_out"}
    frozen = model.freeze((TensorSpec("x", "float32", (4, 2)),))
    assert dict(frozen.inputs) == {"x": "x:0"}
    np.testing.assert_array_equal(ran(frozen, {"x": x})["x_out"], answers["x_out"])


def test_several_signatures_are_listed_and_a_wrong_one_is_said(tmp_path: Path) -> None:
    folder = exported(tmp_path / "model", alpha=TWO, beta=MANY)
    with pytest.raises(UsageError, match="2 signatures") as caught:
        saved(folder)
    assert caught.value.details == ("alpha: by, x", "beta: apple, zebra")
    with pytest.raises(UsageError, match="did you mean 'alpha'"):
        saved(folder, "alfa")


def test_a_signature_that_takes_text_is_refused_by_the_inputs_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'words' .* is of type string"):
        saved(exported(tmp_path / "model", serving_default=TEXT))


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("saved_model.pb", "saved_model.pb is truncated or damaged"),
        ("variables/variables.index", "can't be loaded"),
        ("variables/variables.data-00000-of-00001", "can't be loaded"),
    ],
)
def test_a_damaged_folder_is_one_clear_error(file: str, said: str, tmp_path: Path) -> None:
    folder = exported(tmp_path / "model", serving_default=TWO)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=said):
        saved(folder)


def test_a_folder_without_weights_or_without_a_model_is_said_to_be_so(tmp_path: Path) -> None:
    folder = exported(tmp_path / "model", serving_default=TWO)
    shutil.rmtree(folder / "variables")
    with pytest.raises(ModelError, match=r"no variables/variables\.index"):
        saved(folder)
    with pytest.raises(ModelError, match=r"no SavedModel: it has no saved_model\.pb"):
        saved(tmp_path)


def test_a_saved_model_of_tensorflow_1_is_loaded_by_its_own_loader(tmp_path: Path) -> None:
    folder = str(tmp_path / "old")
    with tf.Graph().as_default(), old.Session() as session:
        x, keep = old.placeholder(tf.float32, [None, 4], "x"), old.placeholder(tf.float32, None, "keep")
        weights = old.get_variable("w", initializer=drawn(4, 3), use_resource=False)
        y = old.nn.dropout(tf.matmul(x, weights), rate=1 - keep)
        session.run(old.global_variables_initializer())
        builder = old.saved_model.Builder(folder)
        signature = old.saved_model.predict_signature_def({"image": x, "keep": keep}, {"scores": y})
        builder.add_meta_graph_and_variables(session, ["serve"], {"predict": signature})
        builder.save()
    model = saved(folder)
    assert any("TensorFlow 1's loader" in note for note in model.notes)
    assert model.random_inputs() == ("keep",)
    model.fix({"keep": np.array(1, np.float32)})
    given = {"image": drawn(2, 4)}
    frozen = model.freeze((TensorSpec("image", "float32", ("batch", 4)),))
    assert not operations(frozen) & {"RandomUniform", "VariableV2"}
    np.testing.assert_allclose(model.run(given)["scores"], given["image"] @ drawn(4, 3), rtol=1e-6)
    np.testing.assert_array_equal(ran(frozen, given)["scores"], model.run(given)["scores"])


# float64


def batch_norm(x: Any) -> Any:
    scale, offset, mean, variance = (drawn(3, seed=seed) for seed in range(4))
    return old.nn.fused_batch_norm(x, scale, offset, mean, variance**2, epsilon=0.001, is_training=False)[0]


def test_batch_normalization_is_exact_in_float64() -> None:
    x = drawn(2, 4, 5, 3)
    found, exact = in_both(batch_norm, x)
    scale, offset, mean, variance = (drawn(3, seed=seed).astype(np.float64) for seed in range(4))
    spread = np.square(drawn(3, seed=3)).astype(np.float64) + float(np.float32(0.001))
    wanted = (x - mean) / np.sqrt(spread) * scale + offset
    assert np.abs(exact - wanted).max() < 1e-14
    assert 1e-9 < np.abs(found - wanted).max() < 1e-5, "the source is not exact, or nothing was measured"
    assert variance.dtype == np.float64


def linear(before: int, after: int) -> Any:
    place = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    weights = np.zeros((after, before))
    for row, position in enumerate(place):
        start = int(np.floor(position))
        weights[row, start] += 1 - (position - start)
        weights[row, min(start + 1, before - 1)] += position - start
    return weights


def test_a_bilinear_resize_is_exact_in_float64() -> None:
    x = drawn(2, 7, 5, 3)
    found, exact = in_both(lambda given: tf.image.resize(given, (10, 13)), x, (None, None, None, 3))
    wanted = np.einsum("ah,bw,nhwc->nabc", linear(7, 10), linear(5, 13), x.astype(np.float64))
    assert np.abs(exact - wanted).max() < 1e-14
    assert np.abs(found - wanted).max() < 1e-5


@pytest.mark.parametrize("op", ["ResizeBilinear", "ResizeBicubic"])
@pytest.mark.parametrize("told", [{}, {"align_corners": True}, {"half_pixel_centers": True}])
@pytest.mark.parametrize("size", [(12, 10), (17, 3), (1, 29)])
def test_every_kind_of_resize_is_in_float64_what_it_is_in_float32(
    op: str, told: dict[str, bool], size: tuple[int, int]
) -> None:
    found, exact = in_both(lambda x: getattr(tf.raw_ops, op)(images=x, size=size, **told), drawn(2, 6, 5, 3))
    assert found.shape == exact.shape
    assert np.abs(found - exact).max() < 1e-5


NCHW = {"data_format": "NCHW", "padding": "SAME"}
CHANNELS_FIRST: dict[str, Callable[[Any], Any]] = {
    "convolution": lambda x: tf.nn.conv2d(x, drawn(3, 3, 4, 2), [1, 1, 2, 1], "SAME", data_format="NCHW"),
    "depthwise": lambda x: tf.nn.depthwise_conv2d(x, drawn(3, 3, 4, 2), [1, 1, 1, 1], "SAME", data_format="NCHW"),
    "maximum": lambda x: tf.nn.max_pool2d(x, 3, 2, **NCHW),
    "mean": lambda x: tf.nn.avg_pool2d(x, 3, 2, **NCHW),
}


@pytest.mark.parametrize("name", CHANNELS_FIRST)
def test_channels_first_is_had_in_float64(name: str) -> None:
    found, exact = in_both(CHANNELS_FIRST[name], drawn(2, 4, 9, 7), (None, 4, None, None))
    assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max()


OTHERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "local response normalization": (lambda x: tf.nn.lrn(x, 2, 1.5, 0.3, 0.7), (2, 3, 4, 9)),
    "maximum of volumes": (lambda x: tf.nn.max_pool3d(x, 3, 2, "SAME"), (1, 5, 6, 7, 2)),
    "mean of volumes": (lambda x: tf.nn.avg_pool3d(x, 3, 2, "SAME"), (1, 5, 6, 7, 2)),
    "spectrum": (lambda x: tf.abs(tf.signal.rfft(x)), (3, 8)),
    "half precision": (lambda x: tf.cast(tf.cast(x, tf.float16) + 1, tf.float32), (3, 8)),
    "loop": (lambda x: tf.while_loop(lambda n, _: n < 4, lambda n, y: (n + 1, tf.tanh(y) * 1.1), (0, x))[1], (3, 8)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_operation_without_a_kernel_in_float64_is_expressed_by_others(name: str) -> None:
    build, shape = OTHERS[name]
    found, exact = in_both(build, drawn(*shape), shape)
    assert 0 <= np.abs(found - exact).max() < (2e-3 if name == "half precision" else 2e-6) * np.abs(exact).max()


def test_what_only_orders_a_tensor_array_stays_what_it_is() -> None:
    def build(x: Any) -> Any:
        control = old.control_flow_v2_enabled()
        old.disable_control_flow_v2()
        try:
            array = tf.TensorArray(tf.float32, size=3).unstack(x)
            total = tf.while_loop(lambda n, _: n < 3, lambda n, y: (n + 1, y + array.read(n) / 3), (0, tf.zeros(4)))
        finally:
            if control:
                old.enable_control_flow_v2()
        return total[1]

    x = drawn(3, 4)
    _, exact = in_both(build, x, (3, 4))
    assert np.abs(exact - x.astype(np.float64).sum(0) / 3).max() < 1e-15


@pytest.mark.parametrize(
    "build",
    [
        tf.quantization.fake_quant_with_min_max_args,
        lambda x: x + tf.random.uniform([4]),
        lambda x: tf.cast(tf.bitcast(x, tf.int32), tf.float32),
        lambda x: tf.image.resize(x[None, None, :, None], (2, 2), "area"),
    ],
    ids=["quantized", "random", "bits", "area"],
)
def test_what_has_no_meaning_in_float64_is_refused(build: Callable[[Any], Any]) -> None:
    with pytest.raises(ModelError, match="can't be computed in float64"):
        in_both(build, drawn(4), (4,))


# an ulp away


def test_weights_move_to_a_neighbouring_number_and_zeros_and_scalars_stay() -> None:
    weights = np.array([1.0, -3.0, 0.0, np.inf], np.float32)
    with tf.Graph().as_default() as graph:
        x = old.placeholder(tf.float32, [4], "x")
        tf.identity(x * tf.constant(weights, name="w") + tf.constant(2.0, name="two"), "y")
    frozen = Frozen(graph.as_graph_def(), {"x": "x:0"}, {"w": "w:0", "two": "two:0"})
    there = ran(moved(frozen, 1), {"x": weights})
    steps = np.abs(there["w"].view(np.int32) - weights.view(np.int32))
    assert steps.tolist() == [1, 1, 0, 0]
    assert there["two"] == 2
    assert ran(moved(frozen, 1), {"x": weights})["w"].tolist() == there["w"].tolist()


def test_weights_that_stand_beside_the_graph_are_fed_widened_and_moved() -> None:
    weights = drawn(4, 3)
    with tf.Graph().as_default() as graph:
        x, w = old.placeholder(tf.float32, [None, 4], "x"), old.placeholder(tf.float32, [4, 3], "w")
        tf.matmul(x, w, name="y")
    frozen = Frozen(graph.as_graph_def(), {"x": "x:0"}, {"y": "y:0"}, {"w": weights})
    given = {"x": drawn(2, 4, seed=1)}
    exact = ran(in_float64(frozen), given)["y"]
    assert np.abs(exact - given["x"].astype(np.float64) @ weights.astype(np.float64)).max() < 1e-14
    assert 0 < np.abs(ran(moved(frozen, 1), given)["y"] - ran(frozen, given)["y"]).max() < 1e-5


def test_inputs_move_up_and_down_and_integers_stay() -> None:
    given = {"x": drawn(100), "half": drawn(100).astype(np.float16), "n": np.arange(3)}
    there = moved_inputs(given, 7)
    for name in ("x", "half"):
        assert there[name].dtype == given[name].dtype
        assert np.sign(there[name] - given[name]).min() == -1
        assert np.sign(there[name] - given[name]).max() == 1
        np.testing.assert_array_equal(np.nextafter(given[name], there[name]), there[name])
    assert there["n"].tolist() == [0, 1, 2]


# models of others


def mnist() -> Iterator[Any]:
    for name, offset in (("images-idx3", 16), ("labels-idx1", 8)):
        with gzip.open(REAL / "mnist" / f"t10k-{name}-ubyte.gz") as file:
            yield np.frombuffer(file.read(), np.uint8, offset=offset)


@real
@pytest.mark.parametrize(("file", "accuracy"), [("tf_fc_frozen.pb", 0.9548), ("tf_lstm_frozen.pb", 0.9826)])
def test_a_frozen_graph_of_mnist_keeps_its_accuracy(file: str, accuracy: float) -> None:
    model = graph_def(REAL / "mnist" / file)
    if "lstm" in file:
        assert model.random_inputs() == ("keep_prob",)
        model.fix({"keep_prob": np.array(1, np.float32)})
    images, labels = mnist()
    x = images.reshape(-1, 784).astype(np.float32) / 255
    frozen = model.freeze((TensorSpec("X", "float32", ("batch", 784)),))
    assert not any("Random" in op for op in operations(frozen))
    found, again = model.run({"X": x})["output"], ran(frozen, {"X": x[:100]})["output"]
    exact = ran(in_float64(frozen), {"X": x[:100]})["output"]
    assert (found.argmax(1) == labels).mean() == pytest.approx(accuracy, abs=5e-5)
    np.testing.assert_allclose(again, found[:100], atol=1e-5 * np.abs(found).max())
    assert 0 < np.abs(found[:100] - exact).max() < 1e-5 * np.abs(exact).max()


@real
def test_a_frozen_graph_with_a_fixed_batch_keeps_it() -> None:
    model = graph_def(REAL / "cifar10" / "samplenet.pb")
    assert [(port.name, port.shape) for port in model.inputs] == [("data", (1, 3, 32, 32))]
    assert {name: array.shape for name, array in model.run({"data": drawn(1, 3, 32, 32)}).items()} == {"add_4": (1, 10)}


@real
def test_a_saved_model_that_tensorflow_2_refuses_is_loaded_all_the_same() -> None:
    model = saved(REAL / "kws" / "kws_ref_model")
    assert "add_slot" in model.notes[-1]
    given = {"input_1": drawn(2, 49, 10, 1)}
    frozen = model.freeze((TensorSpec("input_1", "float32", ("batch", 49, 10, 1)),))
    found = model.run(given)["dense"]
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(ran(frozen, given)["dense"], found, atol=1e-6)
    exact = ran(in_float64(frozen), given)["dense"]
    assert 0 < np.abs(found - exact).max() < 1e-5
