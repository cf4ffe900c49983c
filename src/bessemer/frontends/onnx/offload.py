"""Parts of a model left to ONNX Runtime: chosen, grouped, and packed into Offload operators."""

import fnmatch
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bessemer.core.errors import ModelFormatError, UnsupportedOperatorError
from bessemer.frontends.formats import NO_FALLBACK, Fallback
from bessemer.frontends.onnx.proto import function_key, normal_domain
from bessemer.frontends.onnx.structure import node_label, used_names
from bessemer.frontends.onnx.support import UNSUPPORTED, classify
from bessemer.frontends.onnx.types import type_proto
from bessemer.ir.graph import Value
from bessemer.ir.inference import infer_node_types
from bessemer.ir.types import OptionalType, SequenceType, TensorType, ValueType
from bessemer.ops.offload import OFFLOADED_DTYPES, Offload, import_onnxruntime, open_session

if TYPE_CHECKING:
    from bessemer.frontends.onnx.importer import Frame

Unit = list[tuple[int, Any]]
"""Nodes that are imported together: (index in the file, NodeProto)."""
_MAX_BYTES = 2_000_000_000
_OLDEST_IR = 8  # before, initializers had to be listed as inputs, and functions were unknown


@dataclass(eq=False)
class Offloading:
    """Decides which nodes are left to another runtime, and remembers what its patterns met."""

    fallback: Fallback = NO_FALLBACK
    ir_version: int = _OLDEST_IR
    unmet: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.unmet = set(self.fallback.nodes)

    def wants(self, node: Any, label: str, path: str, opset: int, is_function: bool) -> bool:
        """True if the node goes to the runtime: its name matches, or Bessemer lacks its operator.

        Constants stay: they belong to whoever reads them.
        """
        if not self.fallback.runtimes or (not node.domain and node.op_type == "Constant"):
            return False
        named = [
            pattern
            for pattern in self.fallback.nodes
            if any(fnmatch.fnmatchcase(name, pattern) for name in (label, path))
        ]
        self.unmet -= set(named)
        if named:
            return True
        return (
            not is_function
            and classify(normal_domain(node.domain), node.op_type, opset)[0] == UNSUPPORTED
        )


def units_of(frame: "Frame", nodes: list[tuple[int, Any]]) -> list[tuple[bool, Unit]]:
    """The nodes in runnable order; those to offload in groups (True), the others one by one.

    A group is made as large as it can be: nodes that depend on each other are joined unless
    something between them is computed here.
    """
    foreign = [_is_foreign(frame, index, node) for index, node in nodes]
    if not any(foreign):
        return [(False, [entry]) for entry in nodes]
    producer = {name: at for at, (_, node) in enumerate(nodes) for name in node.output if name}
    before = [
        {producer[name] for name in used_names(node) if name in producer} for _, node in nodes
    ]
    groups = _Groups(before)
    for at, wanted in enumerate(foreign):
        for earlier in sorted(before[at]):
            if wanted and foreign[earlier]:
                groups.join(earlier, at)
    return [(foreign[members[0]], [nodes[at] for at in members]) for members in groups.in_order()]


def _is_foreign(frame: "Frame", index: int, node: Any) -> bool:
    domain = normal_domain(node.domain)
    label = node_label(node, index)
    path = f"{frame.path}/{label}" if frame.path else label
    is_function = function_key(node, node.op_type) in frame.model.functions
    return frame.model.offloading.wants(node, label, path, frame.opsets.get(domain, 1), is_function)


