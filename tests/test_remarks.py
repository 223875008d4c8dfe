"""What a golden does not prove is said: guessed inputs, numbers that are none, units that are never active."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.backends.onnxruntime import OrtSession
from deploykit.golden import Case, Golden
from deploykit.onnx_io import load
from deploykit.tensors import Array, Tensors
from deploykit.validation.remarks import remarks, telling
from deploykit.validation.units import Idle, never_active, summary
from tests.converted import converted
from tests.running import deploykit


def written(path: Path, inputs: str, body: str, outputs: str, opset: int = 18, **weights: Array) -> Path:
    """Write a graph of ONNX text with its weights."""
    import onnx

    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.save(model, path)
    return path


def recorded(path: Path, cases: Iterable[Tensors]) -> Golden:
    """Give what a file answers, as the evidence of a source whose answers are exact."""
    session = OrtSession(path)
    answers = [(case, next(session.run_all([case]))) for case in cases]
    taken = [Case(case, answer, answer, answer) for case, answer in answers if isinstance(answer, dict)]
    return Golden(session.signature, tuple(taken), "float64", {})


def real(*rows: list[float]) -> list[Tensors]:
    return [{"x": np.array([row], np.float32)} for row in rows]


def test_numbers_that_are_none_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", "float[n,m] x", "y = Log(x) z = Neg(x)", "float[n,m] y, float[n,m] z")
    nan = recorded(path, real([1, -1, 2], [-3, 3], [5]))
    assert remarks(nan) == ("y: 2 of 6 values are NaN in the source too, and prove nothing",)
    both = recorded(path, real([1, -1, 0]))
    assert remarks(both) == ("y: 2 of 3 values are NaN or infinite in the source too, and prove nothing",)
    assert remarks(recorded(path, real([1, 2, 3]))) == ()


def test_whole_numbers_of_which_nothing_is_known_are_named(tmp_path: Path) -> None:
    inputs = "int64[n] k, int64[n] many, int64[n] ids, int64[n] mode, int64[n] mask, float[n] x"
    body = """
        a = Gather(table, ids) l = Add(k, many) b = Cast<to=1>(l) c = Mul(b, b) e = Equal(mode, two) f = Cast<to=1>(e)
        g = Cast<to=1>(mask) h = Mul(g, x) i = Add(a, c) j = Add(i, f) y = Add(j, h)
    """
    path = written(
        tmp_path / "m.onnx", inputs, body, "float[n] y", table=np.ones(5, np.float32), two=np.array(2, np.int64)
    )
    ran = deploykit("convert", path.name, "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    said = [note for note in ran.json["verdict"]["notes"] if "whole numbers" in note]
    assert [note.split(":")[0] for note in said] == ["k, many"]
    assert "--data" in said[0]


@pytest.mark.parametrize(("scale", "said"), [(1e-4, True), (0.1, False)])
@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_a_quantized_output_that_saturates_is_said(kind: str, scale: float, said: bool, tmp_path: Path) -> None:
    zero = np.zeros((), kind)
    body = "y = QuantizeLinear(x, scale, zero)"
    path = written(
        tmp_path / "m.onnx", "float[n,m] x", body, f"{kind}[n,m] y", scale=np.array(scale, np.float32), zero=zero
    )
    numbers = np.random.default_rng(0).standard_normal(200).tolist()
    golden = recorded(path, real(numbers) if kind == "int8" else real(np.abs(numbers).tolist()))
    lines = remarks(golden, load(path))
    assert [line.startswith("y: ") and f"at the ends of {kind}" in line for line in lines] == ([True] if said else [])
    assert remarks(golden) == (), "what the user's own samples do is the model's affair"


def test_an_integer_output_that_is_not_quantized_may_be_at_its_ends(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", "float[n,m] x", "a = Greater(x, z) y = Cast<to=2>(a)", "uint8[n,m] y",
                   z=np.zeros((), np.float32))  # fmt: skip
    assert remarks(recorded(path, real([1, -1, 2])), load(path)) == ()


STRIDED = "float[batch,seq] x", "a = Slice(x, four, end, one) y = Mul(a, a)", "float[batch,rest] y"


def strided(path: Path) -> Path:
    numbers: dict[str, Any] = {name: np.array([number]) for name, number in (("four", 4), ("end", 1 << 30), ("one", 1))}
    return written(path, *STRIDED, **numbers)


def test_calls_to_which_the_source_gives_no_number_are_no_evidence(tmp_path: Path) -> None:
    golden = recorded(strided(tmp_path / "m.onnx"), real([1] * 5, [1, 2], [1] * 6, [3, 3, 3, 3, np.nan]))
    left = telling(golden)
    assert left.shapes == ("x 1x5", "x 1x6")
    assert left.notes == ("left out, since the source gives no number there: x 1x2; x 1x5",)
    silent = recorded(strided(tmp_path / "m.onnx"), real([1, 2], [3]))
    assert telling(silent) == silent, "it is for the judge to say that nothing was compared"


def test_sizes_that_a_slice_uses_up_fail_no_right_file_and_count_for_nothing(tmp_path: Path) -> None:
    strided(tmp_path / "m.onnx")
    ran = deploykit("convert", "m.onnx", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    shapes = ran.json["verdict"]["shapes"]
    assert "x 1x32" in shapes
    assert not {"x 3x1", "x 2x2"} & set(shapes)
    assert any("no number there: x 3x1; x 2x2" in note for note in ran.json["verdict"]["notes"])


# Units

IMAGE, SEQUENCE, TABLE = "float[n,3,h,w] x", "float[n,t,5] x", "float[n,5] x"
CONV = "a = Conv<pads=[1,1,1,1]>(x, kernel, bias)"
NETS = {
    "channels": (IMAGE, f"{CONV} y = Relu(a)", "n,5,h,w"),
    "normed channels": (
        IMAGE,
        "a = Conv<pads=[1,1,1,1]>(x, kernel) c = BatchNormalization(a, one, bias, zero, one) y = Relu(c)",
        "n,5,h,w",
    ),
    "channels that come last": (IMAGE, f"{CONV} t = Transpose<perm=[0,2,3,1]>(a) y = Relu(t)", "n,h,w,5"),
    "channels of a sum": (IMAGE, f"{CONV} c = Relu(a) e = Add(a, c) y = Relu(e)", "n,5,h,w"),
    "capped channels": (IMAGE, f"{CONV} y = Clip(a, least, most)", "n,5,h,w"),
    "features": (TABLE, "a = Gemm(x, square, bias) y = Relu(a)", "n,5"),
    "features of a sequence": (SEQUENCE, "a = MatMul(x, square) c = Add(a, bias) y = Relu(c)", "n,t,5"),
}


def net(path: Path, name: str, opset: int = 18) -> Path:
    inputs, body, dims = NETS[name]
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.standard_normal((5, 3, 3, 3)),
        "square": rng.standard_normal((5, 5)),
        "bias": np.array([0, -100, 0, -100, 0]),
        "one": np.ones(5),
        "zero": np.zeros(5),
        "least": np.zeros(()),
        "most": np.array(6.0),
    }
    used: dict[str, Any] = {key: array.astype(np.float32) for key, array in weights.items() if key in body}
    return written(path, inputs, body, f"float[{dims}] y", opset, **used)


def drawn(name: str, count: int = 3) -> list[Tensors]:
    rng = np.random.default_rng(1)
    shapes = {IMAGE: (3, 8, 8), SEQUENCE: (9, 5), TABLE: (5,)}
    own = shapes[NETS[name][0]]
    return [{"x": rng.standard_normal((20 + size, *own)).astype(np.float32)} for size in range(count)]


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("name", NETS)
def test_units_that_no_input_switches_on_are_counted(name: str, opset: int, tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx", name, opset)
    layers = never_active(path, iter(drawn(name)))
    assert {(layer.never, layer.units) for layer in layers} == {(2, 5)}
    assert len(layers) == NETS[name][1].count("Relu(") + NETS[name][1].count("Clip(")
    assert list(tmp_path.iterdir()) == [path], "the copy with more outputs is gone"


def test_a_unit_that_one_of_the_calls_switches_on_is_active(tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx", "features")
    first, *rest = drawn("features")
    assert never_active(path, [first])[0].never == 2
    rest[-1]["x"] = (1000 * rest[-1]["x"]).astype(np.float32)
    assert never_active(path, [first, *rest])[0].never == 0
    assert summary(path, [first, *rest]) == ()


def test_activations_without_a_dead_zone_at_zero_are_not_counted(tmp_path: Path) -> None:
    body = "a = LeakyRelu(x) b = Clip(a, least, most) c = Sigmoid(b) y = Elu(c)"
    limits: dict[str, Any] = {"least": np.array(-1, np.float32), "most": np.array(1, np.float32)}
    path = written(tmp_path / "m.onnx", TABLE, body, "float[n,5] y", **limits)
    assert never_active(path, drawn("features")) == ()


def test_calls_that_a_file_refuses_are_passed_over(tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx", "features")
    wrong: Tensors = {"x": np.zeros((2, 7), np.float32)}
    assert never_active(path, [wrong, *drawn("features"), wrong])[0].never == 2
    assert never_active(path, [wrong]) == ()


def test_of_a_file_that_does_not_load_nothing_is_said(tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx", "features")
    path.write_bytes(path.read_bytes()[:100])
    assert never_active(path, drawn("features")) == ()
    path = written(tmp_path / "n.onnx", TABLE, "a = Relu(x) y = com.nobody.Own(a)", "float[n,5] y")
    assert never_active(path, drawn("features")) == ()
    assert not list(tmp_path.glob("*.units.*"))


def test_weights_in_files_of_their_own_stay_there(tmp_path: Path) -> None:
    import onnx

    path = net(tmp_path / "m.onnx", "features")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert never_active(path, drawn("features"))[0].never == 2
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_the_worst_layers_are_named_in_one_line(tmp_path: Path) -> None:
    layers = 8
    bodies = [f"h{n} = Mul(x, m{n}) a{n} = Add(h{n}, b{n}) r{n} = Relu(a{n})" for n in range(layers)]
    body = f"{' '.join(bodies)} y = Sum({', '.join(f'r{n}' for n in range(layers))})"
    weights: dict[str, Any] = {f"m{n}": np.ones(9, np.float32) for n in range(layers)}
    weights |= {f"b{n}": np.array([-100] * n + [0] * (9 - n), np.float32) for n in range(layers)}
    path = written(tmp_path / "m.onnx", "float[n,9] x", body, "float[n,9] y", **weights)
    (line,) = summary(path, [{"x": np.random.default_rng(0).standard_normal((30, 9)).astype(np.float32)}])
    named = "7 of 9 of r7, 6 of 9 of r6, 5 of 9 of r5, 4 of 9 of r4, 3 of 9 of r3"
    assert line == f"coverage: 28 of 72 ReLU units never active: {named} and 2 more layers"


def test_layers_are_named_as_the_source_names_them(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = Path(shutil.copy(converted("digits", tmp_path_factory).onnx, tmp_path))
    layers = never_active(path, [{"image": np.full((1, 1, 8, 8), -1e6, np.float32)}])
    assert {layer.layer: layer.units for layer in layers} == {"0": 8, "4": 16}
    assert str(Idle("conv1", 3, 64)) == "3 of 64 of conv1"


def test_convert_says_which_units_its_evidence_leaves_idle(tmp_path: Path) -> None:
    net(tmp_path / "m.onnx", "channels")
    ran = deploykit("convert", "m.onnx", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    lines = [note for note in ran.json["verdict"]["notes"] if note.startswith("coverage: ")]
    assert len(lines) == 1
    assert lines[0].startswith("coverage: 2 of 5 ReLU units never active: 2 of 5 of ")
    assert Golden.read(tmp_path / "m.proved.golden.npz").notes[-1] == lines[0]
