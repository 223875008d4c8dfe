"""A failed verdict says where it goes wrong, in the terminal and in every report, and when it is looked for."""

import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from deploykit import console
from deploykit.artifact import Artifact, Format
from deploykit.backends import Asked
from deploykit.child.prints import Print
from deploykit.errors import ModelError, UsageError
from deploykit.golden import Case
from deploykit.validation import validate
from deploykit.validation.divergence.apart import Apart, aligned, apart, reshaped
from deploykit.validation.divergence.found import Divergence, Layer
from deploykit.validation.divergence.graph import graph_of
from deploykit.validation.divergence.trace import Rule, first_of, plausible
from deploykit.validation.divergence.words import told
from deploykit.validation.locating import Search, optimizer_differs, worst
from deploykit.validation.reports import REPORTS
from deploykit.validation.reports._depth import depth_chart
from deploykit.validation.verdict import Check, Verdict
from tests.running import assert_refused, deploykit
from tests.test_reports import HOSTILE

RNG = np.random.default_rng(5)
CHAIN = """
<ir_version: 10, opset_import: ["" : 20]>
chain (float[n, 8] x) => (float[n, 8] y) {
    a = Exp (x)
    b = Tanh (a)
    c = Sqrt (a)
    d = Add (b, c)
    y = Softmax <axis = 1> (d)
}
"""
FAILED = Verdict(
    "m.onnx", "m.pt", (Check("y", passed=False, rule="noise ratio at most 10", why="errs"),), 1, 8, ("x 1x8",), "ulp"
)


def written(path: Path, text: str) -> Path:
    import onnx

    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Give a right file, and one with another activation in the middle."""
    return written(tmp_path / "right.onnx", CHAIN), written(tmp_path / "wrong.onnx", CHAIN.replace("Tanh", "Softsign"))


def test_a_failed_verdict_says_where_it_goes_wrong(pair: tuple[Path, Path]) -> None:
    right, wrong = pair
    verdict = validate(wrong, right)
    assert not verdict.passed
    assert verdict.divergence is not None
    assert verdict.divergence.first is not None
    assert verdict.divergence.first.tensor == "b"
    assert verdict.divergence.last_right is not None
    assert verdict.divergence.last_right.tensor == "a"


def test_a_passed_verdict_says_it_only_when_asked(pair: tuple[Path, Path], tmp_path: Path) -> None:
    right, _ = pair
    other = written(tmp_path / "other.onnx", CHAIN)
    assert validate(other, right).divergence is None
    found = validate(other, right, locate=True, max_memory="1MB").divergence
    assert found is not None
    assert found.first is None
    assert found.tensors == len(found.steps) == 5


def test_the_terminal_json_and_the_reports_tell_it(pair: tuple[Path, Path], tmp_path: Path) -> None:
    right, wrong = pair
    reports = ("--html", tmp_path / "r.html", "--markdown", tmp_path / "r.md")
    ran = deploykit("validate", wrong, "--against", right, *reports, cwd=tmp_path)
    assert ran.code == 1
    assert "diverges  first at a node Softsign, tensor 'b', errs" in ran.out
    assert "before    'a', which goes in, agrees" in ran.out
    page, text = (tmp_path / "r.html").read_text(), (tmp_path / "r.md").read_text()
    assert "Where it diverges" in page
    assert "leaves the noise floor at b (Softsign)" in page
    assert "**diverges** first at a node Softsign, tensor 'b'" in text
    told_as_json = deploykit("validate", wrong, "--against", right, "--json", cwd=tmp_path).json["divergence"]
    assert told_as_json["first"]["tensor"] == "b"
    assert [step["tensor"] for step in told_as_json["steps"]] == ["a", "b", "c", "d", "y"]


def test_locate_without_a_source_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    right, _ = pair
    assert_refused(deploykit("validate", right, "--locate", cwd=tmp_path), 2, "--locate needs the source itself")
    ran = deploykit("validate", right, "--against", right, "--max-memory", "much", cwd=tmp_path)
    assert_refused(ran, 2, "'much' is no amount of memory")


def case(x: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> Case:
    """Give a case whose right answer is the chain's."""
    b = np.tanh(np.exp(x)) + np.sqrt(np.exp(x))
    e = np.exp(b - b.max(1, keepdims=True))
    y = (e / e.sum(1, keepdims=True)).astype(np.float32)
    return Case({"x": x}, {"y": y}, {"y": y}, {"y": y})


