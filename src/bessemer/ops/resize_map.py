"""How Resize maps output indices to input coordinates, in exact rational arithmetic.

Every coordinate transformation is linear, so the coordinate of output index x is (a x + b) / c
with integers. Floors and ties are then exact, in the reference and in kernels alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import Unlowerable

MODES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
         "asymmetric", "tf_crop_and_resize")
_LARGEST = 1 << 60

Coefficient = Any
"""An integer; in kernels over open extents also a dimension or an expression."""


@dataclass(frozen=True)
class AxisMap:
    """Input coordinate (a x + b) / c of output index x on one axis."""

    axis: int
    extent: Coefficient
    out: Coefficient
    a: Coefficient
    b: Coefficient
    c: Coefficient
    scale: float | None
    """None where it depends on open extents."""

    @property
    def keeps_extent(self) -> te.Expr | None:
        """Whether a run resizes nothing on this axis; None where that is known: it does."""
        return te.equal(te.index(self.out), te.index(self.extent)) if self.scale is None else None

    def nearest(self, x: Any, mode: str) -> Any:
        """Index of the nearest input element before clipping; x is an array or an expression."""
        top = x * self.a + self.b
        if mode == "floor":
            return top // self.c
        if mode == "ceil":
            return (top + (self.c - 1)) // self.c
        if mode == "round_prefer_ceil":
            return (top * 2 + self.c) // (2 * self.c)
        if mode == "round_prefer_floor":
            return (top * 2 + (self.c - 1)) // (2 * self.c)
        raise ShapeError(f"nearest_mode {mode!r} is not known")

    def base(self, x: Any) -> Any:
        """Floor of the coordinate."""
        return (x * self.a + self.b) // self.c

    def remainder(self, x: Any) -> Any:
        """The part of the coordinate above its floor, times c."""
        return (x * self.a + self.b) % self.c


def _coefficients(
    mode: str, extent: int, out: int, scale: Fraction, roi: tuple[Fraction, Fraction]
) -> tuple[Fraction, Fraction]:
    """Slope and offset of the coordinate."""
    half = Fraction(1, 2)
    if mode == "pytorch_half_pixel" and out == 1:
        return Fraction(0), Fraction(0)
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return 1 / scale, half / scale - half
    if mode == "half_pixel_symmetric":
        shift = Fraction(extent, 2) * (1 - out / (scale * extent))
        return 1 / scale, shift + half / scale - half
    if mode == "align_corners":
        # As the ONNX tests have it, the resized length is not rounded here.
        reach = scale * extent - 1
        return (Fraction(extent - 1) / reach if reach > 0 else Fraction(0)), Fraction(0)
    if mode == "asymmetric":
        return 1 / scale, Fraction(0)
    if mode == "tf_crop_and_resize":
        start, end = roi
        if out > 1:
            return (end - start) * (extent - 1) / (out - 1), start * (extent - 1)
        return Fraction(0), half * (start + end) * (extent - 1)
    raise ShapeError(f"coordinate_transformation_mode {mode!r} is not one of {', '.join(MODES)}")


def make_map(
    axis: int, mode: str, extent: int, out: int, scale: Fraction,
    roi: tuple[float, float] = (0.0, 1.0),
) -> AxisMap:
    """The map of one axis from `extent` to `out` elements."""
    ends = Fraction(float(roi[0])), Fraction(float(roi[1]))
    slope, offset = _coefficients(mode, extent, out, scale, ends)
    for limit in (None, 1 << 24, 1 << 12):
        if limit is not None:
            slope, offset = slope.limit_denominator(limit), offset.limit_denominator(limit)
        common = slope.denominator * offset.denominator
        if 2 * (abs(slope.numerator) * offset.denominator * out + common) < _LARGEST:
            break
    c = int(np.lcm(slope.denominator, offset.denominator)) if common < _LARGEST else common
    a, b = slope.numerator * (c // slope.denominator), offset.numerator * (c // offset.denominator)
    return AxisMap(axis, extent, out, a, b, c, float(scale))


def open_map(
    axis: int, mode: str, extent: Dim, out: Dim, scale: Fraction | None
) -> AxisMap:
    """The map of one axis where extents are open; `scale` is None for out / extent.

    Raises: Unlowerable for a mode that is not given over open extents.
    """
    # The scale is p / q.
    p, q = (out, extent) if scale is None else (scale.numerator, scale.denominator)
    a: Coefficient
    b: Coefficient
    c: Coefficient
    if mode in ("half_pixel", "pytorch_half_pixel"):
        a, b, c = q * 2, q - p, p * 2
        if mode == "pytorch_half_pixel" and out != 1:
            single = te.equal(te.index(out), 1)
            a, b = te.where(single, 0, te.index(a)), te.where(single, 0, te.index(b))
        elif mode == "pytorch_half_pixel":
            a, b = 0, 0
    elif mode == "half_pixel_symmetric":
        a, b, c = q * 2, extent * p - out * q + q - p, p * 2
    elif mode == "align_corners":
        reach = out - 1 if scale is None else extent * p - q
        a, b, c = (extent - 1) * (1 if scale is None else q), 0, reach
        if not (isinstance(reach, int) and reach > 0):
            wide = te.index(reach)
            a, c = te.where(wide > 0, te.index(a), 0), te.maximum(wide, 1)
    elif mode == "asymmetric":
        a, b, c = q, 0, p
    else:
        raise Unlowerable(f"Resize with {mode} of extents that are not known at build time")
    return AxisMap(axis, extent, out, a, b, c, None if scale is None else float(scale))


def scaled_extent(extent: int, scale: float) -> int:
    """floor(extent * scale) as float32 computes it."""
    return int(np.floor(np.float32(extent) * np.float32(scale)))


def fit_sizes(
    policy: str, extents: Sequence[int], sizes: Sequence[int]
) -> tuple[list[int], list[Fraction]]:
    """Output extents and scales for wished sizes under a keep_aspect_ratio_policy."""
    ratios = [Fraction(size, extent) for size, extent in zip(sizes, extents, strict=True)]
    if policy == "stretch":
        return list(sizes), ratios
    if policy not in ("not_larger", "not_smaller"):
        raise ShapeError(f"keep_aspect_ratio_policy {policy!r} is not known")
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    rounded = [int((2 * scale * extent + 1) // 2) for extent in extents]
    return rounded, [scale] * len(rounded)
