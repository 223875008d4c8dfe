"""A seal says what was proved; verify finds every file that is not that any more, and believes no seal blindly."""

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import deploykit as api
from deploykit.artifact import sha256
from deploykit.errors import DeploykitError, ModelError, NotEquivalent, Refused, UsageError
from deploykit.onnx_io import external_files, load, save
from tests.conftest import Once
from tests.onnx_models import dense, written
from tests.running import assert_refused, deploykit, listing
from tests.sealed_models import sealed_models, spoil

FILES = ("net.onnx", "net.golden.npz")


@pytest.fixture(scope="session")
def made(once: Once) -> Path:
    """Give a folder with model.onnx, and net.onnx and its golden that were made of it, in three folders."""
    return once("sealed", sealed_models)


@pytest.fixture
def bare(made: Path, tmp_path: Path) -> Path:
    """Give a folder of its own with the converted model and its golden, which is not sealed."""
    return Path(shutil.copytree(made / "bare", tmp_path / "models"))


@pytest.fixture
def sealed(made: Path, tmp_path: Path) -> Path:
    """Give such a folder with a seal."""
    return Path(shutil.copytree(made / "sealed", tmp_path / "models"))


@pytest.fixture
def external(made: Path, tmp_path: Path) -> Path:
    """Give such a folder with a seal, and the weights of the model in a file of their own."""
    return Path(shutil.copytree(made / "external", tmp_path / "models"))


def manifest(folder: Path) -> Any:
    return json.loads((folder / "net.seal.json").read_text())


def edited(folder: Path, change: Callable[[Any], Any]) -> Path:
    """Change what a seal says, as somebody with an editor does."""
    content = manifest(folder)
    change(content)
    path = folder / "net.seal.json"
    path.write_text(json.dumps(content))
    return path


