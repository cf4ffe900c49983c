"""Partitions a graph into fusion groups by operator class and the six merge rules.

Rule 1: consecutive injective operators merge. Rule 2: an injective operator that feeds a reduction
merges into it. Rule 3: a complex-out-fusable operator (and a reduction) absorbs the element-wise
operators behind it. Rule 4: attention reads and writes through the Transposes around it.
Rule 5: a depthwise convolution joins the convolution before it (seams.py).
Rule 6: element-wise operators join the pointwise convolution that reads them (prologues.py).
Every merge and every refused near match is recorded with its reason.
"""


from bessemer.core.bounds import at_most
from bessemer.core.shapes import Shape, Sym, usual
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.operator import FusionClass, Unlowerable
from bessemer.ir.placement import needs_no_copy
from bessemer.ir.types import TensorType
from bessemer.lower.affine import linear
from bessemer.lower.aliases import is_alias
from bessemer.lower.groups import FusionNote, Group, Partition, bound_symbols, symbols_of
from bessemer.lower.kernel import axis_ranges, is_expensive, is_identity_load
from bessemer.lower.prologues import is_pointwise, prologue_refusal
from bessemer.lower.seams import is_depthwise, seam_refusal
from bessemer.ops.attention import Attention
from bessemer.ops.conv import Conv
from bessemer.ops.expression import NodeExpression, expression_of
from bessemer.ops.movement import Transpose
from bessemer.te.expr import Expr, Load, Reduce, Var
from bessemer.te.tensor import Tensor, stages
from bessemer.te.walk import walk

MOST_NODES = 64
"""A group has no more: unrolled loops make chains whose one expression would be too deep."""


def partition(graph: Graph, fuse: bool = True) -> Partition:
    """Groups of a graph whose layouts and placements are chosen; `fuse` False keeps nodes apart."""
    return _Partitioner(graph, fuse).run()


