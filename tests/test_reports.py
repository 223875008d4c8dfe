"""Reports carry the facts of a verdict, whatever its outputs are called and however its figures came out."""

import html.parser
import math
import os
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from deploykit.errors import UsageError
from deploykit.validation.reports import REPORTS, Report, save
from deploykit.validation.verdict import Check, Verdict

HOSTILE = "a|b`c*d_e[f](g)<script>alert('x')</script>\"&amp;\\|::%0A,\x1b[31m\x00\ud800\u202e\r\n<!-- ]]> é日本🦊 #"
RULE = "noise ratio at most 10"
FIGURES = {"max_abs": 7.42e-6, "sqnr": 134.5, "cosine": 1.0, "rmse": 2.5e-6}


def passing(what: str = "logits", value: float = 1.74) -> Check:
    return Check(what, passed=True, rule=RULE, why="errs 2.4e-06", value=value, limit=10.0, figures=FIGURES)


def failing(what: str = "scores", value: float = 431.0, why: str = "errs 0.1, worst in sample 3") -> Check:
    return Check(what, passed=False, rule=RULE, why=why, value=value, limit=10.0, figures=FIGURES)


def verdict(*checks: Check, artifact: str = "out/digits.onnx", notes: tuple[str, ...] = ()) -> Verdict:
    return Verdict(
        artifact,
        "digits.golden.npz, recorded from digits.pt",
        checks,
        samples=11,
        values=110,
        shapes=("x 2x1x8x8", "x 1x1x8x8", "x 2x1x8x8"),
        method="float64",
        notes=notes,
    )


def written(report: str, told: Verdict) -> str:
    return REPORTS.make(report).write(told)


EMPTY = Verdict("m.onnx", "m.pt", (), samples=0, values=0, shapes=(), method="ulp")
UNCOMPARED = Verdict("m.onnx", "m.pt", (passing(),), samples=0, values=0, shapes=(), method="ulp")
NUMBERS = (None, 0.0, -0.0, 1e-320, 1e308, 1.74, -3.0, math.inf, -math.inf, math.nan)
ODD = [
    Check(HOSTILE, passed=passed, rule=RULE, why=HOSTILE, value=value, limit=limit, figures={"max_abs": value or 0.0})
    for value in NUMBERS
    for limit in NUMBERS
    for passed in (True, False)
]
VERDICTS = {
    "passes": verdict(passing(), passing("other", 0.0)),
    "fails": verdict(passing(), failing()),
    "empty": EMPTY,
    "compared nothing": UNCOMPARED,
    "odd": verdict(*ODD, artifact=HOSTILE, notes=(HOSTILE,)),
}


# All of them


@pytest.fixture(params=REPORTS.names())
def report(request: pytest.FixtureRequest) -> Report:
    return REPORTS.make(request.param)


def test_there_are_the_four() -> None:
    assert REPORTS.names() == ("github", "html", "junit", "markdown")


@pytest.mark.parametrize("told", VERDICTS.values(), ids=VERDICTS)
def test_the_same_verdict_gives_the_same_text_and_it_can_be_written(report: Report, told: Verdict) -> None:
    text = report.write(told)
    assert text == report.write(told)
    assert text.encode("utf-8").decode("utf-8") == text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)


@pytest.mark.parametrize("told", [EMPTY, UNCOMPARED], ids=["no check", "no value"])
def test_a_verdict_that_compared_nothing_is_never_told_as_a_pass(report: Report, told: Verdict) -> None:
    assert "nothing was compared: 0 values of 0 samples in 0 shapes" in report.write(told)


def test_what_failed_comes_before_what_passed_and_the_worst_first(report: Report) -> None:
    told = verdict(passing("fine"), failing("bad", 40.0), failing("nan", math.nan), failing("worst", 4000.0))
    text = report.write(told)
    places = [text.index(name) for name in ("nan", "worst", "bad")]
    assert places == sorted(places)
    assert "fine" not in text or places[-1] < text.index("fine")


def test_a_report_says_what_it_is_for_in_the_list_of_plugins(report: Report) -> None:
    assert (type(report).__doc__ or "").splitlines()[0]


# JUnit

SCHEMA = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "timestamp", "hostname", "id", "package", "time"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"name", "time", "classname", "group"},
    "failure": {"type", "message"},
    "system-out": set(),
}
"""Elements and attributes of junit-10.xsd that are used here, and what it lets stand in them."""
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", "system-out"},
    "properties": {"property"},
    "testcase": {"failure", "system-out"},
}


def junit(told: Verdict) -> ET.Element:
    return ET.fromstring(written("junit", told).encode())  # noqa: S314 - what is parsed was just written


