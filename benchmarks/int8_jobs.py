"""What ``benchmarks.int8`` has done in processes of their own; each prints one JSON object."""

import json
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np


def _samples(data: str, batch: int = 1) -> Iterator[dict[str, Any]]:
    """Read samples as they are asked for: that they are many shall not show in anybody's memory."""
    with zipfile.ZipFile(data) as archive, ExitStack() as stack:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name != "y.npy"]
        files = {name: stack.enter_context(archive.open(f"{name}.npy")) for name in names}
        about = {name: _header(file) for name, file in files.items()}
        for _ in range(min(shape[0] for shape, _ in about.values()) // batch):
            yield {name: _rows(file, (batch, *about[name][0][1:]), about[name][1]) for name, file in files.items()}


def _header(file: Any) -> tuple[tuple[int, ...], Any]:
    major, _ = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _rows(file: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return np.frombuffer(file.read(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


def bare(source: str, data: str) -> dict[str, Any]:
    """Only run the model on the samples."""
    import onnxruntime

    start = time.perf_counter()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    for call in _samples(data):
        session.run(None, call)
    return {"seconds": time.perf_counter() - start}


def calibrate(source: str, data: str, method: str) -> dict[str, Any]:
    """Run ours: the pass over the samples, and the choice of every range."""
    import onnx_ir  # noqa: F401 - imports are not timed
    import onnxruntime  # noqa: F401

    from deploykit.quantization.calibrating import calibrate as ours
    from deploykit.quantization.ranges import choose
    from deploykit.quantization.reading import read
    from deploykit.quantization.regions import Named, find_regions
    from deploykit.quantization.targets import target_of

    start = time.perf_counter()
    target = target_of("auto")
    graph = read(Path(source), target)
    named = Named.of(find_regions(graph, target))
    with tempfile.TemporaryDirectory() as folder:
        found = ours(graph, named.calibrated, named.channels, lambda: _samples(data), Path(folder), lambda _: None)
    for counts in found.counts.values():
        choose(counts, levels=target.activation_levels, symmetric=target.symmetric, method=method)
    return {"seconds": time.perf_counter() - start}


def _reader(data: str) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = _samples(data)

        def get_next(self) -> Any:
            return next(self.left, None)

    return Reader()


def _method(name: str) -> Any:
    from onnxruntime.quantization import CalibrationMethod

    names = {"entropy": "Entropy", "percentile": "Percentile", "minmax": "MinMax"}
    return getattr(CalibrationMethod, names[name])


def ort_calibrate(source: str, data: str, method: str) -> dict[str, Any]:
    """Run theirs: collect, and compute the ranges."""
    from onnxruntime.quantization.calibrate import create_calibrator

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator = create_calibrator(source, augmented_model_path=augmented, calibrate_method=_method(method))
        calibrator.collect_data(_reader(data))
        calibrator.compute_data()
        return {"seconds": time.perf_counter() - start}


def ort_static(source: str, target: str, data: str, setting: str, method: str) -> dict[str, Any]:
    """Prepare and quantize as onnxruntime's documentation says."""
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    start = time.perf_counter()
    best = {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    prepared = f"{target}.prepared.onnx"
    quant_pre_process(source, prepared)
    settings = best if setting == "best" else {}
    quantize_static(prepared, target, _reader(data), calibrate_method=_method(method), **settings)
    Path(prepared).unlink()
    return {"seconds": time.perf_counter() - start}


def ort_dynamic(source: str, target: str) -> dict[str, Any]:
    """Quantize with ranges at run time, with a scale for each channel."""
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    start = time.perf_counter()
    if Path(f"{source}.data").exists():  # its preparation does not read weights that are beside a file
        quantize_dynamic(source, target, per_channel=True)
        return {"seconds": time.perf_counter() - start}
    prepared = f"{target}.prepared.onnx"
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_dynamic(prepared, target, per_channel=True)
    Path(prepared).unlink()
    return {"seconds": time.perf_counter() - start}


def time_all(first: str, *others: str) -> dict[str, Any]:
    """Time files against the first, in turns."""
    from deploykit.onnx_io import load, signature
    from deploykit.timing import measure

    rng = np.random.default_rng(0)
    feed = {}
    for spec in signature(load(first)).inputs:
        dims = [one if isinstance(one, int) else {"batch": 1}.get(one, 128) for one in spec.dims]
        whole = spec.dtype.startswith("int")
        feed[spec.name] = np.ones(dims, np.int64) if whole else rng.standard_normal(dims, np.float32)
    found = measure([Path(first), *map(Path, others)], feed, seconds=30)
    rows = {Path(one.artifact).name: one.ratio and [1 / one.ratio.value, 1 / one.ratio.high, 1 / one.ratio.low]
            for one in found.rows}  # fmt: skip
    return {"p50_ms": found.rows[0].p50_ms, "times_as_fast": rows, "others": found.others}


def accuracy(path: str, test: str, reference: str = "") -> dict[str, Any]:
    """Give top-1 accuracy; against a reference, what was lost with its interval, equal decisions and SQNR in dB."""
    scores, labels = _scores(path, test)
    found = {"accuracy": float((scores.argmax(1) == labels).mean())}
    if reference:
        own, _ = _scores(reference, test)
        error = ((own - scores) ** 2).sum()
        found["agreement"] = float((scores.argmax(1) == own.argmax(1)).mean())
        right, was_right = scores.argmax(1) == labels, own.argmax(1) == labels
        lost, won = int((was_right & ~right).sum()), int((right & ~was_right).sum())
        found["drop"] = (lost - won) / len(labels)
        found["drop_95"] = 1.96 * (lost + won) ** 0.5 / len(labels)  # about, of what is paired
        found["sqnr"] = float(10 * np.log10((own**2).sum() / max(error, 1e-30)))
    return found


def _scores(path: str, test: str) -> tuple[Any, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with np.load(test) as file:
        labels = file["y"]
    parts = [session.run(None, call)[0] for call in _samples(test)]
    scores = np.concatenate(parts).astype(np.float64)
    return scores.reshape(len(scores), -1), labels


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "bare": bare,
    "calibrate": calibrate,
    "ort_calibrate": ort_calibrate,
    "ort_static": ort_static,
    "ort_dynamic": ort_dynamic,
    "time": time_all,
    "accuracy": accuracy,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(JOBS[sys.argv[1]](*sys.argv[2:])))
