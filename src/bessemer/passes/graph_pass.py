"""The base classes of passes, their registry and decorator."""

import dataclasses
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar, dataclass_transform

from bessemer.core.errors import PassError
from bessemer.core.registry import Registry
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.operator import Operator, operator_class
from bessemer.ir.types import TensorType
from bessemer.ir.verifier import agrees

log = logging.getLogger("bessemer.passes")

PASSES: "Registry[type[GraphPass]]" = Registry("pass", "bessemer.passes", PassError)


@dataclass(frozen=True)
class Refusal:
    """A near match that a pass left alone, and why."""

    pass_name: str
    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.pass_name}: {self.node}: {self.reason}"


@dataclass
class GraphPass:
    """Base of whole-graph passes. Subclasses are dataclasses; their fields are the options."""

    pass_name: ClassVar[str] = ""
    default_on: ClassVar[bool] = True
    """False for a pass that the default pipeline leaves out."""
    notes: list[str] = field(default_factory=list, init=False, repr=False)
    """What was joined or changed, with node names."""
    refusals: list[Refusal] = field(default_factory=list, init=False, repr=False)

    def run(self, graph: Graph) -> bool:
        """Changes the graph in place; True if something changed."""
        raise NotImplementedError

    def no(self, node: Node, reason: str) -> Value | None:
        """Records that a near match was refused; gives None, so that any rewrite can return it."""
        refusal = Refusal(self.pass_name, label(node), reason)
        if refusal not in self.refusals:
            self.refusals.append(refusal)
        return None

    def note(self, text: str) -> None:
        """Records what was done."""
        self.notes.append(text)

    def run_inside(self, graph: Graph) -> bool:
        """Runs the pass on the graphs held by operators; True if one changed."""
        changed = False
        for node in graph.nodes:
            for name, inner in node.op.subgraphs().items():
                # Graphs share subgraphs with their clones, so a copy is changed.
                copy = inner.clone()
                if self.run(copy):
                    node.op = dataclasses.replace(node.op, **{name: copy})  # type: ignore[type-var]
                    changed = True
        return changed


Replacement = Value | tuple[Value | None, ...] | None


@dataclass
class RewritePass(GraphPass):
    """Base of passes that look at one node at a time and return what its output becomes."""

    _made: list[Node] = field(default_factory=list, init=False, repr=False)
    # Held, so that the ids below stay theirs.
    _removed: list[Node] = field(default_factory=list, init=False, repr=False)
    _gone: set[int] = field(default_factory=set, init=False, repr=False)

    def rewrite(self, node: Node, graph: Graph) -> Replacement:
        """The value (or one for each output) to use instead of the node's, or None: no match."""
        raise NotImplementedError

    def run(self, graph: Graph) -> bool:
        """Offers every node once, in order."""
        changed = False
        self._made, self._removed, self._gone = [], [], set()
        for node in list(graph.nodes):
            if id(node) in self._gone:
                continue
            result = self.rewrite(node, graph)
            if result is None:
                continue
            changed = True
            self._replace(graph, node, result if isinstance(result, tuple) else (result,))
        return changed

    def build(
        self, graph: Graph, node: Node, op: str | Operator, inputs: Iterable[Value | None], *,
        sources: tuple[str, ...] | None = None, outputs: int = 1,
    ) -> Node:
        """A new node just before `node`; `sources` are the node's unless given."""
        made = graph.add_node(
            operator_class(op)() if isinstance(op, str) else op, inputs,
            name=node.name, sources=sources or node.sources, before=node,
            outputs=[f"{node.output.name}_{k}" for k in range(outputs)] if outputs > 1 else (),
        )
        self._made.append(made)
        return made

    def _replace(self, graph: Graph, node: Node, values: tuple[Value | None, ...]) -> None:
        kinds = str(node.op)
        for old, new in zip(node.outputs, values, strict=False):
            if new is None or new is old:
                continue
            if not agrees(old.type, new.type):
                raise PassError(
                    f'pass {self.pass_name} turns {old.name!r} of {kinds} "{label(node)}" from '
                    f"{old.type} into {new.type}; this is a bug in the pass, please report it"
                )
            fresh = any(new.producer is made for made in self._made)
            replace_value(graph, old, new, keep_name=fresh)
        removed = remove_dead(graph, node)
        self._removed += removed
        self._gone |= {id(gone) for gone in removed}
        self._tidy_names(graph, {gone.name for gone in removed})
        new_op = values[0].producer if values and values[0] is not None else None
        becomes = f"{new_op.op}" if new_op is not None else "a constant or an input"
        self.note(f"{kinds} {label(node)} -> {becomes}")


    def _tidy_names(self, graph: Graph, free: set[str]) -> None:
        """A new node `conv.1` whose model `conv` is gone takes the free name."""
        for made in self._made:
            stem, _, number = made.name.rpartition(".")
            if number.isdigit() and stem in free:
                free.remove(stem)
                graph._names.discard(made.name)
                graph.reserve(stem)
                made.name = stem


def replace_value(graph: Graph, old: Value, new: Value, *, keep_name: bool = False) -> None:
    """Makes every user of `old` use `new`; names of graph outputs stay.

    With `keep_name`, `new` takes over the name of `old` anyway. Where a graph output would become a
    graph input or another output, an Identity carries its name.
    """
    if graph.is_output(old):
        if new.constant is not None:
            new = Value(graph.unique_name(old.name), new.type, new.constant)
        elif new.producer is None or graph.is_output(new):
            assert old.producer is not None
            new = graph.add_node(
                operator_class("Identity")(), [new], before=old.producer,
                name=old.producer.name, sources=old.producer.sources,
            ).output
        keep_name = True
    refine_type(new, old)
    graph.replace_uses(old, new)
    if keep_name:
        name, spare = old.name, graph.unique_name(old.name)
        freed = new.name
        graph.rename_value(old, spare)
        graph.rename_value(new, name)
        graph._names.discard(freed)


def refine_type(new: Value, old: Value) -> None:
    """Takes over the shape of `old` where the new value's own is less well known."""
    if isinstance(new.type, TensorType) and isinstance(old.type, TensorType):
        vague = new.type.shape is None or (old.type.is_static and not new.type.is_static)
        if vague and new.constant is None and new.producer is not None:
            new.type = TensorType(new.type.dtype, old.type.shape)


def remove_dead(graph: Graph, node: Node) -> list[Node]:
    """Removes a node if nothing uses it, then its producers likewise; gives those removed."""
    removed: list[Node] = []
    seen: set[int] = set()
    pending = [node]
    while pending:
        item = pending.pop()
        if any(value.users or graph.is_output(value) for value in item.outputs):
            continue
        if id(item) in seen:
            continue
        seen.add(id(item))
        producers = [v.producer for v in item.inputs if v is not None and v.producer is not None]
        graph.remove_node(item)
        removed.append(item)
        pending += producers
    return removed


def label(node: Node) -> str:
    """The node's names in the source model, for notes and messages."""
    return "+".join(node.sources)


P = TypeVar("P", bound=type[GraphPass])


@dataclass_transform(field_specifiers=(field,))
def graph_pass(name: str, *, default_on: bool = True) -> Callable[[P], P]:
    """Makes a class a dataclass and registers it as the pass of that name."""

    def decorate(cls: P) -> P:
        dataclass(cls)
        cls.pass_name = name
        cls.default_on = default_on
        PASSES.add(name, cls)
        return cls

    return decorate