@pytest.mark.parametrize("told", VERDICTS.values(), ids=VERDICTS)
def test_junit_has_what_the_schema_of_jenkins_has(told: Verdict) -> None:
    root = junit(told)
    for element in root.iter():
        assert set(element.attrib) <= SCHEMA[element.tag], element.tag
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set()), element.tag
        assert not (len(element) and (element.text or "").strip()), "text beside elements"
    suite = root[0]
    for counted in (root, suite):
        assert int(counted.attrib["tests"]) == len(list(suite.iter("testcase")))
        assert int(counted.attrib["failures"]) == len(list(suite.iter("failure")))
        assert counted.attrib["errors"] == "0"
        assert (counted.attrib["failures"] == "0") == told.passed
        assert "time" not in counted.attrib


def test_junit_names_the_evidence() -> None:
    told = verdict(passing())
    found = {one.attrib["name"]: one.attrib["value"] for one in junit(told).iter("property")}
    assert found == {
        "artifact": "out/digits.onnx",
        "reference": "digits.golden.npz, recorded from digits.pt",
        "samples": "11",
        "values": "110",
        "shapes": "x 2x1x8x8; x 1x1x8x8",
        "method": "float64",
    }


def test_junit_tells_a_failure_with_its_figures() -> None:
    case = next(one for one in junit(verdict(passing(), failing())).iter("testcase") if one.attrib["name"] == "scores")
    failure = case[0]
    assert failure.attrib == {"message": "errs 0.1, worst in sample 3", "type": "NotEquivalent"}
    body = failure.text or ""
    assert body.splitlines() == [
        "scores: errs 0.1, worst in sample 3",
        "asked for: noise ratio at most 10",
        "measured: 431",
        "limit: 10",
        "max abs: 7.42e-06",
        "SQNR dB: 134",
        "cosine: 1",
        "RMSE: 2.5e-06",
    ]


def test_junit_keeps_the_figures_of_what_passed_and_the_notes() -> None:
    suite = junit(verdict(passing(), notes=("seq was tried at 16 only",)))[0]
    assert "max abs: 7.42e-06" in (suite.findtext("testcase/system-out") or "")
    assert suite.findtext("system-out") == "note: seq was tried at 16 only"


def test_junit_names_every_case_apart_for_gitlab_drops_a_second_of_one_name() -> None:
    drifted = Check("logits", passed=False, rule="as in the last run", why="rose")
    told = verdict(passing(), drifted, drifted, passing("logits: as in the last run"), passing("other"))
    names = [case.attrib["name"] for case in junit(told).iter("testcase")]
    assert len(set(names)) == 5
    assert {"other", f"logits: {RULE}", "logits: as in the last run"} < set(names)


def test_junit_gives_jenkins_one_package_whatever_dots_are_in_the_path() -> None:
    case = next(junit(verdict(passing(), artifact="../v1.2/net.onnx")).iter("testcase"))
    assert case.attrib["classname"] == "deploykit.__/v1_2/net_onnx"


@given(st.text(), st.text())
def test_junit_is_xml_whatever_the_names_and_findings(name: str, why: str) -> None:
    suite = junit(verdict(passing(name), failing(name, why=why), artifact=name, notes=(why,)))[0]
    assert len(list(suite.iter("testcase"))) == 2


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
def test_junit_keeps_any_name_that_can_be_seen(name: str) -> None:
    assert next(junit(verdict(failing(name))).iter("testcase")).attrib["name"] == name


# Markdown


def cells(text: str) -> list[list[str]]:
    """Give the rows of the table as a Markdown parser renders them, in plain text."""
    parsed = MarkdownIt("commonmark").enable("table").parse(text)
    rows: list[list[str]] = []
    for before, token in pairwise(parsed):
        if before.type == "tr_open":
            rows.append([])
        if before.type in ("td_open", "th_open"):
            children = token.children or []
            assert {child.type for child in children} <= {"text", "text_special"}, "a name became markup"
            rows[-1].append("".join(child.content for child in children))
    return rows


def test_markdown_is_a_table_of_the_facts() -> None:
    head, first, second = cells(written("markdown", verdict(passing(), failing())))
    assert head == ["", "output", "found", "asked for", "measured", "max abs", "SQNR dB"]
    assert first == ["❌ FAIL", "scores", "errs 0.1, worst in sample 3", RULE, "431", "7.42e-06", "134"]
    assert second == ["✅ pass", "logits", "errs 2.4e-06", RULE, "1.74", "7.42e-06", "134"]


def test_markdown_says_the_outcome_first() -> None:
    failed = written("markdown", verdict(passing(), failing()))
    assert failed.startswith("### ❌ not equal: out/digits.onnx\n")
    assert "**1 of 2 checks failed**, 110 values of 11 samples in 2 shapes." in failed
    passed = written("markdown", verdict(passing()))
    assert passed.startswith("### ✅ equal: out/digits.onnx\n")
    assert passed.endswith("\n\n"), "summaries are appended to each other"


