"""Inputs are inferred for modules of many kinds, each named after what makes its inputs hard to guess."""

import random
import runpy
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.child.pytorch.infer import Inferred, infer_inputs
from deploykit.errors import UsageError
from tests.guessable import ONE, SEVERAL, chain, net, pooled

torch = pytest.importorskip("torch")
nn = torch.nn

ARCHITECTURES = Path(__file__).parents[1].parent / "shared" / "data" / "architectures.py"
needs_architectures = pytest.mark.skipif(not ARCHITECTURES.exists(), reason="shared/data/architectures.py is not here")


def runs(module: Any, inferred: Inferred) -> Any:
    tensors = {name: torch.from_numpy(array) for name, array in inferred.example.items()}
    keywords = {name: tensors.pop(name) for name in inferred.keywords}
    with torch.no_grad():
        return module.eval()(*tensors.values(), **keywords)


def specs(inferred: Inferred) -> list[str]:
    return [str(spec) for spec in inferred.specs]


@pytest.mark.parametrize("kind", ONE)
def test_one_input_is_found_and_runs(kind: str) -> None:
    build, wanted = ONE[kind]
    module = build()
    inferred = infer_inputs(module)
    assert specs(inferred) == [wanted]
    assert [spec.mismatch(inferred.example[spec.name]) for spec in inferred.specs] == [None]
    assert runs(module, inferred) is not None


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_inputs_are_found_and_fit_one_another(kind: str) -> None:
    build, wanted = SEVERAL[kind]
    module = build()
    inferred = infer_inputs(module)
    assert specs(inferred) == wanted
    assert len(inferred.notes) == len(wanted)
    assert all(spec.mismatch(inferred.example[spec.name]) is None for spec in inferred.specs)
    assert runs(module, inferred) is not None


@needs_architectures
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("DigitsGRU", "x:float32[batch,16,40]"),
        ("CifarResNet", "x:float32[batch,3,224,224]"),
        ("LeNet5", "x:float32[batch,1,32,32]"),
        ("SampLeNet", "x:float32[batch,3,32,32]"),
        ("DnCNN", "x:float32[batch,1,28,28]"),
        ("CrepeTiny", "x:float32[batch,1024]"),
    ],
)
def test_real_architectures_are_found(name: str, wanted: str) -> None:
    assert specs(infer_inputs(runpy.run_path(str(ARCHITECTURES))[name]())) == [wanted]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["script", "trace", "freeze"])
def test_torchscript_modules_are_found(how: str) -> None:
    module = chain(nn.Conv2d(3, 4, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 14 * 14, 2)).eval()
    made = {
        "script": lambda: torch.jit.script(module),
        "trace": lambda: torch.jit.trace(module, torch.zeros(1, 3, 32, 32)),
        "freeze": lambda: torch.jit.freeze(torch.jit.script(module)),
    }[how]()
    assert specs(infer_inputs(made)) == ["input:float32[batch,3,32,32]"]


@pytest.mark.filterwarnings("ignore")
def test_a_traced_module_with_time_first_is_found() -> None:
    module = net(lambda self, ids: self.g(self.e(ids))[0][-1], e=nn.Embedding(9, 4), g=nn.GRU(4, 5))
    traced = torch.jit.trace(module, torch.zeros(6, 2, dtype=torch.int64))
    assert specs(infer_inputs(traced)) == ["ids:int64[16,batch]"]


@pytest.mark.filterwarnings("ignore")
def test_a_traced_module_with_two_inputs_is_found() -> None:
    module = net(
        lambda self, ids, row: torch.cat([self.e(ids).mean(1), self.f(row)], 1), e=nn.Embedding(9, 4), f=nn.Linear(3, 5)
    )
    traced = torch.jit.trace(module, (torch.zeros(2, 6, dtype=torch.int64), torch.zeros(2, 3)))
    assert specs(infer_inputs(traced)) == ["ids:int64[batch,16]", "row:float32[batch,3]"]


def test_a_compiled_module_is_looked_through() -> None:
    assert specs(infer_inputs(torch.compile(nn.Linear(13, 4)))) == ["input:float32[batch,13]"]


def test_a_module_in_bfloat16_is_described_so() -> None:
    inferred = infer_inputs(nn.Linear(13, 4).bfloat16())
    assert specs(inferred) == ["input:bfloat16[batch,13]"]
    assert inferred.example["input"].dtype == np.float32


def test_an_input_only_by_keyword_is_said_to_be() -> None:
    def forward(self: Any, x: Any, *, kind_id: Any) -> Any:
        return self.f(x) + self.e(kind_id)

    inferred = infer_inputs(net(forward, f=nn.Linear(6, 2), e=nn.Embedding(6, 2)))
    assert specs(inferred) == ["x:float32[batch,6]", "kind_id:int64[batch]"]
    assert inferred.keywords == {"kind_id"}


@pytest.mark.parametrize(
    ("example", "keywords"),
    [((torch.zeros(1, 3), torch.zeros(1, 3)), []), ({"y": torch.zeros(4, 3), "x": torch.zeros(4, 3)}, ["x", "y"])],
)
def test_an_example_that_the_module_brings_is_used(example: Any, keywords: list[str]) -> None:
    module = net(lambda self, x, y: self.f(x) + y[:, :2], f=nn.Linear(3, 2))
    module.example_input_array = example
    inferred = infer_inputs(module)
    assert sorted(specs(inferred)) == ["x:float32[batch,3]", "y:float32[batch,3]"]
    assert sorted(inferred.keywords) == keywords
    assert all("example_input_array" in note for note in inferred.notes)
    assert {array.shape for array in inferred.example.values()} == {(2, 3)}


