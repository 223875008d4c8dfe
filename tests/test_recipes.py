"""``deploykit run``: a recipe, what it makes, what is not made twice, and what is left when a run ends early."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import deploykit
from deploykit.nvidia import devices
from deploykit.passes import PASSES
from deploykit.plugin import spelled
from tests.conftest import Once
from tests.running import assert_refused, finished, spawned
from tests.running import deploykit as command

FLOATS = """
source = "digits.onnx"
data = { validation = "digits_val.npz" }

[[artifact]]
name  = "small"
steps = ["simplify"]
"""
RECIPE = f"""{FLOATS}
[[artifact]]
name  = "int8"
steps = ["simplify", {{ int8 = {{ target = "cpu", method = "minmax" }} }}]
keep_slower = true
[artifact.require]
allow_undecided = true
"""


@pytest.fixture(scope="session")
def ran_once(once: Once, digits: Path, proved: Path) -> Path:
    """Give a folder in which the recipe was run once; tests copy it."""

    def make(folder: Path) -> None:
        for file in (proved / "digits.onnx", proved / "digits.golden.npz", digits / "digits_val.npz"):
            shutil.copy2(file, folder)
        (folder / "deploykit.toml").write_text(RECIPE)
        ran = command("run", "--report", "report.html", cwd=folder)
        assert ran.code == 0, ran.err

    return once("recipe", make)


@pytest.fixture
def folder(ran_once: Path, tmp_path: Path) -> Path:
    """Give a folder of one's own in which the recipe was run."""
    place = tmp_path / "work"
    shutil.copytree(ran_once, place)
    return place


def fresh(folder: Path) -> Path:
    """Forget what was run."""
    shutil.rmtree(folder / ".deploykit")
    for file in (*folder.glob("digits.small.*"), *folder.glob("digits.int8.*")):
        file.unlink()
    return folder


def steps(ran: dict[str, object]) -> dict[str, bool]:
    """Say of each step whether it was done before."""
    artifacts = ran["artifacts"]
    assert isinstance(artifacts, list)
    return {f"{one['name']} {step['title']}": step["cached"] for one in artifacts for step in one["steps"]}


def test_every_artifact_is_made_and_proved_against_the_source(folder: Path) -> None:
    assert command("validate", "digits.small.onnx", cwd=folder).code == 0
    assert command("validate", "digits.int8.onnx", "--allow-undecided", cwd=folder).code == 0
    for name in ("small", "int8"):
        about = deploykit.inspect(folder / f"digits.{name}.onnx").lineage
        assert about["source.name"] == "digits.ts"
        assert "simplify" in about["passes"]
    assert deploykit.inspect(folder / "digits.int8.onnx").precision.startswith("int8")


def test_what_was_done_is_not_done_again(folder: Path) -> None:
    assert command("run", cwd=folder).code == 0  # in this folder, the copy, it puts them in their place
    before = {file.name: file.stat().st_mtime_ns for file in folder.glob("digits.*.onnx")}
    ran = command("run", "--json", cwd=folder)
    assert ran.code == 0, ran.err
    assert set(steps(ran.json).values()) == {True}
    assert {file.name: file.stat().st_mtime_ns for file in folder.glob("digits.*.onnx")} == before


def test_a_changed_option_does_anew_what_depends_on_it_and_no_more(folder: Path) -> None:
    (folder / "deploykit.toml").write_text(RECIPE.replace("minmax", "percentile"))
    planned = command("run", "--dry-run", "--json", cwd=folder).json
    todo = {f"{one['artifact']} {one['title']}" for one in planned if not one["cached"]}
    assert todo == {"int8 int8:target=cpu,method=percentile", "int8 timing"}
    assert steps(command("run", "--json", cwd=folder).json) == {
        "small simplify": True,
        "int8 simplify": True,
        "int8 int8:target=cpu,method=percentile": False,
    }


