"""Graph, Node, Value: a typed, named, single-assignment dataflow graph with safe mutation."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bessemer.core.errors import VerifyError
from bessemer.core.shapes import Dim
from bessemer.ir.inference import infer_node_types
from bessemer.ir.layout import Layout
from bessemer.ir.operator import Operator
from bessemer.ir.types import TensorType, ValueType


class Value:
    """One tensor of a graph: an input, a constant, or an output of a node.

    `users` lists (node, input index) pairs. `constant` holds the data of a constant.
    `layout` says how the tensor lies in memory and `placement` that it lives inside another
    value's memory; neither changes its meaning.
    """

    __slots__ = ("constant", "layout", "name", "placement", "producer", "type", "users")

    def __init__(self, name: str, type: ValueType, constant: np.ndarray[Any, Any] | None = None):
        self.name = name
        self.type = type
        self.constant = constant
        self.producer: Node | None = None
        self.users: list[tuple[Node, int]] = []
        self.layout: Layout | None = None
        self.placement: Placement | None = None

    @property
    def tensor(self) -> TensorType:
        """The type, asserted to be a tensor."""
        assert isinstance(self.type, TensorType), f"{self.name} is {self.type}, not a tensor"
        return self.type

    @property
    def is_constant(self) -> bool:
        """True if the data is known at build time."""
        return self.constant is not None

    def known_type(self) -> ValueType:
        """The type, carrying the constant's data if there is any."""
        if self.constant is not None and isinstance(self.type, TensorType):
            return TensorType(self.type.dtype, self.type.shape, self.constant)
        return self.type

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(frozen=True)
class Placement:
    """A value lives inside `root`'s memory, starting at `start` along `axis`."""

    root: Value
    axis: int
    start: Dim