def test_markdown_stays_one_screen_and_says_what_it_leaves_out() -> None:
    checks = [failing(f"bad{number}") for number in range(30)] + [passing(f"good{number}") for number in range(70)]
    told = verdict(*checks, notes=tuple(f"note {number}" for number in range(40)))
    text = written("markdown", told)
    assert len(text.splitlines()) < 50
    assert "30 of 100 checks failed" in text
    assert "And 80 more, 10 of them failed." in text
    assert "And 35 more notes." in text


def test_markdown_cuts_a_finding_of_many_pages() -> None:
    assert len(written("markdown", verdict(failing(why="x" * 100_000)))) < 2_000


@pytest.mark.parametrize("name", [HOSTILE, "a|b", "\\|", "\\\\|", "`|`", "**x**", "<b>", "&lt;", "[a](b)", "~~x~~"])
def test_markdown_shows_names_as_they_are(name: str) -> None:
    for row in cells(written("markdown", verdict(failing(name)))):
        assert len(row) == 7
    shown = cells(written("markdown", verdict(failing(name))))[1][1]
    if name != HOSTILE:
        assert shown == name
    assert "<script>alert('x')</script>" in shown or name != HOSTILE


@given(st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=50))
def test_markdown_shows_any_printable_name(name: str) -> None:
    assert cells(written("markdown", verdict(failing(name))))[1][1] == name.replace("\x7f", "\\x7f")


# HTML

VOID = {"meta"}


class Page(html.parser.HTMLParser):
    """What a parser finds in a page: its tags, the text of each cell, and that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data
        if self.open and self.open[-1] != "style":
            self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("told", VERDICTS.values(), ids=VERDICTS)
def test_html_is_whole_and_loads_and_runs_nothing(told: Verdict) -> None:
    text = written("html", told)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "img", "iframe", "object", "b"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "href")}
    assert "url(" not in text
    assert "@import" not in text


def test_html_carries_every_figure() -> None:
    told = verdict(passing(), failing(), notes=("seq was tried at 16 only",))
    page = Page(written("html", told))
    assert page.cells == [
        *("result", "output", "found", "asked for", "measured", "limit", "max abs", "SQNR dB", "cosine", "RMSE"),
        *("FAIL", "scores", "errs 0.1, worst in sample 3", RULE, "431", "10", "7.42e-06", "134", "1", "2.5e-06"),
        *("pass", "logits", "errs 2.4e-06", RULE, "1.74", "10", "7.42e-06", "134", "1", "2.5e-06"),
    ]
    for fact in (
        *("not equal", "out/digits.onnx", "digits.golden.npz, recorded from digits.pt", "1 of 2 failed"),
        *("110 values of 11 samples in 2 shapes", "from the source in float64", "seq was tried at 16 only"),
        *("x 2x1x8x8", "x 1x1x8x8"),
    ):
        assert fact in page.text


def test_html_has_no_column_that_no_output_has() -> None:
    bare = Check("inputs", passed=False, rule="the same names", why="x missing")
    page = Page(written("html", verdict(bare)))
    assert page.cells == [
        *("result", "output", "found", "asked for", "measured", "limit"),
        *("FAIL", "inputs", "x missing", "the same names", "", ""),
    ]
    assert page.of("svg") == []


def test_html_is_for_phones_the_dark_and_screen_readers() -> None:
    text = written("html", verdict(passing(), failing()))
    page = Page(text)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.of("meta")
    assert "prefers-color-scheme: dark" in text
    assert page.of("html") == [{"lang": "en"}]
    svg = page.of("svg")[0]
    named = {attributes.get("id") for tag in ("title", "desc") for attributes in page.of(tag)}
    assert set((svg["aria-labelledby"] or "").split()) <= named
    assert (svg["role"], svg["width"]) == ("img", "100%")
    assert {attributes["scope"] for attributes in page.of("th")} == {"col", "row"}
    assert page.of("caption")
    assert "scores: 431, limit 10, fails" in page.text


def share(length: str | None) -> float:
    assert length is not None
    return float(length.removesuffix("%")) / 100


def bars(*checks: Check) -> list[float]:
    """Give the lengths of the bars, as shares of the width, by the order of the checks."""
    return [share(bar["width"]) for bar in Page(written("html", verdict(*checks))).of("rect")]


def test_the_chart_is_logarithmic() -> None:
    long, middle, short = bars(failing("a", 1000.0), failing("b", 100.0), passing("c", 1.0))
    assert long - middle == pytest.approx((middle - short) / 2, abs=1e-3)
    assert 0 < short < middle < long < 1


def test_a_bar_reaches_its_limit_exactly_where_its_check_is_at_the_limit() -> None:
    page = Page(written("html", verdict(passing("at", 10.0), passing("under", 9.0), failing("over", 11.0))))
    marks = [share(line["x1"]) for line in page.of("line") if line["class"] == "limit"]
    over, at, under = [share(bar["width"]) for bar in page.of("rect")]
    assert marks == [at] * 3
    assert under < at < over


def test_the_scale_says_its_powers_of_ten() -> None:
    text = written("html", verdict(passing("a", 0.5), failing("b", 431.0)))
    ticks = [share(mark["x"]) for mark in Page(text).of("text") if mark.get("class") == "axis"]
    assert ticks == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=1e-3)
    assert re.findall(r'class="axis">([^<]*)<', text) == ["0.1", "1", "10", "100", "1000"]


def test_each_bar_has_its_own_limit() -> None:
    coarse = Check("half", passed=True, rule="noise ratio at most 81920", why="-", value=9000.0, limit=81920.0)
    page = Page(written("html", verdict(passing(), coarse)))
    marks = [share(line["x1"]) for line in page.of("line") if line["class"] == "limit"]
    assert len(set(marks)) == 2


def test_bars_of_what_is_no_ordinary_number_stay_in_the_chart() -> None:
    infinite, ordinary, nothing = bars(failing("inf", math.inf), passing("one", 1.0), passing("zero", 0.0))
    assert (infinite, nothing) == (1, 0)
    assert 0 < ordinary < 1
    assert bars(failing("nan", math.nan)) == [0]
    assert all(0 <= length <= 1 for length in bars(*(check for check in ODD)))


def test_a_check_that_measures_no_noise_ratio_has_no_bar() -> None:
    count = Check("ids", passed=True, rule="at most 3 values differ", why="1 of 100", value=1.0, limit=3.0)
    assert len(bars(count, passing())) == 1


@given(st.text(max_size=40), st.text(max_size=40))
def test_html_is_closed_in_order_whatever_the_names(name: str, why: str) -> None:
    told = verdict(failing(name, why=why), artifact=name, notes=(why,))
    plain = Page(written("html", verdict(failing("a", why="b"), artifact="a", notes=("b",))))
    page = Page(written("html", told))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]


# GitHub

ANNOTATION = re.compile(r"^::error file=([^,:]*),title=([^,:]*)::([^\n]*)$")


def annotations(told: Verdict, root: str = "") -> list[tuple[str, str, str]]:
    """Read workflow commands as GitHub's runner does: split, then unescape, the percent sign last."""
    found = []
    for line in REPORTS.make("github", root=root).write(told).splitlines():
        match = ANNOTATION.match(line)
        assert match is not None, line
        found.append((unescaped(match[1]), unescaped(match[2]), unescaped(match[3])))
    return found


