"""Resize, GridSample, AffineGrid."""

from typing import Any

import numpy as np

from bessemer.debug.random_graphs.maker import FLOATS, Maker, rule
from bessemer.debug.random_graphs.values import Reject, Value

_COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
                "asymmetric", "tf_crop_and_resize")


@rule("Resize", weight=3)
def resize(maker: Maker) -> None:
    """All modes, by scales and by sizes."""
    mode = maker.choose("nearest", "linear", "cubic")
    x = maker.fresh(maker.dtype(("f32", "f32", "f64", "f16", "u8", "i8", "i32")), [
        *(maker.integer(1, 3) for _ in range(2)),
        *(maker.integer(2, 6) for _ in range(maker.choose(1, 2, 2) if mode != "cubic" else 2))])
    spatial = x.rank - 2
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode":
                                  maker.random.choice(_COORDINATES)}
    axes = None
    if maker.opset >= 18 and maker.chance(0.3):
        axes = attributes["axes"] = list(range(2, x.rank))
    head = [] if axes else [1.0, 1.0]
    count = len(head) + spatial
    roi = None
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        low = [maker.random.uniform(0, 0.4) for _ in range(spatial)]
        high = [maker.random.uniform(0.6, 1.2) for _ in range(spatial)]
        zeros = [0.0] * len(head)
        roi = maker.given(np.asarray([*zeros, *low, *head, *high], np.float32), True)
        attributes["extrapolation_value"] = maker.choose(0.0, 1.5)
    if mode == "nearest":
        attributes["nearest_mode"] = maker.choose("round_prefer_floor", "round_prefer_ceil",
                                                  "floor", "ceil")
    elif mode == "cubic":
        attributes["cubic_coeff_a"] = maker.choose(-0.5, -0.75)
        attributes["exclude_outside"] = maker.integer(0, 1)
    if mode != "nearest" and maker.opset >= 18 and maker.chance(0.2):
        attributes["antialias"] = 1
    scales: Value | None = None
    sizes: Value | None = None
    if maker.chance(0.5):
        factors = [maker.choose(0.5, 0.6, 1.0, 1.5, 2.0, 2.3) for _ in range(spatial)]
        scales = maker.given(np.asarray([*head, *factors], np.float32), not maker.chance(0.1))
    else:
        wished = [maker.integer(1, 9) for _ in range(spatial)]
        if maker.opset >= 18 and maker.chance(0.2) and axes:
            attributes["keep_aspect_ratio_policy"] = maker.choose("not_larger", "not_smaller")
        sizes = maker.ints([*x.shape[: count - spatial], *wished])
    if not x.data.size:
        raise Reject
    maker.emit("Resize", [x, roi, scales, sizes], **attributes)


@rule("GridSample", weight=1)
def grid_sample(maker: Maker) -> None:
    """Values at positions, inside and outside."""
    deep = maker.opset >= 20 and maker.chance(0.2)
    extents = [maker.integer(2, 5) for _ in range(3 if deep else 2)]
    x = maker.fresh(maker.dtype(("f32", "f64")), [maker.integer(1, 2), maker.integer(1, 3),
                                                 *extents])
    grid = maker.fresh(x.dtype, [x.shape[0], *(maker.integer(1, 4) for _ in extents),
                                 len(extents)], low=-1.4, high=1.4)
    modes = ("nearest", "linear") if deep else ("nearest", "linear", "cubic")
    mode = maker.random.choice(modes)
    if maker.opset < 20:
        mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    maker.emit("GridSample", [x, grid], mode=mode, align_corners=maker.integer(0, 1),
               padding_mode=maker.choose("zeros", "border", "reflection"))


@rule("AffineGrid", weight=0.3)
def affine_grid(maker: Maker) -> None:
    """The grid of an affine map."""
    count = maker.integer(1, 2)
    theta = maker.fresh(maker.dtype(("f32", "f64")), [count, 2, 3])
    size = maker.ints([count, 2, maker.integer(1, 4), maker.integer(1, 4)])
    maker.emit("AffineGrid", [theta, size], align_corners=maker.integer(0, 1))


@rule("Upsampled", weight=0.2)
def nearest_twice(maker: Maker) -> None:
    """What exporters write for an upsampling by two."""
    x = maker.pick(FLOATS, (4, 4))
    if not x.data.size:
        raise Reject
    scales = maker.given(np.asarray([1, 1, 2, 2], np.float32), True)
    maker.emit("Resize", [x, None, scales], mode="nearest", nearest_mode="floor",
               coordinate_transformation_mode="asymmetric")