class _Partitioner:
    def __init__(self, graph: Graph, fuse: bool) -> None:
        self.graph = graph
        self.fuse = fuse
        self.group_of: dict[int, Group] = {}
        self.expressions: dict[int, NodeExpression] = {}
        self.groups: list[Group] = []
        self.notes: list[FusionNote] = []
        self.outputs = {id(value) for value in graph.outputs}
        self.handed_over: set[int] = set()
        self.position = {id(node): k for k, node in enumerate(graph.nodes)}
        self.symbols = bound_symbols(graph.inputs)  # whose values are known at this node

    def run(self) -> Partition:
        for node in self.graph.nodes:
            group = self._place(node)
            for member in group.nodes:
                self.group_of[id(member)] = group
        order = {id(node): k for k, node in enumerate(self.graph.nodes)}
        self.groups.sort(key=lambda group: order[id(group.last)])
        return Partition(self.groups, self.notes, self.symbols)

    def _may_alias(self, node: Node) -> bool:
        """False for an output of the model whose memory is already an input or another output."""
        root = node.inputs[0]
        assert root is not None
        while root.producer is not None and self.group_of[id(root.producer)].kind == "alias":
            root = root.producer.inputs[0]
            assert root is not None
        if id(node.output) not in self.outputs:
            return True
        if root.producer is None or id(root) in self.outputs or id(root) in self.handed_over:
            return False
        self.handed_over.add(id(root))
        return True

    def _new(self, kind: str, node: Node, reason: str = "") -> Group:
        group = Group(kind, [node], reason)
        self.groups.append(group)
        return group

    def _place(self, node: Node) -> Group:
        fresh = symbols_of(*node.inputs, *node.outputs) - self.symbols
        if fresh:
            self.symbols |= bound_symbols(node.outputs)
            return self._new("host", node, "the extents of its results depend on data")
        if any(isinstance(value.type, TensorType) and value.type.shape is None
               for value in node.outputs):
            return self._new("host", node, "the rank of its results depends on data")
        if self._is_shape(node):
            return self._new("shape", node, "its integers are extents, known with the shapes")
        if needs_no_copy(node):
            return self._new("placed", node, "its pieces lie inside its tensor")
        if is_alias(node) and self._may_alias(node):
            return self._new("alias", node, "the same bytes under another shape")
        try:
            self.expressions[id(node)] = expression_of(node)
        except Unlowerable as error:
            return self._new("host", node, str(error))
        if any(0 in value.tensor.dims for value in node.outputs) and len(node.outputs) == 1:
            return self._new("empty", node, "it has no elements")
        if self.fuse and node.op.fusion is FusionClass.INJECTIVE and len(node.outputs) == 1:
            group = self._join_producer(node)
            if group is not None:
                return group
        if self.fuse and node.op.fusion is FusionClass.REDUCTION:
            group = self._new(node.op.fusion.value, node)
            self._absorb_inputs(group, node)
            return group
        if self.fuse and is_depthwise(node) and (before := self._convolution_before(node)):
            return before
        group = self._new(node.op.fusion.value, node)
        if self.fuse and isinstance(node.op, Attention):
            self._absorb_views(group, node)
        if self.fuse and is_pointwise(node):
            self._absorb_prologue(group, node)
        return group

    # -- rules 1 and 3 --------------------------------------------------------------------------

    def _is_shape(self, node: Node) -> bool:
        """True if extents make up the results: no kernel computes them."""
        return bool(node.outputs) and all(
            isinstance(value.type, TensorType) and value.type.symbolic is not None
            and value.type.is_static and value.type.dtype.is_integer
            and _symbols_in(value.type.symbolic) <= self.symbols for value in node.outputs)

    def _join_producer(self, node: Node) -> Group | None:
        """The producer's group that the injective node joins, or None."""
        best: Group | None = None
        rank = {"complex-out-fusable": 3, "reduction": 2, "injective": 1}
        for value in dict.fromkeys(v for v in node.inputs if v is not None):
            producer = value.producer
            group = self.group_of.get(id(producer)) if producer is not None else None
            if producer is None or group is None or group.kind not in rank:
                continue
            reason = self._refusal(group, value, node)
            if reason:
                self._refuse(group, node, reason)
                continue
            better = best is None or (rank[group.kind], self.position[id(group.last)]) > (
                rank[best.kind], self.position[id(best.last)])
            if better:
                if best is not None:
                    self._refuse(best, node, f"it joins {group.name} instead")
                best = group
            else:
                assert best is not None
                self._refuse(group, node, f"it joins {best.name} instead")
        if best is None:
            return None
        rule = "rule 1 (injective into injective)" if best.kind == "injective" else \
            f"rule 3 (element-wise behind {best.kind})"
        self._accept(best, node, rule)
        best.nodes.append(node)
        if best.kind == "injective":
            self._merge_other_inputs(best, node)
        return best

    def _merge_other_inputs(self, group: Group, node: Node) -> None:
        """Rule 1 for the other injective producers of a node that joined one of them."""
        for value in dict.fromkeys(v for v in node.inputs if v is not None):
            other = self.group_of.get(id(value.producer)) if value.producer is not None else None
            if other is None or other is group or other.kind != "injective":
                continue
            if not self._refusal(other, value, node) \
                    and len(group.nodes) + len(other.nodes) <= MOST_NODES:
                self._accept(group, other.last, "rule 1 (injective into injective)")
                self._swallow(group, other)

    def _swallow(self, group: Group, other: Group) -> None:
        group.nodes = sorted({*group.nodes, *other.nodes}, key=lambda n: self.position[id(n)])
        self.groups.remove(other)
        for member in other.nodes:
            self.group_of[id(member)] = group

    def _refusal(self, group: Group, value: Value, node: Node) -> str:
        """Empty if the node may join the group that produces the value."""
        if len(group.nodes) >= MOST_NODES:
            return f"{group.name} has {len(group.nodes)} nodes"
        if value.producer is not group.last or len(group.last.outputs) > 1:
            return "it does not read the group's only result"
        if id(value) in self.outputs:
            return f"{value.name} is an output of the model"
        if any(user is not node for user, _ in value.users):
            return f"{value.name} has {len(value.users)} users"
        if value.placement is not None:
            return f"{value.name} is written into {value.placement.root.name}"
        expression = self.expressions[id(node)]
        reading = [pair for k, v in enumerate(node.inputs) if v is value
                   for pair in expression.loads_of(_input(expression, k))]
        elementwise = all(
            is_identity_load(load, stage.axes) and stage.shape == expression.outputs[0].shape
            for stage, load in reading)
        if group.kind != "injective":
            if node.op.op_name == "bessemer.Reorder" or node.output.layout is None or \
                    value.layout is None or node.output.layout.parts != value.layout.parts:
                return f"the layout changes from {value.layout} to {node.output.layout}"
            if not elementwise and not (
                    isinstance(group.anchor.op, Attention) and isinstance(node.op, Transpose)):
                return f"it does not read {value.name} element by element"
            several = len(group.anchor.outputs) > 1
            return f"{group.anchor.name} has several results" if several else ""
        if not elementwise and self._is_costly(group) and \
                _usual_bytes(node.output) > 2 * _usual_bytes(value):
            return "its costly elements would be computed several times"
        return ""

    def _is_costly(self, group: Group) -> bool:
        return any(
            is_expensive(stage.body) for node in group.nodes
            for stage in stages(self.expressions[id(node)].outputs) if stage.body is not None)

    # -- rule 2 ---------------------------------------------------------------------------------

    def _absorb_inputs(self, group: Group, node: Node) -> None:
        for k, value in enumerate(node.inputs):
            producer = value.producer if value is not None else None
            other = self.group_of.get(id(producer)) if producer is not None else None
            if value is None or other is None or other.kind != "injective" or other is group:
                continue
            reason = self._input_refusal(other, value, node, k)
            if reason:
                self._refuse(other, node, reason)
                continue
            self._accept(group, other.last, "rule 2 (injective into reduction)")
            self._swallow(group, other)

    def _input_refusal(self, other: Group, value: Value, node: Node, k: int) -> str:
        if value.producer is not other.last or len(other.last.outputs) > 1:
            return "it does not read the group's only result"
        if id(value) in self.outputs:
            return f"{value.name} is an output of the model"
        if any(user is not node for user, _ in value.users):
            return f"{value.name} has {len(value.users)} users"
        if value.placement is not None:
            return f"{value.name} is written into {value.placement.root.name}"
        expression = self.expressions[id(node)]
        reading = expression.loads_of(_input(expression, k))
        for stage, load in reading:
            if not _reads_once(stage, load):
                return "its window reads each element several times"
        if len(reading) > 1 and self._is_costly(other):
            return "its costly elements would be computed several times"
        return ""

    # -- rule 4 ---------------------------------------------------------------------------------

    def _absorb_views(self, group: Group, node: Node) -> None:
        """Attention copies queries anyway and reads keys and values by rows, wherever they lie."""
        for k, value in enumerate(node.inputs):
            producer = value.producer if value is not None else None
            other = self.group_of.get(id(producer)) if producer is not None else None
            if value is None or producer is None or other is None or other.nodes != [producer] \
                    or not isinstance(producer.op, Transpose):
                continue
            reason = self._input_refusal(other, value, node, k)
            if reason:
                self._refuse(other, node, reason)
                continue
            self._accept(group, other.last, "rule 4 (Transpose into attention)")
            self._swallow(group, other)

    # -- rule 5 ---------------------------------------------------------------------------------

    def _convolution_before(self, node: Node) -> Group | None:
        """The group of the convolution whose result only this depthwise convolution reads."""
        value = node.inputs[0]
        assert value is not None
        group = self.group_of.get(id(value.producer)) if value.producer is not None else None
        if group is None or not isinstance(group.anchor.op, Conv):
            return None
        reason = f"{value.name} is an output of the model" if id(value) in self.outputs else \
            seam_refusal(group.nodes, node)
        if reason:
            self._refuse(group, node, reason)
            return None
        self._accept(group, node, "rule 5 (depthwise behind a convolution)")
        group.seam = len(group.nodes)
        group.nodes.append(node)
        return group

    # -- rule 6 ---------------------------------------------------------------------------------

    def _absorb_prologue(self, group: Group, node: Node) -> None:
        value = node.inputs[0]
        other = self.group_of.get(id(value.producer)) if value is not None else None
        if value is None or other is None or other.kind != "injective":
            return
        expressions = [self.expressions[id(member)] for member in other.nodes]
        reason = self._input_refusal(other, value, node, 0) or \
            prologue_refusal(other.nodes, expressions, value)
        if reason:
            self._refuse(other, node, reason)
            return
        self._accept(group, other.last, "rule 6 (element-wise before a pointwise convolution)")
        self._swallow(group, other)

    # -- records --------------------------------------------------------------------------------

    def _refuse(self, group: Group, node: Node, reason: str) -> None:
        self.notes.append(FusionNote("", group.name, node.name, False, reason))

    def _accept(self, group: Group, node: Node, rule: str) -> None:
        note = FusionNote(rule, group.name, node.name, True)
        group.notes.append(note)
        self.notes.append(note)


