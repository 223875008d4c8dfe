"""An artifact in int8 is judged by what it lost: its decisions, its numbers, its accuracy."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Once
from tests.running import assert_refused, deploykit

pytest.importorskip("torch")


@pytest.fixture(scope="session")
def quantized(once: Once, proved: Path, digits: Path) -> Path:
    """Give a folder with digits.onnx, int8.onnx of it by onnxruntime, and the images and labels that it never saw."""

    def make(folder: Path) -> None:
        from onnxruntime import quantization

        with np.load(digits / "digits_val.npz") as samples:
            images = samples["x"]

        class Reader(quantization.CalibrationDataReader):
            def __init__(self) -> None:
                self.rest = iter(images[start : start + 8] for start in range(0, 96, 8))

            def get_next(self) -> Any:
                batch = next(self.rest, None)
                return None if batch is None else {"x": batch}

        for name in ("digits.onnx", "digits.golden.npz"):
            shutil.copy(proved / name, folder)
        for name in ("digits.ts", "digits_val.npz"):
            shutil.copy(digits / name, folder)
        quantization.quantize_static(str(folder / "digits.onnx"), str(folder / "int8.onnx"), Reader())

    return once("quantized", make)


def validate(folder: Path, *options: object) -> Any:
    return deploykit(
        "validate", folder / "int8.onnx", "--against", folder / "digits.onnx", "--json", *options, cwd=folder
    )


def rules(told: Any) -> list[str]:
    return [check["rule"].split(" ")[0] for check in told["checks"]]


def test_it_passes_by_its_decisions_on_enough_samples(quantized: Path) -> None:
    ran = validate(quantized, "--data", quantized / "digits_val.npz", "--samples", "360", "--min-agreement", "0.97")
    assert ran.code == 0, ran.out + ran.err
    assert ran.json["samples"] == 360
    agreed = [check for check in ran.json["checks"] if check["rule"].startswith("decisions agree")]
    assert len(agreed) == 1
    assert agreed[0]["value"] > 0.98
    assert agreed[0]["figures"]["sqnr"] > 20


def test_too_few_samples_are_no_proof(quantized: Path) -> None:
    few = ("--data", quantized / "digits_val.npz", "--samples", "20")
    ran = validate(quantized, *few)
    assert ran.code == 1
    assert any("undecided" in check["why"] for check in ran.json["checks"])
    assert validate(quantized, *few, "--allow-undecided").code == 0


def test_a_drop_of_accuracy_is_held_to_its_bound(quantized: Path) -> None:
    data = ("--data", quantized / "digits_val.npz", "--samples", "360", "--labels", f"{quantized}/digits_val.npz:y")
    ran = validate(quantized, *data, "--max-drop", "3%", "--min-agreement", "0.95")
    assert ran.code == 0, ran.out + ran.err
    figures = ran.json["checks"][0]["figures"]
    assert figures["accuracy_before"] > 0.97
    assert abs(figures["accuracy_before"] - figures["accuracy_after"]) < 0.02


def test_a_quantized_net_that_is_wrong_fails(quantized: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(quantized / "int8.onnx")
    weights = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8]
    largest = max(weights, key=lambda one: int(np.prod(one.dims)))
    values = numpy_helper.to_array(largest).copy()
    values[: len(values) // 2] = 0
    largest.CopyFrom(numpy_helper.from_array(values, largest.name))
    onnx.save(model, tmp_path / "int8.onnx")
    shutil.copy(quantized / "digits.onnx", tmp_path)
    ran = validate(tmp_path, "--data", quantized / "digits_val.npz", "--samples", "360", "--allow-undecided")
    assert ran.code == 1
    assert "agree" in " ".join(check["rule"] for check in ran.json["checks"] if not check["passed"])


def test_an_int8_file_is_sealed_with_bounds(quantized: Path, tmp_path: Path) -> None:
    for name in ("int8.onnx", "digits.golden.npz"):
        shutil.copy(quantized / name, tmp_path)
    ran = deploykit("seal", "int8.onnx", cwd=tmp_path)
    assert_refused(ran, 1, "was not sealed", "bounds of yours are sealed with it")
    ran = deploykit(
        *("seal", "int8.onnx", "--min-agreement", "30%", "--min-sqnr", "0", "--allow-undecided"), cwd=tmp_path
    )
    assert ran.code == 0, ran.err
    assert deploykit("verify", "int8.onnx", cwd=tmp_path).code == 0


def test_bounds_judge_a_float_artifact_too(quantized: Path) -> None:
    ran = deploykit(
        "validate", quantized / "digits.onnx", "--min-sqnr", "60", "--allow-undecided", "--json", cwd=quantized
    )
    assert ran.code == 0, ran.err
    assert rules(ran.json) != ["noise"]
    ran = deploykit("validate", quantized / "digits.onnx", "--min-sqnr", "300", "--json", cwd=quantized)
    assert ran.code == 1


def test_an_int8_file_against_itself_is_equal_by_the_noise_ratio(quantized: Path, tmp_path: Path) -> None:
    assert deploykit("convert", quantized / "int8.onnx", "-o", "again.onnx", cwd=tmp_path).code == 0
    ran = deploykit("validate", "again.onnx", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.out
    assert rules(ran.json) == ["noise"]


def test_a_fixed_tolerance_judges_an_int8_file_too(quantized: Path) -> None:
    data = ("--data", quantized / "digits_val.npz", "--samples", "20", "--against", quantized / "digits.onnx")
    ran = deploykit("validate", quantized / "int8.onnx", *data, "--atol", "1e-9", "--json", cwd=quantized)
    assert ran.code == 1
    assert [check["rule"] for check in ran.json["checks"]] == ["within 1e-09"]
    ran = deploykit("validate", quantized / "int8.onnx", *data, "--atol", "100", "--json", cwd=quantized)
    assert ran.code == 0, ran.out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--labels", "digits_val.npz:y"), "those of the samples of --data"),
        (("--data", "digits_val.npz", "--labels", "digits_val.npz:z"), "z"),
        (("--data", "digits_val.npz", "--labels", "few.npy"), "7 labels for 32 samples"),
        (("--max-drop", "much"), "--max-drop 0.5%"),
        (("--data", "digits_val.npz", "--max-drop", "0.5%"), "nothing says what is right"),
        (("--min-agreement", "1.5"), "--min-agreement is 1.5"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bounds_that_can_not_be_are_a_wrong_usage(options: tuple[str, ...], says: str, quantized: Path) -> None:
    np.save(quantized / "few.npy", np.zeros(7, np.int64))
    ran = deploykit("validate", "int8.onnx", "--against", "digits.onnx", *options, cwd=quantized)
    assert_refused(ran, 2)
    assert says in ran.err


def test_undecided_is_for_what_may_lose_something(quantized: Path) -> None:
    ran = deploykit("validate", "digits.onnx", "--allow-undecided", cwd=quantized)
    assert_refused(ran, 2)


def test_labels_alone_do_not_let_a_wrong_float_file_pass(quantized: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    data = ("--data", quantized / "digits_val.npz", "--labels", f"{quantized}/digits_val.npz:y")
    against = ("--against", quantized / "digits.onnx", *data, "--json")
    right = deploykit("validate", quantized / "digits.onnx", *against, cwd=tmp_path)
    assert right.code == 0, "of the same model few labels are enough"
    model = onnx.load(quantized / "digits.onnx")
    weight = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] += 0.01
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    wrong = deploykit("validate", "wrong.onnx", *against, cwd=tmp_path)
    assert wrong.code == 1
    assert rules(wrong.json)[0] == "noise"
    assert not wrong.json["checks"][0]["passed"]
