"""What is settled before an engine is built: options, profiles, what TensorRT refuses; none of it needs TensorRT."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.backends.tensorrt import unfit, within
from deploykit.child.tensorrt import layers
from deploykit.child.tensorrt.watching import bar, share
from deploykit.engines.graph import Graph
from deploykit.engines.lint import computes_in, lint
from deploykit.engines.options import Options, chosen, targets_of
from deploykit.engines.placing import replaced
from deploykit.engines.profiles import profiles_of, takes_any
from deploykit.engines.refusing import failed
from deploykit.errors import DeploykitError, MissingPackage, ModelError, UsageError
from deploykit.examination import engine_advice
from deploykit.golden import Case, Golden
from deploykit.nvidia import RTX, TENSORRT, Bindings, Device, Devices, devices
from deploykit.onnx_io.skeleton import LARGEST, skeleton
from deploykit.sealing import verify
from deploykit.sidecar import Part, Sidecar, read_sidecar, sidecar_path, told_layers
from deploykit.sniff import sniff
from deploykit.tensors import Signature, TensorSpec
from tests.half_nets import normal
from tests.refused_nets import REFUSED, Refused, written
from tests.running import listing

RTX_17 = Bindings(RTX, "tensorrt_rtx", "1.7")
FULL_10, FULL_11 = (Bindings(TENSORRT, "tensorrt", one) for one in ("10.0", "11.4"))
NONE = Devices("", (), "no CUDA device: none")
ADA, HOPPER = (Devices("13.0", (Device("GPU", one, 1 << 34),), "") for one in ("8.9", "9.0"))


@pytest.mark.parametrize(
    ("options", "found", "word"),
    [
        (Options(timing_cache=Path("cache")), RTX_17, "--timing-cache"),
        (Options(hardware_compatible=True), RTX_17, "--hardware-compatible"),
        (Options(sparse=True), RTX_17, "--sparse"),
        (Options(level=3), RTX_17, "--level"),
        (Options(targets=("sm89", "sm90")), RTX_17, "sm90"),
        (Options(targets=("sm88",)), RTX_17, "did you mean 'sm89'"),
        (Options(targets=("sm89",)), FULL_10, "--for sm89"),
        (Options(level=6), FULL_11, "level 6"),
        (Options(workspace="2 apples"), RTX_17, "2 apples"),
        (Options(timing_cache=Path("none/cache")), FULL_11, "none/cache"),
    ],
    ids=str,
)
def test_what_a_tensorrt_lacks_is_refused_by_name(options: Options, found: Bindings, word: str) -> None:
    with pytest.raises(UsageError) as refused:
        options.check(found)
    assert word in str(refused.value)
    assert refused.value.fix


def test_what_each_has_is_taken(tmp_path: Path) -> None:
    Options(targets=targets_of("SM89, 12.0,sm_86,sm89"), workspace="2GB").check(RTX_17)
    Options(
        timing_cache=tmp_path / "cache", hardware_compatible=True, version_compatible=True, sparse=True, level=5
    ).check(FULL_10)
    assert targets_of("SM89, 12.0,sm_86,sm89") == ("sm89", "sm120", "sm86")
    assert Options(workspace="2GiB").workspace_bytes == 2 << 30


def test_a_backend_that_is_not_there_or_can_not_build_is_said() -> None:
    with pytest.raises(UsageError, match="tensor-rt"):
        chosen("tensor-rt", NONE)
    with pytest.raises(MissingPackage) as missing:
        chosen(TENSORRT, NONE)
    assert "--extra-index-url" in missing.value.fix[0]
    assert chosen("auto", NONE).kind == RTX


def test_a_timing_cache_takes_the_place_of_the_old_one_in_one_step(tmp_path: Path) -> None:
    new, place = tmp_path / "stage" / "timing.cache", tmp_path / "kept"
    new.parent.mkdir()
    for content in (b"first", b"second"):
        new.write_bytes(content)
        replaced(new, place)
        assert place.read_bytes() == content
    assert listing(tmp_path) == {"stage", "kept"}


def specs(*texts: str) -> tuple[TensorSpec, ...]:
    return tuple(map(TensorSpec.parse, texts))


def golden(folder: Path, inputs: Sequence[TensorSpec], *calls: dict[str, tuple[int, ...]]) -> Path:
    out = {"y": np.zeros(1, np.float32)}
    cases = [Case({name: np.zeros(shape, np.float32) for name, shape in call.items()}, out, out, out) for call in calls]
    path = folder / "x.golden.npz"
    Golden(Signature(tuple(inputs), specs("y:float32[1]")), cases, "ulp", {"path": "x.pt"}).write(path)
    return path


def test_profiles_follow_from_the_signature_and_the_calls_of_the_golden(tmp_path: Path) -> None:
    inputs = (*specs("x:float32[batch,3,size]", "mask:float32[batch,4]"), TensorSpec("z", "float32", ("2*size",)))
    calls = [{"x": (b, 3, s), "mask": (b, 4), "z": (2 * s,)} for b, s in ((2, 8), (4, 8), (4, 16), (1, 8), (4, 8))]
    found = profiles_of(inputs, (), golden(tmp_path, inputs, *calls))
    assert found.shapes == {
        "x": ((1, 3, 1), (4, 3, 8), (4, 3, 16)),
        "mask": ((1, 4), (4, 4), (4, 4)),
        "z": ((16,), (16,), (32,)),
    }
    assert "x 1x3x1 to 4x3x16, tuned for 4x3x8" in found.said[0]
    given = profiles_of(inputs[:1], ["x:1x3x8,2x3x8,9x3x8"], tmp_path / "not.read")
    assert given.shapes == {"x": ((1, 3, 8), (2, 3, 8), (9, 3, 8))}
    both = profiles_of(inputs[:2], ["x:1x3x8,2x3x8,9x3x8,mask:1x4,2x4,9x4"], tmp_path / "not.read")
    assert both.shapes["mask"] == ((1, 4), (2, 4), (9, 4))
    assert profiles_of(specs("x:float32[2,3]"), (), tmp_path / "not.read").shapes == {}
    calls_too = golden(tmp_path, inputs, *calls)
    assert takes_any(found.shapes, calls_too)
    assert not takes_any({**given.shapes, "mask": ((1, 3), (1, 3), (1, 3))}, calls_too)
    assert profiles_of(inputs[:1], ["8"], calls_too).shapes["x"] == ((8, 3, 1), (8, 3, 8), (8, 3, 16))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x:4x3,2x3,8x3", "do not grow"),
        ("x:0x3", "do not grow"),
        ("x:1x5,2x5,8x5", "no shape of x:float32[batch,3]"),
        ("x:1,2,8", "no shape of"),
        ("x:1x3,2x3", "2 shapes"),
        ("y:1x3", "no such input"),
        ("x:1xa", "can't be read at 'x:1xa'"),
        ("1x3", "can't be read"),
        ("8,4,1", "three that grow"),
        ("1,8", "three that grow"),
        ("0", "three that grow"),
        ("1,2,3,4", "three that grow"),
        ("x:99999999999999999999x3", "more than TensorRT counts to"),
        ("9" * 5000, "more than TensorRT counts to"),
        ("x:1x3,2x3,999999999x3,mask:1,2,999999999", "2999999997 elements"),
        ("x:1x3,2x3,8x3,mask:1,2,9", "'batch' is 1, 2, 8 in 'x' and 1, 2, 9 in 'mask'"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(text: str, words: str, tmp_path: Path) -> None:
    inputs = specs("x:float32[batch,3]", "mask:float32[batch]")
    with pytest.raises(UsageError) as refused:
        profiles_of(inputs, [text], golden(tmp_path, inputs, {"x": (1, 3), "mask": (1,)}))
    assert words in str(refused.value)


@pytest.mark.parametrize("net", REFUSED, ids=lambda net: net.name)
def test_what_tensorrt_refuses_is_found_with_its_node_and_a_way_out(net: Refused, tmp_path: Path) -> None:
    found = lint(Graph.read(net.write(tmp_path)), net.targets)
    assert [(one.node, one.operator) for one in found] == [*net.nodes]
    assert all(net.word in one.said and one.fix for one in found)
    if net.name == "plugins":
        assert not lint(Graph.read(tmp_path / "net.onnx"), backend=TENSORRT)


def test_all_of_it_is_found_at_once_with_its_module(tmp_path: Path) -> None:
    text = "(float[2,2] x) => (float y) { a = mine.Foo (x)\n b = Sigmoid (a)\n c = Unique (b)\n y = Det (c) }"
    path = written(tmp_path, text)
    import onnx

    model = onnx.load(path)
    for number, node in enumerate(model.graph.node):
        scopes = ["", "body", f"body.{number}", node.op_type]
        onnx.helper.set_model_props(model, {})
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(scopes))
    onnx.save(model, path)
    found = lint(Graph.read(path))
    assert [one.operator for one in found] == ["Foo", "Unique", "Det"]
    assert [one.module for one in found] == ["body.0", "body.2", "body.3"]


def test_a_right_file_is_not_refused(tmp_path: Path) -> None:
    weights: dict[str, Any] = {"w": np.ones((4, 3, 3, 3), np.int8), "s": np.float32(0.1), "z": np.int8(0)}
    text = """(float[batch,3,8,8] x) => (float[batch,4,6,6] y) { q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        v = DequantizeLinear (w, s, z)
        y = Conv (d, v) }"""
    assert lint(Graph.read(written(tmp_path, text, **weights)), ("sm75", "sm86")) == ()


def test_a_half_in_name_only_is_found(tmp_path: Path) -> None:
    text = "(float[2] x) => (float[2] y) { a = Cast <to = 1> (w)\n y = Mul (x, a) }"
    weight = np.ones(2, np.float16)
    assert not computes_in(Graph.read(written(tmp_path, text, w=weight)), "float16")
    text = "(float16[2] x) => (float16[2] y) { y = Mul (x, w) }"
    assert computes_in(Graph.read(written(tmp_path, text, w=weight)), "float16")


def test_a_skeleton_is_the_graph_without_what_is_large(tmp_path: Path) -> None:
    import onnx

    large, small = normal(64, 100), normal(4, 4)
    assert large.nbytes > LARGEST
    text = "(float[b,64] x) => (float[b,100] y) { z = Constant <value = float[2] {1.0, 2.0}> ()\n y = MatMul (x, w) }"
    path = written(tmp_path, text, w=large, v=small)
    whole, thin = onnx.load(path), skeleton(path)
    assert thin.graph.initializer[1] == whole.graph.initializer[1]
    assert not thin.graph.initializer[0].raw_data
    whole.graph.initializer[0].ClearField("raw_data")
    assert thin == whole
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelError):
        skeleton(path)


ROW = (
    "Name: {name}, LayerType: {kind}, Inputs: [ {{ Name: a, Dimensions: [1], Datatype: {type}, Format: x }}],"
    " Constants: [], Outputs: [ {{ Name: b, Datatype: Float }}], TacticName: t, StreamId: 0, Metadata: {nodes}"
)


def row(name: str, kind: str, type_: str, *nodes: str) -> str:
    return ROW.format(name=name, kind=kind, type=type_, nodes="".join(f"[ONNX Layer: {one}]" for one in nodes))


def test_the_precision_of_a_node_is_that_of_the_layer_that_multiplies() -> None:
    lines = [row("q", "kgen", "Float", "one"), row("one_0", "correlation", "Int8", "one"), row("s", "signal", "")]
    lines += [
        row("two_0", "gemm", "Half", "two", "three"),
        row("u", "kgen", "Float", "four"),
        row("v", "kgen", "Int8", "four"),
    ]
    found = layers.precisions("\n".join(["Layers:", *lines]), ["one", "two", "three", "four", "five"])
    assert found == {"one": "int8", "two": "float16", "three": "float16", "four": "unknown", "five": "unknown"}


@pytest.mark.parametrize("text", ["", "Layers:", "Layers:\nName: x, Kind: y", "Layers:\nconv | int8"])
def test_a_layout_that_is_not_known_is_unknown_and_not_guessed(text: str) -> None:
    assert layers.precisions(text, ["one"]) == {"one": "unknown"}


def test_what_was_asked_and_what_was_got_is_said_in_numbers() -> None:
    counts = {"Conv": {"int8": 52, "float32": 1}, "MatMul": {"int8": 1}, "Gemm": {"unknown": 1}}
    assert told_layers("int8", counts) == (
        "asked int8: 52 of 53 convolutions in int8, 1 in float32",
        "asked int8: 1 of 2 products of matrices in int8, 1 of which the builder does not say it",
    )


def test_a_phase_within_another_fills_the_step_that_the_other_is_at() -> None:
    assert share({}) == 0
    assert share({"all": (None, 3, 6)}) == 0.5
    assert share({"all": (None, 3, 6), "part": ("all", 5, 10)}) == pytest.approx(3.5 / 6)
    assert bar(50) == "━" * 10 + "─" * 10


def test_without_a_driver_there_is_no_device_and_it_is_said_why() -> None:
    there = devices("libthere-is-none.so.1")
    assert not there.found
    assert "libthere-is-none.so.1" in there.why
    assert not devices().why or not devices().found


@pytest.mark.parametrize(
    ("targets", "backend", "there", "word"),
    [
        (("sm89",), RTX, NONE, "no CUDA device"),
        (("sm89",), RTX, HOPPER, "GPU (sm90)"),
        ((), RTX, HOPPER, "does not run on"),
        ((), TENSORRT, HOPPER, ""),
        ((), RTX, ADA, ""),
        (("sm86", "sm89"), RTX, ADA, ""),
        (("sm120",), RTX, ADA, "built for sm120"),
    ],
)
def test_an_engine_runs_only_where_its_device_is(
    targets: tuple[str, ...], backend: str, there: Devices, word: str
) -> None:
    said = unfit(targets, backend, there)
    assert (word in said) if word else not said


def test_doctor_says_in_words_what_can_be_built_and_run() -> None:
    assert "no TensorRT is installed" in engine_advice((), NONE)
    assert "--for" in engine_advice((RTX_17,), NONE)
    assert "none can be built" in engine_advice((FULL_10,), NONE)
    assert "sm89" in engine_advice((FULL_10,), ADA)


def sidecar(engine: Path) -> Sidecar:
    from deploykit.artifact import sha256

    ports = Signature(specs("x:float32[batch,3]"), (TensorSpec("y:0", "float32", ("2*batch",)),))
    parts = Part(engine.name, sha256(engine)), Part("m.onnx", "1"), Part("m.golden.npz", "2")
    shapes = {"x": ((1, 3), (2, 3), (4, 3))}
    known = Sidecar(
        *parts, RTX, {RTX: "1.7"}, ("sm89",), "int8", ports, shapes, {"level": "3"}, {"Conv": {"int8": 1}},
        {"c": "int8"}, {"source.name": "m.pt"}, {"state": "unproved"},
    )  # fmt: skip
    known.write(sidecar_path(engine))
    return known


def test_a_sidecar_is_read_back_and_is_of_its_engine_alone(tmp_path: Path) -> None:
    engine = tmp_path / "m.engine"
    engine.write_bytes(b"vtrt rest")
    known = sidecar(engine)
    assert read_sidecar(engine) == known
    renamed = engine.rename(tmp_path / "new.engine")
    sidecar_path(engine).rename(sidecar_path(renamed))
    assert read_sidecar(renamed).engine.name == "new.engine"
    with pytest.raises(ModelError) as refused:
        sniff(sidecar_path(renamed))
    assert str(renamed) in refused.value.fix[0]
    with pytest.raises(UsageError) as unsealed:
        verify(renamed)
    assert f"validate {renamed}" in unsealed.value.fix[0]
    engine = renamed
    engine.write_bytes(b"vtrt more")
    with pytest.raises(UsageError, match="another engine"):
        read_sidecar(engine)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"golden": {"name": "../x", "sha256": ""}}, "'../x' is no file of this folder"),
        ({"version": 2}, "deploykit engine 2"),
        ({"profiles": 3}, "of another kind"),
        ({"targets": None}, "of another kind"),
        ({"engine": {}}, "it says nothing of 'name'"),
        (None, "no JSON from line 1"),
    ],
)
def test_a_damaged_sidecar_is_an_error_and_names_no_file_elsewhere(
    change: dict[str, Any] | None, words: str, tmp_path: Path
) -> None:
    engine = tmp_path / "m.engine"
    engine.write_bytes(b"vtrt rest")
    sidecar(engine)
    path = sidecar_path(engine)
    path.write_text("{" if change is None else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match="sidecar") as damaged:
        read_sidecar(engine)
    assert words in str(damaged.value)


def test_calls_outside_of_the_profile_are_left_out_and_said(tmp_path: Path) -> None:
    engine = tmp_path / "m.engine"
    engine.write_bytes(b"vtrt rest")
    known, inputs = sidecar(engine), specs("x:float32[batch,3]")
    evidence = Golden.read(golden(tmp_path, inputs, {"x": (1, 3)}, {"x": (8, 3)}, {"x": (4, 3)}))
    kept = within(evidence, known)
    assert [one["x"].shape for one in (case.inputs for case in kept.cases)] == [(1, 3), (4, 3)]
    assert "1 of 3 calls" in kept.notes[-1]
    with pytest.raises(UsageError):
        within(replace(evidence, cases=[evidence.cases[1]]), known)


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("Tactic Selection: no tactics to implement the operation within workspace limit.", "--workspace"),
        ("Cannot compile operation 'y' for Turing (SM75)", "--for"),
        ("something new", "precision"),
    ],
)
def test_what_the_builder_says_becomes_a_way_out(said: str, fix: str) -> None:
    error: DeploykitError = failed(Path("m.onnx"), [said, "[x] catchCudaError noise"])
    assert fix in " ".join(error.fix)
    assert list(error.details) == [said]
