"""Baseline: the verdict of the last run in a file, and what has drifted since.

An artifact that stays within its budget may still have become another: a runtime was upgraded, a pass was added, a
calibration was done again. ``drift`` finds that by comparing two verdicts on the same evidence.

What moves by itself, and is no drift: on the same file and inputs another count of threads, another CPU or another
version of the runtime adds sums in another order. An artifact's error is therefore a part of its own, which stays,
and rounding, which is drawn anew. How large the rounding is, is known: right artifacts measure up to 3 noise floors
where the limit is 10 (tolerance.py), so it is at most ``ROUNDING`` = 0.3 of the limit. (Threads and onnxruntime's
optimization levels moved the ratios of six small nets by 0.4 at most; another CPU draws anew.) This holds at every
precision, as the limits grow with the rounding: for float16, and for a source whose own kernels are coarse. Both
parts add up at worst, as they do in the largest element. On top comes ``SHARE``, 12% or 1 dB: in a lossy artifact
rounding also tips values over the steps of its coarser numbers, which changes an error in proportion to itself. So an
error moved if

    larger > smaller * (1 + SHARE) + ROUNDING * limit

With the usual limit of 10 that is from 0 to over 3, from 1 to over 4.1, from 5 to over 8.6. It counts in both
directions: an error that fell says as much as one that rose that this is not the artifact, or not the runtime, of the
last run. Which figure is the error depends on the rule that judged the output:

- ``noise ratio``: the ratio. Where only one of both runs needed its long sums in float64 to pass, nothing is
  compared: that difference is the runtime's own arithmetic, by definition.
- ``within one quantum``: the RMS error in quanta, with a limit of one: a few roundings fall otherwise, not most.
- ``at most N values differ``: the count.
- any other rule, where SQNR was measured: the relative RMS error. Rounding is then what float32 may lose in a deep
  net, 8 of its 24 bits or 96 dB; far above that, where lossy artifacts are, it is 1 dB.

What is not comparable fails too: other samples, shapes or method, an output that is new or gone, or is judged by
another rule. Nothing that was compared in the last run drops out of sight in this one.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from deploykit.errors import UsageError
from deploykit.validation.reports import save
from deploykit.validation.stored import read_verdict, stored
from deploykit.validation.tolerance import LIMIT
from deploykit.validation.verdict import Check, Verdict

ROUNDING = 0.3
"""How far rounding moves an error, as a share of the limit."""
SHARE = 10 ** (1 / 20) - 1
"""How far rounding moves an error, as a share of itself: 1 dB."""
_LOST = 2.0**-16
"""What float32 arithmetic may lose in a deep net, as a share of the output."""
_LARGEST = 300.0
"""Powers of ten up to which a float reaches."""

_RULE = "as in the last run"
_FINER = "with long sums in float64"
_FORMAT = "deploykit baseline"
_VERSION = 1


def drift(verdict: Verdict, path: Path) -> tuple[Check, ...]:
    """Compare a verdict with the one that was kept, and give a failed check for each output that moved.

    Raises:
        UsageError: there is no such file, or it is damaged or no baseline.
    """
    last = _read(path)
    other = _other_evidence(last, verdict)
    return (_check("evidence", other),) if other else tuple(_moved(last, verdict))


def keep(verdict: Verdict, path: Path) -> None:
    """Write a verdict as the baseline of the next run, whole or not at all; what ``drift`` said is left out.

    Raises:
        UsageError: the file can't be written.
    """
    own = replace(verdict, checks=tuple(check for check in verdict.checks if check.rule != _RULE))
    content = {"format": _FORMAT, "version": _VERSION, **stored(own)}
    save(json.dumps(content, indent=1, allow_nan=False) + "\n", path)


def _check(what: str, why: str) -> Check:
    return Check(what, passed=False, rule=_RULE, why=why)


def _other_evidence(last: Verdict, now: Verdict) -> str | None:
    if (last.samples, set(last.shapes), last.method) == (now.samples, set(now.shapes), now.method):
        return None
    return f"not comparable: the last run had {_evidence(last)}; this one has {_evidence(now)}"


def _evidence(verdict: Verdict) -> str:
    shapes = ", ".join(f"[{shape}]" for shape in dict.fromkeys(verdict.shapes))
    return f"{verdict.samples} samples in the shapes {shapes or 'none'}, its noise floor by {verdict.method}"


def _moved(last: Verdict, now: Verdict) -> Iterator[Check]:
    before, after = _judged(last), _judged(now)
    for what in dict.fromkeys([*after, *before]):
        if what not in before:
            yield _check(what, "new: the last run did not compare it")
        elif what not in after:
            yield _check(what, f"gone: the last run compared it, this one does not{_instead(what, now)}")
        else:
            yield from _between(what, before[what], after[what])


def _judged(verdict: Verdict) -> dict[str, dict[str, Check]]:
    """Give the checks that compared numbers, by output and kind of rule."""
    found: dict[str, dict[str, Check]] = {}
    for check in verdict.checks:
        if check.value is not None and check.rule != _RULE:
            found.setdefault(check.what, {})[_kind(check)] = check
    return found


def _kind(check: Check) -> str:
    """Give the words of a rule before its number: that one may be another in the next run."""
    return re.split(r"[\d,]", check.rule, maxsplit=1)[0].strip()


def _instead(what: str, now: Verdict) -> str:
    return next((f": {check.why}" for check in now.checks if check.what == what), "")


def _between(what: str, before: Mapping[str, Check], after: Mapping[str, Check]) -> Iterator[Check]:
    same = [kind for kind in after if kind in before]
    if not same:
        rules = [" and ".join(f"'{check.rule}'" for check in checks.values()) for checks in (before, after)]
        yield _check(what, f"judged by another rule: {rules[0]} in the last run, now {rules[1]}")
    for one, other in ((before[kind], after[kind]) for kind in same):
        old, new = _error(one), _error(other)
        if old is None or new is None or _is_the_runtimes_own(one, other):
            continue
        slack = min(old.slack, new.slack)
        if _apart(old.value, new.value, slack):
            yield _drifted(what, old, new, slack)


def _is_the_runtimes_own(one: Check, other: Check) -> bool:
    finer = [check.rule.endswith(_FINER) for check in (one, other)]
    return finer[0] != finer[1] and one.passed and other.passed


@dataclass(frozen=True)
class _Error:
    """What is compared of an output."""

    name: str
    value: float
    slack: float
    """How far rounding moves it."""


def _error(check: Check) -> _Error | None:
    """Say how large an error is, in the figure that its rule judges by; None where that is not known."""
    value = math.nan if check.value is None else check.value
    limit = LIMIT if check.limit is None else check.limit
    if check.rule.startswith("noise ratio"):
        return _Error("noise ratio", value, ROUNDING * limit)
    if check.rule.startswith("within one quantum"):
        return _Error("RMS error in quanta", value * _crest(check), ROUNDING)
    if check.rule == "equal" or check.rule.endswith("values differ"):
        return _Error("count of values that differ", value, ROUNDING * limit)
    sqnr = check.figures.get("sqnr")
    return None if sqnr is None else _Error("relative RMS error", 10 ** min(-sqnr / 20, _LARGEST), _LOST)


def _crest(check: Check) -> float:
    """Give the RMS error over the largest one: of errors of one quantum, the root of the share that has it."""
    largest, rmse = check.figures.get("max_abs", 0.0), check.figures.get("rmse", 0.0)
    return rmse / largest if largest else 1.0


def _apart(old: float, new: float, slack: float) -> bool:
    if old == new:
        return False
    if math.isnan(old) or math.isnan(new):
        return math.isnan(old) != math.isnan(new)
    return max(old, new) > min(old, new) * (1 + SHARE) + slack


def _drifted(what: str, old: _Error, new: _Error, slack: float) -> Check:
    way = "rose" if new.value > old.value else "fell" if new.value < old.value else "went"
    low, high = sorted((old.value, new.value))
    times = f", {high / low:.3g} times" if low > 0 and math.isfinite(high / low) else ""
    said = f"{new.name} {way} from {old.value:.3g} to {new.value:.3g}{times}"
    why = f"{said}; rounding moves {low:.3g} to {low * (1 + SHARE) + slack:.3g} at most"
    return Check(what, passed=False, rule=_RULE, why=why, figures={"last": old.value, "now": new.value})


def _read(path: Path) -> Verdict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        printed = "checks" in content and "format" not in content  # what --json has printed is a verdict too
        if not printed and (content["format"], content["version"]) != (_FORMAT, _VERSION):
            raise ValueError(f"it is {content['format']} {content['version']}")  # noqa: TRY301 - one place says it
        return read_verdict(content)
    except FileNotFoundError as error:
        fix = "run once with --update-baseline, which writes it"
        raise UsageError(f"there is no baseline {path}", fix=fix) from error
    except OSError as error:
        raise UsageError(f"can't read the baseline {path}: {error.strerror}", fix="name a file of yours") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        fix = "name another file, or write it anew with --update-baseline"
        why = f": {error}" if isinstance(error, ValueError) else ""
        raise UsageError(f"{path} is no baseline, or is damaged{why}", fix=fix) from error
