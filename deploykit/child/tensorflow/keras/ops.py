"""What Keras 2 files hold that Keras 3 has no name for: TensorFlow functions as layers, and an activation."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from deploykit.errors import ModelError

PACKAGE = "deploykit"
HARD_SIGMOID = f"{PACKAGE}>keras2_hard_sigmoid"

_PURE = ("math.", "nn.", "linalg.", "signal.", "bitwise.")
"""Parts of TensorFlow that do nothing but compute."""

_ALLOWED = (
    "abs add add_n argmax argmin argsort batch_to_space boolean_mask broadcast_to cast clip_by_norm clip_by_value"
    " complex concat constant convert_to_tensor cos cumsum divide dynamic_partition dynamic_stitch einsum equal exp"
    " expand_dims eye fill floor gather gather_nd greater greater_equal identity less less_equal logical_and"
    " logical_not logical_or matmul maximum meshgrid minimum multiply negative norm not_equal one_hot ones ones_like"
    " pad pow range rank realdiv reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod"
    " reduce_sum repeat reshape reverse reverse_sequence roll round saturate_cast scalar_mul scan scatter_nd"
    " searchsorted sequence_mask shape sigmoid sign sin size slice sort space_to_batch split sqrt square squeeze stack"
    " stop_gradient strided_slice subtract tan tanh tensordot tensor_scatter_nd_update tile transpose truediv"
    " truncatediv unique unstack where zeros zeros_like image.resize image.central_crop image.crop_and_resize"
    " image.flip_left_right image.flip_up_down image.grayscale_to_rgb image.per_image_standardization"
    " image.resize_with_crop_or_pad image.resize_with_pad image.rgb_to_grayscale image.rot90 image.total_variation"
    " image.resize_bilinear image.resize_nearest_neighbor image.resize_images image.extract_patches"
    " extract_image_patches space_to_depth depth_to_space keras.activations.relu keras.activations.softmax"
)
_FUNCTIONS = frozenset(_ALLOWED.split())

_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": tf.add,
    "sub": tf.subtract,
    "mul": tf.multiply,
    "div": tf.truediv,
    "truediv": tf.truediv,
    "floordiv": tf.math.floordiv,
    "mod": tf.math.floormod,
    "pow": tf.pow,
    "matmul": tf.matmul,
    "eq": tf.equal,
    "ne": tf.not_equal,
    "lt": tf.less,
    "le": tf.less_equal,
    "gt": tf.greater,
    "ge": tf.greater_equal,
    "and": tf.logical_and,
    "or": tf.logical_or,
    "xor": tf.math.logical_xor,
    "invert": tf.logical_not,
    "neg": tf.negative,
    "abs": tf.abs,
}
_REFLECTED = {f"r{name}" for name in ("add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow", "matmul")}


@keras.saving.register_keras_serializable(PACKAGE)
class TensorOp(keras.Operation):
    """A TensorFlow function as a layer of a functional model: what Keras 2 calls TFOpLambda and SlicingOpLambda."""

    def __init__(self, function: str, name: str | None = None) -> None:
        """Take the function's public name without ``tf.``: ``math.reduce_mean``, ``__operators__.add``."""
        super().__init__(name=name)
        self.function = function
        self._call = _function(function)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Compute."""
        return self._call(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Give what ``from_config`` takes."""
        return {"name": self.name, "function": self.function}


@keras.saving.register_keras_serializable(PACKAGE)
def keras2_hard_sigmoid(x: Any) -> Any:
    """Compute the hard sigmoid of Keras 2: 0.2 x + 0.5 between 0 and 1, where Keras 3 has x / 6 + 0.5."""
    x = tf.convert_to_tensor(x)
    return tf.clip_by_value(x * tf.cast(0.2, x.dtype) + tf.cast(0.5, x.dtype), 0, 1)


def known(function: str) -> bool:
    """Whether a function of TensorFlow may stand in a model that nobody vouches for, and is there."""
    group, _, name = function.rpartition(".")
    if group == "__operators__":
        return name == "getitem" or name in _OPERATORS or name in _REFLECTED
    plain = function.removeprefix("compat.v1.")
    allowed = plain in _FUNCTIONS or plain.startswith(_PURE)
    return allowed and "._" not in f".{function}" and callable(_attribute(function))


def _function(function: str) -> Callable[..., Any]:
    if not known(function):
        raise ModelError(
            f"the model calls tf.{function}, which is not among the functions that are taken from a file",
            fix="save the model with this step as a layer, or as a SavedModel, and convert that",
        )
    group, _, name = function.rpartition(".")
    if group != "__operators__":
        return _attribute(function)
    if name == "getitem":
        return _item
    if name in _OPERATORS:
        return _OPERATORS[name]
    operator = _OPERATORS[name.removeprefix("r")]
    return lambda x, y, name=None: operator(y, x, name=name)


def _attribute(function: str) -> Any:
    found: Any = tf
    for part in function.split("."):
        found = getattr(found, part, None)
    return found


def _item(tensor: Any, slice_spec: Any, var: Any = None) -> Any:
    del var
    spec = tuple(map(_slice, slice_spec)) if isinstance(slice_spec, (list, tuple)) else _slice(slice_spec)
    return tensor[spec]


def _slice(part: Any) -> Any:
    if isinstance(part, dict) and set(part) == {"start", "stop", "step"}:
        return slice(part["start"], part["stop"], part["step"])
    return part