def flip(path: Path, place: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def wrong(found: api.Verification) -> dict[str, str]:
    return {file.name: file.why for file in found.files if not file.as_sealed}


# What is sealed


def test_a_seal_lists_every_file_with_its_sum_and_size(external: Path) -> None:
    beside = external_files(external / "net.onnx")
    assert [(file["role"], file["name"]) for file in manifest(external)["files"]] == [
        ("artifact", "net.onnx"),
        ("weights", beside[0].name),
        ("golden", "net.golden.npz"),
    ]
    for file in manifest(external)["files"]:
        assert file["sha256"] == sha256(external / file["name"])
        assert file["bytes"] == (external / file["name"]).stat().st_size


def test_a_seal_says_where_the_model_is_from_and_with_what_it_was_judged(sealed: Path, made: Path) -> None:
    import onnxruntime

    seal = manifest(sealed)
    assert seal["source"] == {"name": "model.onnx", "sha256": sha256(made / "model.onnx")}
    assert seal["passes"] == "convert:exporter=onnx,opset=20"
    assert "onnxruntime" in seal["exported_with"]
    assert set(seal["versions"]) == {"deploykit", "python", "numpy", "onnxruntime"}
    assert seal["versions"]["onnxruntime"] == onnxruntime.__version__
    assert dt.datetime.fromisoformat(seal["sealed"]).utcoffset() == dt.timedelta(0)


def test_a_seal_keeps_the_verdict_with_its_figures(sealed: Path) -> None:
    verdict = manifest(sealed)["verdict"]
    judged = api.validate(sealed / "net.onnx")
    assert verdict["passed"] is True
    assert (verdict["samples"], verdict["values"]) == (judged.samples, judged.values)
    assert [(check["what"], check["rule"], check["limit"]) for check in verdict["checks"]] == [
        (check.what, check.rule, check.limit) for check in judged.checks
    ]
    assert {"max_abs", "sqnr"} <= set(verdict["checks"][0]["figures"])


def test_no_path_of_this_machine_is_in_a_seal(sealed: Path) -> None:
    assert str(sealed.parent) not in (sealed / "net.seal.json").read_text()
    assert "/" not in "".join(file["name"] for file in manifest(sealed)["files"])


def test_the_same_model_gives_the_same_seal_but_for_the_time(sealed: Path) -> None:
    first = (sealed / "net.seal.json").read_text()
    again = api.seal(sealed / "net.onnx")
    assert (sealed / "net.seal.json").read_text().replace(again.sealed, "") == first.replace(
        json.loads(first)["sealed"], ""
    )


def test_seal_writes_one_file_and_nothing_else(bare: Path) -> None:
    before = listing(bare)
    ran = deploykit("seal", "net.onnx", cwd=bare)
    assert ran.code == 0, ran.err
    assert "wrote     net.seal.json" in ran.out
    assert listing(bare) == before | {"net.seal.json"}


def test_seal_and_verify_take_the_latest(bare: Path) -> None:
    assert deploykit("seal", cwd=bare).code == 0
    assert (bare / "net.seal.json").exists()
    ran = deploykit("verify", cwd=bare)
    assert ran.code == 0
    assert "net.onnx: as sealed" in ran.out
    assert "equal: net.onnx" in ran.out


def test_the_source_that_the_model_was_made_from_is_confirmed(bare: Path, made: Path) -> None:
    ran = deploykit("seal", "net.onnx", "--source", made / "model.onnx", cwd=bare)
    assert ran.code == 0, ran.err


def test_another_source_is_refused_and_nothing_is_written(bare: Path, tmp_path: Path) -> None:
    other = written(tmp_path, dense(opset=19))
    ran = deploykit("seal", "net.onnx", "--source", other, cwd=bare)
    assert_refused(ran, 1, "is not the source that net.onnx was made from", sha256(other))
    assert listing(bare) == set(FILES)


# What is not sealed


def test_a_model_that_fails_is_not_sealed(bare: Path) -> None:
    spoil(bare / "net.onnx")
    ran = deploykit("seal", "net.onnx", "--json", cwd=bare)
    assert_refused(ran, 1, "was not sealed", "y: ")
    assert ran.json["verdict"]["passed"] is False
    assert listing(bare) == set(FILES)
    with pytest.raises(NotEquivalent):
        api.seal(bare / "net.onnx")


def test_a_seal_that_is_there_stays_where_the_model_fails(sealed: Path) -> None:
    before = (sealed / "net.seal.json").read_bytes()
    spoil(sealed / "net.onnx")
    assert deploykit("seal", "net.onnx", cwd=sealed).code == 1
    assert (sealed / "net.seal.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "net.golden.npz").unlink(), "the golden of net.onnx is missing"),
        (lambda folder: flip(folder / "net.golden.npz", 2000), "is not the golden that net.onnx was proved with"),
        (lambda folder: shutil.copy(written(folder, dense()), folder / "net.onnx"), "has no golden"),
        (lambda folder: (folder / "net.onnx").unlink(), "there is no net.onnx"),
        (lambda folder: shutil.copy(folder / "net.golden.npz", folder / "net.onnx"), "seal takes ONNX files"),
    ],
    ids=["golden missing", "golden of another", "never proved", "missing", "no model"],
)
def test_what_was_never_proved_is_not_sealed(bare: Path, change: Callable[[Path], Any], said: str) -> None:
    change(bare)
    assert_refused(deploykit("seal", "net.onnx", cwd=bare), 2, said)
    assert not (bare / "net.seal.json").exists()


# What is verified


@pytest.mark.parametrize("arguments", [["net.onnx"], ["net.seal.json"], ["net.onnx", "--files-only"]], ids=" ".join)
def test_what_was_sealed_is_verified(external: Path, arguments: list[str]) -> None:
    before = listing(external)
    ran = deploykit("verify", *arguments, "--json", cwd=external)
    assert ran.code == 0, ran.err
    assert ran.json["passed"] is True
    assert len(ran.json["files"]) == 3
    assert (ran.json["verdict"] is None) == ("--files-only" in arguments)
    assert listing(external) == before


def test_files_only_says_that_nothing_was_run(sealed: Path) -> None:
    ran = deploykit("verify", "net.onnx", "--files-only", cwd=sealed)
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "as sealed: every file; nothing was run")


def test_a_folder_that_was_renamed_or_copied_is_verified(external: Path) -> None:
    moved = external.rename(external.with_name("elsewhere"))
    assert api.verify(moved / "net.onnx").passed
    copied = shutil.copytree(moved, moved.with_name("copy"))
    assert api.verify(copied / "net.seal.json").passed


@pytest.mark.parametrize("place", [0, 500, -1])
@pytest.mark.parametrize("number", range(3))
def test_one_byte_in_any_file_is_found_and_the_model_is_not_run(external: Path, number: int, place: int) -> None:
    name = manifest(external)["files"][number]["name"]
    flip(external / name, place)
    found = api.verify(external / "net.onnx")
    assert not found.passed
    assert found.verdict is None
    assert [one for one in wrong(found) if one == name] == [name]
    assert f"its sha256 is {sha256(external / name)}" in wrong(found)[name]
    assert deploykit("verify", "net.seal.json", cwd=external).code == 1


