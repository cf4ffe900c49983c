"""Resize: nearest, linear and cubic interpolation, with and without antialiasing."""

from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, dtype_from_numpy
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Shape, is_static
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import narrow
from bessemer.ops.checks import assume_elements, check_extents
from bessemer.ops.dims import Array, Known, fresh_dim, known_dims, normalize_axes
from bessemer.ops.resize_filter import (
    Filter,
    clipped,
    interpolated,
    resized_shape,
    stage_of,
)
from bessemer.ops.resize_map import AxisMap, fit_sizes, make_map, open_map, scaled_extent
from bessemer.te import Expr, Tensor


@operator("Resize")
class Resize(Operator):
    """Resamples x along some axes to given sizes or by given scales.

    Interpolated integers are rounded to the nearest and saturated, as in ONNX's evaluator.
    Shapes: x [*], roi [2 a], scales [a], sizes [a] for `axes` (all by default) -> y [*].
    Source: ONNX Resize-19.
    """

    antialias: int = 0
    axes: tuple[int, ...] = ()
    coordinate_transformation_mode: str = "half_pixel"
    cubic_coeff_a: float = -0.75
    exclude_outside: int = 0
    extrapolation_value: float = 0.0
    keep_aspect_ratio_policy: str = "stretch"
    mode: str = "nearest"
    nearest_mode: str = "round_prefer_floor"

    form_inputs: ClassVar[tuple[int, ...]] = (1, 2, 3)
    fusion = FusionClass.INJECTIVE

    def _axes(self, rank: int) -> tuple[int, ...]:
        return normalize_axes(self.axes, rank) if self.axes else tuple(range(rank))

    @property
    def _filter(self) -> Filter:
        return Filter(self.mode, self.cubic_coeff_a, bool(self.antialias),
                      bool(self.exclude_outside))

    def _roi(self, roi: Array | None, position: int, count: int) -> tuple[float, float]:
        if self.coordinate_transformation_mode != "tf_crop_and_resize" or roi is None:
            return 0.0, 1.0
        if roi.size != 2 * count:
            raise ShapeError(f"roi has {roi.size} entries; {2 * count} expected")
        return float(roi[position]), float(roi[position + count])

    def infer(
        self, x: TensorType, roi: TensorType | None = None, scales: TensorType | None = None,
        sizes: TensorType | None = None,
    ) -> TensorType:
        if self.mode not in ("nearest", "linear", "cubic"):
            raise ShapeError(f"mode is {self.mode!r}; nearest, linear or cubic expected")
        if x.shape is None:
            return x.with_shape(None)
        axes = self._axes(x.rank)
        for name, given in (("roi", roi), ("scales", scales), ("sizes", sizes)):
            if given is not None and given.shape is not None and given.rank != 1:
                raise ShapeError(f"{name} has rank {given.rank}; 1 expected")
        wished = known_dims(sizes) if sizes is not None else None
        factors = scales.value if scales is not None else None
        result = list(x.dims)
        check_extents("sizes", wished or ())
        if factors is not None and not (factors > 0).all():
            raise ShapeError(f"scales {factors.reshape(-1).tolist()} must be above 0")
        if wished is not None and len(wished) == len(axes):
            self._infer_sizes(x, axes, wished, result)
        elif factors is not None and factors.size == len(axes):
            region = roi.value if roi is not None else None
            for position, axis in enumerate(axes):
                low, high = self._roi(region, position, len(axes))
                factor = float(factors.reshape(-1)[position]) * (high - low)
                result[axis] = self._scale_dim(x.dims[axis], factor, axis)
        elif wished is not None or factors is not None:
            raise ShapeError(f"scales or sizes have not one entry for each of the axes {axes}")
        else:
            for axis in axes:
                result[axis] = fresh_dim(self, axis)
        if any(isinstance(dim, int) and dim < 0 for dim in result):
            raise ShapeError(f"the sizes {result} are negative")
        for axis in axes:
            if x.dims[axis] != result[axis]:
                assume_elements(x.dims[axis], tuple(result))
        return x.with_shape(tuple(result))

    def _infer_sizes(
        self, x: TensorType, axes: tuple[int, ...], wished: tuple[Dim, ...], result: list[Dim]
    ) -> None:
        if self.keep_aspect_ratio_policy == "stretch":
            for axis, dim in zip(axes, wished, strict=True):
                result[axis] = dim
            return
        extents = [x.dims[axis] for axis in axes]
        known = [d for d in (*extents, *wished) if isinstance(d, int)]
        if len(known) < 2 * len(axes):
            for axis in axes:
                result[axis] = fresh_dim(self, axis)
            return
        outs, _ = fit_sizes(
            self.keep_aspect_ratio_policy, known[: len(axes)], known[len(axes) :]
        )
        for axis, out in zip(axes, outs, strict=True):
            result[axis] = out

    def _scale_dim(self, dim: Dim, factor: float, axis: int) -> Dim:
        if isinstance(dim, int):
            return scaled_extent(dim, factor)
        ratio = Fraction(factor).limit_denominator(1000)
        if np.float32(float(ratio)) != np.float32(factor):
            return fresh_dim(self, axis)
        return dim * ratio.numerator // ratio.denominator

    def _maps(
        self, shape: tuple[int, ...], roi: Array | None, scales: Array | None, sizes: Array | None
    ) -> list[AxisMap]:
        """The maps of the axes that change."""
        axes = self._axes(len(shape))
        extents = [shape[axis] for axis in axes]
        ends = [self._roi(roi, position, len(axes)) for position in range(len(axes))]
        if sizes is not None and sizes.size:
            outs, ratios = fit_sizes(
                self.keep_aspect_ratio_policy, extents, [int(n) for n in sizes]
            )
        elif scales is not None and scales.size == len(axes):
            ratios = [Fraction(float(factor)) for factor in scales]
            outs = [
                scaled_extent(extent, float(factor) * (high - low))
                for extent, factor, (low, high) in zip(extents, scales, ends, strict=True)
            ]
        else:
            raise ShapeError("Resize needs scales or sizes for each of its axes")
        crop = self.coordinate_transformation_mode == "tf_crop_and_resize"
        return [
            make_map(
                axis, self.coordinate_transformation_mode, extents[k], outs[k], ratios[k], ends[k]
            )
            for k, axis in enumerate(axes) if crop or ratios[k] != 1
        ]

    def _open_maps(
        self, shape: Shape, out: Shape, scales: Array | None
    ) -> list[AxisMap]:
        """The maps of the axes that change, for extents that are not known at build time."""
        maps = []
        given = scales is not None and scales.size > 0
        if not given and self.keep_aspect_ratio_policy != "stretch":
            raise Unlowerable("Resize of open extents that keeps the aspect ratio")
        for position, axis in enumerate(self._axes(len(shape))):
            ratio = Fraction(float(scales[position])) if scales is not None and given else None
            quotient = shape[axis] and out[axis] // shape[axis]
            if ratio is None and out[axis] == quotient * shape[axis] and isinstance(quotient, int):
                ratio = Fraction(quotient)
            if ratio == 1:
                continue
            mode = self.coordinate_transformation_mode
            maps.append(open_map(axis, mode, shape[axis], out[axis], ratio))
        return maps

    def reference(
        self, x: Array, roi: Array | None = None, scales: Array | None = None,
        sizes: Array | None = None,
    ) -> Array:
        maps = self._maps(x.shape, roi, scales, sizes)
        if self.mode == "nearest":
            result = x
            for one in maps:
                index = one.nearest(np.arange(one.out), self.nearest_mode)
                result = result.take(np.clip(index, 0, one.extent - 1), axis=one.axis)
        else:
            kind = stage_of(dtype_from_numpy(x.dtype)).numpy
            result = x.astype(kind)
            for one in maps:
                result = self._filter.resample(result, one)
        if self.coordinate_transformation_mode == "tf_crop_and_resize":
            for one in maps:
                place = np.arange(one.out) * one.a + one.b
                outside = (place < 0) | (place > (one.extent - 1) * one.c)
                view = outside.reshape(*(-1 if k == one.axis else 1 for k in range(x.ndim)))
                result = np.where(view, result.dtype.type(self.extrapolation_value), result)
        if result.dtype != x.dtype and dtype_from_numpy(x.dtype).is_integer:
            result = np.clip(np.rint(result), *_limits(dtype_from_numpy(x.dtype)))
        return narrow(result, x.dtype)

    def lower(
        self, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None,
        sizes: Tensor | None = None, *, types: Any, known: Known = (), **_: Any,
    ) -> Tensor:
        constants = [known[k] if k < len(known) else None for k in (1, 2, 3)]
        is_open = not is_static((*x.shape, *types[0].dims))
        needed = (None, scales, None) if is_open else (roi, scales, sizes)
        for tensor, constant in zip(needed, constants, strict=True):
            if tensor is not None and constant is None:
                raise Unlowerable("Resize with roi, scales or sizes computed at run time")
        if is_open:
            maps = self._open_maps(x.shape, types[0].dims, constants[1])
        else:
            shape = tuple(int(n) for n in x.shape)  # type: ignore[arg-type]
            maps = self._maps(shape, *constants)
        if self.mode == "nearest":
            result = self._lower_nearest(x, maps)
        elif self.mode == "linear" and not self.antialias and len(maps) <= 3:
            result = interpolated(x, maps)
        else:
            result = x
            for one in maps:
                result = self._filter.expression(result, one)
        if self.coordinate_transformation_mode == "tf_crop_and_resize":
            result = self._lower_outside(result, maps)
        final = result

        def body(*i: Expr) -> Expr:
            value = final[i]
            if x.dtype.is_integer and final.dtype != x.dtype:
                low, high = _limits(x.dtype)
                value = te.minimum(te.maximum(te.round_(value), low), high)
            return te.cast(value, x.dtype)

        return te.compute(x.dtype, result.shape, body, "resized")

    def _lower_nearest(self, x: Tensor, maps: list[AxisMap]) -> Tensor:
        def body(*i: Expr) -> Expr:
            place = list(i)
            for one in maps:
                near = one.nearest(i[one.axis], self.nearest_mode)
                place[one.axis] = clipped(near, one)
            return x[tuple(place)]

        return te.compute(x.dtype, resized_shape(x, maps), body, "nearest")

    def _lower_outside(self, x: Tensor, maps: list[AxisMap]) -> Tensor:
        def body(*i: Expr) -> Expr:
            result = x[i]
            for one in maps:
                place = i[one.axis] * one.a + one.b
                inside = (place >= 0) & (place <= (one.extent - 1) * one.c)
                result = te.where(inside, result, te.const(self.extrapolation_value, x.dtype))
            return result

        return te.compute(x.dtype, x.shape, body, "cropped")

    samples = (
        sample("f32[1,2,3,4]", None, np.array([1, 1, 2, 2], np.float32)),
        sample(
            "f32[1,2,3,4]", None, np.array([1, 1, 2, 3], np.float32), nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        sample(
            "u8[1,1,5,7]", None, None, np.array([1, 1, 3, 4]), nearest_mode="ceil", low=0, high=9
        ),
        sample("f32[1,2,3,4]", None, np.array([1, 1, 2, 2], np.float32), mode="linear"),
        sample(
            "f32[1,2,5,4]", None, None, np.array([1, 2, 3, 9]), mode="linear",
            coordinate_transformation_mode="align_corners",
        ),
        sample(
            "f32[1,2,5,4]", None, None, np.array([7, 3]), mode="linear", axes=(2, 3),
            coordinate_transformation_mode="pytorch_half_pixel",
            keep_aspect_ratio_policy="not_larger",
        ),
        sample("f32[1,1,4,5]", None, None, np.array([1, 1, 9, 8]), mode="cubic"),
        sample(
            "f32[1,1,4,5]", None, None, np.array([7, 3]), mode="cubic", axes=(3, 2),
            exclude_outside=1, cubic_coeff_a=-0.5,
            coordinate_transformation_mode="half_pixel_symmetric",
        ),
        sample("f32[1,1,8,9]", None, None, np.array([1, 1, 3, 4]), mode="linear", antialias=1),
        sample("f32[1,1,8,9]", None, None, np.array([1, 1, 3, 4]), mode="cubic", antialias=1),
        sample(
            "f32[1,1,4,5]", np.array([0, 0, -0.25, 0.5, 1, 1, 0.5, 1.5], np.float32), None,
            np.array([1, 1, 4, 4]), mode="linear", extrapolation_value=9.0,
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
        sample("f32[2,3,4]", None, np.array([1, 1, 0.6], np.float32), mode="linear"),
        sample("f16[1,1,2,3]", None, np.array([1, 1, 2, 2], np.float32), mode="linear"),
        sample("u8[1,1,4,5]", None, None, np.array([1, 1, 8, 10]), mode="linear", high=255),
        sample("i8[1,1,4,5]", None, None, np.array([1, 1, 8, 9]), mode="cubic", low=-128, high=99),
        sample("i32[1,1,4]", None, np.array([1, 1, 2], np.float32), mode="linear"),
    )


def _limits(dtype: DType) -> tuple[float, float]:
    """The least and largest number of an integer type that f64 has."""
    info = np.iinfo(dtype.numpy)
    high = float(info.max)
    return float(info.min), high if int(high) <= info.max else float(np.nextafter(high, 0.0))
