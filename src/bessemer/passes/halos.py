"""Halos: which tensors carry zeros around them, and whose must agree."""

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.match import slice_range

Halo = tuple[tuple[int, int], ...]


class Halos:
    """The zeros that readers want around tensors; `apply` puts them into the layouts."""

    def __init__(self) -> None:
        self._of: dict[int, Halo] = {}

    def __contains__(self, value: Value) -> bool:
        return id(value) in self._of

    def need(self, value: Value, halo: Halo) -> None:
        """A reader wants at least that halo."""
        have = self._of.get(id(value), ((0, 0),) * len(halo))
        self._of[id(value)] = tuple(
            (max(a, c), max(b, d)) for (a, b), (c, d) in zip(have, halo, strict=True))

    def apply(self, graph: Graph) -> None:
        """Gives the values their halos; what is cut or joined by channels shares the largest.

        Only tensors of one halo can share memory.
        """
        families = [family for node in graph.nodes for family in [_family(node)] if family]
        for _ in range(3):
            for family in families:
                for halo in [self._of[id(v)] for v in family if id(v) in self._of]:
                    for value in family:
                        self.need(value, halo)
        for value in graph.values():
            halo = self._of.get(id(value), ())
            if halo and value.layout is not None:
                value.layout = value.layout.with_halo(halo)


def _family(node: Node) -> list[Value]:
    """The tensors that a node cuts or joins by blocks of channels; empty for other nodes."""
    name = node.op.op_name
    if name not in ("Concat", "Split", "Slice"):
        return []
    layout = node.output.layout
    if layout is None or layout.rank < 2 or layout.block_of(1) == 1:
        return []
    if name == "Slice":
        found = slice_range(node)
        axis = found[0] if found is not None else -1
    else:
        axis = node.op.attributes()["axis"] % layout.rank
    read = node.inputs if name == "Concat" else node.inputs[:1]
    return [v for v in (*read, *node.outputs) if v is not None] if axis == 1 else []