@pytest.mark.parametrize("number", range(3))
def test_a_file_that_is_missing_or_longer_is_named(external: Path, number: int) -> None:
    file = external / manifest(external)["files"][number]["name"]
    with file.open("ab") as longer:
        longer.write(b"x")
    ran = deploykit("verify", "net.onnx", cwd=external)
    assert ran.code == 1
    assert f"{file.name}: changed: it has {file.stat().st_size} bytes" in ran.out
    file.unlink()
    ran = deploykit("verify", "net.onnx", cwd=external)
    assert ran.code == 1
    assert f"{file.name}: missing" in ran.out
    assert f"NOT WHAT WAS SEALED: {file.name}" in ran.out
    file.mkdir()
    assert wrong(api.verify(external / "net.seal.json"))[file.name] == "missing: there is something else in its place"


def test_weights_that_the_seal_does_not_know_are_named(external: Path) -> None:
    edited(external, lambda seal: seal["files"].pop(1))
    found = api.verify(external / "net.onnx")
    assert not found.passed
    assert found.verdict is None
    assert list(wrong(found).values()) == ["not sealed: the model takes weights from it"]


def test_a_model_that_was_put_in_the_place_of_another_is_named_with_its_weights(sealed: Path) -> None:
    save(load(sealed / "net.onnx"), sealed / "net.onnx", external=True)
    found = wrong(api.verify(sealed / "net.onnx"))
    assert found["net.onnx"].startswith("changed")
    assert found[external_files(sealed / "net.onnx")[0].name].startswith("not sealed")


def test_the_seal_of_another_model_does_not_count(sealed: Path) -> None:
    shutil.copy(sealed / "net.onnx", sealed / "other.onnx")
    shutil.copy(sealed / "net.seal.json", sealed / "other.seal.json")
    assert wrong(api.verify(sealed / "other.onnx")) == {"other.onnx": "not sealed: other.seal.json is of net.onnx"}
    assert api.verify(sealed / "other.seal.json").passed


def test_files_as_sealed_that_fail_now_are_not_verified(sealed: Path) -> None:
    spoil(sealed / "net.onnx")
    model = sealed / "net.onnx"
    edited(sealed, lambda seal: seal["files"][0].update(sha256=sha256(model), bytes=model.stat().st_size))
    assert api.verify(model, files_only=True).passed
    found = api.verify(model)
    assert not wrong(found)
    assert found.verdict is not None
    assert not found.passed
    ran = deploykit("verify", "net.onnx", cwd=sealed)
    assert ran.code == 1
    assert "NOT EQUAL" in ran.out


def test_another_version_of_the_runtime_is_said(sealed: Path) -> None:
    assert api.verify(sealed / "net.onnx").notes == ()
    edited(sealed, lambda seal: seal["versions"].update(onnxruntime="1.2.3"))
    ran = deploykit("verify", "net.onnx", cwd=sealed)
    assert ran.code == 0
    assert "sealed with onnxruntime 1.2.3, verified with" in ran.out


# Seals that are wrong


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (".", "is a folder"),
        ("net.onnx", "net.onnx has no seal: net.seal.json is not beside it"),
        ("net.golden.npz", "net.golden.npz has no seal"),
        ("net.seal.json", "there is no seal net.seal.json"),
        ("ned.onnx", "there is no ned.onnx; did you mean 'net.onnx'"),
    ],
)
def test_without_a_seal_there_is_nothing_to_verify(bare: Path, path: str, said: str) -> None:
    assert_refused(deploykit("verify", path, cwd=bare), 2, said)


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/null", "gone", "."])
def test_what_is_no_file_in_the_place_of_one_is_not_read(external: Path, place: str) -> None:
    for file in manifest(external)["files"]:
        (external / file["name"]).unlink()
        (external / file["name"]).symlink_to(place)
    found = wrong(api.verify(external / "net.seal.json"))
    assert len(found) == 3
    assert all(why.startswith("missing") for why in found.values())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"words",
        b"\x80\x02\xff",
        b"[1]",
        b"3",
        b"null",
        b'"x"',
        b"{}",
        b'{"format": "deploykit seal"}',
        b"[" * 100_000,
    ],
    ids=["empty", "text", "binary", "list", "number", "null", "string", "no keys", "no version", "deep"],
)
def test_a_file_that_is_no_seal_is_refused(sealed: Path, content: bytes) -> None:
    (sealed / "net.seal.json").write_bytes(content)
    assert_refused(deploykit("verify", "net.onnx", cwd=sealed), 3, "net.seal.json is no seal, or is damaged")


