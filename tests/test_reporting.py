"""``deploykit validate`` tells its verdict to CI: report files, GitHub's summary and annotations, and a baseline."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tests.running import Ran, assert_refused, deploykit, finished, listing, spawned


def broken(folder: Path) -> None:
    """Change one weight of digits.onnx."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(folder / "digits.onnx")
    tensor = max(model.graph.initializer, key=lambda one: int(np.prod(one.dims)))
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] += 0.5
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, folder / "digits.onnx")


def validate(folder: Path, *options: str, **environment: str) -> Ran:
    return finished(spawned("validate", "digits.onnx", *options, cwd=folder, **environment))


def test_reports_are_written_whether_it_passes_or_not(here: Path) -> None:
    files = ("--junit", "out/v.xml", "--markdown", "v.md", "--html", "v.html")
    assert deploykit("validate", *files, cwd=here).code == 0
    passed = ET.parse(here / "out" / "v.xml").getroot()  # noqa: S314 - it was just written
    assert passed.findall(".//testcase")
    assert not passed.findall(".//failure")
    broken(here)
    ran = deploykit("validate", "digits.onnx", *files, cwd=here)
    assert ran.code == 1
    assert ET.parse(here / "out" / "v.xml").getroot().findall(".//failure")  # noqa: S314
    for name in ("v.md", "v.html"):
        assert "output" in (here / name).read_text()


def test_github_gets_a_summary_and_an_annotation_for_what_failed(here: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# before\n")
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_WORKSPACE": str(here)}
    ran = validate(here, **github)
    assert ran.code == 0, ran.err
    assert "::error" not in ran.out
    broken(here)
    ran = validate(here, **github)
    assert ran.code == 1
    assert "::error file=digits.onnx,title=output" in ran.out
    told = summary.read_text()
    assert told.startswith("# before\n")
    assert told.count("digits.onnx") >= 2


def test_json_stays_one_object_under_github(here: Path) -> None:
    broken(here)
    ran = validate(here, "--json", GITHUB_ACTIONS="true")
    assert ran.code == 1
    assert json.loads(ran.out)["passed"] is False
    assert "::error" in ran.err


def test_a_baseline_is_kept_and_what_moved_since_fails(here: Path) -> None:
    assert deploykit("validate", "--baseline", "last.json", "--update-baseline", cwd=here).code == 0
    assert deploykit("validate", "--baseline", "last.json", cwd=here).code == 0
    kept = json.loads((here / "last.json").read_text())
    kept["checks"][0]["value"] += 5
    (here / "last.json").write_text(json.dumps(kept))
    ran = deploykit("validate", "--baseline", "last.json", "--json", cwd=here)
    assert ran.code == 1
    moved = [check for check in ran.json["checks"] if not check["passed"]]
    assert [check["what"] for check in moved] == ["output"]


def test_what_fails_does_not_become_the_baseline(here: Path) -> None:
    broken(here)
    ran = deploykit("validate", "digits.onnx", "--baseline", "last.json", "--update-baseline", cwd=here)
    assert ran.code == 1
    assert "last.json" not in listing(here)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--baseline", "none.json"), "none.json"),
        (("--baseline", "digits.onnx"), "digits.onnx"),
        (("--update-baseline",), "--baseline last.json"),
        (("--junit", "digits.onnx/v.xml"), "can't write"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_file_that_can_not_be_is_a_wrong_usage(options: tuple[str, ...], says: str, here: Path) -> None:
    before = shutil.copy(here / "digits.onnx", here / "copy.onnx")
    ran = deploykit("validate", "digits.onnx", *options, cwd=here)
    assert_refused(ran, 2)
    assert says in ran.err
    assert (here / "digits.onnx").read_bytes() == Path(before).read_bytes()


def test_a_report_overwrites_no_model_no_samples_and_no_other_report(here: Path) -> None:
    before = {path: path.read_bytes() for path in here.iterdir() if path.is_file()}
    for options, says in (
        (("--markdown", "digits.onnx"), "--markdown would overwrite"),
        (("--html", "digits.golden.npz"), "looks like a model or samples"),
        (("--junit", "x.out", "--html", "x.out"), "which --junit writes"),
    ):
        assert_refused(deploykit("validate", "digits.onnx", *options, cwd=here), 2, says)
    assert {path: path.read_bytes() for path in here.iterdir() if path.is_file()} == before
