"""Everything that a pickle would import is named, whatever its opcodes do to hide it, and nothing of it runs."""

import collections
import io
import json
import os
import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from deploykit.artifact import Format
from deploykit.errors import ModelError
from deploykit.pickles import ALLOWED, MAGIC_NUMBER, holds_module, pickle_globals, unsafe_globals
from deploykit.sniff import sniff
from tests.model_files import holding, torch_files, zip_file

QUICK = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_files(tmp_path_factory.mktemp("made"))


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
        *(b"\x8c\x02os", b"\x8c\x06system", b"\x8c\x0bcollections", b"\x8c\x0bOrderedDict", b"C\x02os"),
        *(b"cos\nlistdir\n", b"ios\nstat\n", b"\x93", b"\x93", b"\x94", b"q\x00", b"q\x01", b"h\x00", b"h\x01"),
        *(b"r\x01\x00\x00\x00", b"p0\n", b"g0\n", b"0", b"1", b"2", b"(", b"t", b"l", b"d", b"\x85", b"\x86"),
        *(b"R", b"\x81", b"\x92", b"b", b"o", b"}", b"]", b")", b"s", b"u", b"a", b"e", b"\x8f", b"\x90"),
        *(b"N", b"K\x01", b"Q", b"Pid\n", b"\x95" + bytes(8)),
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