def test_a_seal_without_an_end_is_refused(sealed: Path) -> None:
    (sealed / "endless.json").symlink_to("/dev/zero")
    assert_refused(deploykit("verify", "endless.json", cwd=sealed), 3, "endless.json is no seal, or is damaged")


def test_a_seal_cut_off_anywhere_is_refused(sealed: Path) -> None:
    path = sealed / "net.seal.json"
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            api.verify(path)


@pytest.mark.parametrize(
    "key", ["format", "version", "sealed", "files", "source", "passes", "exported_with", "versions", "verdict"]
)
def test_a_seal_without_one_of_its_keys_is_refused(sealed: Path, key: str) -> None:
    path = edited(sealed, lambda seal: seal.pop(key))
    with pytest.raises(ModelError, match=f"it has no '{key}'"):
        api.verify(path)


@pytest.mark.parametrize("value", [None, 1.5, "x", {"a": 1}, [[]], [None], [{}], False])
@pytest.mark.parametrize("key", ["format", "version", "files", "source", "versions", "verdict"])
def test_a_key_of_another_kind_is_refused(sealed: Path, key: str, value: object) -> None:
    path = edited(sealed, lambda seal: seal.update({key: value}))
    with pytest.raises(ModelError, match="is no seal, or is damaged"):
        api.verify(path)


@pytest.mark.parametrize("value", [None, -0.5, True, [], {}, "X" * 64, 7])
@pytest.mark.parametrize("key", ["role", "name", "bytes", "sha256"])
def test_a_file_that_is_described_wrongly_never_passes(sealed: Path, key: str, value: object) -> None:
    path = edited(sealed, lambda seal: seal["files"][0].update({key: value}))
    try:
        assert not api.verify(path).passed
    except DeploykitError as error:
        assert error.exit_code == 3  # noqa: PT017 - both ways of not passing are right


@pytest.mark.parametrize(
    "change",
    [
        lambda seal: seal.update(version=2),
        lambda seal: seal["files"].pop(0),
        lambda seal: seal["files"].pop(),
        lambda seal: seal["files"].reverse(),
        lambda seal: seal["files"].clear(),
        lambda seal: seal["files"].insert(1, {**seal["files"][0], "role": "weights"}),
        lambda seal: seal["verdict"]["checks"][0].update(passed=False),
        lambda seal: seal["verdict"]["checks"].clear(),
    ],
    ids=["newer", "no artifact", "no golden", "other order", "no files", "twice", "failed", "nothing compared"],
)
def test_a_seal_that_does_not_hold_together_is_refused(sealed: Path, change: Callable[[Any], Any]) -> None:
    with pytest.raises(ModelError, match="is no seal, or is damaged"):
        api.verify(edited(sealed, change))


