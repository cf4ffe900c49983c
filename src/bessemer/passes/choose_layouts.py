"""choose-layouts: which tensors lie in blocks of channels, and which carry a halo of zeros.

Convolutions are fastest on channels in blocks of one vector, operators that keep channels apart
take either layout, all others want plain tensors (`layout_costs`). Where a reader wants another
layout than the writer gives, a Reorder node brings the tensor into it, once for all readers.
The choice for the whole graph is the one of least cost, found as a minimum cut (`min_cut`): exact
for joins too, where dynamic programming would be so for trees only. Convolutions also want zeros
around their input (`halos`): whoever writes it leaves room for them.
"""

from dataclasses import field, replace

from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.layout import Layout
from bessemer.ir.types import TensorType
from bessemer.ops.conv import Conv
from bessemer.ops.layout import Reorder
from bessemer.ops.reshape import RESHAPES
from bessemer.passes.graph_pass import GraphPass, graph_pass
from bessemer.passes.halos import Halos
from bessemer.passes.layout_costs import (
    Costs,
    copy_cost,
    costs_of,
    halo_of,
    is_blocked,
    is_compiled,
    plain,
)
from bessemer.passes.match import is_op, producer
from bessemer.passes.min_cut import NEVER, Division


class Choice:
    """The layouts of least cost for all nodes of a graph.

    A node of the division is in if its tensors lie in blocks. Operators that can write blocks from
    plain inputs are two nodes: what they read, and what they write.
    """

    def __init__(self, graph: Graph, block: int) -> None:
        self.graph, self.block = graph, block
        self.division = Division()
        self.costs: dict[int, Costs] = {}
        """The costs of the nodes that could have blocks."""
        self.compiled: dict[int, bool] = {}
        """Of other nodes, whether kernels compute them."""
        self.values: dict[int, Value] = {}
        """The values that they read and write."""
        self.reads: dict[int, int] = {}
        self.writes: dict[int, int] = {}
        self.plain = self.division.add_node(if_in=NEVER)
        """Stands for whoever reads and writes plain tensors only."""
        self._look_around()
        for key, costs in self.costs.items():
            self._add_operator(key, costs)
        for value in self.values.values():
            self._add_value(value)
        self.is_in = self.division.solve()

    def writes_blocks(self, node: Node) -> bool:
        """True if the outputs of a node shall lie in blocks."""
        return self.is_in[self.writes.get(id(node), self.plain)]

    def reads_blocks(self, node: Node) -> bool:
        """True if the inputs shall, as far as the operator can read blocks."""
        return self.is_in[self.reads.get(id(node), self.plain)]

    def wanted(self, node: Node) -> tuple[bool | None, ...]:
        """Which inputs shall lie in blocks; None for those that may have either layout."""
        if self.reads_blocks(node):
            return self.costs[id(node)].reads
        return (False,) * len(node.inputs)

    def is_foreign(self, value: Value) -> bool:
        """True if others than kernels write or read a value: they know no halos."""
        return value.producer is None or not all(
            map(self._is_compiled, (value.producer, *(user for user, _ in value.users))))

    def _is_compiled(self, node: Node) -> bool:
        if id(node) not in self.costs and id(node) not in self.compiled:
            self.compiled[id(node)] = is_compiled(node)
        return self.compiled.get(id(node), True)

    def _look_around(self) -> None:
        """Finds the nodes that a convolution could make have blocks, one by way of the other."""
        waiting = [node for node in self.graph.nodes if isinstance(node.op, Conv)]
        seen: set[int] = set()
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            costs = costs_of(node, self.block)
            if costs is None:
                continue
            self.costs[id(node)] = self._with_halo(node, costs)
            for value in (*node.inputs, *node.outputs):
                if value is None or value.constant is not None or id(value) in self.values \
                        or not isinstance(value.type, TensorType) or value.type.shape is None \
                        or value.type.rank < 3:
                    continue
                self.values[id(value)] = value
                waiting += [near for near in (value.producer, *(user for user, _ in value.users))
                            if near is not None]

    def _with_halo(self, node: Node, costs: Costs) -> Costs:
        """The costs with that of a plain copy, where the input cannot get a halo in its place."""
        x = node.inputs[0]
        if costs.widening is None or x is None or not self.is_foreign(x) \
                or halo_of(node) == ((0, 0),) * x.tensor.rank:
            return costs
        copied = copy_cost(x, False, False, self.block)
        return replace(costs, widening=costs.widening + copied)

    def _add_operator(self, key: int, costs: Costs) -> None:
        if costs.widening is None:
            self.reads[key] = self.writes[key] = self.division.add_node(
                costs.blocked, costs.plain)
            return
        self.writes[key] = self.division.add_node(costs.widening, costs.plain)
        self.reads[key] = self.division.add_node(
            max(0, costs.blocked - costs.widening), max(0, costs.widening - costs.blocked))
        self.division.add_parting(self.reads[key], self.writes[key], NEVER)

    def _add_value(self, value: Value) -> None:
        """The cost of bringing a value into the other layout: once, if any reader wants that."""
        writer = self.writes.get(id(value.producer), self.plain)
        to_plain = copy_cost(value, True, False, self.block)
        to_blocks = copy_cost(value, False, True, self.block)
        plain_copy, blocked_copy = self.division.add_node(), self.division.add_node()
        self.division.add_parting(writer, plain_copy, to_plain)
        self.division.add_parting(blocked_copy, writer, to_blocks)
        if self.graph.is_output(value):
            self.division.add_parting(plain_copy, self.plain, NEVER)
        for user, k in value.users:
            if is_op(user, "Concat") and producer(value, *RESHAPES):
                # Memory of another shape must be copied into the whole, and in any layout.
                continue
            costs = self.costs.get(id(user))
            in_blocks = costs.reads[k] if costs is not None else False
            reader = self.plain if in_blocks is False else self.reads[id(user)]
            self.division.add_parting(plain_copy, reader, NEVER)
            if in_blocks:
                self.division.add_parting(reader, blocked_copy, NEVER)