class _Groups:
    """Nodes 0, 1 ... in runnable order, joined to groups between which no cycle may arise."""

    def __init__(self, before: Sequence[set[int]]) -> None:
        self.before = before
        self.owner = list(range(len(before)))
        self.members = {at: [at] for at in self.owner}

    def join(self, first: int, second: int) -> None:
        """Joins the groups of two nodes, of which the second reads the first, if that is legal."""
        a, b = self.owner[first], self.owner[second]
        if a == b or self._reaches_around(a, b):
            return
        for at in self.members[b]:
            self.owner[at] = a
        self.members[a] = sorted(self.members[a] + self.members.pop(b))

    def _needs(self, group: int) -> set[int]:
        return {
            self.owner[earlier] for at in self.members[group] for earlier in self.before[at]
        } - {group}

    def _reaches_around(self, a: int, b: int) -> bool:
        """True if a third group stands between group `a` and group `b`."""
        stack = list(self._needs(b) - {a})
        seen = set(stack)
        while stack:
            needs = self._needs(stack.pop())
            if a in needs:
                return True
            stack += needs - seen
            seen |= needs
        return False

    def in_order(self) -> list[list[int]]:
        """The groups in an order in which each follows what it needs."""
        needs = {group: self._needs(group) for group in self.members}
        readers: dict[int, list[int]] = {group: [] for group in needs}
        for group, wanted in needs.items():
            for other in wanted:
                readers[other].append(group)
        waiting = {group: len(wanted) for group, wanted in needs.items()}
        ready = [(self.members[group][0], group) for group, count in waiting.items() if not count]
        heapq.heapify(ready)
        order = []
        while ready:
            _, group = heapq.heappop(ready)
            order.append(self.members[group])
            for reader in readers[group]:
                waiting[reader] -= 1
                if not waiting[reader]:
                    heapq.heappush(ready, (self.members[reader][0], reader))
        return order


def add_offload(frame: "Frame", unit: Unit, wanted: Iterable[str]) -> None:
    """Adds one Offload that computes those nodes; `wanted` are the names that others read.

    Raises: UnsupportedOperatorError if the runtime refuses the nodes too, or their values cannot
    be handed over; MissingExtraError if it is not installed.
    """
    made = dict.fromkeys(name for _, node in unit for name in node.output if name)
    outputs = [name for name in made if name in set(wanted)]
    if not outputs:
        return
    names = tuple(_describe(frame, index, node) for index, node in unit)
    where = frame.where(node_label(unit[0][1], unit[0][0]))
    reads = dict.fromkeys(name for _, node in unit for name in used_names(node) if name not in made)
    read = {name: frame.lookup(name, where) for name in reads}
    inputs = {name: value for name, value in read.items() if value.constant is None}
    _check_types(inputs, where)
    proto = _model_of(frame, unit, read, outputs, where)
    runtime = import_onnxruntime(nodes=names)
    op = Offload(
        nodes=names,
        dims=tuple(_dims(value.type) for value in inputs.values()),
        ranks=_ranks(proto, outputs, runtime.__version__, names),
        version=runtime.__version__,
    )
    label = frame.prefix + node_label(unit[0][1], unit[0][0])
    content = np.frombuffer(proto.SerializeToString(), np.uint8)
    operands: list[Value | None] = [
        frame.graph.add_constant(f"{label}.offloaded", content),
        *inputs.values(),
    ]
    types = infer_node_types(op, operands, label, frame.model.label, names)
    node = frame.graph.add_node(
        op,
        operands,
        name=frame.node_name(label),
        outputs=[frame.prefix + n for n in outputs],
        sources=tuple(frame.prefix + node_label(n, index) for index, n in unit),
        types=types,
    )
    for name, value in zip(outputs, node.outputs, strict=True):
        frame.bind(name, value)


def _describe(frame: "Frame", index: int, node: Any) -> str:
    domain = normal_domain(node.domain)
    label = "/".join(part for part in (frame.path, node_label(node, index)) if part)
    return f"{label} ({domain}.{node.op_type})" if domain else f"{label} ({node.op_type})"


def _check_types(inputs: Mapping[str, Value], where: str) -> None:
    for name, value in inputs.items():
        known: ValueType | None = value.type
        while isinstance(known, SequenceType | OptionalType):
            known = known.element
        if isinstance(known, TensorType) and known.dtype.name not in OFFLOADED_DTYPES:
            raise UnsupportedOperatorError(
                f"{where}: {name!r} is {value.type}, which cannot be handed to onnxruntime; "
                f"possible are {', '.join(sorted(OFFLOADED_DTYPES))}"
            )


