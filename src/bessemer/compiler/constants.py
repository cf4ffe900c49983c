"""The constants of an engine under construction, and the graph that a symbolic engine stores."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bessemer.compiler.memory_plan import aligned
from bessemer.core.dtypes import dtype_from_numpy
from bessemer.engine.plan import BufferRef, StoredConstant, StoredGraph
from bessemer.ir.codec import encode_array
from bessemer.ir.graph import Graph
from bessemer.ir.layout import Layout
from bessemer.ir.printer import constant_table, hash_of, print_graph, print_layout

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class ConstantPool:
    """Packed constants, each distinct content once; offsets are stable across variants."""

    items: dict[str, tuple[int, Array]] = field(default_factory=dict)
    size_bytes: int = 0
    packed: dict[tuple[int, Layout], tuple[Array, BufferRef]] = field(default_factory=dict)

    def add(self, array: Array) -> int:
        """Byte offset of that content; empty arrays lie at 0, which every engine has."""
        if not array.nbytes:
            return 0
        data = np.ascontiguousarray(array)
        raw = data.reshape(-1).view(np.uint8)
        digest = hashlib.blake2b(raw.tobytes() if raw.nbytes < 4096 else raw.data, digest_size=20)
        key = f"{digest.hexdigest()}:{data.nbytes}"
        if key not in self.items:
            self.items[key] = (self.size_bytes, data)
            self.size_bytes += aligned(data.nbytes)
        return self.items[key][0]

    def add_packed(self, array: Array, layout: Layout) -> BufferRef:
        """Where the array lies, packed in that layout."""
        # The array is kept, so that no other one gets its identity.
        key = id(array), layout
        if key not in self.packed:
            packed = array if layout.is_plain else layout.pack(array)
            self.packed[key] = array, BufferRef("constant", self.add(packed), packed.nbytes)
        return self.packed[key][1]

    def entries(self) -> tuple[tuple[int, Array], ...]:
        """(offset, array) pairs in order of offset."""
        return tuple(self.items.values())


def stored_source(graph: Graph, constants: ConstantPool) -> StoredGraph:
    """The graph as a symbolic engine stores it; what no kernel packs is added to the constants.

    Call it when the kernels of all variants have taken their constants. `source_graph` of
    `compiler.specialise` reads it back.
    """
    layouts = {hash_of(array): layout for (_, layout), (array, _)
               in reversed(constants.packed.items()) if array.nbytes}
    stored: list[StoredConstant] = []
    strings: dict[str, Any] = {}
    for key, array in constant_table(graph).items():
        if array.dtype.hasobject:
            strings[key] = encode_array(array)
            continue
        layout = layouts.get(key, Layout.plain(array.ndim))
        ref = constants.add_packed(array, layout)
        text = "" if layout.is_plain else print_layout(layout)
        stored.append(StoredConstant(
            key, ref.offset, dtype_from_numpy(array.dtype).name, array.shape, text))
    return StoredGraph(print_graph(graph), tuple(stored), strings)
