"""Operators that were in com.microsoft before the standard had them: Trilu, Range, Pad ..."""

from bessemer.core.dtypes import i64
from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value


@contrib("Trilu", becomes=("Trilu",))
def trilu(d: Draft, x: Value, k: Value | None, *, upper: int = 1) -> None:
    """The upper or lower triangle."""
    d.op("Trilu", x, k, upper=upper, name=d.outputs[0])


@contrib("GatherND", becomes=("GatherND",))
def gather_nd(d: Draft, data: Value, indices: Value) -> None:
    """Slices at the places that the last axis of the indices names."""
    d.op("GatherND", data, d.cast(indices, i64), name=d.outputs[0])


def _scalar(d: Draft, value: Value) -> Value:
    return d.op("Reshape", value, d.constant([])) if d.dims(value, 0, 1) else value


@contrib("Range", becomes=("Range", "Reshape"))
def numbers(d: Draft, start: Value, limit: Value, delta: Value | None) -> None:
    """Numbers from start to before limit; the inputs may have one element each."""
    step = d.constant(1, start.tensor.dtype) if delta is None else _scalar(d, delta)
    d.op("Range", _scalar(d, start), _scalar(d, limit), step, name=d.outputs[0])


@contrib("Pad", becomes=("Pad", "Reshape"))
def pad(
    d: Draft, data: Value, pads: Value, value: Value | None, *, mode: str = "constant"
) -> None:
    """The standard Pad; here the pads may be [1, 2 * rank] and the value have one element."""
    flat = d.op("Reshape", pads, d.constant([-1])) if d.dims(pads, 1, 2)[1:] else pads
    fill = None if value is None else _scalar(d, value)
    d.op("Pad", data, flat, fill, mode=mode, name=d.outputs[0])


@contrib("ExpandDims", becomes=("Unsqueeze", "Reshape", "Cast"))
def expand_dims(d: Draft, x: Value, axis: Value) -> None:
    """A new axis of extent 1."""
    wide = d.cast(axis, i64)
    d.op("Unsqueeze", x, d.op("Reshape", wide, d.constant([1])), name=d.outputs[0])


@contrib("Unique", outputs=3, becomes=("Unique",))
def unique(d: Draft, x: Value) -> None:
    """The different elements in order of appearance, where each one went, and how many each."""
    y, places, counts = d.outputs
    d.ops("Unique", x, sorted=0, names=(y, "", places, counts))


@contrib("GridSample", becomes=("GridSample",))
def grid_sample(
    d: Draft, x: Value, grid: Value, *, align_corners: int = 0, mode: str = "bilinear",
    padding_mode: str = "zeros",
) -> None:
    """The standard GridSample, which calls two modes differently now."""
    modes = {"bilinear": "linear", "bicubic": "cubic"}
    d.op("GridSample", x, grid, align_corners=align_corners, mode=modes.get(mode, mode),
         padding_mode=padding_mode, name=d.outputs[0])


@contrib("CDist", becomes=("Unsqueeze", "Sub", "ReduceL2", "ReduceSumSquare"))
def distances(d: Draft, a: Value, b: Value, *, metric: str = "sqeuclidean") -> None:
    """The distance of each row of a to each row of b."""
    if metric not in ("sqeuclidean", "euclidean"):
        d.refuse(f"metric {metric!r}")
    rows, columns = d.op("Unsqueeze", a, d.constant([1])), d.op("Unsqueeze", b, d.constant([0]))
    difference = d.op("Sub", rows, columns)
    kind = "ReduceL2" if metric == "euclidean" else "ReduceSumSquare"
    d.op(kind, difference, d.constant([2]), keepdims=0, name=d.outputs[0])
