"""What fusion gives: groups of nodes that become one kernel or step, and why they were joined."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from bessemer.core.shapes import Sym
from bessemer.ir.graph import Node, Value
from bessemer.ir.operator import FusionClass
from bessemer.ir.types import TensorType


@dataclass(frozen=True)
class FusionNote:
    """One decision of the fuser."""

    rule: str
    first: str
    second: str
    joined: bool
    reason: str = ""

    def __str__(self) -> str:
        if self.joined:
            return f"{self.second} joins {self.first}: {self.rule}"
        return f"{self.second} does not join {self.first}: {self.reason}"


@dataclass(eq=False)
class Group:
    """Nodes that become one kernel (`kind` a fusion class), a host step, or nothing.

    `reason` says why a group runs on the host or needs no kernel.
    """

    kind: str
    nodes: list[Node]
    reason: str = ""
    notes: list[FusionNote] = field(default_factory=list)
    seam: int = 0
    """The number of nodes before the second of two convolutions, where it may be cut."""

    def parts(self) -> "tuple[Group, Group]":
        """The group cut at its seam."""
        first, second = self.nodes[:self.seam], self.nodes[self.seam:]
        return Group(self.kind, first), Group(self.kind, second)

    @property
    def last(self) -> Node:
        """The node whose outputs the group produces."""
        return self.nodes[-1]

    @property
    def name(self) -> str:
        """Named after its anchor."""
        return self.anchor.name

    @property
    def anchor(self) -> Node:
        """The node of the heaviest class."""
        order = [FusionClass.COMPLEX_OUT, FusionClass.REDUCTION]
        for kind in order:
            for node in self.nodes:
                if node.op.fusion is kind:
                    return node
        return self.nodes[-1]

    @property
    def sources(self) -> tuple[str, ...]:
        """Source names of all nodes, in order, each once."""
        return tuple(dict.fromkeys(name for node in self.nodes for name in node.sources))


@dataclass(eq=False)
class Partition:
    """Groups in execution order, and what was decided."""

    groups: list[Group]
    notes: list[FusionNote]
    symbols: set[str] = field(default_factory=set)
    """The symbols whose values a run knows: from the inputs, and from results of host steps."""


def symbols_of(*values: Value | None) -> set[str]:
    """The symbols in the shapes of values."""
    return {name for value in values
            if value is not None and isinstance(value.type, TensorType) and value.type.shape
            for dim in value.type.shape if isinstance(dim, Sym) for name in dim.symbols()}


def bound_symbols(values: Iterable[Value]) -> set[str]:
    """The symbols that stand alone in a shape: a run reads their values off the array."""
    return {dim.alone for value in values
            if isinstance(value.type, TensorType) and value.type.shape
            for dim in value.type.shape if isinstance(dim, Sym) and dim.alone}
