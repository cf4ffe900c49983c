"""Tensors whose channels come last, for operators that other systems keep in that layout."""

from bessemer.frontends.onnx.contrib.table import Draft
from bessemer.ir.graph import Value


def from_channels_last(d: Draft, x: Value) -> Value:
    """[n, *spatial, c] as [n, c, *spatial]."""
    rank = d.type(x).rank
    return d.transpose(x, 0, rank - 1, *range(1, rank - 1))


def to_channels_last(d: Draft, x: Value, name: str = "") -> Value:
    """[n, c, *spatial] as [n, *spatial, c]."""
    rank = d.type(x).rank
    return d.transpose(x, 0, *range(2, rank), 1, name=name)
