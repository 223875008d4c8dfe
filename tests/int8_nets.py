"""Nets that are hard for one scale for all channels, or for the nearest integer."""

import numpy as np

from deploykit.tensors import Array
from tests.int8_graphs import Graph, weight

_PAD = "pads=[1,1,1,1]"
_F = np.float32


def depthwise() -> Graph:
    """Convolutions by channel, of which some are hundreds of times as large as others, and read accordingly."""
    rng = np.random.default_rng(0)
    size = np.geomspace(1, 200, 16)[rng.permutation(16)].astype(_F)
    again = np.geomspace(1, 200, 16)[rng.permutation(16)].astype(_F)
    weights = {
        "w": weight(rng, (16, 3, 3, 3)) * size.reshape(-1, 1, 1, 1),
        "b": (rng.normal(size=16) * 0.1).astype(_F) * size,
        "d": weight(rng, (16, 1, 3, 3)) * (again / size).reshape(-1, 1, 1, 1),
        "e": np.abs(rng.normal(size=16)).astype(_F) * again,
        "p": weight(rng, (16, 16, 1, 1)) / again.reshape(1, -1, 1, 1),
    }
    nodes = f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) c=Conv<{_PAD},group=16>(r,d,e) s=Relu(c) y=Conv(s,p)"
    return Graph(nodes, weights, "float[batch,3,16,16] x")


def transformer() -> Graph:
    """Attention and a perceptron, after normalizations of which a few channels are far larger than the others."""
    rng = np.random.default_rng(0)
    loud = np.ones(32, _F)
    loud[[3, 17]] = 60
    weights: dict[str, tuple[int, ...] | Array] = {
        "s": loud,
        "b": (rng.normal(size=32) * 0.1).astype(_F) * loud,
        "t": loud,
        "u": (rng.normal(size=32) * 0.1).astype(_F) * loud,
        "wo": (32, 32),
        "f2": (64, 32),
    }
    weights |= {name: weight(rng, (32, 32)) / loud[:, None] for name in ("wq", "wk", "wv")}
    weights["f1"] = weight(rng, (32, 64)) / loud[:, None]
    return Graph(
        "n=LayerNormalization<axis=-1>(x,s,b) q=MatMul(n,wq) k=MatMul(n,wk) v=MatMul(n,wv)"
        " kt=Transpose<perm=[0,2,1]>(k) h=MatMul(q,kt) m=Softmax<axis=-1>(h) o=MatMul(m,v) p=MatMul(o,wo) z=Add(x,p)"
        " l=LayerNormalization<axis=-1>(z,t,u) f=MatMul(l,f1) g=Gelu(f) e=MatMul(g,f2) y=Add(z,e)",
        weights,
        "float[batch,seq,32] x",
        "float[batch,seq,32] y",
    )


def correlated() -> Graph:
    """Products of inputs that mostly go together: what single weights are off can cancel."""
    rng = np.random.default_rng(0)
    mixed = (rng.normal(size=(8, 96)) + rng.normal(size=(1, 96))).astype(_F)
    return Graph(
        "a=MatMul(x,mix) c=Gemm(a,w,b) r=Relu(c) y=Gemm(r,v)",
        {"mix": mixed, "w": (96, 96), "b": (96,), "v": (96, 48)},
        "float[batch,8] x",
        "float[batch,48] y",
    )
