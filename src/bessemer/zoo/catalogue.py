"""The catalogue of networks: options, registration, making a model and inputs for it."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from bessemer.core.errors import SettingsError
from bessemer.core.registry import Registry


@dataclass(frozen=True)
class ZooOptions:
    """What can be chosen about a network; the defaults give the published one.

    `batch` is the leading dimension. `width` multiplies every channel or hidden size
    (rounded to what the network allows). `layers` is the number of blocks of a transformer.
    `size` is the side of the image, or the length of the token sequence. A `dynamic` network
    leaves batch and size open (named batch, height, width, sequence), where it allows that. Equal
    options give byte-identical models.
    """

    batch: int = 1
    width: float = 1.0
    layers: int | None = None
    size: int | None = None
    seed: int = 1234
    dynamic: bool = False

    def __post_init__(self) -> None:
        """Refuses values that make no network; SettingsError names the field."""
        for field, value in (("batch", self.batch), ("layers", self.layers), ("size", self.size)):
            if value is not None and value < 1:
                raise SettingsError(f"zoo option {field} is {value}; it must be at least 1")
        if not 0 < self.width <= 4:
            raise SettingsError(f"zoo option width is {self.width}; it must be above 0, at most 4")

    def channels(self, count: int, multiple: int = 8) -> int:
        """`count` times `width`, rounded to a multiple (at least one of it)."""
        if self.width == 1.0:
            return count
        return max(multiple, round(count * self.width / multiple) * multiple)


ModelMaker = Callable[[ZooOptions], ModelProto]
_MODELS: Registry[ModelMaker] = Registry("zoo model", "bessemer.zoo.models", SettingsError)


def zoo_model(name: str) -> Callable[[ModelMaker], ModelMaker]:
    """Registers the decorated function as the maker of the network `name`."""

    def register(maker: ModelMaker) -> ModelMaker:
        return _MODELS.add(name, maker)

    return register


def model_names() -> list[str]:
    """The names of all networks, sorted."""
    return _MODELS.names()


def make_model(name: str, options: ZooOptions | None = None) -> ModelProto:
    """The network `name` as an ONNX model with seeded weights.

    Raises: SettingsError if the name is unknown.
    """
    model = _MODELS.get(name)(options or ZooOptions())
    if options is not None and options.dynamic:
        _open_shapes(name, model)
    return model


_FIXED_SIZE = ("mlp", "vgg16")
"""Networks whose first fully connected layer fixes the size: only their batch can be open."""

_CLOSED = ("vit_b16", "gpt2_prefill", "distilbert", "yolov8n")
"""Networks with constants that fix every extent."""


def _open_shapes(name: str, model: ModelProto) -> None:
    """Names the extents that the network leaves open.

    Raises: SettingsError if its nodes fix them.
    """
    names = ("batch", "", "height", "width") if name not in _FIXED_SIZE else ("batch",)
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if any(dim.dim_param for dim in dims):
            continue
        if name in _CLOSED or len(dims) not in (2, 4):
            raise SettingsError(f"zoo model {name} has no dynamic form")
        for dim, label in zip(dims, names, strict=False):
            if label:
                dim.dim_param = label
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def sample_inputs(model: ModelProto, seed: int = 7) -> dict[str, np.ndarray[Any, Any]]:
    """Seeded inputs for a model of static shape, by input name.

    Float inputs are standard normal. Of integer inputs, one with "mask" in its name is ones
    with the last sixteenth zero, one with "type" is 0 or 1, any other is below 1000.
    """
    known = {initializer.name for initializer in model.graph.initializer}
    result: dict[str, np.ndarray[Any, Any]] = {}
    for value in model.graph.input:
        if value.name in known:
            continue
        tensor = value.type.tensor_type
        shape = tuple(dimension.dim_value for dimension in tensor.shape.dim)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        # One stream per input, so that the order of inputs does not matter.
        generator = np.random.default_rng([seed, zlib.crc32(value.name.encode())])
        result[value.name] = _sample(value.name, shape, dtype, generator)
    return result


def _sample(
    name: str, shape: tuple[int, ...], dtype: np.dtype[Any], generator: np.random.Generator
) -> np.ndarray[Any, Any]:
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if "mask" in name:
        mask = np.ones(shape, dtype)
        mask[..., shape[-1] - shape[-1] // 16 :] = 0
        return mask
    return generator.integers(0, 2 if "type" in name else 1000, shape).astype(dtype)


def digits_path() -> Path:
    """The packaged ONNX file of the trained digits network."""
    return Path(__file__).with_name("data") / "digits.onnx"
