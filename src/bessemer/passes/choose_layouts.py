"""choose-layouts: which tensors lie in blocks of channels, and which carry a halo of zeros.

Convolutions want their channels in blocks of one vector and zeros around their input; operators
that keep channels apart take the layout of their input; all others want plain tensors. Where
neighbours disagree a Reorder node is put between them.
"""

from dataclasses import field

from bessemer.core.dtypes import f32
from bessemer.core.shapes import is_static
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.layout import Layout
from bessemer.ir.operator import FusionClass, Unlowerable
from bessemer.ir.types import TensorType
from bessemer.ops.conv import Conv, conv_window
from bessemer.ops.expression import NodeExpression, expression_of
from bessemer.ops.layout import Reorder
from bessemer.passes.graph_pass import GraphPass, graph_pass
from bessemer.passes.match import slice_range
from bessemer.te.expr import Load, Reduce, walk
from bessemer.te.tensor import stages

Halo = tuple[tuple[int, int], ...]
JOINED = ("Concat", "Split")


@graph_pass("choose-layouts")
class ChooseLayouts(GraphPass):
    """Gives every tensor a layout; inserts Reorder nodes where neighbours disagree.

    `block` is the number of f32 lanes of the target.
    """

    block: int = 16
    _reordered: dict[tuple[int, bool], Value] = field(default_factory=dict, init=False, repr=False)
    _halos: dict[int, Halo] = field(default_factory=dict, init=False, repr=False)

    def run(self, graph: Graph) -> bool:
        self._reordered, self._halos = {}, {}
        for value in graph.values():
            value.layout = plain(value)
        for node in list(graph.nodes):
            self._choose(graph, node)
        for k, value in enumerate(graph.outputs):
            if is_blocked(value) or id(value) in self._halos:
                graph.outputs[k] = self._output(graph, value)
        self._spread_halos(graph)
        self._apply_halos(graph)
        return True

    # -- one node -------------------------------------------------------------------------------

    def _choose(self, graph: Graph, node: Node) -> None:
        if isinstance(node.op, Conv) and self._is_blocked_conv(node):
            self._convolution(graph, node)
        elif node.op.op_name in JOINED:
            self._joined(graph, node)
        elif self._cuts_between_blocks(node):
            self._block(node.output)
        elif any(value is not None and is_blocked(value) for value in node.inputs) \
                and self._keeps_channels(node):
            self._follow(graph, node)
        else:
            for k, value in enumerate(node.inputs):
                if value is not None and is_blocked(value):
                    node.set_input(k, self._reorder(graph, value, False, node))

    def _is_blocked_conv(self, node: Node) -> bool:
        op, w = node.op, node.inputs[1]
        assert isinstance(op, Conv)
        assert w is not None
        x = node.inputs[0]
        if w.constant is None or x is None or not _has_shapes(node) or x.tensor.dtype != f32 \
                or x.tensor.rank not in (3, 4, 5) or 0 in x.tensor.dims \
                or not isinstance(x.tensor.dims[1], int):
            return False
        window = conv_window(op, x.tensor.dims, w.tensor.dims)
        if not is_static((*window.lows, *window.highs)):
            return False
        filters, per_filter = w.tensor.static_shape[:2]
        if op.group == 1:
            # A few filters would leave most of a block empty: sums along the pixels are better.
            return is_blocked(x) or filters * 4 > self.block
        if per_filter == 1 and filters == op.group:
            return True
        return per_filter % self.block == 0 and (filters // op.group) % self.block == 0

    def _convolution(self, graph: Graph, node: Node) -> None:
        x, w = node.inputs[0], node.inputs[1]
        op = node.op
        assert isinstance(op, Conv)
        assert x is not None
        assert w is not None
        channels = x.tensor.dims[1]
        wants_blocks = is_blocked(x) or op.group != 1 or int(channels) >= self.block  # type: ignore[arg-type]
        x = self._reorder(graph, x, wants_blocks, node) if wants_blocks != is_blocked(x) else x
        window = conv_window(op, x.tensor.dims, w.tensor.dims)
        halo = ((0, 0), (0, 0), *zip(window.pad_lows, window.pad_highs, strict=True))
        halo = tuple((max(0, a), max(0, b)) for a, b in halo)
        if any(pair != (0, 0) for pair in halo):
            if x.producer is None or not all(map(_is_compiled, _neighbours(x))):
                x = self._reorder(graph, x, wants_blocks, node, copy=True)
            self._need_halo(x, halo)
        node.set_input(0, x)
        self._block(node.output)

    def _joined(self, graph: Graph, node: Node) -> None:
        """Concat and Split keep blocks if no block is cut."""
        parts = list(node.outputs) if node.op.op_name == "Split" else [
            value for value in node.inputs if value is not None]
        whole = node.inputs[0] if node.op.op_name == "Split" else node.output
        data = [node.inputs[0]] if node.op.op_name == "Split" else list(node.inputs)
        assert whole is not None
        blocked = [value for value in data if value is not None and is_blocked(value)]
        axis = node.op.attributes()["axis"]
        fits = bool(blocked) and _has_shapes(node) and 2 * len(blocked) >= len(data) and (
            axis % max(whole.tensor.rank, 1) != 1
            or all(v.tensor.dims[1] % self.block == 0 for v in parts))
        for k, value in enumerate(data):
            if value is not None and is_blocked(value) != fits:
                node.set_input(k, self._reorder(graph, value, fits, node))
        if fits:
            for value in node.outputs:
                self._block(value)

    def _cuts_between_blocks(self, node: Node) -> bool:
        """True for a Slice that takes whole blocks of channels."""
        whole = node.inputs[0] if node.op.op_name == "Slice" else None
        if whole is None or not is_blocked(whole) or not _has_shapes(node):
            return False
        found, channels = slice_range(node), node.output.tensor.dims[1]
        return found is not None and found[0] == 1 and found[1] % self.block == 0 \
            and channels % self.block == 0

    def _keeps_channels(self, node: Node) -> bool:
        """True if element [n, c, ..] of the outputs reads only channel c of the blocked inputs."""
        if node.op.fusion is FusionClass.OPAQUE or not _has_shapes(node):
            return False
        try:
            expression = expression_of(node)
        except Unlowerable:
            return False
        rank = next(v.tensor.rank for v in node.inputs if v is not None and is_blocked(v))
        computed = stages(expression.outputs)
        if any(value.tensor.rank != rank for value in node.outputs) or \
                any(tensor.rank != rank for tensor in computed) or \
                sum(isinstance(tensor.body, Reduce) for tensor in computed) > 1:
            return False
        return all(
            _reads_own_channel(expression, k)
            for k, value in enumerate(node.inputs) if value is not None and is_blocked(value))

    def _follow(self, graph: Graph, node: Node) -> None:
        """All inputs of the output's shape take blocks; so do the outputs."""
        shape = node.output.tensor.shape
        for k, value in enumerate(node.inputs):
            if value is not None and not is_blocked(value) and value.constant is None \
                    and isinstance(value.type, TensorType) and value.type.shape == shape \
                    and value.type.dtype == f32:
                node.set_input(k, self._reorder(graph, value, True, node))
        for value in node.outputs:
            self._block(value)

    # -- layouts --------------------------------------------------------------------------------

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

    # -- halos ----------------------------------------------------------------------------------

    def _need_halo(self, value: Value, halo: Halo) -> None:
        have = self._halos.get(id(value), ((0, 0),) * len(halo))
        self._halos[id(value)] = tuple(
            (max(a, c), max(b, d)) for (a, b), (c, d) in zip(have, halo, strict=True))

    def _spread_halos(self, graph: Graph) -> None:
        """Tensors joined by Concat or Split share one halo, so that they can share memory."""
        for _ in range(3):
            for node in graph.nodes:
                if node.op.op_name not in (*JOINED, "Slice") or not is_blocked(node.output):
                    continue
                is_concat = node.op.op_name == "Concat"
                read = node.inputs if is_concat else node.inputs[:1]
                family = [v for v in (*read, *node.outputs) if v is not None]
                found = None if node.op.op_name != "Slice" else slice_range(node)
                axis = found[0] if found is not None else -1
                if node.op.op_name in JOINED:
                    axis = node.op.attributes()["axis"] % node.output.tensor.rank
                halos = [self._halos[id(v)] for v in family if id(v) in self._halos]
                if axis == 1:
                    for halo in halos:
                        for value in family:
                            self._need_halo(value, halo)

    def _apply_halos(self, graph: Graph) -> None:
        for value in graph.values():
            halo = self._halos.get(id(value))
            if halo is not None and value.layout is not None:
                value.layout = value.layout.with_halo(halo)


def _neighbours(value: Value) -> list[Node]:
    """The nodes that write and read a value."""
    nodes = [value.producer, *(user for user, _ in value.users)]
    return [node for node in nodes if node is not None]


def _is_compiled(node: Node) -> bool:
    """False for nodes that run on the host: they know no halos."""
    if node.op.fusion is FusionClass.OPAQUE:
        return False
    try:
        expression_of(node)
    except Unlowerable:
        return False
    return True


def _reads_own_channel(expression: NodeExpression, k: int) -> bool:
    """True if element [n, c, ..] of every compute reads input k only at channel c."""
    for stage in stages(expression.outputs):
        assert stage.body is not None
        for node in walk(stage.body):
            if not isinstance(node, Load):
                continue
            if node.tensor is not expression.inputs[k] and node.tensor.body is None:
                continue
            if len(node.indices) < 2 or node.indices[1] is not stage.axes[1]:
                return False
    return True


def plain(value: Value) -> Layout | None:
    """The plain layout of a tensor; None for what is no tensor of known rank."""
    if not isinstance(value.type, TensorType) or value.type.shape is None:
        return None
    return Layout.plain(value.type.rank)


def is_blocked(value: Value) -> bool:
    """True if the channels lie in blocks."""
    return value.layout is not None and value.layout.rank > 1 and value.layout.block_of(1) > 1


def _has_shapes(node: Node) -> bool:
    return all(
        isinstance(value.type, TensorType) and value.type.shape is not None
        for value in (*node.inputs, *node.outputs) if value is not None)
