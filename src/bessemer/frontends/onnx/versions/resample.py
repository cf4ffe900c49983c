"""Upsample and the older forms of Resize, GridSample and RoiAlign."""

from typing import Any

import numpy as np

from bessemer.core.errors import ModelFormatError
from bessemer.frontends.onnx.attributes import is_empty
from bessemer.frontends.onnx.source import SourceNode, Writer
from bessemer.frontends.onnx.versions.table import EVERY, until

_MODES = {"bilinear": "linear", "trilinear": "linear"}


def _legacy_resize(
    node: SourceNode, writer: Writer, scales: np.ndarray[Any, Any] | None
) -> SourceNode | None:
    """Writes a node with Upsample's meaning: source = destination / scale, rounded to a neighbour.

    Enlarging rounds down, shrinking rounds up (as runtimes read opset 10); a node that does both
    is split in two.
    """
    mode = node.pop("mode", "nearest")
    kept = {"mode": _MODES.get(mode, mode), "coordinate_transformation_mode": "asymmetric"}
    x, value = node.needed(0), node.input(1)
    if mode != "nearest":
        writer.add(node, "Resize", [x, None, value], node.outputs, **kept)
    elif scales is None or (scales >= 1).all() or (scales <= 1).all():
        shrinks = scales is not None and bool((scales < 1).any())
        rounding = "ceil" if shrinks else "floor"
        writer.add(node, "Resize", [x, None, value], node.outputs, nearest_mode=rounding, **kept)
    else:
        up = writer.constant(node, "scales_up", np.maximum(scales, 1).astype(np.float32))
        down = writer.constant(node, "scales_down", np.minimum(scales, 1).astype(np.float32))
        grown = writer.add(node, "Resize", [x, None, up], nearest_mode="floor", **kept)
        writer.add(node, "Resize", [grown, None, down], node.outputs, nearest_mode="ceil", **kept)
    return None


@until(9, "Upsample", becomes=("Resize",))
def upsample(node: SourceNode, writer: Writer) -> SourceNode | None:
    """Upsample (scales as attributes width_scale and height_scale, then scales, then an input)."""
    if len(node.inputs) < 2:
        scales = node.pop("scales")
        if scales is None:
            scales = (1.0, 1.0, node.pop("height_scale", 1.0), node.pop("width_scale", 1.0))
        node.set_input(1, writer.constant(node, "scales", np.array(scales, np.float32)))
    return _legacy_resize(node, writer, node.known(1))


@until(10, "Resize")
def resize_with_scales(node: SourceNode, writer: Writer) -> SourceNode | None:
    """Opset 10 knew scales only, and one way to place coordinates."""
    return _legacy_resize(node, writer, node.known(1))


@until(12, "Resize")
def resize_without_roi(node: SourceNode, writer: Writer) -> SourceNode:
    """Inputs that are not used were given as empty tensors; one placement mode was renamed.

    tf_half_pixel_for_nn with floor((x + 0.5) / scale) is half_pixel rounded up at one half.
    """
    for index in (1, 2):
        if is_empty(node.known(index)):
            node.inputs[index] = None
    if node.input(3) is not None:
        node.inputs[2] = None
    if node.attributes.get("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        if node.attributes.get("mode", "nearest") != "nearest" or (
            node.attributes.get("nearest_mode", "round_prefer_floor") != "floor"
        ):
            raise ModelFormatError(f"{node.where}: tf_half_pixel_for_nn is only known with mode "
                                   "nearest and nearest_mode floor")
        node.attributes["coordinate_transformation_mode"] = "half_pixel"
        node.attributes["nearest_mode"] = "round_prefer_ceil"
    return node


@until(EVERY, "Resize")
def resize_empty_inputs(node: SourceNode, writer: Writer) -> SourceNode:
    """Exporters still give empty tensors for inputs that are not used."""
    for index in (1, 2, 3):
        if is_empty(node.known(index)):
            node.inputs[index] = None
    return node


@until(19, "GridSample")
def grid_sample_modes(node: SourceNode, writer: Writer) -> SourceNode:
    """The modes were called bilinear and bicubic."""
    mode = node.attributes.get("mode", "bilinear")
    node.attributes["mode"] = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    return node


@until(15, "RoiAlign")
def roi_align_corner(node: SourceNode, writer: Writer) -> SourceNode:
    """Before opset 16 regions were not shifted by half a pixel."""
    node.attributes["coordinate_transformation_mode"] = "output_half_pixel"
    return node