def unescaped(text: str) -> str:
    for code, letter in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        text = text.replace(code, letter)
    return text


def test_github_has_one_annotation_for_each_failed_check() -> None:
    told = verdict(passing(), failing("a"), failing("b: 100%, or so"))
    assert annotations(told) == [
        ("out/digits.onnx", "a is not equal", f"errs 0.1, worst in sample 3; asked for: {RULE}"),
        ("out/digits.onnx", "b: 100%, or so is not equal", f"errs 0.1, worst in sample 3; asked for: {RULE}"),
    ]


def test_github_says_nothing_where_all_passed() -> None:
    assert written("github", verdict(passing())) == ""


def test_github_finds_the_file_in_the_repository_when_a_step_runs_in_a_folder_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "models")
    inside, outside = verdict(failing(), artifact="net.onnx"), verdict(failing(), artifact="../../net.onnx")
    assert annotations(inside, str(tmp_path))[0][0] == "models/net.onnx"
    assert annotations(outside, str(tmp_path))[0][0] == "../../net.onnx"


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_name_and_no_finding_starts_a_command_of_its_own(name: str, why: str) -> None:
    text = written("github", verdict(failing(name, why=why), artifact=name))
    assert text.count("\n") == 1
    assert ANNOTATION.match(text.rstrip("\n"))


# Files


def test_a_file_appears_whole_in_a_folder_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "out.xml"
    save("first", path)
    save("é", path)
    assert path.read_text(encoding="utf-8") == "é"
    assert [entry.name for entry in path.parent.iterdir()] == ["out.xml"]


def test_a_place_that_can_not_be_written_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "out.xml"):
        with pytest.raises(UsageError) as caught:
            save("text", path)
        assert str(path) in caught.value.message
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        save("text", pipe)
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "out.xml").write_text("old")
    (tmp_path / "link.xml").symlink_to(tmp_path / "real" / "out.xml")
    save("new", tmp_path / "link.xml")
    assert (tmp_path / "link.xml").is_symlink()
    assert (tmp_path / "real" / "out.xml").read_text() == "new"
