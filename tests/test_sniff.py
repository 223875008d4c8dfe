"""Formats are told apart by content, damage is named, and nothing of a pickle runs."""

import collections
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from deploykit.artifact import Format
from deploykit.errors import DeploykitError, ModelError, UsageError
from deploykit.pickles import ALLOWED, MAGIC_NUMBER, holds_module, pickle_globals, unsafe_globals
from deploykit.sniff import sniff

MODELS = Path(__file__).parents[1].parent / "shared" / "data"
QUICK = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep one small model in every format that its own framework can write here."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("made")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()).eval()
    x = (torch.ones(2, 3),)
    state = model.state_dict()
    old = {"_use_new_zipfile_serialization": False}
    torch.save(state, folder / "state.pt")
    torch.save(state, folder / "state_old.pt", **old)
    torch.save(state, folder / "state_old0.pt", pickle_protocol=0, **old)
    torch.save({"state_dict": state, "epoch": 3, "seen": {1, 2}, "at": 1j}, folder / "checkpoint.pt")
    torch.save({"state_dict": state, "args": Path("x")}, folder / "checkpoint_with_path.pt")
    torch.save(model, folder / "module.pt")
    torch.save(model, folder / "module_old.pt", **old)
    torch.save({"model": model}, folder / "module_inside.pt")
    torch.jit.save(torch.jit.trace(model, x), folder / "traced.pt")
    torch.jit.trace(model, x)._save_for_lite_interpreter(str(folder / "lite.ptl"))
    torch.export.save(torch.export.export(model, x), folder / "program.pt2")
    save_file(state, folder / "model.safetensors")
    return folder


def onnx_file(path: Path) -> Path:
    import onnx

    graph = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 20]> g (float[N] x) => (float[N] y) { y = Relu(x) }'
    )
    onnx.save(graph, path)
    return path


def zip_file(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def holding(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


NODE = field(1, field(1, b"x") + field(2, b"Placeholder"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("state.pt", Format.STATE_DICT),
        ("state_old.pt", Format.STATE_DICT),
        ("state_old0.pt", Format.STATE_DICT),
        ("checkpoint.pt", Format.STATE_DICT),
        ("checkpoint_with_path.pt", Format.TORCH_PICKLE),
        ("module.pt", Format.TORCH_PICKLE),
        ("module_old.pt", Format.TORCH_PICKLE),
        ("module_inside.pt", Format.TORCH_PICKLE),
        ("traced.pt", Format.TORCHSCRIPT),
        ("lite.ptl", Format.TORCHSCRIPT),
        ("program.pt2", Format.TORCH_EXPORT),
        ("model.safetensors", Format.SAFETENSORS),
    ],
)
def test_what_torch_writes_is_told_apart_whatever_its_suffix(
    made: Path, tmp_path: Path, name: str, expected: Format
) -> None:
    assert sniff(made / name) == expected
    assert sniff(holding(tmp_path / "model.onnx", (made / name).read_bytes())) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar10/resnet20-12fca82f.th", Format.STATE_DICT),
        ("cifar10/resnet20_jpeg_finetuned.pt", Format.STATE_DICT),
        ("cifar10/samplenet.pth", Format.STATE_DICT),
        ("denoise/dncnn_25.pth", Format.STATE_DICT),
        ("cifar10/samplenet.pb", Format.GRAPH_DEF),
        ("mnist/tf_fc_frozen.pb", Format.GRAPH_DEF),
        ("mnist/tf_lstm_frozen.pb", Format.GRAPH_DEF),
        ("cifar10/pretrainedResnet.h5", Format.KERAS_H5),
        ("charlm/textgenrnn_weights.hdf5", Format.KERAS_H5),
        ("vww/vww_96_int8.tflite", Format.TFLITE),
        ("kws/kws_ref_model", Format.SAVED_MODEL),
        ("vad/silero_vad.jit", Format.TORCHSCRIPT),
        ("vad/silero_vad.onnx", Format.ONNX),
    ],
)
def test_published_models_are_told_apart(name: str, expected: Format) -> None:
    if not (MODELS / name).exists():
        pytest.skip(f"needs the shared model {name}")
    assert sniff(MODELS / name) == expected


