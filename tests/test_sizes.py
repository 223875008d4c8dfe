"""A file that is wrong only at some sizes is found out, by the sizes that are tried anyway or by those asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.validation import Verdict, validate
from tests.running import ROOT, Ran, assert_refused, deploykit, finished, listing, spawned

SEQUENCE = "float[batch,seq,6] x", "h = MatMul(x, w) t = Tanh(h)"
IMAGE = "float[batch,3,height,width] x", "h = Conv<pads=[1,1,1,1]>(x, k) t = Tanh(h)"
AXES = {
    "batch": (*SEQUENCE, 0, 2),
    "seq": (*SEQUENCE, 1, 16),
    "height": (*IMAGE, 2, 16),
    "width": (*IMAGE, 3, 16),
}
"""A net with the axis, which axis that is, and the size that it has when a file is tried for the first time."""

WRONG_WHERE = {
    "at 1": "c = Equal(s, n1)",
    "at 2": "c = Equal(s, n2)",
    "at odd sizes over 1": "r = Mod(s, n2) o = Equal(r, n1) g = Greater(s, n1) c = And(o, g)",
    "above the size of the example": "c = Greater(s, example)",
    "below the size of the example": "c = Less(s, example)",
    "at other sizes than the example's": "e = Equal(s, example) c = Not(e)",
}


def written(path: Path, axis: str, rest: str) -> Path:
    """Write the net with an axis, from ``t`` on as the text says, which makes ``y`` of it."""
    import onnx

    inputs, body, place, example = AXES[axis]
    result = inputs.replace(" x", " y")
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    model = onnx.parser.parse_model(
        f"{head} g ({inputs}) => ({result}) {{ {body} {rest.replace('AXIS', str(place))} }}"
    )
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((6, 6)).astype(np.float32),
        "k": rng.standard_normal((3, 3, 3, 3)).astype(np.float32),
        "one": np.array([1.0], np.float32),
        "more": np.array([1.01], np.float32),
        **{f"n{number}": np.array([number]) for number in (0, 1, 2, 7)},
        "example": np.array([example]),
        "last": np.array([example - 1]),
        "place": np.array([place]),
        "positions": rng.standard_normal((16, 6)).astype(np.float32),
        "baked": np.array([-1 if free != place else example for free in range(2)] + [6]),
    }
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.save(model, path)
    return path


def judged(folder: Path, axis: str, rest: str, **asked: Any) -> Verdict:
    """Judge a net against the right one, on inputs that are made up."""
    right = written(folder / "right.onnx", axis, "y = Identity(t)")
    return validate(written(folder / "wrong.onnx", axis, rest), right, **asked)


def wrong_where(condition: str) -> str:
    return f"shape = Shape(x) s = Gather(shape, place) {condition} f = Where(c, more, one) y = Mul(t, f)"


@pytest.mark.parametrize("axis", AXES)
def test_what_is_the_same_at_every_size_passes(axis: str, tmp_path: Path) -> None:
    verdict = judged(tmp_path, axis, "y = Mul(t, one)")
    assert verdict.passed, verdict.failures
    assert len(set(verdict.shapes)) >= 7


@pytest.mark.parametrize("where", WRONG_WHERE)
@pytest.mark.parametrize("axis", AXES)
def test_a_file_that_is_wrong_only_at_some_sizes_is_found(axis: str, where: str, tmp_path: Path) -> None:
    verdict = judged(tmp_path, axis, wrong_where(WRONG_WHERE[where]))
    assert not verdict.passed


STEPS = """
    s = Shape(t) a = Gather(s, place) z = Squeeze(a) zero = Squeeze(n0) step = Squeeze(n1)
    steps = Range(zero, z, step)
