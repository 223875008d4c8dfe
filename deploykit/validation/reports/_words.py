"""What every report says alike: the order of the checks, the sentence of a verdict, figures, and text made safe."""

import math
import re

from deploykit.validation.verdict import Check, Verdict

_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters, which XML 1.0 can't hold and terminals obey
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that turn the direction of what follows
    "\ud800-\udfff\ufffe\uffff]"  # lone surrogates and no characters, which UTF-8 or XML can't hold
)
_THOUSAND, _MILLION = 1e3, 1e6
_METHODS = {
    "float64": "from the source in float64",
    "ulp": "from the spread of the source's own answers",
}
_FIGURES = {"sqnr": "SQNR dB", "psnr": "PSNR dB", "rmse": "RMSE"}


def worst_first(verdict: Verdict) -> tuple[Check, ...]:
    """Order the checks: failed before passed, and each by how much of its limit it takes.

    A verdict that does not pass has one failed check at least: where nothing was compared, that is one of its own.
    """
    checks = verdict.checks
    if not verdict.passed and not verdict.failures:
        why = f"nothing was compared: {compared(verdict)}"
        checks = (Check("verdict", passed=False, rule="at least one value is compared", why=why), *checks)
    return tuple(sorted(checks, key=lambda check: (check.passed, -_weight(check))))


def _weight(check: Check) -> float:
    value = math.nan if check.value is None else check.value
    weight = abs(value / check.limit) if check.limit else abs(value)
    if math.isnan(weight):  # which has no order
        return 0.0 if check.passed else math.inf
    return weight


def outcome(verdict: Verdict) -> str:
    """Say in a word or two how it came out."""
    if verdict.passed:
        return "within its budget" if verdict.lossy else "equal"
    return "undecided" if verdict.undecided else "not equal"


def result(check: Check) -> str:
    """Say in a word how a check came out."""
    if check.undecided:
        return "undecided"
    return "pass" if check.passed else "FAIL"


def compared(verdict: Verdict) -> str:
    """Say how much was compared."""
    shapes = len(set(verdict.shapes))
    return f"{_count(verdict.values, 'value')} of {_count(verdict.samples, 'sample')} in {_count(shapes, 'shape')}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def method(verdict: Verdict) -> str:
    """Say how the noise floor was found."""
    return _METHODS.get(verdict.method, verdict.method)


def figure_title(name: str) -> str:
    """Give a figure's name as people write it: ``max_abs`` is ``max abs``."""
    return _FIGURES.get(name, name.replace("_", " "))


def figures(check: Check) -> dict[str, float]:
    """Give the figures of a check by title, what was judged first."""
    judged = {"measured": check.value, "limit": check.limit}
    given = {name: value for name, value in judged.items() if value is not None}
    return given | {figure_title(name): value for name, value in check.figures.items()}


def number(value: float | None) -> str:
    """Give a number in three digits, or in whole ones below a million; nothing where there is none."""
    if value is None:
        return ""
    return f"{value:.0f}" if _THOUSAND <= abs(value) < _MILLION else f"{value:.3g}"


def visible(text: str) -> str:
    r"""Make what can't be seen or written visible, as in ``\x1b``; line ends become ``\n``, and stay."""
    ends = re.sub("\r\n?", "\n", text)
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), ends)


def line(text: str) -> str:
    """Make a text visible, and one line."""
    return re.sub(r"\s*[\n\u2028\u2029]\s*", " ", visible(text)).strip()


def short(text: str, most: int) -> str:
    """Cut a text to ``most`` characters, and show that it was."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