def _model_of(
    frame: "Frame", unit: Unit, read: Mapping[str, Value], outputs: Sequence[str], where: str
) -> Any:
    """The ModelProto of those nodes: constants they read are initializers."""
    constants = {name: v.constant for name, v in read.items() if v.constant is not None}
    size = sum(array.nbytes for array in constants.values())
    if size > _MAX_BYTES:
        raise UnsupportedOperatorError(
            f"{where}: the nodes to offload hold {size} bytes of constants; a model for "
            f"onnxruntime may have {_MAX_BYTES}"
        )
    graph = helper.make_graph(
        [_without_references(node, frame.bindings, where) for _, node in unit],
        "offloaded",
        [
            onnx.ValueInfoProto(name=name, type=type_proto(value.type))
            for name, value in read.items()
            if value.constant is None
        ],
        [_output_info(name, frame.hints.get(name)) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    domains = {normal_domain(node.domain) for _, node in unit} | set(frame.opsets)
    model = onnx.ModelProto(
        ir_version=max(frame.model.offloading.ir_version, _OLDEST_IR),
        graph=graph,
        opset_import=[helper.make_opsetid(d, frame.opsets.get(d, 1)) for d in sorted(domains)],
    )
    model.functions.extend(frame.model.functions.values())
    return model


def _output_info(name: str, hint: ValueType | None) -> Any:
    return onnx.ValueInfoProto(name=name, type=None if hint is None else type_proto(hint))


def _without_references(node: Any, bindings: Mapping[str, Any] | None, where: str) -> Any:
    """A copy of a node of a function in which the function's attributes are filled in."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    if bindings is None:
        return copy
    del copy.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            added = copy.attribute.add()
            added.CopyFrom(attribute)
            for graph in (added.g, *added.graphs) if added.HasField("g") else added.graphs:
                for index, inner in enumerate(graph.node):
                    graph.node[index].CopyFrom(_without_references(inner, bindings, where))
        elif attribute.ref_attr_name in bindings:
            value = bindings[attribute.ref_attr_name]
            if isinstance(value, np.ndarray):
                value = numpy_helper.from_array(value)
            elif isinstance(value, TensorType | SequenceType | OptionalType):
                value = type_proto(value)
            try:
                copy.attribute.append(helper.make_attribute(attribute.name, value))
            except (TypeError, ValueError) as error:
                raise ModelFormatError(
                    f"{where}: attribute {attribute.name!r} cannot be written: {error}"
                ) from error
    return copy


def _dims(known: ValueType) -> tuple[int | str, ...] | None:
    if not isinstance(known, TensorType) or known.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else str(dim) for dim in known.shape)


def _ranks(
    proto: Any, outputs: Sequence[str], version: str, names: tuple[str, ...]
) -> tuple[int | None, ...]:
    """The ranks of the results as far as the runtime infers them.

    A session does not tell a scalar from an unknown shape, but the extent of `Shape(y)` does.
    """
    model = proto.SerializeToString()
    session = open_session(model, version, names, optimise=False)
    tensors = {item.name for item in session.get_outputs() if item.type.startswith("tensor(")}
    probe = onnx.ModelProto()
    probe.ParseFromString(model)
    if not any(not entry.domain for entry in probe.opset_import):
        probe.opset_import.append(helper.make_opsetid("", 13))
    probe.graph.value_info.extend(info for info in probe.graph.output if info.HasField("type"))
    del probe.graph.output[:]
    for name in tensors:
        # The name is not of ONNX's making, so it cannot be one that the nodes use.
        shape = f"{name}\x01shape"
        probe.graph.node.append(helper.make_node("Shape", [name], [shape]))
        probe.graph.output.append(onnx.ValueInfoProto(name=shape))
    if not tensors:
        return (None,) * len(outputs)
    session = open_session(probe.SerializeToString(), version, names, optimise=False)
    ranks: dict[str, int] = {}
    for item in session.get_outputs():
        if item.shape and isinstance(item.shape[0], int):
            ranks[item.name.removesuffix("\x01shape")] = item.shape[0]
    return tuple(ranks.get(name) for name in outputs)