@pytest.mark.parametrize("name", ["../net.onnx", "/etc/passwd", "a/../../net.onnx", "..", ".", "", "x\0y"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_seal_that_leaves_its_folder_is_unsafe(sealed: Path, name: str, number: int) -> None:
    path = edited(sealed, lambda seal: seal["files"][number].update(name=name))
    with pytest.raises(Refused):
        api.verify(path)
    assert_refused(deploykit("verify", "net.onnx", "--files-only", cwd=sealed), 5, "outside of its own folder")


def test_weights_in_a_folder_below_are_sealed_and_found(bare: Path) -> None:
    import onnx

    (bare / "data").mkdir()
    proto = onnx.load(bare / "net.onnx")
    onnx.save(proto, bare / "net.onnx", save_as_external_data=True, location="data/w.bin", size_threshold=1024)
    assert [file.name for file in api.seal(bare / "net.onnx").files][1] == "data/w.bin"
    assert api.verify(bare / "net.onnx").passed
    flip(bare / "data" / "w.bin", 9)
    assert set(wrong(api.verify(bare / "net.onnx"))) == {"data/w.bin"}


def test_a_name_of_any_letters_is_sealed_and_verified(bare: Path) -> None:
    for name, new in (("net.onnx", "größe: a b.onnx"), ("net.golden.npz", "größe: a b.golden.npz")):
        (bare / name).rename(bare / new)
    made = api.seal(bare / "größe: a b.onnx")
    assert made.path.name == "größe: a b.seal.json"
    assert api.verify(made.path).passed


def test_a_place_that_takes_no_seal_is_the_users_error(bare: Path) -> None:
    (bare / "net.seal.json").mkdir()
    with pytest.raises(UsageError, match="can't write"):
        api.seal(bare / "net.onnx")


def test_a_source_that_lies_beside_the_seal_and_changed_since_is_named(sealed: Path, made: Path) -> None:
    shutil.copy(made / "model.onnx", sealed / "model.onnx")
    assert api.verify(sealed / "net.onnx").passed
    with (sealed / "model.onnx").open("ab") as file:
        file.write(b"\x00")
    found = api.verify(sealed / "net.onnx")
    assert wrong(found) == {"model.onnx": "changed: the model was made from another"}


def test_the_one_seal_of_a_folder_need_not_be_named(sealed: Path) -> None:
    ran = deploykit("verify", "--files-only", cwd=sealed)
    assert ran.code == 0, ran.err


# Bounds in the place of the usual rules


def little_worse(path: Path) -> None:
    """Change a model by more than the noise ratio lets pass, and by less than 60 dB."""
    import numpy as np
    import onnx_ir

    model = load(path)
    weight = model.graph.initializers["weight"]
    weight.const_value = onnx_ir.tensor(weight.const_value.numpy() * np.float32(1.0002), name="weight")
    save(model, path)


BOUNDS: dict[str, Any] = {"min_sqnr": 60.0, "allow_undecided": True}


def test_bounds_are_sealed_and_verify_judges_by_them(bare: Path) -> None:
    little_worse(bare / "net.onnx")
    options = ("--min-sqnr", "60", "--allow-undecided")
    assert deploykit("seal", "net.onnx", cwd=bare).code == 1
    ran = deploykit("seal", "net.onnx", *options, cwd=bare)
    assert ran.code == 0, ran.err
    assert manifest(bare)["bounds"] == BOUNDS
    ran = deploykit("verify", "net.onnx", cwd=bare)
    assert ran.code == 0, ran.out + ran.err
    assert "judged by the bounds that it was sealed with: min_sqnr 60.0, allow_undecided True" in ran.out
    edited(bare, lambda seal: seal["bounds"].update(min_sqnr=90))
    assert not api.verify(bare / "net.onnx").passed
    edited(bare, lambda seal: seal.pop("bounds"))
    assert not api.verify(bare / "net.onnx").passed, "without bounds the usual rules hold"


def test_a_fixed_tolerance_is_a_bound_too(bare: Path) -> None:
    little_worse(bare / "net.onnx")
    made = api.seal(bare / "net.onnx", atol=["1", "y=0.5"], rtol=[1e-3])
    assert made.bounds == {"atol": ["1", "y=0.5"], "rtol": ["0.001"]}
    assert api.verify(made.path).passed


def test_what_misses_its_bounds_is_not_sealed(bare: Path) -> None:
    little_worse(bare / "net.onnx")
    ran = deploykit("seal", "net.onnx", "--min-sqnr", "90", "--allow-undecided", cwd=bare)
    assert_refused(ran, 1, "was not sealed", "SQNR")
    assert_refused(deploykit("seal", "net.onnx", "--min-agreement", "all", cwd=bare), 2, "is no share")
    assert_refused(deploykit("seal", "net.onnx", "--min-agreement", "7", cwd=bare), 2, "from 0 to just under 1")
    assert listing(bare) == set(FILES)


def test_usual_rules_leave_no_bounds_in_a_seal(bare: Path) -> None:
    assert api.seal(bare / "net.onnx", min_agreement=None, allow_undecided=False, atol=()).bounds == {}
    assert manifest(bare)["bounds"] == {}
    assert api.seal(bare / "net.onnx", min_sqnr=0.0, allow_undecided=True).bounds == {
        "min_sqnr": 0.0,
        "allow_undecided": True,
    }


@pytest.mark.parametrize(
    "bounds",
    [
        {"min_sqnr": "60"},
        {"min_agreement": 7},
        {"max_memory": 1},
        {"atol": "1"},
        {"rtol": ["x"]},
        {"min_sqnr": None},
        3,
    ],
    ids=str,
)
def test_bounds_that_are_none_are_refused(sealed: Path, bounds: object) -> None:
    path = edited(sealed, lambda seal: seal.update(bounds=bounds))
    with pytest.raises(ModelError, match="is no seal, or is damaged"):
        api.verify(path)