@graph_pass("choose-layouts")
class ChooseLayouts(GraphPass):
    """Gives every tensor a layout; inserts Reorder nodes where neighbours disagree.

    `block` is the number of f32 lanes of the target.
    """

    block: int = 16
    _reordered: dict[tuple[int, bool], Value] = field(default_factory=dict, init=False, repr=False)
    _halos: Halos = field(default_factory=Halos, init=False, repr=False)

    def run(self, graph: Graph) -> bool:
        self._reordered, self._halos = {}, Halos()
        for value in graph.values():
            value.layout = plain(value)
        choice = Choice(graph, self.block)
        for node in list(graph.nodes):
            self._apply(graph, node, choice)
        for k, value in enumerate(graph.outputs):
            if is_blocked(value) or value in self._halos:
                graph.outputs[k] = self._output(graph, value)
        self._halos.apply(graph)
        return True

    def _apply(self, graph: Graph, node: Node, choice: Choice) -> None:
        """Sets the layouts of a node, with Reorders before it where they are needed."""
        for k, (value, wants) in enumerate(zip(node.inputs, choice.wanted(node), strict=True)):
            if value is not None and wants is not None and value.constant is None \
                    and is_blocked(value) != wants:
                node.set_input(k, self._reorder(graph, value, wants, node))
        if choice.writes_blocks(node):
            for value in node.outputs:
                self._block(value)
            if isinstance(node.op, Conv):
                self._surround(graph, node, choice)

    def _surround(self, graph: Graph, node: Node, choice: Choice) -> None:
        """Puts zeros around the input of a convolution, or around a copy that is ours."""
        x, halo = node.inputs[0], halo_of(node)
        assert x is not None
        if any(pair != (0, 0) for pair in halo):
            if choice.is_foreign(x):
                x = self._reorder(graph, x, is_blocked(x), node, copy=True)
                node.set_input(0, x)
            self._halos.need(x, halo)

    def _block(self, value: Value) -> None:
        value.layout = Layout.blocked(value.tensor.rank, 1, self.block)

    def _reorder(self, graph: Graph, value: Value, blocked: bool, before: Node, copy: bool = False
                 ) -> Value:
        """The value in the wished layout, through a Reorder node made once."""
        key = (id(value), blocked)
        if key not in self._reordered:
            node = graph.add_node(
                Reorder(), [value], name=f"{value.name}.reorder", before=before,
                sources=value.producer.sources if value.producer else (f"input {value.name}",))
            made = node.output
            made.layout = plain(made)
            if blocked:
                self._block(made)
            self._reordered[key] = made
            self.note(f"{value.name}: {value.layout} -> {made.layout} for {before.name}"
                      + (" (an input gets a halo)" if copy else ""))
        return self._reordered[key]

    def _output(self, graph: Graph, value: Value) -> Value:
        """A plain copy of a graph output in blocks or with a halo; it takes over the name."""
        name = value.name
        graph.rename_value(value, graph.unique_name(f"{name}.blocked"))
        node = graph.add_node(Reorder(), [value], name=f"{name}.plain", outputs=[f"{name}.out"],
                              sources=value.producer.sources if value.producer else (name,))
        graph.rename_value(node.output, name)
        node.output.layout = plain(node.output)
        return node.output
