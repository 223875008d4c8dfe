"""The examples for CI do what they say: their own commands are run, on a machine that has no framework."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

import deploykit as api
from deploykit.recipes.recipe import read
from tests.conftest import Once
from tests.running import ROOT
from tests.sealed_models import sealed_models, spoil

EXAMPLES = ROOT / "examples" / "ci"
NO_FRAMEWORK = """
import os, sys
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "tensorflow", "keras", "onnxscript", "tf2onnx", "transformers"):
            with open(os.environ["ASKED_FOR"], "a") as file:
                print(name, file=file)
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, NotInstalled())
"""


@dataclass(frozen=True)
class Machine:
    """A checkout on a machine that runs jobs: deploykit is installed, and no framework."""

    checkout: Path
    variables: Mapping[str, str]

    @property
    def model(self) -> Path:
        return self.checkout / "models" / "model.onnx"

    @property
    def asked_for(self) -> Path:
        """Where the names of frameworks are, that somebody tried to import."""
        return Path(self.variables["ASKED_FOR"])

    def knowing(self, variables: Mapping[str, str]) -> "Machine":
        return replace(self, variables={**self.variables, **variables})

    def run(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, cwd=self.checkout, env=dict(self.variables), capture_output=True, text=True, check=False
        )

    def shell(self, line: str) -> "subprocess.CompletedProcess[str]":
        return self.run(["bash", "-eo", "pipefail", "-c", line])


@pytest.fixture
def machine(once: Once, tmp_path: Path) -> Machine:
    """Give a machine with a checkout that holds a proved and sealed model where the examples look for it."""
    made = once("sealed", sealed_models)
    bin_, site, checkout = (tmp_path / name for name in ("bin", "site", "checkout"))
    for folder in (bin_, site, checkout / "models"):
        folder.mkdir(parents=True)
    for name in ("onnx", "golden.npz"):
        shutil.copy(made / "bare" / f"net.{name}", checkout / "models" / f"model.{name}")
    api.seal(checkout / "models" / "model.onnx")
    (site / "sitecustomize.py").write_text(NO_FRAMEWORK)
    script = bin_ / "deploykit"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from deploykit.cli import main; main()' \"$@\"\n")
    script.chmod(0o755)
    variables = {
        "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{site}{os.pathsep}{ROOT}",
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "ASKED_FOR": str(tmp_path / "asked_for"),
    }
    return Machine(checkout, variables)


def example(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text())


def own(commands: list[str]) -> list[str]:
    """Leave out what installs: here deploykit is installed already."""
    installs = [command for command in commands if command.startswith("pip install")]
    assert installs == ["pip install deploykit"], "no framework"
    return [command for command in commands if command not in installs]


def github(machine: Machine) -> tuple[Machine, list[str]]:
    """Give the commands of the workflow, and the machine with the variables that GitHub sets."""
    (job,) = example("github-actions.yml")["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert not any("${{" in text for text in (*commands, *job["env"].values())), "only GitHub can fill that in"
    told = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(machine.checkout / "summary.md")}
    return machine.knowing({**told, "GITHUB_WORKSPACE": str(machine.checkout), **job["env"]}), own(commands)


def gitlab(machine: Machine) -> tuple[Machine, list[str]]:
    (job,) = example("gitlab-ci.yml").values()
    return machine.knowing(job["variables"]), own(job["script"])


JOBS = {"GitHub": github, "GitLab": gitlab}


def hook() -> Any:
    ((only,),) = (repo["hooks"] for repo in example("pre-commit-config.yaml")["repos"])
    return only


def commit(machine: Machine, *staged: str) -> "subprocess.CompletedProcess[str]":
    """Run the hook on files as pre-commit does: those that it is for, behind the words of its entry."""
    chosen = [name for name in staged if re.search(hook()["files"], name)]
    return machine.run([*shlex.split(hook()["entry"]), *chosen])


def test_the_machine_has_no_framework(machine: Machine) -> None:
    for name in ("torch", "tensorflow", "keras"):
        assert "No module named" in machine.run([sys.executable, "-c", f"import {name}"]).stderr
    assert machine.asked_for.read_text().split() == ["torch", "tensorflow", "keras"]


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_job_passes_with_a_proved_model_and_leaves_its_reports(job: Any, machine: Machine) -> None:
    machine, commands = job(machine)
    for command in commands:
        ran = machine.shell(command)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not machine.asked_for.exists()
    (suite,) = ET.parse(machine.checkout / "reports" / "model.xml").getroot().iter("testsuite")  # noqa: S314 - our own
    assert int(suite.get("tests", 0)) > int(suite.get("failures", 0)) == 0
    assert "<html" in (machine.checkout / "reports" / "model.html").read_text()


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_every_command_of_a_job_fails_with_a_model_that_was_changed(job: Any, machine: Machine) -> None:
    machine, commands = job(machine)
    spoil(machine.model)
    assert [machine.shell(command).returncode for command in commands] == [1, 1]
    assert not machine.asked_for.exists()
    assert "<failure" in (machine.checkout / "reports" / "model.xml").read_text()
    assert "models/model.onnx" in (machine.checkout / "reports" / "model.html").read_text()


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_job_fails_where_the_golden_was_not_checked_in(job: Any, machine: Machine) -> None:
    machine, commands = job(machine)
    machine.model.with_suffix(".golden.npz").unlink()
    validated, verified = (machine.shell(command) for command in commands)
    assert validated.returncode == 2
    assert "golden" in validated.stderr
    assert verified.returncode == 1
    assert "model.golden.npz: missing" in verified.stdout


def test_github_gets_a_summary_and_an_annotation(machine: Machine) -> None:
    machine, commands = github(machine)
    spoil(machine.model)
    ran = machine.shell(commands[0])
    assert "::error" in ran.stdout
    assert "models/model.onnx" in (machine.checkout / "summary.md").read_text()


def test_the_reports_that_are_uploaded_are_those_that_are_written(machine: Machine) -> None:
    (job,) = example("gitlab-ci.yml").values()
    steps = next(iter(example("github-actions.yml")["jobs"].values()))["steps"]
    kept = [step["with"]["path"] for step in steps if "upload-artifact" in step.get("uses", "")]
    machine, commands = gitlab(machine)
    assert machine.shell(commands[0]).returncode == 0
    written = [*kept, *job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]]
    assert [path for path in written if not (machine.checkout / path).exists()] == []
    assert job["artifacts"]["when"] == "always"


def test_actions_are_pinned_and_no_secret_is_asked_for() -> None:
    text = (EXAMPLES / "github-actions.yml").read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)
    assert "secrets" not in text
    assert example("github-actions.yml")["permissions"] == {"contents": "read"}


def test_a_commit_of_proved_models_passes(machine: Machine) -> None:
    for name in ("onnx", "golden.npz"):
        shutil.copy(machine.checkout / "models" / f"model.{name}", machine.checkout / f"a second.{name}")
    ran = commit(machine, "README.md", "models/model.onnx", "models/model.golden.npz", "a second.onnx")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("equal: ") == 2
    assert not machine.asked_for.exists()


def test_a_commit_with_one_wrong_model_is_refused_and_the_others_are_judged_too(machine: Machine) -> None:
    for name in ("onnx", "golden.npz"):
        shutil.copy(machine.checkout / "models" / f"model.{name}", machine.checkout / f"right.{name}")
    spoil(machine.model)
    ran = commit(machine, "models/model.onnx", "right.onnx")
    assert ran.returncode == 1
    assert "NOT EQUAL: models/model.onnx" in ran.stdout
    assert "equal: right.onnx" in ran.stdout


def test_the_hook_installs_deploykit_alone_and_is_for_models_alone() -> None:
    assert hook()["additional_dependencies"] == ["deploykit"]
    names = ["model.onnx", "a/b.onnx", "model.onnx.data", "model.golden.npz", "onnx", "README.md"]
    assert [name for name in names if re.search(hook()["files"], name)] == ["model.onnx", "a/b.onnx"]


def test_the_action_runs_a_recipe_and_uploads_what_it_made(machine: Machine) -> None:
    """Its own commands are run, with the values that GitHub would fill in."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    inputs = {name: one["default"] for name, one in action["inputs"].items()}
    steps = action["runs"]["steps"]
    install, run = (step for step in steps if "run" in step)
    assert install["run"].startswith("pip install")
    (machine.checkout / "deploykit.toml").write_text(
        'source = "models/model.onnx"\n[[artifact]]\nname = "small"\nsteps = ["simplify"]\n'
    )
    filled = {name: inputs[re.sub(r"\$\{\{ inputs\.(\w+) \}\}", r"\1", text)] for name, text in run["env"].items()}
    ran = machine.knowing({**filled, "GITHUB_STEP_SUMMARY": str(machine.checkout / "summary.md")}).shell(run["run"])
    assert ran.returncode == 0, ran.stdout + ran.stderr
    kept = machine.checkout / inputs["output"]
    assert {file.name for file in kept.iterdir()} == {"model.small.onnx", "model.small.golden.npz", "report.html"}
    assert "✅ proved" in (machine.checkout / "summary.md").read_text()
    uses = [step["uses"] for step in steps if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", one) for one in uses)
    assert not any("${{" in step["run"] for step in steps if "run" in step), "an input is no part of a command"


def test_the_recipe_of_the_examples_is_one_that_can_be_followed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "deploykit.toml", tmp_path)
    for name in ("digits.pt", "digits_val.npz"):
        (tmp_path / name).touch()
    assert [one.name for one in read(tmp_path / "deploykit.toml").artifact] == ["small", "half"]