@pytest.mark.parametrize("change", ["samples", "source", "kept", "artifact"])
def test_what_changed_on_disk_is_noticed(folder: Path, change: str) -> None:
    place = {
        "samples": folder / "digits_val.npz",
        "source": folder / "digits.golden.npz",
        "kept": next((folder / ".deploykit" / "steps").glob("*/model.onnx")),
        "artifact": folder / "digits.small.onnx",
    }[change]
    content = place.read_bytes()
    if change == "samples":
        import numpy as np

        with np.load(place) as arrays:
            np.savez(place, **{name: array[:300] for name, array in arrays.items()})
    else:
        place.write_bytes(content[: len(content) // 2])
    ran = command("run", "--json", cwd=folder)
    if change == "source":  # the model itself is as it was, and its steps are there
        assert ran.code == 0, ran.err
        return
    assert ran.code == 0, ran.err
    assert (False in steps(ran.json).values()) == (change == "samples") or change == "kept"
    assert command("validate", "digits.small.onnx", cwd=folder).code == 0


def test_an_artifact_that_misses_a_bound_is_not_written_and_the_others_are(folder: Path) -> None:
    fresh(folder)
    (folder / "deploykit.toml").write_text(RECIPE + "max_size_mb = 0.001\nmax_latency_ratio = 0.0001\n")
    ran = command("run", "--json", cwd=folder)
    assert ran.code == 1
    missed = {one["name"]: one["missed"] for one in ran.json["artifacts"]}
    assert missed["small"] == []
    assert "max_size_mb is 0.001" in missed["int8"][0]
    assert "max_latency_ratio is 0.0001" in missed["int8"][1]
    assert (folder / "digits.small.onnx").exists()
    assert not (folder / "digits.int8.onnx").exists()


def test_a_step_that_fails_ends_its_artifact_names_itself_and_keeps_the_last_good_file(folder: Path) -> None:
    (folder / "deploykit.toml").write_text(RECIPE.replace("allow_undecided = true", "min_sqnr = 90"))
    ran = command("run", "--json", cwd=folder)
    assert ran.code == 1
    small, int8 = ran.json["artifacts"]
    assert (small["passed"], int8["passed"]) == (True, False)
    assert int8["missed"][0].startswith("int8:target=cpu,method=minmax: ")
    assert deploykit.inspect(folder / int8["last_good"]).precision == "float32"


WRONG: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    "no toml": (lambda text: text + "]", ("is no TOML",)),
    "unknown keys": (
        lambda text: text.replace("source", "sorce").replace('steps = ["simplify"]\n', "step = 3\n"),
        ("did you mean 'source'?", "artifact 1 has no 'step'; did you mean 'steps'?", "lacks 'source'"),
    ),
    "unknown pass and option": (
        lambda text: text.replace('["simplify"]', '["simplfy"]').replace("method", "methd"),
        ("did you mean 'simplify'?", "did you mean 'method'?"),
    ),
    "a wrong value": (lambda text: text.replace('"minmax"', "3"), ("int8.method is 3, and must be a text",)),
    "no step": (lambda text: text.replace('["simplify"]', "[{ simplify = {}, fp16 = {} }]"), ("is no step",)),
    "a twin": (lambda text: text.replace('"int8"\nsteps', '"small"\nsteps'), ("two artifacts named 'small'",)),
    "a bad name": (lambda text: text.replace('"small"', '"a/b"'), ("'a/b' is no name for a file",)),
    "no source": (lambda text: text.replace("digits.onnx", "digts.onnx"), ("no source", "digts.onnx")),
    "no samples": (lambda text: text.replace("digits_val.npz", "val.npz"), ("no samples", "val.npz")),
    "nothing to calibrate with": (lambda text: text.replace("data =", "# data ="), ("int8 needs samples",)),
    "an order that makes no sense": (
        lambda text: text.replace('["simplify"]', '["bf16", "fp16"]'),
        ("fp16 takes a model in float32, and this one is in bfloat16",),
    ),
    "a step after the engine": (
        lambda text: text.replace('["simplify"]', '["tensorrt", "simplify"]'),
        ("tensorrt is the last step",),
    ),
    "an option that engines lack": (
        lambda text: text.replace('["simplify"]', '[{ tensorrt = { targets = ["sm89"] } }]'),
        ("tensorrt has no 'targets'",),
    ),
    "an engine that can't be": (
        lambda text: text.replace('["simplify"]', '[{ tensorrt = { for = ["sm90"], backend = "tensorrt-rtx" } }]'),
        ("has no target sm90",),
    ),
    "labels that are not there": (
        lambda text: text.replace('"digits_val.npz" }', '"digits_val.npz", labels = "digits_val.npz:z" }'),
        ("z",),
    ),
    "no artifact": (lambda text: text.partition("[[")[0], ("asks for no artifact",)),
    "a drop without labels": (lambda text: text + 'max_drop = "1%"\n', ("data has no labels",)),
    "a bound that is none": (lambda text: text + "max_size_mb = -1\n", ("must be above 0",)),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_recipe_is_refused_whole_before_anything_runs(folder: Path, wrong: str) -> None:
    fresh(folder)
    change, words = WRONG[wrong]
    (folder / "deploykit.toml").write_text(change(RECIPE))
    assert_refused(command("run", cwd=folder), 2, *words)
    assert not (folder / ".deploykit" / "steps").exists()


def test_options_beside_a_recipe_and_folders_that_are_not_there_are_refused(folder: Path) -> None:
    assert_refused(command("run", "--fp16", cwd=folder), 2, "a recipe says itself")
    assert_refused(command("run", "nothing.toml", cwd=folder), 2, "deploykit init")
    assert_refused(command("run", "-o", "digits.onnx", cwd=folder), 2, "no folder digits.onnx")
    assert_refused(command("run", "digits.onnx", "--int8", cwd=folder), 2, "int8 needs samples")


@pytest.mark.parametrize("allowed", [False, True])
def test_an_engine_is_the_last_step_and_unproved_without_a_device(folder: Path, *, allowed: bool) -> None:
    if devices().found:
        pytest.skip("there is a CUDA device: the engine is proved")
    step = f'{{ tensorrt = {{ for = ["sm89"], shape = "1,8,32", allow_unproved = {str(allowed).lower()} }} }}'
    (folder / "deploykit.toml").write_text(FLOATS.replace('["simplify"]', f'["simplify", "fp16", {step}]'))
    ran = command("run", "--json", cwd=folder)
    assert ran.code == (0 if allowed else 1), ran.err
    made = ran.json["artifacts"][0]
    assert (folder / "digits.small.engine").exists() == allowed
    assert allowed or "no CUDA device" in made["missed"][0]
    told = made["steps"][-1]["told"]
    assert any("1x1x8x8 to 32x1x8x8, tuned for 8x1x8x8" in note for note in told["notes"])
    if allowed:
        assert set(steps(command("run", "--json", cwd=folder).json).values()) == {True}
        assert command("inspect", "digits.small.engine", cwd=folder).code == 0
        assert command("validate", "digits.small.engine", cwd=folder).code == 4


def test_a_model_and_options_are_a_recipe_too(folder: Path) -> None:
    made = command("run", "digits.onnx", "--fp16", "--data", "digits_val.npz", "--json", cwd=folder)
    assert made.code == 0, made.err
    assert deploykit.inspect(folder / "digits.fp16.onnx").precision == "float16"
    assert steps(made.json)["fp16 simplify"] is True, "a recipe has done that before"


def test_a_run_that_is_killed_goes_on_where_it_stopped(folder: Path) -> None:
    (fresh(folder) / "deploykit.toml").write_text(FLOATS)
    process = spawned("run", cwd=folder)
    kept = folder / ".deploykit" / "steps"
    end = time.monotonic() + 60
    while time.monotonic() < end and not list(kept.glob("[!.]*/result.json")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = {place.parent.name for place in kept.glob("[!.]*/result.json")}
    assert done
    ran = command("run", "--json", cwd=folder)
    assert ran.code == 0, ran.err
    assert ran.json["converted"]["cached"] is True
    assert not [place for place in kept.iterdir() if place.name.startswith(".")], "what was half done is gone"


def test_two_runs_at_once_do_not_harm_each_other(folder: Path) -> None:
    (fresh(folder) / "deploykit.toml").write_text(FLOATS)
    both = [spawned("run", "--json", cwd=folder) for _ in range(2)]
    ran = [finished(process, timeout=120) for process in both]
    assert [one.code for one in ran] == [0, 0], [one.err for one in ran]
    cached = [set(steps(one.json).values()) for one in ran]
    assert sorted(map(sorted, cached)) in ([[False, True], [True]], [[False], [True]]), (
        "the second found all of it done"
    )


def test_clean_frees_the_steps_and_leaves_the_artifacts(folder: Path) -> None:
    freed = command("clean", "--json", cwd=folder).json["freed_bytes"]
    assert freed > (folder / "digits.small.onnx").stat().st_size
    assert (folder / "digits.small.onnx").exists()
    assert deploykit.clean(folder) == 0
    assert_refused(command("clean", "nowhere", cwd=folder), 2, "no folder nowhere")


def test_init_writes_a_recipe_that_runs(here: Path, digits: Path) -> None:
    shutil.copy(digits / "digits_val.npz", here)
    assert command("init", "digits.onnx", "--data", "digits_val.npz", cwd=here).code == 0
    planned = command("run", "--dry-run", "--json", cwd=here).json
    assert [one["title"] for one in planned] == ["convert", "record", "simplify", "simplify", "int8", "timing"]
    assert_refused(command("init", "digits.onnx", cwd=here), 2, "--force")
    assert command("init", "digits.onnx", "--force", cwd=here).code == 0
    assert [one["title"] for one in command("run", "--dry-run", "--json", cwd=here).json] == ["convert", "simplify"]
    assert_refused(command("init", "nothing.onnx", cwd=here), 2, "nothing.onnx")
    assert_refused(command("init", "digits.onnx", "-o", "x.txt", cwd=here), 2, ".toml")


def test_a_step_as_text_is_the_step_as_a_table() -> None:
    text = "int8:target=cpu,keep=conv1+conv2,time_budget=5"
    made = PASSES.parse(text)
    assert made == PASSES.configured("int8", {"target": "cpu", "keep": ["conv1", "conv2"], "time_budget": 5})
    assert PASSES.parse(spelled(made)) == made


def test_the_page_of_a_run_tells_it_all_and_loads_nothing(ran_once: Path) -> None:
    page = (ran_once / "report.html").read_text()
    for word in ("digits.small.onnx", "digits.int8.onnx", "noise ratio", "SQNR", "Layers of int8", "onnxruntime"):
        assert word in page
    assert "<script" not in page
    assert "http://" not in page.replace('xmlns="http://', "")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium here")
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_read_on_a_phone_and_in_the_dark_without_an_error(
    ran_once: Path, tmp_path: Path, *, dark: bool
) -> None:
    from PIL import Image

    page = (ran_once / "report.html").read_text()
    probe = "<script>document.title = document.documentElement.scrollWidth</script></body>"
    open_to_scripts = page.replace("default-src 'none'; ", "").replace("</body>", probe)
    (tmp_path / "page.html").write_text(open_to_scripts)
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    browser += ["--window-size=390,900", f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars"]
    browser += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
    dump = subprocess.run(
        [*browser, "--dump-dom", (tmp_path / "page.html").as_uri()], capture_output=True, text=True, check=True
    )
    width = re.search(r"<title>(\d+)</title>", dump.stdout)
    assert width is not None
    assert int(width[1]) <= 500, "wider than a phone: only tables scroll, by themselves"  # 500 is Chromium's least
    shot = subprocess.run(
        [*browser, f"--screenshot={tmp_path / 'page.png'}", (ran_once / "report.html").as_uri()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in shot.stderr, shot.stderr
    corner = Image.open(tmp_path / "page.png").convert("L").getpixel((2, 2))
    assert (corner < 100) == dark, "the page follows the reader's colours"


def test_the_json_of_a_run_is_one_object(folder: Path) -> None:
    told = json.loads(command("run", "--json", cwd=folder).out)
    assert told["passed"] is True
    assert told["artifacts"][1]["speed"]["rows"][1]["ratio"]["value"] > 0
