"""What is left makes up for what went: rows of layers, least squares, importance, and what is saved."""

from typing import Any

import numpy as np
import pytest

from deploykit.pruning.allocation import Curve, allocated, answers, evenly, noise
from deploykit.pruning.fitting import fit_in_order, fit_locally
from deploykit.pruning.importance import order_of
from deploykit.pruning.linear import linear_layers
from deploykit.pruning.moments import see
from deploykit.pruning.subject import Subject
from deploykit.tensors import Array
from tests.prune_graphs import HEADS, SIZE, Net, chained, depthwise, residual
from tests.test_prune_structure import read

SAMPLES = {"x": np.random.default_rng(3).normal(size=(64, 3, SIZE, SIZE)).astype(np.float32)}


def calls() -> list[dict[str, Array]]:
    return [{"x": SAMPLES["x"][:40]}, {"x": SAMPLES["x"][40:]}]


def quiet(_: str) -> None:
    pass


def redundant() -> Any:
    """Eight channels of which five are mixtures of the first three; the Relu after them never closes."""
    net, rng = Net(np.random.default_rng(0)), np.random.default_rng(1)
    own = rng.normal(size=(3, 3, 3, 3)) / 9
    mixed = np.concatenate([own, np.einsum("om,mchw->ochw", rng.normal(size=(5, 3)), own)]).astype(np.float32)
    bias = np.full(8, 30, np.float32)
    x = net.add("Relu", net.add("Conv", "x", net.weight(mixed), net.weight(bias), pads=[1] * 4))
    x = net.add("Relu", net.conv(x, 8, 6))
    return net.model(HEADS[0](net, x, 6))


@pytest.mark.parametrize("in_order", [False, True])
def test_channels_that_others_can_make_up_for_go_without_loss(in_order: bool) -> None:
    subject = Subject.of(read(redundant()), calls()[0])
    seen = see(subject.model.clone(), subject.layers, calls, quiet)
    group = subject.grouping.groups[0]
    orders = [order_of(one, subject.layers, seen.grams, "reconstruction") for one in subject.grouping.groups]
    gone = [5, *[0] * (len(orders) - 1)]
    removal = subject.removal(orders, gone)
    reference = answers(subject.model.clone(), calls())
    plain = noise(reference, answers(subject.cut(removal), calls()))
    model = subject.cut(removal)
    if in_order:
        assert fit_in_order(model, subject.layers, removal, seen, calls, quiet) >= 1
    else:
        fit_locally(model, subject.layers, removal, seen.grams)
    fitted = noise(reference, answers(model, calls()))
    assert group.size == 8
    assert plain > 0.1
    assert fitted < 2e-3 * plain


def test_what_is_fitted_answers_better_than_what_was_only_cut() -> None:
    subject = Subject.of(read(chained([residual, depthwise, residual], HEADS[0], seed=5)), calls()[0])
    seen = see(subject.model.clone(), subject.layers, calls, quiet)
    reference = answers(subject.model.clone(), calls())
    found = dict[str, list[float]]()
    gone = evenly(subject, 0.7 * subject.macs(subject.none_gone))
    for method in ("magnitude", "reconstruction"):
        orders = [order_of(one, subject.layers, seen.grams, method) for one in subject.grouping.groups]
        removal = subject.removal(orders, gone)
        models = [subject.cut(removal) for _ in range(3)]
        fit_locally(models[1], subject.layers, removal, seen.grams)
        fit_in_order(models[2], subject.layers, removal, seen, calls, quiet)
        found[method] = [noise(reference, answers(model, calls())) for model in models]
    for cut, _, in_order in found.values():
        assert in_order < 0.7 * cut
    assert found["reconstruction"][2] < 0.5 * found["magnitude"][0]


