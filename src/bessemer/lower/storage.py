"""Where each value of a graph lies: own memory, a binding, inside another value, or an alias."""

from collections.abc import Mapping
from dataclasses import dataclass

from bessemer.core.errors import InternalError
from bessemer.core.shapes import Dim, Shape
from bessemer.ir.graph import Graph, Value
from bessemer.ir.layout import Layout
from bessemer.ir.placement import storage_of
from bessemer.lower.groups import Partition
from bessemer.lower.loops import dense_strides


@dataclass(frozen=True)
class Storage:
    """Memory of a value: `root` owns it; `offset` and `strides` are in elements."""

    root: Value
    layout: Layout
    strides: Shape
    offset: Dim = 0

    @property
    def is_dense(self) -> bool:
        """True if the value lies row-major without gaps."""
        return self.layout.is_plain


class StorageMap:
    """The storage of every static tensor value of a partitioned graph."""

    def __init__(self, graph: Graph, partition: Partition,
                 usual: Mapping[str, int] | None = None) -> None:
        self.graph = graph
        self.usual = dict(usual or {})
        """The usual values of symbols."""
        self.alias_of: dict[int, Value] = {}
        self._known: dict[int, Storage] = {}
        for group in partition.groups:
            if group.kind == "alias":
                source = group.last.inputs[0]
                assert source is not None
                self.alias_of[id(group.last.output)] = source

    def of(self, value: Value) -> Storage:
        """The storage of a value."""
        found = self._known.get(id(value))
        if found is None:
            found = self._known[id(value)] = self._resolve(value)
        return found

    def _resolve(self, value: Value) -> Storage:
        shape = value.tensor.dims
        layout = value.layout or Layout.plain(len(shape))
        source = self.alias_of.get(id(value))
        if source is not None:
            base = self.of(source)
            return Storage(base.root, layout, dense_strides(layout.physical_shape(shape)),
                           base.offset)
        root, axis, start = storage_of(value)
        if root is value:
            return Storage(value, layout, dense_strides(layout.physical_shape(shape)))
        return self._placed(value, layout, root, axis, start)

    def _placed(self, value: Value, layout: Layout, root: Value, axis: int, start: Dim) -> Storage:
        base = self.of(root)
        if base.layout.parts != layout.parts or base.layout.halo != layout.halo:
            raise InternalError(
                f"{value.name} ({layout}) is placed in {root.name} ({base.layout})")
        for part, stride in zip(base.layout.parts, base.strides, strict=True):
            if part.axis != axis:
                continue
            if start % part.div != 0:
                raise InternalError(f"{value.name} starts inside a block of {root.name}")
            offset = base.offset + start // part.div * stride
            return Storage(base.root, layout, base.strides, offset)
        raise InternalError(f"{root.name} has no axis {axis}")

    def extent(self, root: Value) -> Dim:
        """Elements a root's memory holds."""
        shape = root.tensor.dims
        return (root.layout or Layout.plain(len(shape))).count(shape)