def test_the_case_with_the_largest_error_is_looked_into(pair: tuple[Path, Path]) -> None:
    _, wrong = pair
    still, moving = (case((scale * RNG.standard_normal((2, 8))).astype(np.float32)) for scale in (1e-3, 1.0))
    assert worst(wrong, [still, moving, still])["x"] is moving.inputs["x"]


def test_a_file_that_runs_on_no_case_is_said_so(pair: tuple[Path, Path]) -> None:
    bad = Case({"x": np.zeros((2, 7), np.float32)}, {}, {}, {})
    with pytest.raises(ModelError):
        worst(pair[0], [bad])
    search = Search(Artifact(pair[0], Format.ONNX), Asked(), wanted=False, max_bytes=10**6)
    verdict = search.add(FAILED, pair[1], [bad])
    assert verdict.divergence is None
    assert "where it goes wrong was not found" in verdict.notes[0]


def test_against_a_framework_that_can_not_be_looked_into_a_note_says_what_to_do(tmp_path: Path) -> None:
    search = Search(Artifact(tmp_path / "net.keras", Format.KERAS), Asked(), wanted=False, max_bytes=10**6)
    noted = search.add(FAILED, tmp_path / "m.onnx", [])
    assert "hold the file against another ONNX file" in noted.notes[0]
    assert Search(None, Asked(), wanted=False, max_bytes=10**6).add(FAILED, tmp_path, []) is FAILED


UNDERFLOW = """
<ir_version: 10, opset_import: ["" : 20]>
folded (float[n, 1, 4, 4] x) => (float[n, 1, 4, 4] y)
<float[1, 1, 1, 1] w = {1e-30}, float s = {1e-30}>
{
    h = Conv (x, w)
    y = Mul (h, s)
}
"""


def test_a_difference_that_the_optimizer_makes_is_put_down_to_it(tmp_path: Path) -> None:
    # Folded into one weight, the two factors are too small for float32.
    path = written(tmp_path / "folded.onnx", UNDERFLOW)
    x = (1e35 * (1 + RNG.random((2, 1, 4, 4)))).astype(np.float32)
    assert optimizer_differs(path, {"x": x})
    y = (x * np.float32(1e-30)) * np.float32(1e-30)
    search = Search(Artifact(path, Format.ONNX), Asked(), wanted=False, max_bytes=10**6)
    verdict = search.add(FAILED, path, [Case({"x": x}, {"y": y}, {"y": y}, {"y": y})])
    assert verdict.divergence is not None
    assert "onnxruntime's graph optimizer" in verdict.divergence.notes[-1]


def test_an_ordinary_file_is_the_same_optimized_or_not(pair: tuple[Path, Path]) -> None:
    assert not optimizer_differs(pair[0], {"x": RNG.random((2, 8)).astype(np.float32)})


def test_a_match_by_place_is_taken_back_where_what_is_computed_from_it_agrees(pair: tuple[Path, Path]) -> None:
    from deploykit.onnx_io import load

    graph = graph_of(load(pair[0]))
    right, wrong = (Apart(8, error, 1e-14, 1.0, unit=1e-7) for error in (1e-14, 1.0))
    for how, kept in (("scope", "acdy"), ("name", "abcdy")):
        matches = {name: (name, how) for name in "abcdy"}
        found = {name: wrong if name == "b" else right for name in "abcdy"}
        assert "".join(plausible(graph, matches, found, Rule(10.0))) == kept
        assert "b" in plausible(graph, matches, dict.fromkeys("bdy", wrong), Rule(10.0))


