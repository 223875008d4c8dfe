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

torch = pytest.importorskip("torch")
nn = torch.nn

ARCHITECTURES = Path(__file__).parents[1].parent / "shared" / "data" / "architectures.py"
needs_architectures = pytest.mark.skipif(not ARCHITECTURES.exists(), reason="shared/data/architectures.py is not here")


def net(forward: Callable[..., Any], **layers: Any) -> Any:
    """Build a module from its layers and its forward."""
    module = type("Net", (nn.Module,), {"forward": forward})()
    for name, layer in layers.items():
        setattr(module, name, layer)
    return module


def chain(*layers: Any) -> Any:
    return nn.Sequential(*layers)


def encoder(*, batch_first: bool) -> Any:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


def conv(channels: int, out: int) -> Any:
    return nn.Conv2d(channels, out, 3, padding=1)


def unet() -> Any:
    """Three halvings, so that height and width must be divisible by eight."""

    def forward(self: Any, x: Any) -> Any:
        levels = [self.stem(x)]
        for _ in range(3):
            levels.append(self.down(self.pool(levels[-1])))
        y = levels.pop()
        while levels:
            y = self.merge(torch.cat([self.grow(y), levels.pop()], 1))
        return y

    layers = {"stem": conv(3, 4), "down": conv(4, 4), "merge": conv(8, 4)}
    return net(forward, **layers, pool=nn.MaxPool2d(2), grow=nn.Upsample(scale_factor=2))


def positions() -> Any:
    """A language model that can't be traced, with fewer positions than the usual lengths."""

    def forward(self: Any, idx: Any) -> Any:
        _, length = idx.size()
        if length > self.position.num_embeddings:
            raise ValueError("too long")
        x = self.token(idx) + self.position(torch.arange(length))
        return self.head(self.encoder(x))

    parts = {"token": nn.Embedding(50, 16), "position": nn.Embedding(24, 16), "head": nn.Linear(16, 50)}
    return net(forward, **parts, encoder=encoder(batch_first=True))


def patches() -> Any:
    """A vision transformer whose positions fix its input to 96 by 96."""
    return net(
        lambda self, x: self.encoder(self.embed(x).flatten(2).transpose(1, 2) + self.position).mean(1),
        embed=nn.Conv2d(3, 16, 16, 16),
        encoder=encoder(batch_first=True),
        position=nn.Parameter(torch.zeros(1, 36, 16)),
    )


def pooled(layer: Any) -> Callable[[Any], Any]:
    """Run a convolution, and take the mean over everything but batch and channels."""
    return lambda x: layer(x).flatten(2).mean(2)


ONE: dict[str, tuple[Callable[[], Any], str]] = {
    "mlp": (lambda: chain(nn.Linear(13, 4), nn.ReLU(), nn.Linear(4, 1)), "input:float32[batch,13]"),
    "mlp in float64": (lambda: chain(nn.Linear(13, 4)).double(), "input:float64[batch,13]"),
    "cnn in float16": (lambda: chain(nn.Conv2d(3, 4, 3)).half(), "input:float16[batch,3,224,224]"),
    "mlp behind a flatten": (lambda: chain(nn.Flatten(), nn.Linear(784, 10)), "input:float32[batch,1,28,28]"),
    "cnn flattened from 50x50": (
        lambda: chain(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 24 * 24, 10)),
        "input:float32[batch,3,50,50]",
    ),
    "cnn flattened from a spectrogram": (
        lambda: chain(conv(1, 8), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 20 * 50, 10)),
        "input:float32[batch,1,40,101]",
    ),
    "cnn with channels last": (
        lambda: net(lambda self, x: self.c(x.permute(0, 3, 1, 2)).mean((2, 3)), c=nn.Conv2d(3, 4, 3)),
        "x:float32[batch,224,224,3]",
    ),
    "cnn with a functional layer": (
        lambda: net(
            lambda self, x: nn.functional.conv2d(x, self.w).mean((2, 3)), w=nn.Parameter(torch.zeros(4, 3, 3, 3))
        ),
        "x:float32[batch,3,224,224]",
    ),
    "grey image repeated to three channels": (
        lambda: net(lambda self, x: self.c(torch.cat([x, x, x], 1)).mean((2, 3)), c=nn.Conv2d(3, 4, 3)),
        "x:float32[batch,1,224,224]",
    ),
    "u-net": (unet, "x:float32[batch,3,224,224]"),
    "vision transformer of 96x96": (patches, "x:float32[batch,3,96,96]"),
    "conv3d": (
        lambda: chain(nn.Conv3d(3, 4, 3, 4), nn.AdaptiveAvgPool3d(1), nn.Flatten()),
        "input:float32[batch,3,16,112,112]",
    ),
    "conv1d on audio": (
        lambda: chain(nn.Conv1d(1, 8, 80, 16), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 5)),
        "input:float32[batch,1,16000]",
    ),
    "conv1d on an odd length": (
        lambda: chain(nn.Conv1d(1, 8, 5), nn.Flatten(), nn.Linear(8 * 183, 5)),
        "input:float32[batch,1,187]",
    ),
    "raw audio behind a spectrogram": (
        lambda: net(lambda self, x: self.c(x.unfold(1, 64, 32).unsqueeze(1)).mean((2, 3)), c=nn.Conv2d(1, 4, 3)),
        "x:float32[batch,16000]",
    ),
    "lstm, batch first": (
        lambda: net(lambda self, x: self.l(x)[0][:, -1], l=nn.LSTM(7, 8, batch_first=True)),
        "x:float32[batch,16,7]",
    ),
    "lstm, time first": (lambda: net(lambda self, x: self.l(x)[0][-1], l=nn.LSTM(7, 8)), "x:float32[16,batch,7]"),
    "lstm, time first behind a transpose": (
        lambda: net(lambda self, x: self.l(x.transpose(0, 1))[0][-1], l=nn.LSTM(7, 8)),
        "x:float32[batch,16,7]",
    ),
    "linear in front of a gru": (
        lambda: net(lambda self, x: self.g(self.p(x))[0], p=nn.Linear(5, 7), g=nn.GRU(7, 8, batch_first=True)),
        "x:float32[batch,16,5]",
    ),
    "transformer, time first": (
        lambda: chain(nn.Embedding(50, 16), encoder(batch_first=False)),
        "input:int64[16,batch]",
    ),
    "language model with 24 positions": (positions, "idx:int64[batch,16]"),
    "bag of words": (lambda: chain(nn.EmbeddingBag(50, 8), nn.Linear(8, 2)), "input:int64[batch,16]"),
    "generator": (lambda: chain(nn.ConvTranspose2d(100, 8, 4), conv(8, 3)), "input:float32[batch,100,1,1]"),
    "batch norm in front": (
        lambda: chain(nn.BatchNorm1d(6), nn.Conv1d(6, 3, 3)),
        "input:float32[batch,6,16]",
    ),
    "only a parameter": (
        lambda: net(lambda self, x: x @ self.w, w=nn.Parameter(torch.ones(5, 2))),
        "x:float32[batch,5]",
    ),
    "everything has a default": (
        lambda: net(lambda self, x=None: self.f(x), f=nn.Linear(6, 2)),
        "x:float32[batch,6]",
    ),
    "any number of inputs": (
        lambda: net(lambda self, *xs: self.f(xs[0]), f=nn.Linear(6, 2)),
        "xs:float32[batch,6]",
    ),
}

