# ruff: noqa: E501 - a graph is a line
"""Small graphs, each named after what quantization has to do with it; weights are random, and of a usual size."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.tensors import Array, Tensors

_IMAGE = "float[batch,8,16,16] x"


@dataclass(frozen=True)
class Graph:
    """A graph as onnx writes it: inputs, outputs and nodes; weights by shape, or as they are."""

    nodes: str
    weights: Mapping[str, tuple[int, ...] | Array] = field(default_factory=dict)
    inputs: str = _IMAGE
    outputs: str = "float[batch,c,h,w] y"
    opset: int = 20
    floats: int = 0
    """Layers with weights that stay in float on a CPU."""
    rounded: int = 1
    """How often onnxruntime rounds floats once it has optimized the graph: once, where all fuses."""

    def proto(self) -> Any:
        import onnx
        from onnx import numpy_helper

        text = f'<ir_version: 10, opset_import: ["" : {self.opset}]> g ({self.inputs}) => ({self.outputs}) {{{self.nodes}}}'
        model = onnx.parser.parse_model(text)
        rng = np.random.default_rng(0)
        read = {name for node in model.graph.node for name in inner(node)}
        for name, given in self.weights.items():
            if name not in read:
                continue
            array = given if isinstance(given, np.ndarray) else weight(rng, given)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        for number, node in enumerate(model.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        return model

    def samples(self, count: int = 32) -> Tensors:
        """Samples that vary in size and place, as images and sounds do."""
        import onnx

        rng = np.random.default_rng(1)
        found: dict[str, Array] = {}
        for value in self.proto().graph.input:
            kind = value.type.tensor_type
            dims = [dim.dim_value or {"batch": count, "seq": 12}.get(dim.dim_param, 16) for dim in kind.shape.dim]
            if kind.elem_type == onnx.TensorProto.FLOAT:
                found[value.name] = rng.normal(size=dims).astype(np.float32)
            elif kind.elem_type == onnx.TensorProto.BOOL:
                found[value.name] = np.ones(dims, bool)
            else:
                found[value.name] = rng.integers(0, 20, dims)
        return found

    def written(self, folder: Path) -> tuple[Path, Path]:
        """Write the model and samples for it."""
        import onnx

        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(self.proto(), str(folder / "model.onnx"))
        np.savez(folder / "samples.npz", **dict[str, Any](self.samples()))
        return folder / "model.onnx", folder / "samples.npz"


def inner(node: Any) -> list[str]:
    """Names of what a node reads, and its bodies."""
    bodies = [part for one in node.attribute for part in one.g.node]
    return [*node.input, *(name for part in bodies for name in part.input)]


def weight(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    inner = int(np.prod(shape[1:])) if len(shape) != 2 else shape[0]
    made: Array = (rng.normal(size=shape) / np.sqrt(max(inner, 1))).astype(np.float32)
    return made


def _c(*values: int) -> Array:
    return np.array(values, np.int64)


_F = np.float32
_W = (8, 8, 3, 3)
_PAD = "pads=[1,1,1,1]"

_USUAL = {
    "w": _W,
    "v": _W,
    "b": (8,),
}

GRAPHS: dict[str, Graph] = {
    "convolutions": Graph(f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) y=Conv<{_PAD}>(r,v)", _USUAL),
    "depthwise": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Clip(a,zero,six) d=Conv<{_PAD},group=8>(r,dw,db) s=Clip(d,zero,six) y=Conv(s,p)",
        {
            **_USUAL,
            "dw": (8, 1, 3, 3),
            "db": (8,),
            "p": (8, 8, 1, 1),
            "zero": np.array(0, _F),
            "six": np.array(6, _F),
        },
    ),
    "grouped": Graph(f"a=Conv<{_PAD},group=2>(x,w,b) r=Relu(a) y=Conv<{_PAD}>(r,v)", {**_USUAL, "w": (8, 4, 3, 3)}),
    "transposed": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) t=ConvTranspose<strides=[2,2]>(r,t_w,b) y=Conv<{_PAD}>(t,v)",
        {**_USUAL, "t_w": (8, 8, 2, 2)},
    ),
    "one_dimension": Graph(
        "a=Conv<pads=[1,1]>(x,w,b) r=Relu(a) y=Conv<pads=[1,1]>(r,v)",
        {"w": (8, 4, 3), "v": (8, 8, 3), "b": (8,)},
        "float[batch,4,64] x",
        "float[batch,c,l] y",
    ),
    "products": Graph(
        "a=MatMul(x,w) s=Add(a,b) r=Relu(s) m=MatMul(r,v) y=Gemm<transB=1>(m,g,b)",
        {"w": (32, 32), "v": (32, 32), "g": (32, 32), "b": (32,)},
        "float[batch,32] x",
        "float[batch,32] y",
    ),
    "two_activations": Graph(
        "q=MatMul(x,wq) k=MatMul(x,wk) t=Transpose<perm=[0,2,1]>(k) s=MatMul(q,t) p=Softmax<axis=-1>(s)"
        " v=MatMul(x,wv) o=MatMul(p,v) y=MatMul(o,wo)",
        dict.fromkeys(("wq", "wk", "wv", "wo"), (32, 32)),
        "float[batch,seq,32] x",
        "float[batch,seq,32] y",
        rounded=2,
    ),
    "lstm": Graph(
        "h,h_n,c_n=LSTM<hidden_size=16>(x,w,r,b) s=Squeeze(h,one) y=MatMul(s,o)",
        {"w": (1, 64, 8), "r": (1, 64, 16), "b": (1, 128), "one": _c(1), "o": (16, 16)},
        "float[seq,batch,8] x",
        "float[seq,batch,16] y",
        floats=1,
    ),
    "gru": Graph(
        "h,h_n=GRU<hidden_size=16>(x,w,r,b) s=Squeeze(h,one) y=MatMul(s,o)",
        {"w": (1, 48, 8), "r": (1, 48, 16), "b": (1, 96), "one": _c(1), "o": (16, 16)},
        "float[seq,batch,8] x",
        "float[seq,batch,16] y",
        floats=1,
    ),
    "residual": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) c=Conv<{_PAD}>(r,v) s=Add(c,r) t=Relu(s) y=Conv<{_PAD}>(t,u)",
        {**_USUAL, "u": _W},
    ),
    "concat": Graph(
        f"a=Conv<{_PAD}>(x,w,b) c=Conv<{_PAD}>(x,v) j=Concat<axis=1>(a,c) r=Relu(j) y=Conv(r,p)",
        {**_USUAL, "p": (8, 16, 1, 1)},
    ),
    "concat_with_input": Graph(
        f"a=Conv<{_PAD}>(x,w,b) j=Concat<axis=1>(a,x) y=Conv(j,p)",
        {**_USUAL, "p": (8, 16, 1, 1)},
    ),
    "unet": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) m=MaxPool<kernel_shape=[2,2],strides=[2,2]>(r) c=Conv<{_PAD}>(m,v,b) d=Relu(c)"
        ' u=Resize<mode="nearest",coordinate_transformation_mode="asymmetric",nearest_mode="floor">(d,,scales) j=Concat<axis=1>(u,r) y=Conv(j,p)',
        {**_USUAL, "p": (8, 16, 1, 1), "scales": np.array([1, 1, 2, 2], _F)},
    ),
    "resize_linear": Graph(
        f'a=Conv<{_PAD}>(x,w,b) r=Relu(a) u=Resize<mode="linear">(r,,scales) y=Conv<{_PAD}>(u,v)',
        {**_USUAL, "scales": np.array([1, 1, 2, 2], _F)},
        rounded=2,
    ),
    "average_pool": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) m=AveragePool<kernel_shape=[2,2],strides=[2,2]>(r) y=Conv<{_PAD}>(m,v)",
        _USUAL,
    ),
    "global_pool": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) m=GlobalAveragePool(r) f=Flatten(m) y=Gemm<transB=1>(f,g,b)",
        {**_USUAL, "g": (8, 8)},
        outputs="float[batch,8] y",
    ),
    "mean_pool": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) m=ReduceMean<keepdims=1>(r,axes) f=Reshape(m,shape) y=Gemm<transB=1>(f,g,b)",
        {**_USUAL, "g": (8, 8), "axes": _c(-1, -2), "shape": _c(-1, 8)},
        outputs="float[batch,8] y",
    ),
    "mean_pool_flat": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) m=ReduceMean<keepdims=0>(r,axes) y=Gemm<transB=1>(m,g,b)",
        {**_USUAL, "g": (8, 8), "axes": _c(2, 3)},
        outputs="float[batch,8] y",
    ),
    "silu": Graph(f"a=Conv<{_PAD}>(x,w,b) g=Sigmoid(a) m=Mul(a,g) y=Conv<{_PAD}>(m,v)", _USUAL),
    "squeeze_excite": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) m=GlobalAveragePool(r) d=Conv(m,p,b) e=Relu(d) f=Conv(e,q) g=Sigmoid(f)"
        f" s=Mul(r,g) y=Conv<{_PAD}>(s,v)",
        {**_USUAL, "p": (8, 8, 1, 1), "q": (8, 8, 1, 1)},
    ),
    "hard_swish": Graph(f"a=Conv<{_PAD}>(x,w,b) h=HardSwish(a) y=Conv<{_PAD}>(h,v)", _USUAL, rounded=2),
    "hard_sigmoid": Graph(f"a=Conv<{_PAD}>(x,w,b) g=HardSigmoid(a) h=Mul(a,g) y=Conv<{_PAD}>(h,v)", _USUAL, rounded=2),
    "leaky": Graph(f"a=Conv<{_PAD}>(x,w,b) h=LeakyRelu<alpha=0.1>(a) y=Conv<{_PAD}>(h,v)", _USUAL),
    "prelu": Graph(
        f"a=Conv<{_PAD}>(x,w,b) h=PRelu(a,s) y=Conv<{_PAD}>(h,v)",
        {**_USUAL, "s": np.full((8, 1, 1), 0.2, _F)},
        rounded=2,
    ),
    "pad": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) p=Pad(r,pads) y=Conv(p,v)", {**_USUAL, "pads": _c(0, 0, 1, 1, 0, 0, 1, 1)}
    ),
    "pad_reflect": Graph(
        f'a=Conv<{_PAD}>(x,w,b) r=Relu(a) p=Pad<mode="reflect">(r,pads) y=Conv(p,v)',
        {**_USUAL, "pads": _c(0, 0, 1, 1, 0, 0, 1, 1)},
    ),
    "split": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) c,d=Split<axis=1,num_outputs=2>(r) e=Conv<{_PAD}>(c,h) f=Concat<axis=1>(e,d) y=Conv<{_PAD}>(f,v)",
        {**_USUAL, "h": (4, 4, 3, 3)},
    ),
    "slices": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) c=Slice(r,zero,four,one) e=Conv<{_PAD}>(c,h) y=Relu(e)",
        {**_USUAL, "h": (4, 4, 3, 3), "zero": _c(0), "four": _c(4), "one": _c(1)},
    ),
    "shared_weight": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) c=Conv<{_PAD}>(r,w,b) d=Relu(c) y=Conv<{_PAD}>(d,w)", _USUAL
    ),
    "several_consumers": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) c=Conv<{_PAD}>(r,v) d=Conv<{_PAD}>(r,u) e=Exp(r) f=Add(c,d) y=Add(f,e)",
        {**_USUAL, "u": _W},
    ),
    "read_output": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) y=Conv<{_PAD}>(r,v)",
        _USUAL,
        outputs="float[batch,c,h,w] r, float[batch,c,h,w] y",
    ),
    "sum_is_output": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) y=Conv<{_PAD}>(r,v)",
        _USUAL,
        outputs="float[batch,c,h,w] a, float[batch,c,h,w] y",
        rounded=2,
    ),
    "input_is_output": Graph(
        f"a=Conv<{_PAD}>(x,w,b) i=Identity(x) y=Relu(a)",
        _USUAL,
        outputs="float[batch,8,16,16] i, float[batch,c,h,w] y",
    ),
    "output_through_reshape": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) y=Reshape(r,shape)",
        {**_USUAL, "shape": _c(-1, 2048)},
        outputs="float[batch,n] y",
    ),
    "dead_channels": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) y=Conv<{_PAD}>(r,v)",
        {
            **_USUAL,
            "w": np.concatenate([np.zeros((2, 8, 3, 3), _F), weight(np.random.default_rng(3), (6, 8, 3, 3))]),
            "b": np.array([40, -40, 0, 0, 1, 1, 1, 1], _F),
        },
    ),
    "constant_activation": Graph(
        f"z=Mul(x,zero) a=Conv<{_PAD}>(z,w,b) c=Conv<{_PAD}>(x,v) y=Add(a,c)", {**_USUAL, "zero": np.array(0, _F)}
    ),
    "outlier_weight": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) y=Conv<{_PAD}>(r,v)",
        {
            **_USUAL,
            "w": np.where(np.arange(576).reshape(_W) == 100, 30, weight(np.random.default_rng(3), _W)).astype(_F),
        },
    ),
    "fixed_batch": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) y=Conv<{_PAD}>(r,v)",
        _USUAL,
        "float[1,8,16,16] x",
        "float[1,8,16,16] y",
    ),
    "any_size": Graph(f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) y=Conv<{_PAD}>(r,v)", _USUAL, "float[batch,8,h,w] x"),
    "old_opset": Graph(f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) y=Conv<{_PAD}>(r,v)", _USUAL, opset=11),
    "oldest_opset": Graph(
        f"a=Conv<{_PAD}>(x,w,b) n=BatchNormalization(a,one,b,b,one) r=Relu(n) u=Upsample(r,scales) y=Conv<{_PAD}>(u,v)",
        {**_USUAL, "one": np.ones(8, _F), "scales": np.array([1, 1, 2, 2], _F)},
        opset=9,
        rounded=2,
    ),
    "branches": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) i=If(flag)<then_branch=t()=>(float[batch,c,h,w] o){{o=Conv<{_PAD}>(r,v)}},"
        "else_branch=e()=>(float[batch,c,h,w] o2){o2=Identity(r)}>"
        f" y=Conv<{_PAD}>(i,u)",
        {**_USUAL, "u": _W},
        f"{_IMAGE}, bool flag",
        rounded=2,
        floats=1,
    ),
    "loop": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) l=Loop(two,yes,r)<body=t(int64 i, bool c, float[batch,k,h,w] s)=>(bool d, float[batch,k,h,w] e){{d=Identity(c) n=Conv<{_PAD}>(s,v) e=Add(n,r)}}>"
        f" y=Conv<{_PAD}>(l,u)",
        {**_USUAL, "u": _W, "two": np.array(2, np.int64), "yes": np.array(True)},
        rounded=2,
        floats=1,
    ),
    "scan": Graph(
        "a=MatMul(x,w) t=Transpose<perm=[1,0,2]>(a) h,o=Scan<num_scan_inputs=1,body=t(float[batch,32] s, float[batch,32] i)=>(float[batch,32] n, float[batch,32] e)"
        "{m=MatMul(s,v) n=Add(m,i) e=Tanh(n)}>(start,t) z=Transpose<perm=[1,0,2]>(o) y=MatMul(z,u)",
        {"w": (32, 32), "v": (32, 32), "u": (32, 32)},
        "float[batch,12,32] x, float[batch,32] start",
        "float[batch,12,32] y",
        rounded=2,
        floats=1,
    ),
    "ids": Graph(
        "e=Gather(table,ids) m=Cast<to=1>(mask) n=Unsqueeze(m,last) k=Mul(e,n) a=MatMul(k,w) r=Relu(a) y=MatMul(r,v)",
        {"table": (20, 32), "w": (32, 32), "v": (32, 32), "last": _c(-1)},
        "int64[batch,seq] ids, int64[batch,seq] mask",
        "float[batch,seq,32] y",
    ),
    "layer_norm": Graph(
        "a=MatMul(x,w) n=LayerNormalization<axis=-1>(a,s,b) c=MatMul(n,v) g=Gelu(c) y=MatMul(g,u)",
        {"w": (32, 32), "v": (32, 32), "u": (32, 32), "s": np.ones(32, _F), "b": (32,)},
        "float[batch,seq,32] x",
        "float[batch,seq,32] y",
        rounded=3,
    ),
    "constant_add": Graph(
        f"a=Conv<{_PAD}>(x,w,b) s=Add(a,k) r=Relu(s) y=Conv<{_PAD}>(r,v)",
        {**_USUAL, "k": np.full((1, 8, 1, 1), 3, _F)},
    ),
    "gemm_after_flatten": Graph(
        f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) f=Flatten(r) g=Gemm(f,k,b) h=Relu(g) y=Gemm<transB=1>(h,m)",
        {**_USUAL, "k": (2048, 8), "m": (8, 8)},
        outputs="float[batch,8] y",
    ),
    "batched_weight": Graph(
        "a=MatMul(x,w) y=MatMul(a,v)",
        {"w": (2, 32, 32), "v": (32, 32)},
        "float[2,12,32] x",
        "float[2,12,32] y",
        floats=1,
    ),
    "stacked_relu": Graph(f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) s=Relu(r) y=Conv<{_PAD}>(s,v)", _USUAL),
    "normed": Graph(
        f"a=Conv<{_PAD}>(x,w) n=BatchNormalization(a,one,b,b,one) r=Relu(n) y=Conv<{_PAD}>(r,v)",
        {**_USUAL, "one": np.ones(8, _F)},
        rounded=2,
    ),
    "relu_read_twice": Graph(f"a=Conv<{_PAD}>(x,w,b) r=Relu(a) s=Add(a,r) y=Conv<{_PAD}>(s,v)", _USUAL, rounded=2),
    "bias_variable": Graph(f"k=Add(b,b) a=Conv<{_PAD}>(x,w,k) y=Conv<{_PAD}>(a,v)", _USUAL, floats=1),
    "sub_div": Graph(f"a=Conv<{_PAD}>(x,w,b) s=Sub(a,x) r=Relu(s) y=Conv<{_PAD}>(r,v)", _USUAL, rounded=3),
    "shuffle": Graph(
        f"a=Conv<{_PAD},group=2>(x,g,b) r=Relu(a) s=Reshape(r,five) t=Transpose<perm=[0,2,1,3,4]>(s) z=Reshape(t,four) y=Conv<{_PAD},group=2>(z,k)",
        {**_USUAL, "g": (8, 4, 3, 3), "k": (8, 4, 3, 3), "five": _c(-1, 2, 4, 16, 16), "four": _c(-1, 8, 16, 16)},
    ),
}
