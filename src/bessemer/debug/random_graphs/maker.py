"""Grows random ONNX graphs node by node; each is valid because every node has been evaluated.

A value of the graph is known with its data: the operator's numpy reference gives it as soon as the
node is added. So shapes that depend on data, divisors and indices are right by construction.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import onnx

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import BessemerError
from bessemer.core.registry import Registry
from bessemer.debug.random_graphs.data import (
    Array,
    broadcast_size,
    fits_type,
    is_tame,
    random_array,
    random_shape,
)
from bessemer.debug.random_graphs.models import assemble, make_node, onnx_dtype, schema_check
from bessemer.debug.random_graphs.single import evaluate, run_alone
from bessemer.debug.random_graphs.values import Reject, Value

FLOATS = ("f32", "f64", "f16", "bf16")
SIGNED = ("i64", "i32", "i8", "i16")
UNSIGNED = ("u8", "u16", "u32", "u64")
INTEGERS = (*SIGNED, *UNSIGNED)
NUMBERS = (*FLOATS, *INTEGERS)
ALL = (*NUMBERS, "bool")

OPSETS = (13, 15, 17, 18, 18, 19, 20, 21, 21, 22, 23, 24, 25, 26, 26)
MOST_ELEMENTS = 4096
_MOST_WORK = 2_000_000
_FOCUS = 12.0


Rule = Callable[["Maker"], object]
RULES: Registry[tuple[Rule, float]] = Registry(
    "rule of random graphs", "bessemer.debug.random_graphs.rules", BessemerError)


def rule(*names: str, weight: float = 1.0) -> Callable[[Rule], Rule]:
    """Registers a function that adds nodes, mostly of the operators named."""

    def decorate(function: Rule) -> Rule:
        RULES.add("/".join(names), (function, weight * len(names)))
        return function

    return decorate


@dataclass
class Maker:
    """A graph that grows. `hard` lets NaN, infinities and huge values in."""

    random: Random
    opset: int
    hard: bool = False
    symbolic: bool = False
    values: list[Value] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    initializers: list[Value] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    captured: set[str] = field(default_factory=set)
    counter: int = 0

    # -- choices ----------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.random.random() < probability

    def choose(self, *options: Any) -> Any:
        """One of the options."""
        return self.random.choice(options)

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return self.random.randint(low, high)

    def axis(self, rank: int) -> int:
        """An axis of a tensor, negative at times."""
        if rank == 0:
            raise Reject
        return self.random.randrange(-rank, rank)

    def axes(self, rank: int, least: int = 0) -> list[int]:
        """Distinct axes, each written from the front or the end."""
        if rank < least:
            raise Reject
        chosen = self.random.sample(range(rank), self.integer(least, rank))
        return [axis - rank if self.chance(0.3) else axis for axis in chosen]

    # -- values -----------------------------------------------------------------------------

    def fresh(
        self, dtype: str | Sequence[str] | None = None, shape: Sequence[int] | None = None, *,
        low: float | None = None, high: float | None = None, constant: bool | None = None,
        rank: tuple[int, int] = (0, 4), fixed: int = 0,
    ) -> Value:
        """A new graph input or initializer with random data.

        The last `fixed` extents are no symbols.
        """
        name = self.dtype(dtype)
        extents = tuple(shape) if shape is not None else random_shape(self.random, *rank)
        array = random_array(self.random, name, extents, low, high, self.hard and low is None)
        value = self.given(array, constant)
        if fixed and value.symbols:
            kept = max(value.rank - fixed, 0)
            value.symbols = (*value.symbols[:kept], *(None,) * (value.rank - kept))
        return value

    def given(self, array: Array, constant: bool | None = None) -> Value:
        """A new graph input or initializer with that data."""
        if constant is None:
            constant = self.chance(0.45) and bool(self.inputs)
        self.counter += 1
        value = Value(f"{'c' if constant else 'x'}{self.counter}", np.asarray(array))
        if constant:
            self.initializers.append(value)
        else:
            if self.symbolic:
                value.symbols = tuple(self._symbol(dim) for dim in value.shape)
            self.inputs.append(value)
        self.values.append(value)
        return value

    def _symbol(self, extent: int) -> str | None:
        """A name for an extent at times: the same for equal extents, or one of its own.

        1 stays 1: a symbol that broadcasts for some values only has no type.
        """
        if extent == 1 or self.chance(0.4):
            return None
        own = f"S{self.counter}_{self.integer(0, 9)}_{extent}"
        return f"D{extent}" if self.chance(0.7) else own

    def ints(self, numbers: Sequence[int], dtype: str = "i64", open_: float = 0.06) -> Value:
        """A tensor of shape parameters: an initializer, at times a graph input."""
        array = np.asarray(list(numbers), DTYPES[dtype].numpy)
        return self.given(array, not self.chance(open_))

    def dtype(self, allowed: str | Sequence[str] | None = None) -> str:
        """One of the allowed element types; f32 and i64 more often."""
        if isinstance(allowed, str):
            return allowed
        options = list(allowed or ALL)
        weights = [{"f32": 12.0, "i64": 3.0, "f64": 2.0}.get(name, 1.0) for name in options]
        return str(self.random.choices(options, weights)[0])

    def pick(
        self, dtypes: str | Sequence[str] = ALL, rank: tuple[int, int] = (0, 6),
        where: Callable[[Value], bool] | None = None, new: float = 0.12, reshape: bool = True,
    ) -> Value:
        """A value of one of the types and ranks: one of the graph, or made to fit, or new."""
        allowed = (dtypes,) if isinstance(dtypes, str) else tuple(dtypes)
        fitting = [
            value for value in self.values
            if value.dtype in allowed and rank[0] <= value.rank <= rank[1]
            and (where is None or where(value))
        ]
        if fitting and not self.chance(new):
            weights = [(3.0 if not v.uses else 1.0) * (1 + i / len(fitting))
                       for i, v in enumerate(fitting)]
            return self.random.choices(fitting, weights)[0]
        if where is None and reshape and self.values and self.chance(0.5):
            return self._made_to_fit(allowed, rank)
        for _ in range(8):
            value = self.fresh(allowed, rank=(rank[0], min(rank[1], max(4, rank[0]))))
            if where is None or where(value):
                return value
            self.remove(value)
        raise Reject

    def remove(self, value: Value) -> None:
        """Takes back a value that `fresh` just made."""
        for group in (self.values, self.inputs, self.initializers):
            if value in group:
                group.remove(value)

    def _made_to_fit(self, allowed: Sequence[str], rank: tuple[int, int]) -> Value:
        value = self.random.choice(self.values[-8:])
        if value.kind != "tensor" or (value.dtype == "string") != ("string" in allowed):
            raise Reject
        if value.dtype not in allowed:
            to = self.dtype(allowed)
            if not fits_type(value.data, to):
                raise Reject
            value = self.emit("Cast", [value], to=onnx_dtype(to))[0]
        if not rank[0] <= value.rank <= rank[1]:
            wished = self.integer(rank[0], min(rank[1], 5))
            shape = factorised(self.random, value.data.size, wished)
            value = self.emit("Reshape", [value, self.ints(shape)])[0]
        return value

    def partner(self, value: Value, dtype: str | None = None, *, low: float | None = None,
                high: float | None = None) -> Value:
        """A value of the same type that broadcasts with a value; both may grow."""
        wished = dtype or value.dtype
        fitting = [
            other for other in self.values if other.dtype == wished
            and broadcast_size(value.shape, other.shape) <= MOST_ELEMENTS
        ]
        if fitting and low is None and self.chance(0.65):
            return self.random.choice(fitting)
        shape = [1 if self.chance(0.25) else dim for dim in value.shape]
        shape = shape[self.integer(0, len(shape)) if self.chance(0.3) else 0:]
        if self.chance(0.15) and len(shape) < 5:
            shape = [self.integer(1, 3), *shape]
        shape = [self.integer(1, 4) if dim == 1 and self.chance(0.2) and full == 1 else dim
                 for dim, full in zip(shape, ([1] * 6 + list(value.shape))[-len(shape):] if shape
                                      else [])]
        if broadcast_size(value.shape, tuple(shape)) > MOST_ELEMENTS:
            raise Reject
        return self.fresh(wished, shape, low=low, high=high)

    # -- nodes ------------------------------------------------------------------------------

    def emit(
        self, op: str, inputs: Sequence[Value | None], outputs: int | Sequence[int] = 1,
        work: int = 0, **attributes: Any,
    ) -> list[Value]:
        """Adds a node and evaluates it; `outputs` are how many it has, or those that it has.

        `op` may begin with a domain. Raises: Reject if it is not valid or grows too large.
        """
        domain, _, op = op.rpartition(".")
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        dtypes = [v.dtype if v is not None else None for v in given]
        schema_check(op, self.opset, dtypes, attributes, domain)
        if work > _MOST_WORK:
            raise Reject
        kept = tuple(range(outputs)) if isinstance(outputs, int) else tuple(outputs)
        if domain:
            names = [f"r{k}" if k in kept else "" for k in range(max(kept) + 1)]
            node = make_node(op, [v.name if v is not None else "" for v in given], names, "n",
                             attributes, self.opset, given, domain)
            known = dict.fromkeys(v for v in given if v is not None)
            results = run_alone(node, known, self.initializers, self.opset)
        else:
            results = evaluate(op, [v.data if v is not None else None for v in given], attributes)
            results = [results[k] for k in kept]
        return self.append(op, given, results, attributes, domain, kept)

    def append(
        self, op: str, inputs: Sequence[Value | None], results: Sequence[Any],
        attributes: dict[str, Any], domain: str = "", kept: Sequence[int] = (),
    ) -> list[Value]:
        """Adds a node whose results are known; `kept` are their places if some are left out.

        A result that is a list is a sequence of what the first tensor among the inputs holds.
        """
        for result in results:
            if not isinstance(result, list) and not self._is_fit(np.asarray(result)):
                raise Reject
        places = list(kept) or list(range(len(results)))
        self.counter += 1
        names = ["" for _ in range(places[-1] + 1)] if places else []
        made = []
        for place, result in zip(places, results, strict=True):
            names[place] = f"v{self.counter}_{place}" if place else f"v{self.counter}"
            data: Any = result if isinstance(result, list) else np.array(result)
            made.append(Value(names[place], data))
        self.nodes.append(make_node(
            op, [v.name if v is not None else "" for v in inputs], names,
            f"n{self.counter}", attributes, self.opset, inputs, domain))
        for value in inputs:
            if value is not None:
                value.uses += 1
        self.values += made
        return made

    def _is_fit(self, result: Array) -> bool:
        small = result.size <= MOST_ELEMENTS and result.ndim <= 6
        return small and (self.hard or is_tame(result))

    def hide(self, *values: Value) -> None:
        """No other node reads these values, nor do they leave the graph."""
        self.values = [value for value in self.values if value not in values]

    def repeat(self) -> None:
        """Adds a node that computes again what another one computes."""
        if not self.nodes:
            raise Reject
        source = self.random.choice(self.nodes)
        known = {value.name: value for value in self.values}
        hidden = any(name and name not in known for name in source.output)
        if hidden or any(attribute.HasField("g") for attribute in source.attribute):
            raise Reject
        copy = onnx.NodeProto()
        copy.CopyFrom(source)
        self.counter += 1
        copy.name = f"n{self.counter}"
        del copy.output[:]
        for k, name in enumerate(source.output):
            copied = f"v{self.counter}_{k}" if k else f"v{self.counter}"
            if name:
                old = known[name]
                self.values.append(Value(copied, old.data, kind=old.kind, element=old.element))
            copy.output.append(copied if name else "")
        for name in source.input:
            if name in known:
                known[name].uses += 1
        self.nodes.append(copy)

    # -- the whole --------------------------------------------------------------------------

    def grow(self, count: int, focus: Collection[str] = ()) -> None:
        """Adds nodes by random rules until there are `count`; more by those of modules named."""
        functions = [RULES.get(name) for name in RULES.names()]
        weights = [weight * (_FOCUS if focus and f.__module__.split(".")[-1] in focus else 1)
                   for f, weight in functions]
        self.fresh(self.dtype(("f32", "f32", "f64", "f16", "i64")), constant=False)
        tries = 0
        while len(self.nodes) < count and tries < 30 * count:
            tries += 1
            function = self.random.choices(functions, weights)[0][0]
            if self.nodes and self.chance(0.03):
                function = Maker.repeat
            mark = self._mark()
            try:
                function(self)
            except Reject:
                self._reset(mark)
        for value in list(self.values):
            if value.kind != "tensor" and not value.uses:
                mark = self._mark()
                try:
                    self._open(value)
                except Reject:
                    self._reset(mark)

    def _open(self, value: Value) -> None:
        """Makes tensors of a sequence or an optional that nobody has read."""
        if value.kind == "optional":
            self.emit("OptionalHasElement", [value])
        elif value.data:
            self.emit("SequenceAt", [value, self.given(np.asarray(self.choose(0, -1)))])
        else:
            self.emit("SequenceLength", [value])

    def _mark(self) -> tuple[Any, ...]:
        return (list(self.values), len(self.inputs), len(self.initializers), len(self.nodes),
                set(self.captured), [(value, value.uses) for value in self.values])

    def _reset(self, mark: tuple[Any, ...]) -> None:
        self.values = mark[0]
        del self.inputs[mark[1]:], self.initializers[mark[2]:]
        del self.nodes[mark[3]:]
        self.captured = mark[4]
        for value, uses in mark[5]:
            value.uses = uses

    def _used(self) -> set[str]:
        return self.captured | {name for node in self.nodes for name in node.input}

    def model(self) -> Any:
        """The ONNX model: all values that nobody reads are outputs, and some others."""
        used = self._used()
        made = {name for node in self.nodes for name in node.output}
        outputs = [v for v in self.values
                   if v.kind == "tensor" and v.name in made
                   and (v.name not in used or self.chance(0.08))]
        return assemble(self.nodes, [v for v in self.inputs if v.name in used],
                        [v for v in self.initializers if v.name in used], outputs, self.opset)

    def feed(self) -> dict[str, Array]:
        """The data of the graph's inputs."""
        used = self._used()
        return {value.name: value.data for value in self.inputs if value.name in used}


def factorised(random: Random, size: int, rank: int) -> list[int]:
    """Extents of that rank whose product is `size`. Raises: Reject if there are none."""
    if rank == 0:
        if size != 1:
            raise Reject
        return []
    if size == 0:
        shape = [random.randint(0, 3) for _ in range(rank)]
        shape[random.randrange(rank)] = 0
        return shape
    shape = [1] * rank
    rest, divisor = size, 2
    while rest > 1:
        while rest % divisor:
            divisor += 1
        shape[random.randrange(rank)] *= divisor
        rest //= divisor
    return shape


def make_graph(seed: int, index: int, focus: Collection[str] = (), most_nodes: int = 40) -> Maker:
    """The graph of one case: always the same. `focus` names modules of rules that get more."""
    random = Random(f"{seed}/{index}")
    maker = Maker(random, random.choice(OPSETS), random.random() < 0.1, random.random() < 0.35)
    maker.grow(min(most_nodes, 5 + int(random.expovariate(1 / 6))), focus)
    return maker
