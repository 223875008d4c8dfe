"""Over 2 GB of weights, which no one protobuf holds: with DEPLOYKIT_SLOW=1, for it takes minutes and much memory."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import deploykit
from deploykit.machine import memory
from deploykit.passes.int8 import Int8
from tests.int8_graphs import Graph
from tests.test_int8_graphs import ANY, compared

GIB = 1 << 30
pytestmark = [
    pytest.mark.usefixtures("untimed"),
    pytest.mark.skipif("DEPLOYKIT_SLOW" not in os.environ, reason="DEPLOYKIT_SLOW=1 runs it"),
    pytest.mark.skipif((memory() or 0) < 8 * GIB, reason="it takes 8 GB of memory"),
    pytest.mark.skipif(shutil.disk_usage("/tmp").free < 8 * GIB, reason="it takes 8 GB of disk"),  # noqa: S108
]
ROWS, WIDE = 9 << 20, 64
GRAPH = Graph(
    "e=Gather(table,ids) a=MatMul(e,w) r=Relu(a) y=MatMul(r,v)",
    {"w": (WIDE, WIDE), "v": (WIDE, WIDE)},
    "int64[batch,seq] ids",
    f"float[batch,seq,{WIDE}] y",
)


def with_a_large_table(folder: Path) -> Path:
    """Write the graph with its table beside it; but for the rows that are looked up it is a hole in the file."""
    import onnx

    model, samples = GRAPH.written(folder)
    with (folder / "table.bin").open("wb") as file:
        file.write(np.random.default_rng(2).normal(size=(32, WIDE)).astype(np.float32).tobytes())
        file.truncate(ROWS * WIDE * 4)
    proto = onnx.load(str(model))
    table = proto.graph.initializer.add(name="table", data_type=1, dims=[ROWS, WIDE], data_location=1)
    for key, value in (("location", "table.bin"), ("offset", "0"), ("length", str(ROWS * WIDE * 4))):
        table.external_data.add(key=key, value=value)
    onnx.save(proto, str(model))
    return samples


def test_a_file_of_more_than_2_gb_is_quantized(tmp_path: Path) -> None:
    samples = with_a_large_table(tmp_path)
    deploykit.optimize(
        tmp_path / "model.onnx", tmp_path / "q.onnx", passes=[Int8(target="cpu")], data=samples, demand=ANY
    )
    assert sum(file.stat().st_size for file in tmp_path.glob("q.*")) > ROWS * WIDE * 4 > 2 * GIB
    assert min(compared(tmp_path, GRAPH.samples())) > 25
    for file in (*tmp_path.glob("q.*"), *tmp_path.glob("optimized*"), tmp_path / "table.bin"):
        file.unlink()
