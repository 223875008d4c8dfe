"""From a source to a proved int8 file: one recipe of deploykit's, beside the same by hand.

``python -m benchmarks.chain [--models digits resnet50 bert_base] [--rounds N]`` prints a table. By hand is what the
documentation of each tool says: ``torch.onnx.export(dynamo=True)``, onnxruntime's ``quantize_static`` on the same
samples (its MinMax; QDQ, a scale for each channel) or ``quantize_dynamic``, then ``polygraphy run`` of both files on
polygraphy's own inputs. Each is a process tree of its own; time and peak memory are those of all its processes.
"""

import argparse
import json
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.watched import Watched, run

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
RESULTS = Path(__file__).parent / "results" / "chain.json"

_BY_HAND = """
set -e
{export}
python -m benchmarks.int8_jobs {quantize}
polygraphy run {out}/float.onnx --onnxrt {inputs} --save-inputs {out}/in.json --save-outputs {out}/float.json
polygraphy run {out}/int8.onnx --onnxrt --load-inputs {out}/in.json --load-outputs {out}/float.json --atol 10 --rtol 1
"""
_STATIC = "ort_static OUT/float.onnx OUT/int8.onnx {data} best minmax"
_DIGITS = """python - <<'END'
import torch
from examples.digits_pytorch import DigitsNet
net = DigitsNet()
net.load_state_dict(torch.load("{weights}"))
x = torch.rand(2, 1, 8, 8)
torch.onnx.export(net.eval(), (x,), "{out}/float.onnx", dynamo=True, opset_version=20, input_names=["x"],
                  dynamic_shapes=({{0: "batch"}},), verbose=False)
END"""


@dataclass(frozen=True)
class Case:
    """One model, ready for both sides."""

    name: str
    recipe: str
    export: str
    quantize: str
    """Of ``benchmarks.int8_jobs``; ``OUT`` is the folder."""
    inputs: str = ""
    """What polygraphy has to be told of dynamic axes."""

    def by_hand(self, out: Path) -> list[str]:
        """Give the command."""
        quantize = self.quantize.replace("OUT", str(out))
        text = _BY_HAND.format(
            export=self.export.replace("OUT", str(out)), quantize=quantize, out=out, inputs=self.inputs
        )
        return ["env", f"PATH={BIN}:/usr/bin:/bin", "bash", "-c", text]


def digits(folder: Path) -> Case:
    """Train the digits CNN."""
    run([sys.executable, str(ROOT / "examples" / "digits_pytorch.py"), str(folder)], ROOT)
    weights, data = folder / "digits.pt", folder / "digits_val.npz"
    recipe = _recipe(weights, f"{ROOT}/examples/digits_pytorch.py:DigitsNet", [], data, "int8")
    quantize = _STATIC.format(data=data)
    return Case("digits", recipe, _DIGITS.format(weights=weights, out="OUT"), quantize, "--input-shapes x:[2,1,8,8]")


def torch_model(name: str, folder: Path) -> Case:
    """Save the random weights of a model of full size, and samples."""
    from benchmarks.models import MODELS

    weights, model = folder / f"{name}.pt", MODELS[name]
    run([sys.executable, "-m", "benchmarks.bare", "save", name, str(weights)], ROOT)
    factory = f"{ROOT}/benchmarks/models.py:{model.factory.__name__}"
    export = f"python -m benchmarks.bare export {name} {weights} OUT/float.onnx 20"
    if model.dtype == "int64":
        recipe = _recipe(weights, factory, model.described, None, "dynamic")
        shapes = " ".join(f"{one}:[2,16]" for one in model.inputs)
        quantize = "ort_dynamic OUT/float.onnx OUT/int8.onnx"
        return Case(name, recipe, export, quantize, f"--input-shapes {shapes} --val-range [0,1]")
    data = folder / "images64.npz"
    if not data.exists():
        images = np.random.default_rng(0).standard_normal((64, 3, 224, 224), np.float32)
        np.savez(data, pixel_values=images)
    recipe = _recipe(weights, factory, model.described, data, "int8")
    shapes = "--input-shapes pixel_values:[2,3,224,224]"
    return Case(name, recipe, export, _STATIC.format(data=data), shapes)


def _recipe(weights: Path, factory: str, described: list[str], data: Path | None, step: str) -> str:
    samples = f"data = {{ validation = '{data}' }}\n" if data is not None else ""
    # Random weights decide nothing: what is measured here is time.
    return (
        f"source = '{weights}'\nfactory = '{factory}'\ninput = {described}\nopset = 20\n{samples}"
        f"[[artifact]]\nname = 'int8'\nsteps = ['simplify', '{step}']\nkeep_slower = true\n"
        "[artifact.require]\nallow_undecided = true\nmin_sqnr = 10\nmin_agreement = 0.5\n"
    )


def measure(case: Case, place: Path, rounds: int) -> dict[str, object]:
    """Run both sides in turns, each time from nothing; then ours again, with nothing changed."""
    ours, theirs, again = list[Watched](), list[Watched](), list[Watched]()
    for number in range(rounds):
        own, other = place / f"ours{number}", place / f"theirs{number}"
        own.mkdir()
        other.mkdir()
        (own / "deploykit.toml").write_text(case.recipe)
        theirs.append(run(case.by_hand(other), ROOT))
        ours.append(run([str(BIN / "deploykit"), "run", "--json"], own))
        again.append(run([str(BIN / "deploykit"), "run", "--json"], own))
    told = json.loads(ours[-1].output)
    laps = {step["title"]: step["told"]["seconds"] for one in told["artifacts"] for step in one["steps"]}
    return {
        "name": case.name,
        "ours_s": median(one.seconds for one in ours),
        "theirs_s": median(one.seconds for one in theirs),
        "ours_cpu_s": median(one.cpu_seconds for one in ours),
        "theirs_cpu_s": median(one.cpu_seconds for one in theirs),
        "ours_at_peak": max(ours, key=lambda one: one.peak).at_peak,
        "ours_peak_mb": max(one.peak for one in ours) / 1e6,
        "theirs_peak_mb": max(one.peak for one in theirs) / 1e6,
        "again_s": median(one.seconds for one in again),
        "again_cpu_s": median(one.cpu_seconds for one in again),
        "others": max(one.others for one in (*ours, *theirs)),
        "converted": told["converted"]["told"]["seconds"],
        "laps": laps,
    }


def main() -> None:
    """Measure, print, and add to benchmarks/results/chain.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["digits", "resnet50", "bert_base"])
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    rows = []
    print(f"command: python -m benchmarks.chain {shlex.join(sys.argv[1:])}")
    for name in asked.models:
        with tempfile.TemporaryDirectory(prefix="deploykit-bench-") as folder:
            case = digits(Path(folder)) if name == "digits" else torch_model(name, Path(folder))
            row = measure(case, Path(folder), asked.rounds)
        rows.append(row)
        print(json.dumps(row, indent=1), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
