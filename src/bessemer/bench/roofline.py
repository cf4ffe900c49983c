"""A roofline chart as SVG: each kernel's speed against its arithmetic intensity.

Source: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", 2009.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bessemer.bench.kernel_table import Roof

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 380, 64, 20, 16, 44


@dataclass(frozen=True)
class Point:
    """One kernel. `seconds` 0 means that it was not measured; it then sits on the roof."""

    name: str
    flops: float
    bytes: float
    seconds: float = 0.0


@dataclass(frozen=True)
class _Axes:
    """Decades shown (powers of ten) and the way from numbers to places on the picture."""

    x0: int
    x1: int
    y0: int
    y1: int

    def x(self, intensity: float) -> float:
        across = (math.log10(intensity) - self.x0) / (self.x1 - self.x0)
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT)

    def y(self, speed: float) -> float:
        up = (math.log10(max(speed, 10.0**self.y0)) - self.y0) / (self.y1 - self.y0)
        return _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)


def draw_roofline(points: Sequence[Point], roof: Roof) -> str:
    """The SVG element; both axes are logarithmic. Kernels without operations are left out."""
    shown = [p for p in points if p.flops > 0 and p.bytes > 0]
    ridge = roof.flops_per_s / max(roof.bytes_per_s, 1.0)
    intensities = [p.flops / p.bytes for p in shown] + [ridge]
    speeds = [_speed(p, roof) for p in shown] + [roof.flops_per_s]
    axes = _Axes(
        *_decades(min(intensities) / 2, max(intensities) * 4),
        *_decades(min(speeds) / 2, max(speeds) * 1.5),
    )
    corners = (10.0**axes.x0, ridge, 10.0**axes.x1)
    line = " ".join(f"{axes.x(i):.1f},{axes.y(roof.limit(i)):.1f}" for i in corners)
    dots = "".join(_dot(point, roof, axes) for point in shown)
    return (
        f'<svg class="roofline" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" xmlns="http://www.w3.org/2000/svg">'
        f'{_grid(axes)}<polyline class="roof" points="{line}"/>{dots}</svg>'
    )


def _speed(point: Point, roof: Roof) -> float:
    if point.seconds > 0:
        return point.flops / point.seconds
    return roof.limit(point.flops / point.bytes)


def _decades(low: float, high: float) -> tuple[int, int]:
    start, end = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return start, max(end, start + 1)


def _dot(point: Point, roof: Roof, axes: _Axes) -> str:
    intensity, speed = point.flops / point.bytes, _speed(point, roof)
    share = f"{100 * speed / roof.limit(intensity):.0f} % of its roof"
    tip = (f"{point.name}: {intensity:.2f} FLOP/B, {speed / 1e9:.1f} GFLOP/s, "
           f"{share if point.seconds > 0 else 'not measured'}")
    kind = "dot" if point.seconds > 0 else "dot unmeasured"
    return (f'<circle class="{kind}" cx="{axes.x(intensity):.1f}" cy="{axes.y(speed):.1f}" r="5">'
            f"<title>{escape(tip)}</title></circle>")


def _grid(axes: _Axes) -> str:
    left, right = axes.x(10.0**axes.x0), axes.x(10.0**axes.x1)
    bottom, top = axes.y(10.0**axes.y0), axes.y(10.0**axes.y1)
    parts = []
    for power in range(axes.x0, axes.x1 + 1):
        x = axes.x(10.0**power)
        parts.append(_line(x, bottom, x, top)
                     + _label(x, bottom + 16, f"{10.0**power:g}", "middle"))
    for power in range(axes.y0, axes.y1 + 1):
        y = axes.y(10.0**power)
        parts.append(_line(left, y, right, y)
                     + _label(left - 6, y + 4, f"{10.0 ** (power - 9):g}", "end"))
    parts.append(_label((left + right) / 2, _HEIGHT - 8, "operations per byte", "middle"))
    parts.append(f'<text x="12" y="{_HEIGHT / 2}" transform="rotate(-90 12 {_HEIGHT / 2})" '
                 'text-anchor="middle">GFLOP/s</text>')
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
