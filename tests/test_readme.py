"""What README shows is what happens: its commands are run, and their output compared but for the numbers."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from deploykit.nvidia import devices

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
_NUMBER = re.compile(r"\d[\d.e+-]*|inf")


def test_the_commands_of_readme_print_what_readme_shows(tmp_path: Path) -> None:
    for example in ("digits_pytorch.py", "digits_keras.py"):
        shutil.copy(ROOT / "examples" / example, tmp_path)
        subprocess.run([sys.executable, example, "."], cwd=tmp_path, check=True, capture_output=True)
    blocks = _BLOCK.findall((ROOT / "README.md").read_text())
    assert len(blocks) >= 3
    for block in blocks:
        if "UNPROVED" in block and devices().found:
            continue  # here it is proved
        command, *shown = block.splitlines()
        code = "import sys; from deploykit.cli import run; sys.exit(run(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, *command.removeprefix("$ deploykit ").split()],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = (done.stdout + done.stderr).splitlines()
        assert [_masked(line) for line in printed] == [_masked(line) for line in shown]


def _masked(line: str) -> str:
    return " ".join(_NUMBER.sub("#", line).split())