def _symbols_in(dims: Shape) -> set[str]:
    return {name for dim in dims if isinstance(dim, Sym) for name in dim.symbols()}


def _usual_bytes(value: Value) -> int:
    return usual(value.tensor.count) * value.tensor.dtype.size_bytes


def _input(expression: NodeExpression, k: int) -> Tensor:
    tensor = expression.inputs[k]
    assert tensor is not None
    return tensor


def _reads_once(stage: Tensor, load: Load) -> bool:
    """True if a stage reads each element at most once along the axes that it moves on.

    Windows may follow each other without overlap: then none of them reaches outside.
    """
    sums = stage.body.axes if isinstance(stage.body, Reduce) else ()
    extents = {axis.name: axis.extent for axis in sums}
    names = {axis.name for axis in stage.axes} | set(extents)
    for index in load.indices:
        if not _moves(index) or (isinstance(index, Var) and index.name in names):
            continue
        terms = linear(index, axis_ranges((*stage.axes, *sums))).terms
        inner = [extents[key] for key, _, step in terms if key in extents and step == 1]
        outer = [step for key, _, step in terms if key in names and key not in extents]
        overlap = bool(inner and outer) and not at_most(inner[0], outer[0])
        if len(terms) != len(inner) + len(outer) or len(inner) > 1 or len(outer) > 1 or overlap \
                or load.fill is not None:
            return False
    return True


def _moves(index: Expr) -> bool:
    return any(isinstance(node, (Var, Load)) for node in walk(index))