SEVERAL: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "image and table": (
        lambda: net(
            lambda self, image, table: torch.cat([pooled(self.c)(image), self.g(table)], 1),
            c=nn.Conv2d(3, 8, 3),
            g=nn.Linear(5, 8),
        ),
        ["image:float32[batch,3,224,224]", "table:float32[batch,5]"],
    ),
    "two that are added": (
        lambda: net(lambda self, a, b: self.f(a + b), f=nn.Linear(6, 2)),
        ["a:float32[batch,6]", "b:float32[batch,6]"],
    ),
    "two that are joined": (
        lambda: net(lambda self, a, b: self.f(torch.cat([a, b], 1)), f=nn.Linear(6, 2)),
        ["a:float32[batch,3]", "b:float32[batch,3]"],
    ),
    "image joined with its mask": (
        lambda: net(lambda self, image, mask: self.c(torch.cat([image, mask], 1)), c=conv(4, 2)),
        ["image:float32[batch,3,32,32]", "mask:float32[batch,1,32,32]"],
    ),
    "ids and a padding mask": (
        lambda: net(
            lambda self, ids, mask: self.e(self.emb(ids), src_key_padding_mask=mask),
            emb=nn.Embedding(50, 16),
            e=encoder(batch_first=True),
        ),
        ["ids:int64[batch,16]", "mask:bool[batch,16]"],
    ),
    "ids and an attention mask of ones": (
        lambda: net(
            lambda self, ids, attention_mask: self.f((self.e(ids) * attention_mask.unsqueeze(-1)).sum(1)),
            e=nn.Embedding(50, 16),
            f=nn.Linear(16, 2),
        ),
        ["ids:int64[batch,16]", "attention_mask:int64[batch,16]"],
    ),
    "user and item": (
        lambda: net(
            lambda self, user, item: (self.u(user) * self.i(item)).sum(-1), u=nn.Embedding(9, 4), i=nn.Embedding(5, 4)
        ),
        ["user:int64[batch]", "item:int64[batch]"],
    ),
    "gru with its state": (
        lambda: net(lambda self, x, h: self.g(x, h), g=nn.GRU(7, 8, 2, batch_first=True)),
        ["x:float32[batch,16,7]", "h:float32[2,batch,8]"],
    ),
    "lstm with its states": (
        lambda: net(lambda self, x, h, c: self.l(x, (h, c)), l=nn.LSTM(7, 8)),
        ["x:float32[16,batch,7]", "h:float32[1,batch,8]", "c:float32[1,batch,8]"],
    ),
    "padded steps and their lengths": (
        lambda: net(
            lambda self, x, lengths: self.g(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))[1][-1],
            g=nn.GRU(7, 8, batch_first=True),
        ),
        ["x:float32[batch,16,7]", "lengths:int64[batch]"],
    ),
    "bilinear": (lambda: nn.Bilinear(3, 4, 5), ["input1:float32[batch,3]", "input2:float32[batch,4]"]),
    "encoder and decoder": (
        lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
        ["src:float32[batch,16,8]", "tgt:float32[batch,16,8]"],
    ),
}


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