def test_an_example_that_does_not_run_is_passed_over() -> None:
    module = nn.Linear(3, 2)
    module.dummy_inputs = {"input": torch.zeros(1, 8)}
    assert specs(infer_inputs(module)) == ["input:float32[batch,3]"]


@pytest.mark.filterwarnings("ignore")
def test_a_transformers_model_is_found_by_its_dummy_inputs() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    inferred = infer_inputs(transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes)))
    assert [(spec.name, spec.dtype, spec.dims[0]) for spec in inferred.specs] == [("input_ids", "int64", "batch")]
    assert inferred.keywords == {"input_ids"}


def test_the_note_says_why_and_what_else_runs() -> None:
    note = infer_inputs(net(lambda self, x: pooled(self.conv1)(x), conv1=nn.Conv2d(3, 2, 3))).notes[0]
    assert note == (
        "x:float32[batch,3,224,224] inferred: conv1 is Conv2d with 3 input channels; "
        "also runs at 32x32 and 64x64; give --input to say otherwise"
    )


def test_rows_that_mix_are_noted() -> None:
    notes = infer_inputs(net(lambda self, x: self.f(x - x.mean(0)), f=nn.Linear(3, 2))).notes
    assert any("depend on the other rows" in note for note in notes)


def test_ids_stay_within_the_smallest_table_that_they_reach() -> None:
    module = net(lambda self, a, b: self.x(a) + self.y(b), x=nn.Embedding(3, 2), y=nn.Embedding(7, 2))
    example = infer_inputs(module).example
    assert example["a"].max() < 3
    assert example["b"].max() < 7


def test_where_nothing_fits_the_error_has_the_line_to_write() -> None:
    def forward(self: Any, image: Any, row: Any) -> Any:
        raise ValueError(f"never {self.c(image) is self.f(row)}")

    module = net(forward, c=nn.Conv2d(3, 2, 3), f=nn.Linear(5, 2))
    with pytest.raises(UsageError) as caught:
        infer_inputs(module, budget_s=1.0)
    assert "--input 'image:float32[batch,3,224,224]'  --input 'row:float32[batch,5]'" in caught.value.fix[0]
    assert "ValueError: never False" in caught.value.details[0]


def test_a_required_number_is_named_with_the_line_to_write() -> None:
    def forward(self: Any, x: Any, scale: float) -> Any:
        return self.f(x) * scale

    with pytest.raises(UsageError, match="'scale', which is no tensor but float") as caught:
        infer_inputs(net(forward, f=nn.Linear(6, 2)))
    assert caught.value.fix[0].endswith("--input 'x:float32[batch,6]'  --input scale=VALUE")


@pytest.mark.parametrize(
    ("build", "words"),
    [(lambda: net(lambda self: torch.zeros(2)), "takes no inputs"), (lambda: nn.LazyLinear(3), "has no shape yet")],
)
def test_a_module_that_can_not_be_converted_is_refused(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        infer_inputs(build())


def test_the_search_ends_with_its_budget() -> None:
    def forward(self: Any, x: Any) -> Any:
        for _ in range(1000):
            time.sleep(0.01)
            self.f(x)
        return x

    start = time.monotonic()
    with pytest.raises(UsageError) as caught:
        infer_inputs(net(forward, f=nn.Linear(6, 2)), budget_s=0.3)
    assert time.monotonic() - start < 2
    assert "time" in caught.value.details[1]


def numbers() -> tuple[object, ...]:
    """Give the state of every random number generator."""
    return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_and_the_random_numbers_stay_as_they_were(fails: bool) -> None:
    def forward(self: Any, x: Any) -> Any:
        self.count += 1
        self.seen = self.seen + 1
        self.f.weight.mul_(2)
        self.last = x
        self.cache.append(x)
        random.shuffle([1, 2, 3])
        np.random.rand()  # noqa: NPY002 - models do
        if fails:
            raise ValueError
        return nn.functional.dropout(self.b(self.f(x)))

    module = net(forward, f=nn.Linear(3, 2), b=nn.BatchNorm1d(2), cache=[]).train()
    module.b.eval()
    module.register_buffer("count", torch.zeros(1))
    module.register_buffer("seen", torch.zeros(1))
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    drawn = numbers()
    with pytest.raises(UsageError) if fails else nullcontext():
        infer_inputs(module, budget_s=1.0)
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert (module.training, module.f.training, module.b.training) == (True, True, False)
    assert (module.cache, hasattr(module, "last")) == ([], False)
    assert numbers() == drawn


def test_a_module_that_prints_does_not_print_here(capsys: pytest.CaptureFixture[str]) -> None:
    def forward(self: Any, x: Any) -> Any:
        print(x)  # noqa: T201 - models do
        return self.f(x)

    infer_inputs(net(forward, f=nn.Linear(3, 2)))
    assert capsys.readouterr().out == ""
