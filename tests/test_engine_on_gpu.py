"""What needs a CUDA device: an engine is run, judged by its golden and timed. Skipped with the probe's own reason."""

from pathlib import Path

import pytest

from deploykit import nvidia
from deploykit.backends.tensorrt import unfit
from tests.running import deploykit

HERE = nvidia.devices()


@pytest.mark.parametrize("kind", [one.kind for one in nvidia.bindings()])
@pytest.mark.parametrize("precision", [None, "--fp16"])
def test_an_engine_is_proved_and_timed_on_the_device(kind: str, precision: str | None, here: Path) -> None:
    why = unfit((), kind, HERE)
    if why:
        pytest.skip(why)
    options = [precision] if precision else []
    ran = deploykit("build", "digits.onnx", "-o", "digits.engine", "--backend", kind, *options, cwd=here)
    assert ran.code == 0, ran.err + ran.out
    assert deploykit("validate", "digits.engine", cwd=here).code == 0
    assert deploykit("bench", "digits.onnx", "digits.engine", "--seconds", "1", cwd=here).code == 0
    assert "inspector" in deploykit("inspect", "digits.engine", cwd=here).out
