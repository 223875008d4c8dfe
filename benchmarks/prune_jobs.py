"""What ``benchmarks.prune`` has done in processes of their own; each prints one JSON object."""

import copy
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]


def curve(source: str, calibration: str, test: str, *shares: str) -> Row:
    """Cut a model to several shares of its multiplications: ours, and the smallest weights alone without a fit."""
    start = time.perf_counter()
    looked = _Looked.at(source, calibration)
    row: Row = {"before": _score(looked.blocked.model, test), "looked_s": time.perf_counter() - start, "cuts": []}
    for share in map(float, shares):
        made: Row = {"goal": share, "plain": looked.plain(share, test)}
        made["ours"] = looked.ours(looked.blocked, share, test)
        made["ours_fine"] = looked.ours(looked.fine, share, test)
        row["cuts"].append(made)
        print(json.dumps(made), file=sys.stderr, flush=True)
    return row


@dataclass(frozen=True)
class _Looked:
    """A model that was looked at once, for all of its cuts."""

    blocked: Any
    """It goes in whole blocks of channels, as the CPU takes them."""
    fine: Any
    """In single ones."""
    calls: list[Row]
    seen: Any
    orders: dict[str, Any]
    curves: Any

    @classmethod
    def at(cls, source: str, calibration: str) -> "_Looked":
        from deploykit import machine
        from deploykit.pruning.allocation import curves_of
        from deploykit.pruning.importance import order_of
        from deploykit.pruning.moments import see
        from deploykit.pruning.subject import Subject
        from deploykit.quantization.reading import read

        calls = _calls(calibration)
        blocked = Subject.of(read(Path(source)), calls[0], machine.block())
        seen = see(blocked.model.clone(), blocked.layers, lambda: calls, _quiet)
        orders = {
            method: [order_of(group, blocked.layers, seen.grams, method) for group in blocked.grouping.groups]
            for method in ("reconstruction", "magnitude")
        }
        curves = curves_of(blocked, orders["reconstruction"], seen, lambda: calls, _quiet)
        return cls(blocked, replace(blocked, block=1), calls, seen, orders, curves)

    def plain(self, share: float, test: str) -> Row:
        """The smallest weights alone, the same share of every layer."""
        from deploykit.pruning.allocation import evenly

        whole = self.fine.macs(self.fine.none_gone)
        gone = evenly(self.fine, share * whole)
        model = self.fine.cut(self.fine.removal(self.orders["magnitude"], gone))
        return {"macs": self.fine.macs(gone) / whole, "score": _score(model, test)}

    def ours(self, subject: Any, share: float, test: str) -> Row:
        """What ``deploykit prune`` does."""
        from deploykit.pruning.allocation import allocated
        from deploykit.pruning.fitting import fit_in_order, fit_locally

        start, whole = time.perf_counter(), subject.macs(subject.none_gone)
        gone = allocated(subject, self.curves, share * whole)
        removal = subject.removal(self.orders["reconstruction"], gone)
        model = subject.cut(removal)
        fit_locally(model, subject.layers, removal, self.seen.grams)
        fit_in_order(model, subject.layers, removal, self.seen, lambda: self.calls, _quiet)
        took = time.perf_counter() - start
        latency = _latency(subject.model, model, self.calls[0])
        return {"macs": subject.macs(gone) / whole, "score": _score(model, test), "fit_s": took, **latency}


def _quiet(_: str) -> None:
    pass


def _calls(path: str) -> list[Row]:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "y"}
    count = len(next(iter(arrays.values())))
    return [{name: array[at : at + 25] for name, array in arrays.items()} for at in range(0, count, 25)]


def _latency(before: Any, after: Any, call: Row) -> Row:
    """Time one sample, one thread, in turns."""
    import tempfile

    from deploykit.onnx_io import save
    from deploykit.timing import measure

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.onnx" for name in ("before", "after")]
        for path, model in zip(paths, (before, after), strict=True):
            save(model, path)
        ratio = measure(paths, {name: array[:1] for name, array in call.items()}, seconds=4).rows[1].ratio
    assert ratio is not None
    return {"latency": ratio.value, "latency_low": ratio.low, "latency_high": ratio.high}


def _score(model: Any, test: str) -> float:
    """Give the accuracy in points; of a denoiser, whose labels are images, the PSNR in dB."""
    import onnx_ir
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_ir.to_proto(model.clone()).SerializeToString())
    return scored(lambda call: session.run(None, call)[0], test)


