"""Draws a directed graph as SVG, in layers from top to bottom, without any library."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 190, 44, 26, 34, 16
_SWEEPS = 4


@dataclass(frozen=True)
class Box:
    """One box: a unique name, a title, a second line, a tooltip, a CSS class, what it reads."""

    name: str
    title: str
    subtitle: str = ""
    tooltip: str = ""
    kind: str = "kernel"
    inputs: tuple[str, ...] = ()


def draw_layers(boxes: Sequence[Box]) -> str:
    """The SVG element. Boxes come in topological order; unknown input names are left out.

    Source: layering by longest path and ordering by barycentres, Sugiyama et al. 1981.
    """
    depth = _depths(boxes)
    layers: list[list[Box]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for box in boxes:
        layers[depth[box.name]].append(box)
    _order(layers)
    widest = max((len(layer) for layer in layers), default=0)
    total = 2 * _MARGIN + widest * (_WIDTH + _GAP_X)
    places: dict[str, tuple[float, float]] = {}
    for row, layer in enumerate(layers):
        left = (total - len(layer) * (_WIDTH + _GAP_X) + _GAP_X) / 2
        for column, box in enumerate(layer):
            x, y = left + column * (_WIDTH + _GAP_X), _MARGIN + row * (_HEIGHT + _GAP_Y)
            places[box.name] = (x, y)
    height = 2 * _MARGIN + len(layers) * (_HEIGHT + _GAP_Y)
    edges = "".join(_edge(places[name], places[box.name]) for box in boxes for name in box.inputs
                    if name in places)
    drawn = "".join(_box(box, *places[box.name]) for box in boxes)
    return (
        f'<svg class="graph" width="{total}" height="{height}" viewBox="0 0 {total} {height}" '
        f'xmlns="http://www.w3.org/2000/svg">{edges}{drawn}</svg>'
    )


def _depths(boxes: Sequence[Box]) -> dict[str, int]:
    depth: dict[str, int] = {}
    for box in boxes:
        depth[box.name] = max((depth[name] + 1 for name in box.inputs if name in depth), default=0)
    return depth


def _order(layers: list[list[Box]]) -> None:
    for _ in range(_SWEEPS):
        place: dict[str, float] = {}
        for layer in layers:
            for box in layer:
                above = [place[name] for name in box.inputs if name in place]
                place[box.name] = sum(above) / len(above) if above else place.get(box.name, 0.0)
            layer.sort(key=lambda box: place[box.name])
            middle = (len(layer) - 1) / 2
            for index, box in enumerate(layer):
                place[box.name] = index - middle


def _edge(start: tuple[float, float], end: tuple[float, float]) -> str:
    x1, y1 = start[0] + _WIDTH / 2, start[1] + _HEIGHT
    x2, y2 = end[0] + _WIDTH / 2, end[1]
    bend = max((y2 - y1) / 2, 12)
    return (f'<path class="edge" d="M{x1:.0f},{y1:.0f} C{x1:.0f},{y1 + bend:.0f} '
            f'{x2:.0f},{y2 - bend:.0f} {x2:.0f},{y2:.0f}"/>')


def _box(box: Box, x: float, y: float) -> str:
    return (
        f'<g class="box {escape(box.kind)}" transform="translate({x:.0f},{y:.0f})">'
        f"<title>{escape(box.tooltip or box.title)}</title>"
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="4"/>'
        f'<text x="8" y="18" class="title">{escape(_cut(box.title, 27))}</text>'
        f'<text x="8" y="34">{escape(_cut(box.subtitle, 30))}</text></g>'
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
