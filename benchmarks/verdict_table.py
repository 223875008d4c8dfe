"""The tables of the benchmark of verdicts: what was caught, and what was held to be wrong though it was right."""

import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from benchmarks.verdict_trials import Found, Trial
from deploykit.validation.statistics import wilson

RULES = ("deploykit", "polygraphy", "optimum")
_PACKAGES = ("deploykit", "torch", "onnx", "onnxruntime", "onnxscript")


def about() -> dict[str, object]:
    """Say what was measured, and on what."""
    versions: dict[str, object] = {name: importlib.metadata.version(name) for name in _PACKAGES}
    own = "itself" if importlib.util.find_spec("polygraphy") else "its rule, of 0.53.6"
    return {
        **versions,
        "polygraphy": own,
        "optimum": "its rule, of optimum-onnx 0.1.0",
        "python": platform.python_version(),
    }


def show(found: Sequence[Found]) -> None:
    """Print all tables, and every miss and false alarm in full."""
    faults = list(chain.from_iterable(one.faults for one in found))
    rights = [trial for trial in chain.from_iterable(one.rights for one in found) if trial.is_right]
    dropped = {kind: sum(one.dropped.get(kind, 0) for one in found) for one in found for kind in one.dropped}
    print("\nplanted faults that matter: counted, and the share that each rule catches")
    _table(faults, lambda trial: trial.kind, caught=True, more={k: f"{n} did not matter" for k, n in dropped.items()})
    print("\nthe same by net")
    _table(faults, lambda trial: trial.net, caught=True)
    print("\nright artifacts: counted, and the share that each rule holds to be wrong")
    _table(rights, lambda trial: trial.kind, caught=False)
    print("\nthe same by net")
    _table(rights, lambda trial: trial.net, caught=False)
    _listed("missed by deploykit", (trial for trial in faults if trial.judged.deploykit or trial.judged.crash))
    _listed("false alarms of deploykit", (trial for trial in rights if not trial.judged.deploykit))
    not_right = (t for t in chain.from_iterable(one.rights for one in found) if not t.is_right)
    _listed("made to be right, and not right on other inputs", not_right)
    unmade = [f"{one.net}: {text}" for one in found for text in one.unmade]
    print(f"\nnot made, because the exporter or the converter failed: {len(unmade)}", *unmade, sep="\n  ")


def _table(
    trials: Sequence[Trial], of: Callable[[Trial], str], *, caught: bool, more: dict[str, str] | None = None
) -> None:
    print(f"  {'':22}{'counted':>8}" + "".join(f"{rule:>12}" for rule in RULES))
    for group in dict.fromkeys(map(of, trials)):
        _row(group, [trial for trial in trials if of(trial) == group], caught=caught, more=(more or {}).get(group, ""))
    _row("all", trials, caught=caught, more=_sure(trials, caught=caught))


def _row(group: str, trials: Sequence[Trial], *, caught: bool, more: str) -> None:
    wrong = [sum(not getattr(trial.judged, rule) for trial in trials) for rule in RULES]
    if caught:  # what breaks deploykit down is no catch
        wrong[0] -= sum(trial.judged.crash for trial in trials)
    shares = "".join(f"{100 * count / len(trials):>10.2f} %" if trials else f"{'-':>12}" for count in wrong)
    print(f"  {group:22}{len(trials):>8}{shares}   {more}")


def _sure(trials: Sequence[Trial], *, caught: bool) -> str:
    """Give the interval that so many trials allow, for deploykit."""
    if not trials:
        return ""
    wrong = sum(not trial.judged.deploykit and not (caught and trial.judged.crash) for trial in trials)
    sure = wilson(wrong, len(trials))
    return f"deploykit {wrong} of {len(trials)}: {100 * sure.low:.2f} to {100 * sure.high:.2f} % at 95 %"


def _listed(title: str, trials: Iterable[Trial]) -> None:
    found = list(trials)
    print(f"\n{title}: {len(found)}")
    for one in found:
        print(f"  {one.net}, {one.kind}: {one.where}")
        print(f"    {one.effect:.4g} noise floors on other inputs; {one.judged.ratio:.3g} of deploykit's limit")
        print(f"    {one.judged.why}")
