"""Errors say what happened and what to do, in this process and in another."""

import pickle

import pytest

from deploykit.errors import BY_NAME, DeploykitError, NotEquivalent


@pytest.mark.parametrize("name", list(BY_NAME))
def test_an_error_comes_whole_out_of_another_process(name: str) -> None:
    own = BY_NAME[name]("no net.pt", fix=["look", "again"], details=["a", "b"])
    found = pickle.loads(pickle.dumps(own))
    assert type(found) is type(own)
    assert str(found) == "no net.pt"
    assert list(found.lines()) == list(own.lines())
    assert found.exit_code == own.exit_code


def test_a_verdict_travels_with_its_error() -> None:
    assert pickle.loads(pickle.dumps(NotEquivalent("x", fix="y", verdict={"passed": False}))).verdict == {
        "passed": False
    }
    assert issubclass(NotEquivalent, DeploykitError)