def scored(run: Callable[[Row], Any], test: str) -> float:
    """Give the same of anything that answers calls."""
    with np.load(test) as file:
        wanted = file["y"]
    found = np.concatenate([run(call) for call in _calls(test)])
    if wanted.ndim > 1:
        return float(np.mean(-10 * np.log10(np.mean((found - wanted) ** 2, axis=(1, 2, 3)))))
    classes = found.reshape(len(found), -1)
    return float(100 * np.mean(classes.argmax(-1) == wanted))


def torch_pruning(architecture: str, options: str, weights: str, calibration: str, test: str, *shares: str) -> Row:
    """Cut a module with torch-pruning's one-shot magnitude pruner, the same ratio everywhere, to the same shares."""
    import torch
    import torch_pruning as tp

    with np.load(calibration) as file:
        tensor = next(name for name in file.files if name != "y")
        example = torch.from_numpy(file[tensor][:1])
    net = _module(architecture, options, weights)
    whole, _ = tp.utils.count_ops_and_params(net, example)
    row: Row = {"cuts": []}
    for share in map(float, shares):
        cuts = ((float(ratio), _cut(net, example, float(ratio))) for ratio in np.linspace(0.02, 0.9, 45))
        ratio, cut = next(
            found for found in cuts if tp.utils.count_ops_and_params(found[1], example)[0] <= share * whole
        )
        macs, _ = tp.utils.count_ops_and_params(cut, example)
        score = scored(partial(_answer, cut, tensor), test)
        row["cuts"].append({"goal": share, "ratio": ratio, "macs": macs / whole, "score": score})
    return row


def _cut(net: Any, example: Any, ratio: float) -> Any:
    import torch
    import torch_pruning as tp

    cut = copy.deepcopy(net)
    last = [module for module in cut.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)][-1]
    magnitude = tp.importance.GroupMagnitudeImportance(p=2)
    tp.pruner.MagnitudePruner(cut, example, magnitude, pruning_ratio=ratio, ignored_layers=[last]).step()
    return cut


def _answer(net: Any, tensor: str, call: Row) -> Any:
    import torch

    with torch.no_grad():
        return net(torch.from_numpy(call[tensor])).numpy()


def _module(architecture: str, options: str, weights: str) -> Any:
    import importlib.util

    import torch

    from benchmarks.int8_models import DATA

    spec = importlib.util.spec_from_file_location("architectures", DATA / "architectures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = getattr(module, architecture)(**json.loads(options))
    found = torch.load(DATA / weights, map_location="cpu", weights_only=True)
    found = found.get("state_dict", found)
    net.load_state_dict({name.removeprefix("module."): value for name, value in found.items()})
    return net.eval()


def large(folder: str, count: str) -> Row:
    """Cut a ResNet-50 of random weights to 70% with so many samples; time and memory of all of it."""
    import resource

    import deploykit

    source, data = Path(folder) / "resnet50.torchscript.onnx", Path(folder) / f"prune{count}.npz"
    rng = np.random.default_rng(0)
    np.savez(data, pixel_values=rng.standard_normal((int(count), 3, 224, 224), np.float32))
    start = time.perf_counter()
    made = deploykit.prune(
        source,
        Path(folder) / "resnet50.pruned.onnx",
        data=data,
        target_macs=0.7,
        min_agreement=0.0,
        min_sqnr=-100,
        allow_undecided=True,
        keep_slower=True,
        step=partial(_told, start),
    )
    used = resource.getrusage(resource.RUSAGE_SELF)
    ratio = made.speed.rows[1].ratio if made.speed else None
    return {
        "seconds": time.perf_counter() - start,
        "laps": made.seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1e3,
        "done": made.stages[-1].done,
        "latency": ratio and ratio.value,
    }


def _told(start: float, said: str) -> None:
    print(f"{time.perf_counter() - start:6.1f} {time.process_time():6.1f} {said}", file=sys.stderr, flush=True)


JOBS: dict[str, Callable[..., Row]] = {"curve": curve, "torch_pruning": torch_pruning, "large": large}


def _quietly(job: Callable[..., Row], arguments: list[str]) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield json.dumps(job(*arguments))


if __name__ == "__main__":
    for line in _quietly(JOBS[sys.argv[1]], sys.argv[2:]):
        print(line)
