"""Translations of resizing and of convolutions that tf2onnx 1.17 lacks or has wrong; importing this registers them."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import tensorflow as tf

from deploykit.child.tensorflow.export.formula import Formula, registered, upstream
from deploykit.tensors import Array

_CONVOLUTION_3D = upstream("Conv3D")
_CONVOLUTION_2D = upstream("Conv2D")
_TRANSPOSED = {name: upstream(name) for name in ("Conv2DBackpropInput", "Conv3DBackpropInputV2")}
_CUBIC = upstream("ResizeBicubic")
_LINEAR = upstream("ResizeBilinear")


@registered("ScaleAndTranslate")
def _scale_and_translate(of: Formula) -> None:
    """Keras's lanczos and antialiased resizing: no mode of ONNX's Resize is the same to the last digits."""
    size, scale, translation = of.value(1), of.value(2), of.value(3)
    shape = of.graph.get_shape(of.inputs[0])
    if size is None or scale is None or translation is None or shape is None or -1 in shape[1:3]:
        raise ValueError("it needs images of a fixed size")
    options = {
        "kernel_type": of.node.get_attr_str("kernel_type"),
        "antialias": bool(of.node.get_attr_value("antialias")),
    }

    def resize(image: Array, axis: int) -> Array:
        factors, offsets, target = np.ones(2, np.float32), np.zeros(2, np.float32), [1, 1]
        factors[axis], offsets[axis], target[axis] = scale[axis], translation[axis], int(size[axis])
        return tf.raw_ops.ScaleAndTranslate(
            images=image, size=target, scale=factors, translation=offsets, **options
        ).numpy()

    _resized(of, shape[1:3], resize)


@registered("ResizeBilinear")
def _bilinear(of: Formula) -> None:
    """Say it with matrices where the factor is not exact: onnxruntime divides by it in float32, and mixes otherwise."""
    size, shape = of.value(1), of.graph.get_shape(of.inputs[0])
    if size is None or shape is None or -1 in shape[1:3] or all(map(_is_exact, shape[1:3], size.tolist())):
        _LINEAR(of.graph, of.node)
        return
    options = {name: bool(of.node.get_attr_value(name)) for name in ("align_corners", "half_pixel_centers")}

    def resize(image: Array, axis: int) -> Array:
        target = [1, 1]
        target[axis] = int(size[axis])
        return tf.raw_ops.ResizeBilinear(images=image, size=target, **options).numpy()

    _resized(of, shape[1:3], resize)


def _is_exact(before: int, after: int) -> bool:
    """Tell whether a factor is a number of few bits, with which float32 computes every place exactly."""
    return Fraction(float(np.float32(after / before))) == Fraction(after, before)


@registered("ResizeBicubic")
def _bicubic(of: Formula) -> None:
    """TensorFlow takes its cubic weights from a table of 1024: ONNX's exact ones differ in the fourth digit."""
    size, shape = of.value(1), of.graph.get_shape(of.inputs[0])
    if size is None or shape is None or -1 in shape[1:3]:
        _CUBIC(of.graph, of.node)
        return
    options = {name: bool(of.node.get_attr_value(name)) for name in ("align_corners", "half_pixel_centers")}

    def resize(image: Array, axis: int) -> Array:
        target = [1, 1]
        target[axis] = int(size[axis])
        return tf.raw_ops.ResizeBicubic(images=image, size=target, **options).numpy()

    _resized(of, shape[1:3], resize)


def _resized(of: Formula, sizes: list[int], resize: Callable[[Array, int], Array]) -> None:
    """Write a resizing, which is linear in the image's rows and in its columns, as two multiplications."""
    with tf.init_scope():
        rows, columns = (_matrix(sizes[axis], axis, resize) for axis in (0, 1))
    x = of("Cast", of.inputs[0], to=onnx.TensorProto.FLOAT)
    planes = of("Transpose", x, perm=[0, 3, 1, 2])
    resized = of("MatMul", of("MatMul", of.const(rows, np.float32), planes), of.const(columns.T, np.float32))
    of.becomes("Transpose", resized, perm=[0, 2, 3, 1])


def _matrix(size: int, axis: int, resize: Callable[[Array, int], Array]) -> Array:
    """Give what a resizing does along an axis: its answer to every single row, each in a channel of its own."""
    rows = np.eye(size, dtype=np.float32).reshape((1, size, 1, size) if axis == 0 else (1, 1, size, size))
    return resize(rows, axis).reshape(-1, size)


@registered("Conv3D")
def _convolution_3d(of: Formula) -> None:
    """Upstream counts the groups of a convolution over images only."""
    last = of.node.get_attr_str("data_format") == "NDHWC"
    channels = of.graph.get_shape(of.inputs[0])[-1 if last else 1]
    taken = of.graph.get_shape(of.inputs[1])[-2]
    _CONVOLUTION_3D(of.graph, of.node)
    of.node.set_attr("group", channels // taken)


@registered("ExtractImagePatches")
def _patches(of: Formula) -> None:
    """Upstream computes with the size of the batch, known or not. A convolution gives each pixel its channel too."""
    _, rows, columns, _ = of.node.get_attr_value("ksizes")
    channels = of.graph.get_shape(of.inputs[0])[-1]
    if of.dtype != onnx.TensorProto.FLOAT or channels == -1:
        raise ValueError("it needs images of float32 with a known number of channels")
    pixels = np.eye(rows * columns * channels).reshape(rows, columns, channels, -1)
    of.graph.replace_inputs(of.node, [of.inputs[0], of.const(pixels)])
    of.node.set_attr("dilations", of.node.get_attr_value("rates"))
    of.node.set_attr("data_format", "NHWC")
    for name in ("ksizes", "rates"):
        del of.node.attr[name]
    of.node.type = "Conv2D"
    _CONVOLUTION_2D(of.graph, of.node)


@registered("Conv2DBackpropInput")
def _transposed_2d(of: Formula) -> None:
    _transposed(of, "Conv2DBackpropInput")


@registered("Conv3DBackpropInputV2")
def _transposed_3d(of: Formula) -> None:
    _transposed(of, "Conv3DBackpropInputV2")


def _transposed(of: Formula, name: str) -> None:
    """Upstream takes unknown sizes for numbers, and writes output_padding as padding below zero, which ONNX refuses."""
    free = -1 in (of.graph.get_shape(of.inputs[2]) or [-1])[1:]
    _TRANSPOSED[name](of.graph, of.node)
    if free and of.node.type == "ConvTranspose":
        _forget_shape(of.graph, of.node.output[0])
    pads = of.node.get_attr_value("pads")
    if of.node.type != "ConvTranspose" or not pads or min(pads) >= 0:
        return
    half = len(pads) // 2
    missing = [-min(0, pads[axis] + pads[axis + half]) for axis in range(half)]
    for axis in range(half):
        if missing[axis]:
            pads[axis] = pads[axis + half] = 0
    of.node.set_attr("pads", pads)
    of.node.set_attr("output_padding", missing)


def _forget_shape(graph: Any, name: str) -> None:
    graph.set_shape(name, [-1] * len(graph.get_shape(name)))
    for node in graph.find_output_consumers(name):
        if node.type == "Transpose":
            _forget_shape(graph, node.output[0])