"""
BAKED = {
    "a size in a Reshape": "y = Reshape(t, baked)",
    "the longest size in a Slice": "y = Slice(t, n0, example, place)",
    "a table of the longest size": f"{STEPS} within = Min(steps, last) y = Gather<axis=AXIS>(t, within)",
    "an axis of one dropped": """
        s = Shape(t) a = Gather(s, place) c = Equal(a, n1) d = Squeeze(c)
        y = If(d) <then_branch = g1 () => (float[] u) { u = Squeeze(t, place) },
                   else_branch = g2 () => (float[] v) { v = Identity(t) }>
    """,
}


@pytest.mark.parametrize("how", BAKED)
@pytest.mark.parametrize("axis", ["batch", "seq"])
def test_a_size_that_is_baked_in_is_found(axis: str, how: str, tmp_path: Path) -> None:
    assert not judged(tmp_path, axis, BAKED[how]).passed


@pytest.mark.parametrize("axis", ["batch", "seq"])
def test_a_source_that_drops_axes_of_one_is_held_to_that(axis: str, tmp_path: Path) -> None:
    dropping = BAKED["an axis of one dropped"]
    ran = convert(tmp_path, axis, rest=dropping)
    assert ran.code == 0, ran.err
    assert not validate(written(tmp_path / "w.onnx", axis, "y = Identity(t)"), tmp_path / "net.onnx").passed


def test_a_branch_that_a_trace_keeps_is_found(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from tests.zoo_refused import Longer

    torch.manual_seed(0)
    torch.save(Longer().state_dict(), tmp_path / "net.pt")
    options = ("--factory", f"{ROOT / 'tests' / 'zoo_refused.py'}:Longer", "--input", "x:float32[batch,seq,4]")
    ran = deploykit("convert", "net.pt", *options, "--exporter", "torchscript", cwd=tmp_path)
    assert_refused(ran, 1, "does not answer as", "--shapes", "diverges  first at node")
    assert listing(tmp_path) == {"net.pt"}
    ran = deploykit("convert", "net.pt", *options, "--exporter", "torchscript", "--shapes", "seq=4,7,16", cwd=tmp_path)
    assert ran.code == 0, ran.err


ONLY_AT_7 = wrong_where("c = Equal(s, n7)")


@pytest.mark.parametrize("shapes", ["seq=7", "seq=3,7,9", "batch=2;seq=5,7", "x:1x7x6,4x9x6", "x:1x9x6,2x7x6"])
def test_a_size_that_is_asked_for_is_tried(shapes: str, tmp_path: Path) -> None:
    assert judged(tmp_path, "seq", ONLY_AT_7).passed
    verdict = judged(tmp_path, "seq", ONLY_AT_7, shapes=[shapes])
    assert not verdict.passed
    assert any("x7x6" in shape for shape in verdict.shapes)


def test_sizes_that_are_asked_for_take_the_place_of_the_others(tmp_path: Path) -> None:
    verdict = judged(tmp_path, "seq", "y = Identity(t)", shapes=["seq=7,9", "batch=1,4,6"])
    tried = {tuple(map(int, shape.removeprefix("x ").split("x"))) for shape in verdict.shapes}
    assert tried == {(1, 7, 6), (4, 9, 6), (6, 7, 6)}
    assert verdict.passed
    assert verdict.samples >= 8


def convert(folder: Path, axis: str, *options: object, rest: str = "y = Identity(t)") -> Ran:
    written(folder / "net.onnx", axis, rest)
    return deploykit("convert", "net.onnx", "--json", *options, cwd=folder)


def test_a_size_that_the_source_refuses_is_left_out_unless_it_was_asked_for(tmp_path: Path) -> None:
    rest = f"{STEPS} p = Gather(positions, steps) y = Add(t, p)"
    ran = convert(tmp_path, "seq", rest=rest)
    assert ran.code == 0, ran.err
    assert any("refuses inputs on x [1, 32, 6]" in note for note in ran.json["verdict"]["notes"])
    ran = convert(tmp_path, "seq", "--shapes", "seq=16,33", rest=rest)
    assert_refused(ran, 2, "seq=33", "refuses")
    assert convert(tmp_path, "seq", "--shapes", "seq=15,16", rest=rest).code == 0


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ("sek=3", ["no axis 'sek'", "did you mean 'seq'", "batch, seq"]),
        ("seq=0", ["'0' is no size", "from 1 on"]),
        ("seq=-3", ["'-3'"]),
        ("seq=", ["''"]),
        ("seq=3.5", ["'3.5'"]),
        ("seq=3,many", ["'many'"]),
        ("seq", ["can't be read", "batch=1,8,32"]),
        ("", ["can't be read"]),
        ("=3", ["can't be read"]),
        ("seq=3;", ["can't be read"]),
        ("x:3x4", ["3x4", "x:float32[batch,seq,6]"]),
        ("x:1x2x5", ["1x2x5", "those that are fixed"]),
        ("x:0x2x6", ["'0'"]),
        ("x:1xtwox6", ["1xtwox6"]),
        ("y:1x2x6", ["no input 'y'", "x:float32[batch,seq,6]"]),
        ("seq=3;x:1x4x6", ["'seq' twice", "seq=3,4"]),
    ],
)
def test_shapes_that_can_not_be_are_refused(shapes: str, words: list[str], tmp_path: Path) -> None:
    assert_refused(convert(tmp_path, "seq", f"--shapes={shapes}"), 2, *words)
    assert listing(tmp_path) == {"net.onnx"}


def test_batches_of_the_users_samples_have_the_sizes_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((24, 16, 6)).astype(np.float32))
    ran = convert(tmp_path, "seq", "--data", "x.npy", "--shapes", "batch=1,8,4")
    sizes = [int(shape.removeprefix("x ").split("x")[0]) for shape in ran.json["verdict"]["shapes"]]
    assert sizes == [1, 8, 4, 4, 4, 3]
    ran = convert(tmp_path, "seq", "--data", "x.npy", "--shapes", "batch=8")
    sizes = [int(shape.removeprefix("x ").split("x")[0]) for shape in ran.json["verdict"]["shapes"]]
    assert sizes == [1, 8, 8, 7]
    assert ran.json["signature"]["outputs"] == ["y:float32[batch,16,6]"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shapes", "seq=4"], ["'seq'", "--data"]),
        (["--shapes", "batch=16,17"], ["33 samples", "--samples 33"]),
        (["--shapes", "batch=20,8"], ["too few samples", "batch=8"]),
    ],
)
def test_sizes_that_the_users_samples_do_not_give_are_refused(
    options: list[str], words: list[str], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((24, 16, 6), np.float32))
    assert_refused(convert(tmp_path, "seq", "--data", "x.npy", *options), 2, *words)


def test_shapes_say_nothing_to_a_golden_that_is_there(tmp_path: Path) -> None:
    convert(tmp_path, "seq")
    assert_refused(deploykit("validate", "net.proved.onnx", "--shapes", "seq=3", cwd=tmp_path), 2, "--against")


def test_a_golden_is_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    import onnx

    head = '<ir_version: 8, opset_import: ["" : 17]>'
    inputs = "int64[batch,seq] ids, int64[batch,seq] mask, float[batch,seq] x, int64[batch] k, bool[batch,1] flag"
    body = """
        e = Gather(table, ids) f = Cast<to=1>(mask) a = Mul(f, x) l = Unsqueeze(a, last) b = Mul(e, l)
        c = ReduceSum<keepdims=0>(b, last) n = Cast<to=1>(k) m = Unsqueeze(n, last) d = Add(c, m) y = Where(flag, d, c)
    """
    model = onnx.parser.parse_model(f"{head} g ({inputs}) => (float[batch,seq] y) {{ {body} }}")
    table = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    for name, array in {"table": table, "last": np.array([-1])}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "net.onnx")
    for name, seed, hashes in (("one", 3, "1"), ("two", 3, "2"), ("other", 4, "1")):
        options = ("-o", f"{name}.onnx", "--seed", seed)
        ran = finished(spawned("convert", "net.onnx", *options, cwd=tmp_path, PYTHONHASHSEED=hashes))
        assert ran.code == 0, ran.err
    one, two, other = ((tmp_path / f"{name}.golden.npz").read_bytes() for name in ("one", "two", "other"))
    assert one == two
    assert one != other