def test_what_others_write_is_told_apart(tmp_path: Path) -> None:
    keras = {"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b"\x89HDF\r\n\x1a\n"}
    assert sniff(zip_file(tmp_path / "a", **keras)) == Format.KERAS
    older = {"version": b"8.2", "serialized_exported_program.json": b"{}", "serialized_state_dict.pt": b""}
    assert sniff(zip_file(tmp_path / "b", **older)) == Format.TORCH_EXPORT
    assert sniff(zip_file(tmp_path / "c", **{"golden.json": b"{}", "x.npy": b""})) == Format.GOLDEN
    assert sniff(holding(tmp_path / "d", bytes(1024) + b"\x89HDF\r\n\x1a\n")) == Format.KERAS_H5
    assert sniff(holding(tmp_path / "e", NODE + field(4, b""))) == Format.GRAPH_DEF
    assert sniff(onnx_file(tmp_path / "f.pb")) == Format.ONNX
    (tmp_path / "saved_model.pbtxt").write_text("saved_model_schema_version: 1")
    assert sniff(tmp_path) == Format.SAVED_MODEL


def test_an_onnx_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    size = (1 << 31) + 5
    path = holding(tmp_path / "big.onnx", b"\x08\x09" + b"\x3a" + b"\x80\x80\x80\x80\x08")
    os.truncate(path, 8 + (1 << 31))
    start = time.process_time()
    assert sniff(path) == Format.ONNX
    os.truncate(path, size)
    with pytest.raises(ModelError, match="cut off: 3 bytes missing"):
        sniff(path)
    assert time.process_time() - start < 0.2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b'{"a": 1}', "is JSON"),
        (b"import torch\n\nclass Net: ...\n", "Python source"),
        ("Läs mig först.\n".encode(), "text file"),
        (b"PK\x03\x04" + bytes(60), "cut off or damaged"),
        (b"PK\x05\x06" + bytes(18), "empty zip"),
        (b"\x93NUMPY\x01\x00", "numpy array"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"RIFF\x00\x00\x00\x00WAVE", "no format that deploykit takes"),
        (b"\x08\x09\x12\x02hi", "holds no graph"),
        (NODE[:6], "no format"),
        (NODE + NODE[:-3], "GraphDef. is cut off: 3 bytes missing"),
        (struct.pack("<Q", 90) + b'{"a":', "safetensors. is cut off: 85 bytes missing"),
        (struct.pack("<Q", 5) + b'{"a":', "damaged header"),
        (b"\x80\x02}q\x00", "as a pickle"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "as a pickle"),
        (b"\x80\x02Rq.", "as a pickle"),
        (b"\x80\x02}.junk", "as a pickle"),
        (b"\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00}.", "frame"),
    ],
)
def test_what_is_no_model_is_called_by_its_name(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        sniff(holding(tmp_path / "model.onnx", content))
    assert caught.value.fix


def test_a_git_lfs_pointer_names_the_command_that_fetches_it(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    for path in (tmp_path / "model.pt", tmp_path / "saved_model.pb"):
        holding(path, pointer)
    for given_path in (tmp_path / "model.pt", tmp_path):
        with pytest.raises(ModelError) as caught:
            sniff(given_path)
        assert caught.value.fix == ("git lfs pull",)


def test_archives_of_something_else_are_refused_with_what_they_hold(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3))
    with pytest.raises(ModelError, match="npz of arrays") as caught:
        sniff(tmp_path / "arrays.npz")
    assert "--data" in caught.value.fix[0]
    with pytest.raises(ModelError, match="no model format") as caught:
        sniff(zip_file(tmp_path / "x.zip", **{"model.onnx": b""}))
    assert "model.onnx" in caught.value.details[0]
    with pytest.raises(ModelError, match="without a program"):
        sniff(zip_file(tmp_path / "x.pt2", **{"x/archive_format": b"pt2", "x/data/aotinductor/model/a.so": b""}))


def test_tar_files_are_refused_and_old_torch_ones_are_to_be_saved_again(tmp_path: Path) -> None:
    for names, message in (
        (("sys_info", "pickle", "storages", "tensors"), "0.1.10"),
        (("a.onnx",), "is a tar archive"),
    ):
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        with pytest.raises(ModelError, match=message):
            sniff(tmp_path / "x.tar")


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    holding(tmp_path / "model.onnx", b"")
    with pytest.raises(UsageError, match=r"did you mean 'model\.onnx'"):
        sniff(tmp_path / "modle.onnx")
    with pytest.raises(UsageError, match="there is no folder"):
        sniff(tmp_path / "nowhere" / "model.onnx")
    (tmp_path / "link").symlink_to("gone.onnx")
    with pytest.raises(UsageError, match=r"link to gone\.onnx"):
        sniff(tmp_path / "link")


def test_paths_that_hold_no_file_are_wrong_usage(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for wrong in (tmp_path / "pipe", Path("/dev/zero"), tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(UsageError):
            sniff(wrong)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Give up root's right to read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_without_read_permission_is_wrong_usage(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "model.onnx")
    path.chmod(0)
    with unprivileged(), pytest.raises(UsageError, match="can't be read: Permission denied"):
        sniff(path)


def test_a_folder_says_which_of_its_files_to_give(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        sniff(tmp_path)
    assert caught.value.details == ("it is empty",)
    onnx_file(tmp_path / "model.bin")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError) as caught:
        sniff(tmp_path)
    assert caught.value.fix == (f"give {tmp_path / 'model.bin'}",)
    assert "notes.txt" in caught.value.details[0]


def test_the_graph_file_of_a_saved_model_is_sent_to_its_folder(tmp_path: Path) -> None:
    graph = holding(tmp_path / "saved_model.pb", b"\x08\x01" + field(2, b"\n\x00"))
    with pytest.raises(UsageError, match="SavedModel") as caught:
        sniff(graph)
    assert str(tmp_path) in caught.value.fix[0]


def test_sniffing_imports_no_framework() -> None:
    program = "import sys, deploykit.sniff; print(*sorted({'torch', 'onnx', 'numpy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_the_allow_list_is_that_of_the_installed_torch() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals

    assert set(_get_allowed_globals()) == ALLOWED


def test_what_is_called_a_state_dict_loads_with_weights_only(made: Path) -> None:
    import torch

    # Of protocols other than 2, torch's weights_only reader lacks opcodes, however harmless the names are.
    for path in sorted(set(made.glob("*.pt")) - {made / "state_old0.pt"}):
        if sniff(path) == Format.STATE_DICT:
            assert torch.load(path, weights_only=True)
        elif sniff(path) == Format.TORCH_PICKLE:
            with pytest.raises(pickle.UnpicklingError):
                torch.load(path, weights_only=True)


def test_a_pickled_module_names_its_classes(made: Path) -> None:
    for name in ("module.pt", "module_old.pt", "module_inside.pt"):
        assert set(unsafe_globals(made / name)) == {
            "torch.nn.modules.activation.ReLU",
            "torch.nn.modules.container.Sequential",
            "torch.nn.modules.linear.Linear",
        }
    assert "collections.OrderedDict" in pickle_globals(made / "module.pt")
    assert [holds_module(made / name) for name in ("module.pt", "module_old.pt")] == [True, True]
    assert not any(
        holds_module(made / name) for name in ("module_inside.pt", "state.pt", "state_old.pt", "checkpoint.pt")
    )


class Attack:
    """Touch a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    @override
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_in_a_pickle_is_named_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps({"w": [Attack(tmp_path / "ran")]}, protocol)
    for path in (
        holding(tmp_path / "bare.pt", content),
        zip_file(tmp_path / "zip.pt", **{"x/data.pkl": content, "x/version": b"3"}),
        holding(tmp_path / "old.pt", b"".join(map(pickle.dumps, (MAGIC_NUMBER, 1001, {}))) + content + b"]."),
        holding(tmp_path / "after.pt", pickle.dumps({}, 2) + content),
    ):
        assert unsafe_globals(path) == ("posix.system",)
        assert sniff(path) == Format.TORCH_PICKLE
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.", ("os.system",)),
        (
            b"\x80\x04\x8c\x0bcollectionsq\x05\x8c\x02osq\x050\x8c\x0bOrderedDict0h\x05\x8c\x06system\x93.",
            ("os.system",),
        ),
        (b"\x80\x04\x8c\x02os2\x93.", ("os.os",)),
        (b"\x80\x04\x8c\x02osp3\n\x8c\x06system\x93g3\n0.", ("os.system",)),
        (b"\x80\x04c_codecs\nencode\n\x8c\x02os\x85R\x8c\x06system\x93.", ("_codecs.encode", "unknown")),
        (b"\x80\x04]\x8c\x06system\x93.", ("unknown",)),
        (b"(S'ls'\nios\nsystem\n.", ("os.system",)),
        (b"(cos\nsystem\nS'ls'\no.", ("os.system",)),
        (b"\x80\x02\x82\x07.", ("extension:7",)),
        (b"\x80\x02\x84\x07\x00\x00\x01.", ("extension:16777223",)),
        (b"\x80\x02c__builtin__\nset\n.", ("builtins.set",)),
        (b"\x80\x03c__builtin__\nset\n.", ("__builtin__.set",)),
        (b"\x80\x02cpickle\nloads\nU\x04hide\x85R.", ("pickle.loads",)),
    ],
)
def test_names_are_found_however_they_are_put_together(tmp_path: Path, content: bytes, names: tuple[str, ...]) -> None:
    assert pickle_globals(holding(tmp_path / "x.pkl", content)) == names


def test_every_data_pkl_of_an_archive_is_read(tmp_path: Path) -> None:
    harmful = pickle.dumps(Attack(tmp_path / "ran"), 2)
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", harmful)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x/data.pkl", pickle.dumps({}, 2))
        archive.writestr("x/archive_format", "pt2")
    assert unsafe_globals(tmp_path / "x.pt") == ("posix.system",)
    disguised = b"PK\x03\x04\n" + harmful
    assert unsafe_globals(zip_file(tmp_path / "y.pt", **{"x/data.pkl": disguised})) == ("posix.system",)


def test_pickles_inside_a_torch_export_archive_are_read_as_torch_would(made: Path, tmp_path: Path) -> None:
    import torch

    assert unsafe_globals(made / "program.pt2") == ()
    saved = io.BytesIO()
    torch.save([Attack(tmp_path / "ran")], saved)
    harmful = pickle.dumps(Attack(tmp_path / "ran"), 0)
    config = json.dumps({"config": {"w": {"path_name": "weight_0", "use_pickle": True}}}).encode()
    common = {"x/archive_format": b"pt2", "x/models/model.json": b"{}"}
    weights = {"x/data/weights/model_weights_config.json": config, "x/data/weights/weight_0": harmful}
    for entries in (
        {"x/data/sample_inputs/model.pt": saved.getvalue()},
        {"x/data/constants/opaque_obj_0": harmful},
        weights,
    ):
        path = zip_file(tmp_path / "x.pt2", **common, **entries)
        assert sniff(path) == Format.TORCH_EXPORT
        assert unsafe_globals(path) == ("posix.system",)
    compiled = zip_file(tmp_path / "y.pt2", **common, **{"x/data/aotinductor/model/a.so": b"\x7fELF"})
    assert unsafe_globals(compiled) == ("native:x/data/aotinductor/model/a.so",)


class Stub:
    """Stand for whatever a pickle imports."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...

    def __setitem__(self, _: object, __: object) -> None: ...

    def append(self, _: object) -> None: ...

    def add(self, _: object) -> None: ...


def imported_by(content: bytes) -> set[str]:
    """List what Python's unpickler really asks for, up to where it stops or fails."""
    names = set()

    class Recorder(pickle.Unpickler):
        @override
        def find_class(self, module: str, name: str) -> Any:
            names.add(f"{module}.{name}")
            return Stub

        @override
        def persistent_load(self, _: object) -> Any:
            return Stub()

    try:
        Recorder(io.BytesIO(content)).load()
    except Exception:  # noqa: BLE001 (a random program may fail in any way: what it did before counts)
        return names
    return names


OBJECTS = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.just(collections.Counter)
    | st.just(np.float32),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.builds(collections.OrderedDict, st.dictionaries(st.text(max_size=3), inner, max_size=3))
        | st.builds(partial, st.just(max), inner)
    ),
)


@QUICK
@given(value=OBJECTS, protocol=st.integers(3, 5))
def test_the_names_are_those_that_python_imports(tmp_path: Path, value: object, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    assert set(pickle_globals(holding(tmp_path / "x.pkl", content))) == imported_by(content)


PARTS = st.sampled_from(
    [
        *(
            b"\x8c\x02os",
            b"\x8c\x06system",
            b"\x8c\x0bcollections",
            b"\x8c\x0bOrderedDict",
            b"C\x02os",
            b"cos\nlistdir\n",
        ),
        *(b"\x93", b"\x93", b"\x94", b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"r\x01\x00\x00\x00", b"p0\n", b"g0\n"),
        *(
            b"0",
            b"1",
            b"2",
            b"(",
            b"t",
            b"l",
            b"d",
            b"\x85",
            b"\x86",
            b"R",
            b"\x81",
            b"\x92",
            b"b",
            b"o",
            b"ios\nstat\n",
        ),
        *(
            b"}",
            b"]",
            b")",
            b"s",
            b"u",
            b"a",
            b"e",
            b"\x8f",
            b"\x90",
            b"N",
            b"K\x01",
            b"Q",
            b"Pid\n",
            b"\x95" + bytes(8),
        ),
    ]
)


@settings(QUICK, max_examples=600)
@given(parts=st.lists(PARTS, max_size=25))
def test_no_program_of_opcodes_imports_more_than_is_reported(tmp_path: Path, parts: list[bytes]) -> None:
    content = b"\x80\x04" + b"".join(parts) + b"."
    path = holding(tmp_path / "x.pkl", content)
    try:
        reported = pickle_globals(path)
    except ModelError:
        return
    assert "unknown" in reported or imported_by(content) <= set(reported)


def looks_into(path: Path) -> None:
    """Sniff, and let pass only what a user is told."""
    with suppress(DeploykitError):
        assert sniff(path) in Format


@QUICK
@given(content=st.binary(max_size=300))
def test_any_bytes_give_a_format_or_a_plain_error(tmp_path: Path, content: bytes) -> None:
    looks_into(holding(tmp_path / "x", content))


STARTS = (
    b"PK\x03\x04",
    b"\x80\x02",
    b"\x80\x04",
    b"\x08\x09",
    b"\x0a\x10\x0a\x01x\x12",
    b"\x89HDF\r\n\x1a\n",
    b"(",
    b"c",
)


@QUICK
@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=100))
def test_any_bytes_behind_a_known_start_give_a_format_or_a_plain_error(
    tmp_path: Path, start: bytes, rest: bytes
) -> None:
    looks_into(holding(tmp_path / "x", start + rest))