def test_a_little_over_the_limit_is_not_first_where_much_more_begins_later() -> None:
    coarse, fault = layer("sum", 15.0), layer("fault", 1e5, 1e4)
    assert first_of([coarse, fault], Rule(10.0)) is fault
    assert first_of([coarse, layer("rest", 20.0)], Rule(10.0)) is coarse
    assert first_of([layer("early", 400.0, 400.0), fault], Rule(10.0)) == layer("early", 400.0, 400.0)


def test_of_what_is_quantized_the_first_that_makes_the_error_much_larger_counts() -> None:
    steps = [layer("a", 4.0), layer("b", 11.0, 2.0), layer("c", 90.0, 8.0), layer("d", 95.0, 1.1)]
    assert first_of(steps, Rule.of("int8")) is steps[2]
    assert first_of(steps[:2], Rule.of("int8")) is None


def layer(tensor: str, ratio: float, growth: float = 1.0, **more: object) -> Layer:
    made = Layer(tensor, "n", "Conv", "", "", tensor, "name", ratio * 1e-7, 1e-7, ratio, 1.0, growth)
    return replace(made, **more)  # type: ignore[arg-type]


def test_what_is_undone_before_the_end_is_no_fault(tmp_path: Path) -> None:
    written(tmp_path / "right.onnx", CHAIN.replace("c = Sqrt (a)", "e = Abs (a) f = Abs (e) c = Sqrt (f)"))
    written(tmp_path / "other.onnx", CHAIN.replace("c = Sqrt (a)", "e = Neg (a) f = Abs (e) c = Sqrt (f)"))
    verdict = validate(tmp_path / "other.onnx", tmp_path / "right.onnx", locate=True)
    assert verdict.passed
    assert verdict.divergence is not None
    assert verdict.divergence.first is None
    assert "from 'e' on, and every output agrees" in verdict.divergence.notes[-1]


def divergence(*steps: Layer, limit: float = 10.0) -> Divergence:
    over = next((one for one in steps if one.ratio > limit), None)
    return Divergence(steps, over, None, (), limit, len(steps), 1, 0)


def test_what_amplifies_is_named_with_its_factor() -> None:
    found = divergence(layer("a", 1), layer("b", 100), layer("c", 110), layer("d", 5000, 45.0), layer("e", 5000))
    lines = dict(told(found))
    assert lines["after"].startswith("'d' (Conv) x45 amplifies it; 2 later tensors only pass it on")


def test_it_fits_on_a_screen_however_large_the_net() -> None:
    steps = (layer(f"t{number}", 10.0 ** (number % 7), 20.0) for number in range(3000))
    lines = told(divergence(*steps))
    assert len(lines) < 12
    assert max(len(text) for _, text in lines) < 400


