"""JUnit XML: a verdict as test cases, for GitHub, GitLab and Jenkins."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from deploykit.validation.reports import Report
from deploykit.validation.reports._markup import element
from deploykit.validation.reports._words import figures, line, number, worst_first
from deploykit.validation.verdict import Check, Verdict

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(frozen=True)
class Junit(Report):
    """JUnit XML: a test suite for the artifact, a test case for each check, and for each shape of the inputs.

    The elements and attributes are those that Jenkins's schema has, the strictest that is kept: junit-10.xsd of
    jenkinsci/xunit-plugin. GitLab shows ``classname`` as the suite and the body of a failure, and drops a second case
    of the same name. Times are left out: the checks of one verdict have none of their own.
    """

    def write(self, verdict: Verdict) -> str:
        """Give the XML."""
        checks = [one for check in worst_first(verdict) for one in (check, *_by_shape(check))]
        counts = {
            "tests": str(len(checks)),
            "failures": str(sum(not check.passed for check in checks)),
            "errors": "0",
        }
        place = _classname(verdict.artifact)
        cases = (_case(name, check, place) for name, check in zip(_names(checks), checks, strict=True))
        suite = element("testsuite", _properties(verdict), *cases, *_notes(verdict), name=verdict.artifact, **counts)
        root = element("testsuites", suite, name="deploykit", **counts)
        ET.indent(root)
        return f"{_HEAD}{ET.tostring(root, encoding='unicode')}\n"


def _by_shape(check: Check) -> Iterator[Check]:
    """Give a check for each shape of the inputs, by the same limit."""
    most = check.limit or 0.0
    for shape, value in check.by_shape.items():
        why = f"{number(value)} in the calls of this shape"
        passed = check.passed or value <= most
        yield Check(f"{check.what} [{shape}]", passed, check.rule, why, value, check.limit)


def _classname(artifact: str) -> str:
    """Name the class of all cases; Jenkins reads what is before the last dot as its package."""
    return f"deploykit.{line(artifact).replace('.', '_')}"


def _names(checks: Sequence[Check]) -> list[str]:
    """Name the cases after their outputs; where one has several checks, after the rule too, at last by number."""
    often = Counter(line(check.what) for check in checks)
    wanted = [
        line(check.what) if often[line(check.what)] == 1 else f"{line(check.what)}: {line(check.rule)}"
        for check in checks
    ]
    taken: set[str] = set()
    for place, name in enumerate(wanted):
        free = (name if again == 1 else f"{name} ({again})" for again in range(1, len(wanted) + 2))
        wanted[place] = next(one for one in free if one not in taken)
        taken.add(wanted[place])
    return wanted


def _properties(verdict: Verdict) -> ET.Element:
    facts = {
        "artifact": verdict.artifact,
        "reference": verdict.reference,
        "samples": str(verdict.samples),
        "values": str(verdict.values),
        "shapes": "; ".join(dict.fromkeys(verdict.shapes)),
        "method": verdict.method,
    }
    return element("properties", *(element("property", name=name, value=value) for name, value in facts.items()))


def _case(name: str, check: Check, classname: str) -> ET.Element:
    told = "\n".join(_lines(check))
    if check.passed:
        return element("testcase", element("system-out", told), name=name, classname=classname)
    failure = element(
        "failure", told, message=line(check.why), type="Undecided" if check.undecided else "NotEquivalent"
    )
    return element("testcase", failure, name=name, classname=classname)


def _lines(check: Check) -> Iterator[str]:
    yield check.said
    yield f"asked for: {check.rule}"
    yield from (f"{name}: {number(value)}" for name, value in figures(check).items())


def _notes(verdict: Verdict) -> Iterator[ET.Element]:
    if verdict.notes:
        yield element("system-out", "\n".join(f"note: {note}" for note in verdict.notes))
