"""Small graphs that a conversion to float16 gets wrong, each named after what breaks it; written as ONNX text."""

from pathlib import Path
from typing import Any

import numpy as np

from deploykit.tensors import Array

HEAD = '<ir_version: 9, opset_import: ["" : 18]>\n'


def net(text: str, folder: Path, name: str = "net.onnx", **weights: Any) -> Path:
    """Write a graph of opset 18, given from its signature on, and its weights by name."""
    import onnx

    model = onnx.parser.parse_model(HEAD + text)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()
    )
    onnx.save(model, folder / name)
    return folder / name


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).normal(size=shape) * scale, np.float32)


def scores(folder: Path) -> Path:
    """Attention whose scores reach 1e5: infinite in float16, and NaN behind the Softmax."""
    text = """net (float[batch,16,32] x) => (float[batch,16,32] y) {
        first = MatMul (x, wide)
        hidden = Relu (first)
        q = MatMul (hidden, wq)
        k = MatMul (hidden, wk)
        v = MatMul (hidden, wv)
        kt = Transpose <perm = [0, 2, 1]> (k)
        score = MatMul (q, kt)
        masked = Add (score, mask)
        p = Softmax <axis = -1> (masked)
        mixed = MatMul (p, v)
        y = MatMul (mixed, wo)
    }"""
    own = {"wide": normal(32, 64, scale=0.2), "wv": normal(64, 64, scale=0.1, seed=3), "wo": normal(64, 32, seed=4)}
    # Large scores that differ by little more than 1, as those of a net with a bias that all keys share.
    own |= {"wq": normal(64, 64, scale=0.02, seed=1), "wk": normal(64, 64, scale=0.02, seed=2)}
    own["wq"][:, 0] = own["wk"][:, 0] = 0
    own["wq"][:8, 0] = 40.0
    own["wk"][:8, 0] = 40.0
    own["mask"] = np.zeros((16, 16), np.float32)
    return net(text, folder, "scores.onnx", **own)


def tiny(folder: Path) -> Path:
    """Weights of 1e-8, which are zero in float16, between layers that make up for them."""
    text = """net (float[batch,32] x) => (float[batch,8] y) {
        a = MatMul (x, first)
        b = MatMul (a, small)
        c = Mul (b, large)
        d = Tanh (c)
        y = MatMul (d, last)
    }"""
    small = normal(64, 32, scale=1e-8, seed=1)
    own: dict[str, Any] = {
        "first": normal(32, 64),
        "small": small,
        "large": np.float32(1e7),
        "last": normal(32, 8, seed=2),
    }
    return net(text, folder, "tiny.onnx", **own)


def million(folder: Path) -> Path:
    """The sum of 1e6 terms, infinite in float16, of which the net takes the mean and goes on."""
    text = """net (float[batch,1000] x) => (float[batch,4] y) {
        column = Unsqueeze (x, last)
        h = Mul (column, stretch)
        s = Relu (h)
        sum = ReduceSum <keepdims = 0> (s, axes)
        mean = Mul (sum, part)
        apart = Sub (mean, usual)
        row = Unsqueeze (apart, last)
        y = MatMul (row, out)
    }"""
    own: dict[str, Any] = {
        "last": np.array([-1], np.int64),
        "stretch": 1 + normal(1000),
        "axes": np.array([1, 2], np.int64),
    }
    own |= {"part": np.float32(1e-6), "usual": np.float32(0.5), "out": normal(1, 4, seed=1)}
    return net(text, folder, "million.onnx", **own)


HARD = {"scores": scores, "tiny": tiny, "million": million}