@pytest.mark.parametrize("count", [2, 10, 5000])
def test_the_figure_has_a_point_for_each_tensor_or_the_worst_of_each_group(count: int) -> None:
    steps = [layer(f"t{number}", 0.5) for number in range(count)]
    steps[count // 2] = layer("worst", math.inf, error=math.inf)
    drawn = depth_chart(divergence(*steps))
    assert drawn is not None
    points = drawn.findall("circle")
    assert 2 <= len(points) <= 240
    assert len(points) == count or count > 240
    assert any("worst" in (point.findtext("title") or "") for point in points)
    assert drawn.get("width") == "100%"
    for mark in drawn.iter():  # across, everything is a share of the width
        assert all(
            (mark.get(name) or "0").rstrip("%").replace(".", "", 1).isdigit() for name in ("x", "x1", "x2", "cx")
        )


def test_there_is_no_figure_of_one_tensor() -> None:
    assert depth_chart(divergence(layer("a", 1.0))) is None


@pytest.mark.parametrize("report", ["html", "markdown"])
def test_no_name_breaks_out_of_a_report(report: str) -> None:
    steps = (layer("a", 0.0), layer(HOSTILE, 1e9, module=HOSTILE, line=HOSTILE, node=HOSTILE), layer("c", math.nan))
    verdict = replace(FAILED, divergence=divergence(*steps))
    text = REPORTS.make(report).write(verdict)
    assert "<script>" not in text.replace("<style>", "")
    assert "\x1b" not in text
    assert "\x1b" not in ET.tostring(depth_chart(divergence(*steps)) or ET.Element("x"), encoding="unicode")


def test_it_is_plain_json() -> None:
    found = console.plain(replace(FAILED, divergence=divergence(layer("a", math.inf), layer("b", 1.0))))
    assert found["divergence"]["first"]["ratio"] == "inf"


def test_a_fingerprint_stays_when_axes_are_swapped_and_tells_that_they_are() -> None:
    x = RNG.standard_normal((3, 4, 5)).astype(np.float32)
    own, turned, other = Print.of(x), Print.of(x.swapaxes(1, 2)), Print.of(x + np.float32(0.1))
    assert own.distance(turned) < 1e-12
    assert own.distance(other) > 1e-2
    assert own.laid_out_as(Print.of(x * np.float32(1 + 1e-6)), 1e-3)
    assert not Print.of(x.reshape(3, 20)).laid_out_as(own, 1e-3)
    assert not Print.of(x[::-1]).laid_out_as(own, 1e-3)
    assert Print.read(own.fields()) == own


def test_a_fingerprint_of_masks_and_zeros() -> None:
    mask = np.where(RNG.random(50) < 0.5, -np.inf, RNG.random(50)).astype(np.float32)
    assert Print.of(mask).distance(Print.of(mask)) == 0
    assert Print.of(mask).distance(Print.of(np.zeros(50))) == math.inf
    assert Print.of(np.zeros(50)).distance(Print.of(np.zeros((5, 10)))) == 0
    assert not Print.of(np.zeros(50)).telling


def test_errors_are_held_against_the_noise_of_the_reference() -> None:
    exact = RNG.standard_normal((4, 50))
    noisy = exact.astype(np.float32)
    assert apart(exact, noisy, noisy).ratio() == pytest.approx(1.0, abs=0.5)
    assert apart(exact, noisy, (exact + 1e-3).astype(np.float32)).ratio() > 1000
    one = noisy.copy()
    one[2, 3] += 1e-4  # a single element shows too
    assert apart(exact, noisy, one).ratio() > 100
    broken = noisy.copy()
    broken[0, 0] = np.nan
    assert apart(exact, noisy, broken).error == math.inf
    assert (apart(exact, noisy, noisy) + apart(exact, noisy, broken)).error == math.inf
    assert reshaped(exact, noisy[:2]).ratio() == math.inf


def test_the_same_values_in_another_layout_are_laid_over_each_other() -> None:
    x = RNG.standard_normal((2, 3, 4, 5))
    for other in (x.transpose(0, 2, 3, 1), x.reshape(2, 12, 5), x.transpose(3, 1, 0, 2)[None]):
        sums = aligned(x, x, other)
        assert sums is not None
        assert sums.wrong == 0
    assert aligned(x, x, x[:1]) is None


def test_locate_refuses_a_golden(proved: Path) -> None:
    with pytest.raises(UsageError, match="a golden holds what comes out"):
        Search.of(proved / "digits.golden.npz", Asked(), wanted=True, max_memory="1GB")


def test_an_exported_graph_names_its_own_dtypes_again_after_a_run_in_float64() -> None:
    torch = pytest.importorskip("torch")
    from deploykit.child.pytorch.exact import in_float64

    class Net(torch.nn.Module):  # type: ignore[name-defined]
        def forward(self, x: object) -> object:
            return x + torch.zeros(3, dtype=torch.float32)

    graph = torch.export.export(Net(), (torch.ones(3),)).module()
    with in_float64(graph):
        assert graph(torch.ones(3, dtype=torch.float64)).dtype is torch.float64
    assert graph(torch.ones(3)).dtype is torch.float32
