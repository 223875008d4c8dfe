"""Honest speed: what a ratio and its interval are worth, and that turns hide no difference and make none up."""

import gc
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deploykit import machine
from deploykit.errors import ModelError
from deploykit.tensors import Array
from deploykit.timing import LEAST, Ratio, alone, measure
from deploykit.timing.memory import memory_of
from deploykit.timing.ratio import ratio_of
from deploykit.timing.rounds import Call, alternate
from tests.onnx_models import layers


def test_a_constant_ratio_is_known_exactly_whatever_the_rounds_took() -> None:
    slow = np.random.default_rng(0).uniform(1, 9, 20)
    assert ratio_of(list(slow * 0.5), list(slow)) == Ratio(0.5, 0.5, 0.5)
    assert Ratio(0.5, 0.5, 0.5).faster
    assert not Ratio(0.5, 0.5, 0.5).slower


def test_a_ratio_is_not_moved_by_rounds_in_which_one_of_both_was_hit() -> None:
    own = [*[2.0] * 17, 200.0, 300.0, 400.0]
    assert ratio_of(own, [1.0] * 20) == Ratio(2.0, 2.0, 2.0)


def test_an_interval_that_holds_one_tells_no_difference() -> None:
    found = ratio_of([0.9, 1.1] * 10, [1.0] * 20)
    assert found.low == pytest.approx(0.9)
    assert found.high == pytest.approx(1.1)
    assert not found.faster
    assert not found.slower
    assert found == ratio_of([0.9, 1.1] * 10, [1.0] * 20)