CONVS = {
    "plain": ("x=Conv<pads=[1,1,1,1]>(i,w,b)", (6, 4, 3, 3), (2, 4, 7, 9)),
    "strided": ("x=Conv<strides=[2,3],pads=[0,1,2,0],dilations=[2,1]>(i,w,b)", (6, 4, 3, 2), (2, 4, 11, 9)),
    "same_upper": ('x=Conv<auto_pad="SAME_UPPER",strides=[2,2]>(i,w,b)', (6, 4, 3, 3), (2, 4, 8, 7)),
    "same_lower": ('x=Conv<auto_pad="SAME_LOWER",strides=[2,2]>(i,w,b)', (6, 4, 4, 3), (2, 4, 8, 7)),
    "valid": ('x=Conv<auto_pad="VALID">(i,w)', (6, 4, 3, 3), (2, 4, 8, 7)),
    "one": ("x=Conv<pads=[2,1]>(i,w,b)", (6, 4, 5), (2, 4, 13)),
    "three": ("x=Conv(i,w,b)", (6, 4, 2, 1, 3), (2, 4, 5, 4, 6)),
    "gemm": ("x=Gemm<transB=1>(i,w,b)", (6, 4), (9, 4)),
    "turned": ("x=Gemm(i,w,b)", (4, 6), (9, 4)),
    "matmul": ("x=MatMul(i,w)", (4, 6), (2, 5, 4)),
}


@pytest.mark.parametrize("name", CONVS)
def test_a_layer_is_its_rows_times_its_matrix(name: str) -> None:
    text, shape, size = CONVS[name]
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=shape).astype(np.float32)}
    if "b" in text.partition("(")[2]:
        weights["b"] = rng.normal(size=6).astype(np.float32)
    given = rng.normal(size=size).astype(np.float32)
    model = read(_graph(text, weights, given.shape))
    layer = next(iter(linear_layers(model).values()))
    output = _run(model, given)
    at = rng.permutation(layer.positions(output))[:7]
    ours = layer.rows(given, at).astype(np.float64) @ layer.matrix()
    np.testing.assert_allclose(ours, layer.answers(output, at), atol=1e-5)
    layer.put(layer.matrix() * 2)
    np.testing.assert_allclose(_run(model, given), 2 * output, atol=1e-5)


def _graph(text: str, weights: dict[str, Array], shape: tuple[int, ...]) -> Any:
    import onnx
    from onnx import numpy_helper

    whole = (
        f'<ir_version: 10, opset_import: ["" : 18]> g (float[{",".join(map(str, shape))}] i) => (float[] x) {{{text}}}'
    )
    model = onnx.parser.parse_model(whole.replace("float[] x", "float x"))
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    model.graph.node[0].name = "layer"
    return model


def _run(model: Any, given: Array) -> Array:
    import onnx_ir
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_ir.to_proto(model).SerializeToString())
    found: Array = session.run(None, {"i": given})[0]
    return found


def test_multiplications_are_counted_and_goals_reached() -> None:
    subject = Subject.of(read(chained([residual], HEADS[0])), calls()[0])
    pixels = SIZE * SIZE
    stem, inner, last = pixels * 3 * 8 * 9, 2 * pixels * 8 * 6 * 9, pixels * 8 * 6 * 9
    whole = stem + inner + last + 24 * 7 + 7 * 4
    assert subject.macs(subject.none_gone) == whole
    curves = [Curve((2, 4), (0.01, 0.1)) for _ in subject.grouping.groups]
    for share in (0.8, 0.5, 0.25):
        for gone in (allocated(subject, curves, share * whole), evenly(subject, share * whole)):
            assert 0.6 * share * whole <= subject.macs(gone) <= share * whole
    assert subject.parameters(subject.none_gone) == sum(
        value.const_value.size
        for value in subject.model.graph.initializers.values()
        if value.const_value.dtype.name == "FLOAT"
    )


def test_a_curve_rises_between_what_was_measured_and_beyond() -> None:
    curve = Curve((4, 8, 12), (0.01, 0.04, 0.03))
    noises = [curve.noise(count) for count in range(16)]
    assert noises == sorted(noises)
    assert noises[0] == 0
    assert [noises[4], noises[8]] == pytest.approx([0.01, 0.04])
