"""Formats are told apart by content, and damage is named."""

import io
import os
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploykit.artifact import Format
from deploykit.errors import DeploykitError, ModelError, UsageError
from deploykit.sniff import sniff
from tests.model_files import holding, onnx_file, torch_files, zip_file

MODELS = Path(__file__).parents[1].parent / "shared" / "data"
QUICK = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_files(tmp_path_factory.mktemp("made"))


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
