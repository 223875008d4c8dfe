"""Recognize an LSTM, a GRU or a plain recurrent cell by what it computes, in the body of a loop."""

from dataclasses import dataclass

import numpy as np

from deploykit.child.tensorflow.export.loop_body import Activation, Body, either_way, is_number
from deploykit.tensors import Array

_TWO = 2
"""The factors of a gate: the step's input and the state before it."""


@dataclass(frozen=True)
class Gate:
    """An activation of a linear form: W for the step's input, R for the state."""

    activation: Activation
    w: Array
    r: Array
    bias: Array
    recurrent_bias: Array


@dataclass(frozen=True)
class Cell:
    """What an ONNX operator needs to compute a cell."""

    operator: str
    gates: tuple[Gate, ...]
    """In ONNX's order."""
    activations: tuple[Activation, ...]
    state: str
    """The value that is the hidden state before the step."""
    memory: str | None = None
    """The value that is the LSTM's cell state before the step."""
    new_memory: str | None = None
    reset_after: bool = False


def recognize(body: Body, new_state: str, step: str) -> Cell | None:
    """Read the new hidden state as that of a cell, if it is one.

    Args:
        body: the body of the loop.
        new_state: the value of the hidden state after a step.
        step: the value of the step's input.
    """
    for read in (_lstm, _gru, _plain):
        cell = read(body, body.origin(new_state), body.origin(step))
        if cell is not None:
            return cell
    return None


def _lstm(body: Body, new_state: str, step: str) -> Cell | None:
    for out, squashed in either_way(body.operands(new_state, "Mul")):
        memory = body.activation(squashed)
        for kept, added in either_way(body.operands(memory[1], "AddV2") if memory else None):
            for forget, old in either_way(body.operands(kept, "Mul")):
                for inner, candidate in either_way(body.operands(added, "Mul")):
                    gates = [_gate(body, one, step) for one in (inner, out, forget, candidate)]
                    if body.node(old).is_graph_input() and (cell := _lstm_of(gates, old)) and memory:
                        activations = (*(cell[1][index].activation for index in (0, 3)), memory[0])
                        return Cell("LSTM", cell[1], activations, cell[0], old, memory[1])
    return None


def _lstm_of(gates: list[tuple[str, Gate] | None], memory: str) -> tuple[str, tuple[Gate, ...]] | None:
    found = [one for one in gates if one is not None]
    if len(found) < len(gates) or len({state for state, _ in found}) > 1 or found[0][0] == memory:
        return None
    inner, out, forget, _ = (gate for _, gate in found)
    if not inner.activation == out.activation == forget.activation:
        return None
    return found[0][0], tuple(gate for _, gate in found)


def _gru(body: Body, new_state: str, step: str) -> Cell | None:
    for kept, added in either_way(body.operands(new_state, "AddV2")):
        for update, old in either_way(body.operands(kept, "Mul")):
            for rest, candidate in either_way(body.operands(added, "Mul")):
                difference = body.operands(rest, "Sub")
                found = _gate(body, update, step)
                if not difference or not found or found[0] != old or difference[1] != update:
                    continue
                if is_number(body.value(difference[0]), 1.0) and (cell := _gru_of(body, found, candidate, step)):
                    return cell
    return None


def _gru_of(body: Body, update: tuple[str, Gate], candidate: str, step: str) -> Cell | None:
    state, gate = update
    activated = body.activation(candidate)
    if activated is None:
        return None
    activation, inner = activated
    for read in (_reset_after, _reset_before):
        found = read(body, inner, state, step)
        if found is not None:
            (reset, w, r, bias, recurrent_bias), after = found, read is _reset_after
            if reset[0] != state or reset[1].activation != gate.activation:
                return None
            last = Gate(activation, w, r, bias, recurrent_bias)
            return Cell("GRU", (gate, reset[1], last), (gate.activation, activation), state, reset_after=after)
    return None


_Candidate = tuple[tuple[str, Gate], Array, Array, Array, Array]


def _reset_after(body: Body, inner: str, state: str, step: str) -> _Candidate | None:
    """Read x W + b + r * (h R + c)."""
    for given, product in either_way(body.operands(inner, "AddV2")):
        linear = body.linear(given)
        for factor, other in either_way(body.operands(product, "Mul")):
            reset, recurrent = _gate(body, factor, step), body.linear(other)
            if linear and reset and recurrent and set(linear.factors) == {step} and set(recurrent.factors) == {state}:
                w, r = linear.factors[step], recurrent.factors[state]
                return reset, w, r, _wide(linear.bias, w), _wide(recurrent.bias, w)
    return None


def _reset_before(body: Body, inner: str, state: str, step: str) -> _Candidate | None:
    """Read x W + b + (r * h) R."""
    linear = body.linear(inner)
    if linear is None or len(linear.factors) != _TWO or step not in linear.factors:
        return None
    product = next(name for name in linear.factors if name != step)
    for factor, other in either_way(body.operands(product, "Mul")):
        reset = _gate(body, factor, step)
        if reset and other == state:
            w = linear.factors[step]
            return reset, w, linear.factors[product], _wide(linear.bias, w), np.zeros(w.shape[1], w.dtype)
    return None


def _plain(body: Body, new_state: str, step: str) -> Cell | None:
    found = _gate(body, new_state, step)
    return None if found is None else Cell("RNN", (found[1],), (found[1].activation,), found[0])


def _gate(body: Body, name: str, step: str) -> tuple[str, Gate] | None:
    """Read a gate, and the state that it takes."""
    activated = body.activation(name)
    linear = body.linear(activated[1]) if activated else None
    if activated is None or linear is None or len(linear.factors) != _TWO or step not in linear.factors:
        return None
    state = next(one for one in linear.factors if one != step)
    if not body.node(state).is_graph_input():
        return None
    w, r = linear.factors[step], linear.factors[state]
    return state, Gate(activated[0], w, r, _wide(linear.bias, w), np.zeros(w.shape[1], w.dtype))


def _wide(bias: Array | float, w: Array) -> Array:
    return np.broadcast_to(np.asarray(bias, w.dtype), (1, w.shape[1])).reshape(-1)
