"""float16: what fits is halved and proved with every tensor rounded; what does not stays in float32, and is named."""

import collections
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit
from deploykit.errors import NotEquivalent, UsageError
from deploykit.halving.plan import Plan
from deploykit.halving.search import Trial, search
from deploykit.onnx_io import lineage, load, save, signature
from deploykit.optimization import Optimization
from deploykit.passes.bf16 import Bf16
from deploykit.passes.fp16 import Fp16
from deploykit.rounding import emulate
from tests.half_nets import HARD, net, normal, scores
from tests.onnx_models import run
from tests.running import deploykit as command


def quantized(path: Path, **options: Any) -> Optimization:
    return deploykit.optimize(path, path.with_name("half.onnx"), passes=[Fp16(**options)])


def kinds(path: Path) -> collections.Counter[str]:
    return collections.Counter(node.op_type for node in load(path).graph.all_nodes())


def on_a_gpu(path: Path) -> Path:
    """Give a file that rounds every tensor of float16, as a machine with such numbers does."""
    model = load(path)
    emulate(model)
    save(model, path.with_suffix(".rounded.onnx"))
    return path.with_suffix(".rounded.onnx")


def plain(path: Path) -> Path:
    """Convert a file as onnxconverter-common does."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made = convert_float_to_float16(onnx.load(path), keep_io_types=True, op_block_list=[], max_finite_val=65504.0)
    onnx.save(made, path.with_suffix(".plain.onnx"))
    return path.with_suffix(".plain.onnx")


@pytest.mark.parametrize("name", HARD)
def test_what_float16_can_not_hold_stays_in_float32_and_is_proved(name: str, tmp_path: Path) -> None:
    path = HARD[name](tmp_path)
    made = quantized(path)
    assert made.verdict.passed
    assert any("in float32" in note for note in made.stages[0].notes)
    feed = {spec.name: normal(2, *map(int, spec.dims[1:]), seed=9) for spec in signature(load(path)).inputs}
    (wanted,) = run(path, feed)
    (found,) = run(on_a_gpu(made.path), feed)
    assert np.abs(found - wanted).max() < 0.01 * np.abs(wanted).max()
    (lost,) = run(on_a_gpu(plain(path)), feed)
    assert not np.abs(lost - wanted).max() < 0.3 * np.abs(wanted).max(), (
        "the plain conversion is right: this tests nothing"
    )


def test_a_model_without_faults_has_two_casts_and_half_the_size(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    ran = command("quantize", "--fp16", cwd=here)
    assert ran.code == 0, ran.err
    half = here / "digits.fp16.onnx"
    assert kinds(half)["Cast"] == 2
    own = signature(load(half))
    assert [spec.dtype for spec in (*own.inputs, *own.outputs)] == ["float32", "float32"]
    weights = [value.const_value for value in load(half).graph.initializers.values()]
    assert sum(one.nbytes for one in weights) < 0.52 * (here / "digits.onnx").stat().st_size
    assert lineage(load(half))["precision"] == "float16"
    assert deploykit.validate(half).passed


def test_inputs_and_outputs_become_float16_where_that_is_asked_for(here: Path) -> None:
    ran = command("quantize", "--fp16", "--fp16-io", "-o", "half.onnx", cwd=here)
    assert ran.code == 0, ran.err
    own = signature(load(here / "half.onnx"))
    assert [spec.dtype for spec in (*own.inputs, *own.outputs)] == ["float16", "float16"]
    assert kinds(here / "half.onnx")["Cast"] == 0
    assert deploykit.validate(here / "half.onnx").passed


def test_the_ports_of_another_file_may_still_not_change(here: Path) -> None:
    command("quantize", "--fp16", "--fp16-io", "-o", "half.onnx", cwd=here)
    model = load(here / "half.onnx")
    model.metadata_props["deploykit.passes"] = "simplify"
    save(model, here / "half.onnx")
    verdict = deploykit.validate(here / "half.onnx")
    assert {check.what for check in verdict.failures} == {"inputs", "outputs"}


def test_casts_are_not_put_between_what_is_fused(tmp_path: Path) -> None:
    # The scores overflow: from the product that makes them to the one that reads the Softmax all stays in float32.
    made = quantized(scores(tmp_path))
    model = load(made.path)
    by_output = {node.outputs[0].name: node for node in model.graph}
    assert all(value.dtype.name == "FLOAT" for name in ("score", "masked", "p") for value in by_output[name].outputs)
    between = [
        node for node in model.graph if node.op_type == "Cast" and node.inputs[0].name in ("score", "masked", "p")
    ]
    assert not between
    assert kinds(made.path)["Cast"] == 1 + 3 + 1 + 1, "x; q, k and v; what they are mixed to; y"


def test_no_cast_follows_a_cast(tmp_path: Path) -> None:
    text = """net (float[batch,8] x) => (float[batch,8] y) {
        a = Mul (x, large)
        b = Reshape (a, to)
        c = Mul (b, small)
        whole = Cast <to = 7> (x)
        z = Cast <to = 1> (whole)
        d = Add (c, z)
        y = MatMul (d, w)
    }"""
    own: dict[str, Any] = {
        "large": np.float32(1e6),
        "small": np.float32(1e-6),
        "to": np.array([-1, 8], np.int64),
        "w": normal(8, 8),
    }
    made = quantized(net(text, tmp_path, **own))
    for node in load(made.path).graph:
        before = node.inputs[0].producer()
        if node.op_type == "Cast" and before is not None and node.inputs[0].dtype.is_floating_point():
            assert before.op_type != "Cast"
    assert made.verdict.passed


def test_weights_that_vanish_are_counted_and_named(tmp_path: Path) -> None:
    weight = normal(64, 64)
    weight[0, :5] = 1e-9
    path = net("net (float[batch,64] x) => (float[batch,64] y) { y = MatMul (x, w) }", tmp_path, w=weight)
    made = quantized(path)
    assert "5 weights under 6e-08 became zero: 5 of 4096 of w" in made.stages[0].notes


def test_a_weight_over_the_largest_number_stays_whole(tmp_path: Path) -> None:
    weight = normal(64, 64)
    weight[3, 3] = 1e5
    text = "net (float[batch,64] x) => (float[batch,64] y, float[batch,64] z) { y = MatMul (x, w)  z = MatMul (x, v) }"
    path = net(text, tmp_path, w=weight, v=normal(64, 64))
    made = quantized(path)
    assert any("1 of 4096 weights are over 65504, up to 1e+05" in note for note in made.stages[0].notes)
    assert load(made.path).graph.initializers["w"].dtype.name == "FLOAT"


def test_what_hides_scores_becomes_a_number_that_fits(tmp_path: Path) -> None:
    text = """net (float[batch,4,8] x, int64[batch,1,4] live) => (float[batch,4,8] y) {
        alive = Cast <to = 9> (live)
        add = Where (alive, zero, hidden)
        xt = Transpose <perm = [0, 2, 1]> (x)
        score = MatMul (x, xt)
        masked = Add (score, add)
        p = Softmax <axis = -1> (masked)
        y = MatMul (p, x)
    }"""
    hidden = np.float32(np.finfo(np.float32).min)
    made = quantized(net(text, tmp_path, zero=np.float32(0), hidden=hidden))
    assert kinds(made.path)["Cast"] == 3, "x, y, and what was there"
    assert any("clipped to -32768 in hidden" in note for note in made.stages[0].notes)


def test_the_layers_that_lose_too_much_are_found_and_kept(tmp_path: Path) -> None:
    # Nothing overflows, and float16 loses all in the difference of two large numbers that are nearly the same. It is
    # written as a Sum: that of an Add or a Sub is seen from the ranges.
    text = """net (float[batch,16] x) => (float[batch,16] y) {
        a = MatMul (x, first)
        b = Relu (a)
        far = Add (b, offset)
        near = Sum (far, back)
        c = MatMul (near, second)
        d = Relu (c)
        y = MatMul (d, third)
    }"""
    own: dict[str, Any] = {
        name: normal(16, 16, scale=0.3, seed=seed) for seed, name in enumerate(("first", "second", "third"))
    }
    offset = np.full(16, 8000.25, np.float32)
    made = quantized(net(text, tmp_path, offset=offset, back=-offset, **own))
    names = {value.name: value.dtype.name for node in load(made.path).graph for value in node.outputs}
    assert names["far"] == names["near"] == "FLOAT"
    assert names["c"] == names["d"] == "FLOAT16"
    assert any("far (Add): fails alone" in note or "near (Sum): fails alone" in note for note in made.stages[0].notes)


@pytest.mark.parametrize("kind", ["Sub", "Sum"])
def test_a_mean_that_is_large_beside_what_varies_is_taken_off_in_float32(tmp_path: Path, kind: str) -> None:
    # Temperatures in kelvin. The source's own noise is as large as the limit of float16 allows: the SQNR fails. Cheap
    # nodes alone go back to float32 with the cheapest cut, and would seem to do no harm.
    text = f"""net (float[batch,16] x) => (float[batch,4] y) {{
        a = {kind} (x, mean)
        b = Div (a, deviation)
        c = MatMul (b, first)
        d = Relu (c)
        y = MatMul (d, second)
    }}"""
    own: dict[str, Any] = {"first": normal(16, 64, scale=0.3), "second": normal(64, 4, scale=0.3, seed=1)}
    mean = np.full(16, 300 if kind == "Sub" else -300, np.float32)
    path = net(text, tmp_path, mean=mean, deviation=np.full(16, 0.1, np.float32), **own)
    np.savez(tmp_path / "data.npz", x=300 + normal(32, 16, scale=0.1, seed=2))
    made = deploykit.optimize(path, tmp_path / "half.onnx", passes=[Fp16()], data=tmp_path / "data.npz")
    names = {value.name: value.dtype.name for node in load(made.path).graph for value in node.outputs}
    assert names["a"] == "FLOAT"
    assert names["c"] == names["d"] == "FLOAT16"
    said = "times smaller than what it subtracts" if kind == "Sub" else "times the limit"
    assert any(f"a ({kind})" in note and said in note for note in made.stages[0].notes)


def test_a_model_that_was_broken_before_is_told_apart(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx_ir

    monkeypatch.chdir(here)
    model = load("digits.onnx")
    value = max(model.graph.initializers.values(), key=lambda one: one.const_value.size)
    value.const_value = onnx_ir.tensor(value.const_value.numpy() * np.float32(1.5), name=value.name)
    save(model, "broken.onnx")
    with pytest.raises(NotEquivalent) as failed:
        deploykit.optimize("broken.onnx", passes=[Fp16()])
    assert "so it was before fp16" in failed.value.details[0]
    assert not Path("broken.fp16.onnx").exists()


def test_a_search_keeps_the_few_groups_whose_errors_are_too_much() -> None:
    errors = dict.fromkeys(range(50), 0.01) | {17: 3.0, 31: 0.8, 32: 0.8}
    plan = Plan(frozenset(errors), {}, {}, tuple(frozenset([number]) for number in errors))
    trials: list[Collection[int]] = []

    def trial(kept: Collection[int]) -> Trial:
        trials.append(kept)
        error = sum(own**2 for number, own in errors.items() if number not in kept) ** 0.5
        return Trial(error <= 1, error)

    kept = search(plan, trial)
    assert kept is not None
    assert {17} < set(kept) <= {17, 31, 32}
    assert len(kept) == 2
    assert "3.0 times the limit" in kept[17]
    assert len(trials) < 70


def test_a_search_says_where_nothing_helps() -> None:
    plan = Plan(frozenset([0, 1]), {}, {}, (frozenset([0]), frozenset([1])))
    assert search(plan, lambda _: Trial(passed=False, error=2.0)) is None


def test_what_hangs_on_digits_stays_in_float32(tmp_path: Path) -> None:
    text = """net (int64[batch,seq] at, float[batch,seq,8] x) => (float[batch,seq,8] y) {
        p = Cast <to = 1> (at)
        q = Unsqueeze (p, last)
        angle = Mul (q, frequency)
        s = Sin (angle)
        z = Add (x, s)
        y = MatMul (z, w)
    }"""
    own: dict[str, Any] = {
        "last": np.array([-1], np.int64),
        "frequency": np.float32(3.7) ** -np.arange(8, dtype=np.float32),
    }
    path = net(text, tmp_path, w=normal(8, 8), **own)
    at = np.arange(4000, 4064)[None].repeat(4, 0)
    np.savez(tmp_path / "data.npz", at=at, x=normal(4, 64, 8))
    made = deploykit.optimize(path, tmp_path / "half.onnx", passes=[Fp16()], data=tmp_path / "data.npz")
    names = {value.name: value.dtype.name for node in load(made.path).graph for value in node.outputs}
    assert names["p"] == names["angle"] == "FLOAT"
    assert any("takes the Sin of" in note for note in made.stages[0].notes)


def test_bfloat16_is_proved_by_rounding_every_tensor(here: Path) -> None:
    ran = command("quantize", "--bf16", cwd=here)
    assert ran.code == 0, ran.err
    assert "every tensor of bfloat16 rounded" in ran.out
    half = load(here / "digits.bf16.onnx")
    assert "BFLOAT16" in {value.dtype.name for value in half.graph.initializers.values()}
    again = command("validate", "digits.bf16.onnx", "--json", cwd=here)
    assert again.code == 0, again.err
    assert again.json["checks"][0]["value"] > 10, "it was rounded"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "none is named"),
        (["--fp16", "--bf16"], "two are named"),
        (["--bf16", "--fp16-io"], "--fp16-io is for a model in float16"),
    ],
)
def test_one_type_is_asked_for(here: Path, options: list[str], said: str) -> None:
    ran = command("quantize", "digits.onnx", *options, cwd=here)
    assert ran.code == 2
    assert said in ran.err


def test_a_halved_model_is_not_halved_again(here: Path) -> None:
    assert command("quantize", "--fp16", cwd=here).code == 0
    ran = command("quantize", "digits.fp16.onnx", "--fp16", cwd=here)
    assert ran.code == 2
    assert "this one is in float16" in ran.err


def test_optimize_takes_it_into_its_chain(here: Path) -> None:
    ran = command("optimize", "--fp16", cwd=here)
    assert ran.code == 0, ran.err
    assert lineage(load(here / "digits.fp16.onnx"))["passes"].endswith("simplify; fp16")


def test_bfloat16_has_a_limit_of_its_own(tmp_path: Path) -> None:
    made = deploykit.optimize(scores(tmp_path), tmp_path / "half.onnx", passes=[Bf16()])
    assert made.verdict.checks[0].limit == 10 * 2**16


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("net (int64[batch] x) => (int64[batch] y) { y = Add (x, x) }", "none of its numbers is float32"),
        ("net (float[batch,9] x) => (float[batch,9] y) { y = CumSum (x, axis) }", "CumSum is computed in float32"),
        ("net (float[batch,9] x) => (float[batch,9] y) { y = Relu (x) }", "a cast there costs more than it saves"),
    ],
)
def test_a_model_without_anything_to_halve_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError, match=r"nothing in net\.onnx that can be float16") as failed:
        quantized(net(text, tmp_path, axis=np.int64(1)))
    assert why in failed.value.details[0]


def test_what_became_of_each_node_is_told_and_how_it_is_on_a_gpu(tmp_path: Path) -> None:
    text = """net (float[batch,8] x) => (float[batch,8] y) {
        [first] a = MatMul (x, w)
        [sums] b = CumSum (a, axis)
        [between] c = Relu (b)
        [rest] d = CumSum (c, axis)
        [last] y = MatMul (d, w)
    }"""
    path = net(text, tmp_path, w=normal(8, 8), axis=np.int64(1))
    made = quantized(path)
    (stage,) = made.stages
    assert {layer.name: layer.fate for layer in stage.layers} == {
        "first": "float16",
        "sums": "float32: CumSum is computed in float32",
        "between": "float32: a cast there costs more than it saves",
        "rest": "float32: CumSum is computed in float32",
        "last": "float16",
    }
    noted = [note for note in stage.notes if "with every tensor rounded to float16, as a GPU does: y keeps" in note]
    assert float(noted[0].split()[-2]) > 40
    assert any("the file is not smaller" in note for note in stage.notes), "256 bytes of weights, and five of names"
