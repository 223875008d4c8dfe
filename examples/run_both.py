"""Both frameworks, from Python: train the digits nets, take each to proved artifacts, and say what came of it.

python examples/run_both.py demo
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import deploykit

HERE = Path(__file__).parent


def main(folder: Path) -> None:
    """Make the artifacts of both nets in a folder."""
    folder.mkdir(exist_ok=True)
    sources = {
        "digits.pt": {"factory": str((HERE / "digits_pytorch.py").resolve()) + ":DigitsNet", "data": "digits_val.npz"},
        "digits.keras": {"data": "digits_keras_val.npz"},
    }
    for source, about in sources.items():
        script = HERE / ("digits_pytorch.py" if source.endswith(".pt") else "digits_keras.py")
        subprocess.run([sys.executable, script, folder], check=True)
        made = deploykit.run(deploykit.recipe(recipe(source, about), folder), output=folder)
        for one in made.artifacts:
            word = "proved" if one.passed else f"failed: {'; '.join(one.missed)}"
            print(f"{source} -> {one.path.name}: {word}, {one.bytes / 1000:.0f} kB")


def recipe(source: str, about: dict[str, str]) -> dict[str, Any]:
    """Simplify it; and halve its size. This is what deploykit.toml says, as a table."""
    framework = source.rpartition(".")[2]
    return {
        "source": source,
        **about,
        "artifact": [
            {"name": f"{framework}-small", "steps": ["simplify"]},
            {"name": f"{framework}-half", "steps": ["simplify", "fp16"], "require": {"max_size_mb": 0.05}},
        ],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