NAMES = ("state.pt", "state_old.pt", "module.pt", "traced.pt", "program.pt2", "model.safetensors", "model.onnx")


@settings(QUICK, max_examples=300)
@given(name=st.sampled_from(NAMES), at=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255))))
def test_cut_and_damaged_files_give_a_format_or_a_plain_error(
    made: Path, tmp_path: Path, name: str, at: float, flips: list[tuple[float, int]]
) -> None:
    source = made / name if name != "model.onnx" else onnx_file(tmp_path / name)
    content = bytearray(source.read_bytes())
    for where, flip in flips:
        content[int(where * (len(content) - 1))] ^= flip
    looks_into(holding(tmp_path / "x", bytes(content)))
    looks_into(holding(tmp_path / "x", bytes(content[: int(at * len(content))])))


@pytest.mark.parametrize(
    "name", ["vad/silero_vad.onnx", "cifar10/samplenet.pb", "denoise/dncnn_25.pth", "pitch/tiny.pth"]
)
def test_a_published_model_that_is_cut_off_is_never_taken_whole(tmp_path: Path, name: str) -> None:
    if not (MODELS / name).exists():
        pytest.skip(f"needs the shared model {name}")
    content = (MODELS / name).read_bytes()
    whole = sniff(MODELS / name)
    for part in range(1, 60):
        path = holding(tmp_path / "x", content[: len(content) * part // 60])
        if whole is Format.STATE_DICT and not content.startswith(b"PK"):
            # The raw tensors behind an old torch.save file's pickles have no length that is written down.
            looks_into(path)
        else:
            with pytest.raises(ModelError, match="cut off"):
                sniff(path)