class Node:
    """One application of an operator.

    `sources` are node names of the source model, kept through passes.
    """

    __slots__ = ("_inputs", "name", "op", "outputs", "sources")

    __match_args__ = ("op", "inputs", "outputs")

    def __init__(
        self, name: str, op: Operator, inputs: Iterable[Value | None], outputs: Iterable[Value],
        sources: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.op = op
        self._inputs: list[Value | None] = []
        self.outputs: list[Value] = list(outputs)
        self.sources = sources or (name,)
        for value in self.outputs:
            if value.producer is not None:
                raise VerifyError(f"value {value.name!r} has two producers")
            value.producer = self
        for operand in inputs:
            self._inputs.append(operand)
            if operand is not None:
                operand.users.append((self, len(self._inputs) - 1))

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        """The inputs; None where an optional one is left out."""
        return tuple(self._inputs)

    @property
    def output(self) -> Value:
        """The first output."""
        return self.outputs[0]

    def set_input(self, index: int, value: Value | None) -> None:
        """Replaces one input, keeping users right."""
        old = self._inputs[index]
        if old is not None:
            old.users.remove((self, index))
        self._inputs[index] = value
        if value is not None:
            value.users.append((self, index))

    def set_inputs(self, values: Iterable[Value | None]) -> None:
        """Replaces all inputs, keeping users right."""
        self.detach()
        for value in values:
            self._inputs.append(value)
            if value is not None:
                value.users.append((self, len(self._inputs) - 1))

    def detach(self) -> None:
        """Drops all inputs."""
        for index, value in enumerate(self._inputs):
            if value is not None:
                value.users.remove((self, index))
        self._inputs = []

    def __repr__(self) -> str:
        return f"{', '.join('%' + v.name for v in self.outputs)} = {self.op}({self.name})"


@dataclass(eq=False)
class Graph:
    """Inputs, nodes in topological order, outputs. Mutable; every helper keeps it consistent."""

    name: str
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    source: str = ""
    """The file it came from, for messages."""
    metadata: dict[str, str] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set, repr=False)

    # -- building ---------------------------------------------------------------------------

    def free_name(self, stem: str) -> str:
        """A value or node name that is not taken yet: the stem itself if free."""
        name, number = stem, 1
        while name in self._names:
            name, number = f"{stem}.{number}", number + 1
        return name

    def unique_name(self, stem: str) -> str:
        """The free name; it is taken from now on."""
        name = self.free_name(stem)
        self._names.add(name)
        return name

    def reserve(self, name: str) -> None:
        """Marks a name as taken."""
        self._names.add(name)

    def add_input(self, name: str, type: ValueType) -> Value:
        """A new graph input."""
        value = Value(self.unique_name(name), type)
        self.inputs.append(value)
        return value

    def add_constant(self, name: str, array: np.ndarray[Any, Any]) -> Value:
        """A new constant."""
        return Value(self.unique_name(name), TensorType.of(array, keep_value=False), array)

    def add_node(
        self, op: Operator, inputs: Iterable[Value | None], *, name: str = "",
        outputs: Iterable[str] = (), sources: tuple[str, ...] = (), before: Node | None = None,
        types: Iterable[ValueType] | None = None,
    ) -> Node:
        """A new node at the end (or before another); types are inferred unless given.

        `outputs` are the wished names; one output named after the node if none are given.
        Raises: ShapeError if the input types do not fit.
        """
        operands = list(inputs)
        label = self.unique_name(name or op.op_name)
        wished = list(outputs) or [label + "_out"]
        known = list(types) if types is not None else infer_node_types(
            op, operands, label, self.source, sources
        )
        values = [Value(self.unique_name(text), known[i]) for i, text in enumerate(wished)]
        node = Node(label, op, operands, values, sources)
        self.nodes.insert(self.nodes.index(before) if before is not None else len(self.nodes), node)
        return node

    # -- changing ---------------------------------------------------------------------------

    def replace_uses(self, old: Value, new: Value) -> None:
        """Makes every user of `old` (graph outputs too) use `new`."""
        if old is new:
            return
        for node, index in list(old.users):
            node.set_input(index, new)
        self.outputs = [new if value is old else value for value in self.outputs]

    def remove_node(self, node: Node) -> None:
        """Removes a node whose outputs have no users left."""
        for value in node.outputs:
            if value.users or value in self.outputs:
                raise VerifyError(f"cannot remove {node.name!r}: {value.name!r} is still used")
        node.detach()
        self.nodes.remove(node)

    def rename_value(self, value: Value, name: str) -> None:
        """Gives a value that name (which may be one just freed)."""
        self._names.discard(value.name)
        self._names.add(name)
        value.name = name

    # -- looking ----------------------------------------------------------------------------

    def values(self) -> Iterator[Value]:
        """Inputs, constants used, and node outputs, each once, in order of appearance."""
        seen: set[int] = set()

        def fresh(values: Iterable[Value | None]) -> Iterator[Value]:
            for value in values:
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield value

        yield from fresh(self.inputs)
        for node in self.nodes:
            yield from fresh(node.inputs)
            yield from fresh(node.outputs)
        yield from fresh(self.outputs)

    def constants(self) -> list[Value]:
        """The constants that some node or output uses."""
        return [value for value in self.values() if value.is_constant]

    def find_value(self, name: str) -> Value | None:
        """The value of that name."""
        return next((value for value in self.values() if value.name == name), None)

    def find_node(self, name: str) -> Node | None:
        """The node of that name, or one that has it among its source names."""
        exact = next((node for node in self.nodes if node.name == name), None)
        return exact or next((node for node in self.nodes if name in node.sources), None)

    def is_output(self, value: Value) -> bool:
        """True if the value is a graph output."""
        return any(value is out for out in self.outputs)

    def sort(self) -> None:
        """Puts the nodes in topological order, stable. Raises VerifyError on a cycle."""
        order: list[Node] = []
        state: dict[int, int] = {}
        for root in self.nodes:
            stack: list[tuple[Node, bool]] = [(root, False)]
            while stack:
                node, finished = stack.pop()
                if finished:
                    state[id(node)] = 2
                    order.append(node)
                    continue
                if state.get(id(node)):
                    continue
                state[id(node)] = 1
                stack.append((node, True))
                for value in reversed(node.inputs):
                    producer = value.producer if value is not None else None
                    if producer is None or state.get(id(producer)) == 2:
                        continue
                    if state.get(id(producer)) == 1:
                        raise VerifyError(
                            f"the graph has a cycle through {node.name!r} and {producer.name!r}"
                        )
                    stack.append((producer, False))
        present = {id(node) for node in self.nodes}
        self.nodes = [node for node in order if id(node) in present]

    def clone(self) -> "Graph":
        """A copy with its own nodes and values; constant arrays are shared, subgraphs too."""
        copies: dict[int, Value] = {}

        def copy(value: Value | None) -> Value | None:
            if value is None:
                return None
            if id(value) not in copies:
                made = Value(value.name, value.type, value.constant)
                made.layout = value.layout
                copies[id(value)] = made
            return copies[id(value)]

        result = Graph(self.name, source=self.source, metadata=dict(self.metadata))
        result._names = set(self._names)
        result.inputs = [copy(value) for value in self.inputs]  # type: ignore[misc]
        for node in self.nodes:
            outputs: Any = [copy(value) for value in node.outputs]
            result.nodes.append(
                Node(node.name, node.op, [copy(v) for v in node.inputs], outputs, node.sources)
            )
        result.outputs = [copy(value) for value in self.outputs]  # type: ignore[misc]
        for value in list(self.values()):
            if value.placement is not None and id(value) in copies:
                root = copy(value.placement.root)
                assert root is not None
                copies[id(value)].placement = Placement(
                    root, value.placement.axis, value.placement.start
                )
        return result