@pytest.mark.parametrize("rounds", [LEAST, 31])
def test_the_interval_holds_the_true_ratio_in_about_95_of_100_cases(rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    hits = 0
    for trial in range(300):
        load = rng.lognormal(0, 1, rounds)  # what slows the machine down, in each round
        bursts = np.where(rng.random(rounds) < 0.1, rng.lognormal(0, 0.5, rounds), 1)
        own = 0.7 * load * bursts * rng.lognormal(0, 0.03, rounds)
        found = ratio_of(list(own), list(load), seed=trial)
        hits += found.low <= 0.7 <= found.high
    assert 0.90 <= hits / 300 <= 0.99


class Machine:
    """Time that goes on only while something runs, and ever slower."""

    def __init__(self, drift: float = 0.0) -> None:
        self.now, self.drift = 0.0, drift
        self.loads: list[str] = []
        self.ran: list[str] = []

    def load(self, name: str, seconds: float, first: float = 0.0) -> Callable[[], Call]:
        """Give what loads a model of so many seconds a call, and more in the first after another has run."""

        def call() -> None:
            cold = bool(self.ran) and self.ran[-1] != name
            self.now += seconds + self.drift * len(self.ran) + cold * first
            self.ran.append(name)

        def loaded() -> Call:
            self.loads.append(name)
            return call

        return loaded

    def clock(self) -> float:
        return self.now


def test_a_drift_hits_all_alike() -> None:
    here = Machine(drift=0.001)
    loads = [here.load(name, 0.2) for name in "ab"]
    first, other = zip(*alternate(loads, seconds=50, clock=here.clock).rounds, strict=True)
    assert other == pytest.approx(first)


def test_what_a_model_finds_in_the_caches_after_another_is_not_counted() -> None:
    here = Machine()
    times = alternate([here.load(name, 0.005, first=0.05) for name in "ab"], seconds=5, clock=here.clock)
    assert max(map(max, times.calls)) == pytest.approx(0.005)


def test_every_round_loads_all_anew_and_gives_each_two_turns_in_mirrored_order() -> None:
    here = Machine()
    times = alternate([here.load(name, 0.2) for name in "abc"], seconds=30, clock=here.clock)
    assert len(here.loads) == 3 * (1 + len(times.rounds))
    warm = 6  # two calls of each
    orders = set()
    for number in range(len(times.rounds)):
        turns = here.ran[warm + 6 * number : warm + 6 * number + 6]
        assert sorted(turns[:3]) == ["a", "b", "c"]
        assert turns[3:] == turns[2::-1]
        orders.add("".join(turns[:3]))
    assert len(orders) > 1


def test_the_rounds_end_with_a_narrow_interval_or_with_the_time_and_never_too_early() -> None:
    here = Machine()
    assert len(alternate([here.load(name, 0.2) for name in "ab"], seconds=1e6, clock=here.clock).rounds) == LEAST
    slow = Machine()
    assert len(alternate([slow.load(name, 50) for name in "ab"], seconds=1, clock=slow.clock).rounds) == LEAST
    uneven = itertools.cycle((0.2, 0.3, 0.5, 0.1))
    wild = Machine()

    def load() -> Call:
        seconds = next(uneven)
        return wild.load("a", seconds)()

    rounds = alternate([load, wild.load("b", 0.2)], seconds=60, clock=wild.clock).rounds
    assert len(rounds) > LEAST
    assert 60 <= wild.now < 64


def test_one_model_alone_is_timed_until_the_time_is_over() -> None:
    here = Machine()
    alternate([here.load("a", 0.2)], seconds=60, clock=here.clock)
    assert 60 <= here.now < 61


def test_nothing_is_collected_while_it_is_timed_and_all_is_as_before_afterwards() -> None:
    here, seen = Machine(), list[bool]()

    def call() -> None:
        seen.append(gc.isenabled())
        here.now += 1

    alternate([lambda: call], seconds=1, clock=here.clock)
    assert not any(seen)
    assert gc.isenabled()

    def failing() -> Call:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        alternate([failing], seconds=1)
    assert gc.isenabled()


def test_a_much_larger_net_is_slower_with_confidence_and_takes_its_weights_more_of_memory(tmp_path: Path) -> None:
    small, large = layers(tmp_path, "small", 1, 512), layers(tmp_path, "large", 32, 512)
    found = measure([small, small, large], {"x": np.ones((4, 512), np.float32)}, seconds=0.2)
    first, same, more = found.rows
    assert first.ratio is None
    assert same.ratio is not None
    assert same.ratio.low < 1.1
    assert same.ratio.high > 0.9
    assert more.ratio is not None
    assert more.ratio.low > 4
    assert more.p50_ms > 4 * first.p50_ms
    assert more.samples_per_second < first.samples_per_second
    assert more.bytes > 32 * 512 * 512 * 4
    assert more.memory is not None
    assert first.memory is not None
    assert more.memory.peak - first.memory.peak > 20e6
    assert 1e6 < more.memory.bare < more.memory.peak
    assert (found.batch, found.threads) == (4, 1)
    assert found.rounds >= LEAST


def test_percentiles_are_in_order_and_are_not_made_of_a_handful_of_calls(tmp_path: Path) -> None:
    row = measure([layers(tmp_path, "small", 1)], {"x": np.ones((1, 64), np.float32)}, seconds=0.1).rows[0]
    assert row.calls >= 100
    assert row.p90_ms is not None
    assert row.p99_ms is not None
    assert row.p50_ms <= row.p90_ms <= row.p99_ms
    from deploykit.timing import _percentile

    assert _percentile([1.0] * 99, 99) is None
    assert _percentile([1.0] * 9, 90) is None


@pytest.mark.parametrize("shape", [(1, 63), (64,)], ids=str)
def test_a_file_that_does_not_run_is_an_error_that_says_on_what(tmp_path: Path, shape: tuple[int, ...]) -> None:
    inputs: dict[str, Array] = {"x": np.ones(shape, np.float32)}
    with pytest.raises(ModelError, match=r"small\.onnx fails in onnxruntime on x") as failed:
        measure([layers(tmp_path, "small", 1)], inputs, seconds=0.1)
    assert failed.value.fix


def test_memory_is_that_of_the_model_and_not_of_the_process_that_asks(tmp_path: Path) -> None:
    held = np.ones(200 << 20, np.uint8)
    found = memory_of(layers(tmp_path, "small", 1), {"x": np.ones((1, 64), np.float32)}, 1)
    assert found.peak < held.nbytes
    assert alone.peak() >= held.nbytes


def test_text_goes_into_the_process_that_measures_memory(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    ports = [helper.make_tensor_value_info(port, TensorProto.STRING, [2]) for port in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "text", ports[:1], ports[1:])
    save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), str(tmp_path / "t.onnx"))
    assert memory_of(tmp_path / "t.onnx", {"x": np.array(["a", "b"], object)}, 1).peak


def test_a_process_that_dies_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="does not run in a process of its own"):
        memory_of(tmp_path / "no.onnx", {}, 1)


def test_the_share_of_others_is_a_share() -> None:
    watch = machine.Watch()
    sum(range(200_000))
    others = watch.others()
    assert others is None or 0 <= others <= 1
