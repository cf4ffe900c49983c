"""Control flow: If, Loop, Scan, SequenceMap. Their bodies are graphs.

What decides which body runs next and on what, `drive`, runs on the host; the bodies run by the
interpreter (`reference`) or compiled, inside an engine.

Values that a body takes from outside are explicit: inputs of the node after its own ones and
inputs of the body after its own ones, in the same order. `captured` says how many there are.
"""

import functools
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer.core.dtypes import boolean, f32, i64
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Sym, substitute
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import run_graph
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import SequenceType, TensorType, ValueType
from bessemer.ops.arithmetic import Add, Mul
from bessemer.ops.compare import Less
from bessemer.ops.control_types import join_types, seen_outside, stacked_type
from bessemer.ops.dims import fresh_dim, normalize_axis


def required(graph: Graph | None, name: str) -> Graph:
    """The body graph. Raises ShapeError if the attribute is missing."""
    if graph is None:
        raise ShapeError(f"the graph attribute {name!r} is missing")
    return graph


@dataclass(frozen=True)
class Body:
    """A body that can be run, by whatever means.

    `given` are the types of its inputs, `types` those of its results.
    `cycle(counts)` may give a quick way to run it many times: a function of carried values,
    scanned tensors (iterations first), captured values and the number of iterations (one or more)
    that gives the last carried values and the stacked results, or None. `counts` says that the
    body takes iteration and condition and gives a condition, as that of a Loop.
    """

    run: Callable[[list[Any]], list[Any]]
    given: tuple[ValueType, ...]
    types: tuple[ValueType, ...]
    cycle: Callable[[bool], Callable[..., Any] | None] = lambda counts: None

    @staticmethod
    def of(graph: Graph) -> "Body":
        """A body run by the interpreter."""
        given, types = (tuple(v.type for v in values) for values in (graph.inputs, graph.outputs))
        return Body(functools.partial(run_graph, graph), given, types)

    def extents(self, operands: Sequence[Any]) -> dict[str, int]:
        """What the symbols in the types of the inputs are for these operands."""
        found: dict[str, int] = {}
        for type, value in zip(self.given, operands, strict=False):
            if isinstance(type, TensorType) and type.shape is not None \
                    and isinstance(value, np.ndarray) and value.ndim == len(type.shape):
                found |= {str(dim): extent for dim, extent in zip(type.shape, value.shape,
                                                                  strict=True)
                          if isinstance(dim, Sym)}
        return found


class ControlOperator(Operator):
    """Base of operators that run bodies.

    An engine that holds the bodies compiled leaves the graphs out of the operator.
    """

    def _drive(self, bodies: Mapping[str, Body], *inputs: Any) -> tuple[Any, ...]:
        """The results for these inputs; `bodies` has all bodies by name, ready to run."""
        raise NotImplementedError

    def drive(self, compiled: Mapping[str, Body], *inputs: Any) -> tuple[Any, ...]:
        """The results for these inputs; bodies that are not `compiled` are interpreted."""
        graphs = {name: g for name, g in self.subgraphs().items() if name not in compiled}
        bodies = {name: Body.of(graph) for name, graph in graphs.items()}
        return self._drive({**bodies, **compiled}, *inputs)

    def reference(self, *inputs: Any) -> tuple[Any, ...]:
        return self.drive({}, *inputs)

    def subgraphs(self) -> dict[str, Any]:
        return {name: g for name, g in self.attributes().items() if isinstance(g, Graph)}


def stack(
    items: list[Any], type: ValueType, axis: int = 0, extents: Mapping[str, int] | None = None
) -> Any:
    """The tensors stacked along a new axis; an empty tensor of fitting shape if there are none.

    `extents` are those of the symbols in the type, as far as they are known.
    """
    if items:
        return np.stack(items, axis=axis)
    assert isinstance(type, TensorType)
    known = [substitute(dim, extents or {}) for dim in type.shape or ()]
    dims = [dim if isinstance(dim, int) else 0 for dim in known]
    dims.insert(normalize_axis(axis, len(dims) + 1), 0)
    return np.zeros(dims, type.dtype.numpy)


def _graph(name: str, types: list[ValueType], build: Any) -> Graph:
    """A small body for samples: `build(graph, *inputs)` returns the outputs."""
    graph = Graph(name)
    inputs = [graph.add_input(f"x{k}", type) for k, type in enumerate(types)]
    graph.outputs = build(graph, *inputs)
    return graph


_ROW = TensorType(f32, (3,))
_ITERATION: list[ValueType] = [TensorType(i64, ()), TensorType(boolean, ())]


@operator("If")
class If(ControlOperator):
    """The outputs of one of two graphs, chosen by a boolean.

    Shapes: cond bool [] (or one element), then the captured values -> the outputs of the branch.
    Source: ONNX If-25.
    """

    then_branch: Graph | None = None
    else_branch: Graph | None = None

    def infer(self, cond: TensorType, *captured: ValueType | None) -> tuple[ValueType, ...]:
        yes = required(self.then_branch, "then_branch")
        no = required(self.else_branch, "else_branch")
        if len(yes.outputs) != len(no.outputs):
            raise ShapeError(
                f"the branches have {len(yes.outputs)} and {len(no.outputs)} outputs"
            )
        if cond.value is not None and cond.value.size == 1:
            chosen = yes if cond.value.reshape(())[()] else no
            return seen_outside(self, [value.type for value in chosen.outputs], captured)
        return seen_outside(self, [
            join_types(self, k, a.type, b.type)
            for k, (a, b) in enumerate(zip(yes.outputs, no.outputs, strict=True))
        ], captured)

    def _drive(self, bodies: Mapping[str, Body], *inputs: Any) -> tuple[Any, ...]:
        cond, *captured = inputs
        chosen = "then_branch" if np.asarray(cond).reshape(-1)[0] else "else_branch"
        return tuple(bodies[chosen].run(captured))

    samples = (
        sample(
            "bool[]", "f32[3]",
            then_branch=_graph("then", [_ROW], lambda g, x: [g.add_node(Add(), [x, x]).output]),
            else_branch=_graph("else", [_ROW], lambda g, x: [g.add_node(Mul(), [x, x]).output]),
        ),
    )


@operator("Loop")
class Loop(ControlOperator):
    """Runs a body while a condition holds and a trip count is not reached.

    Inputs: trip count i64 [] or none, condition bool [] or none, carried values, captured values.
    The body takes iteration, condition, carried, captured; it gives condition, carried, stacked.
    Shapes: results are the last carried values, then [trips, *] for each stacked value.
    Source: ONNX Loop-25.
    """

    body: Graph | None = None
    captured: int = 0

    def _trips(self, body: Graph, trips: TensorType | None, cond: TensorType | None) -> Dim:
        """The number of iterations if it is known before running, else a new symbol."""
        kept = body.outputs[0]
        always = kept is body.inputs[1] or (
            kept.constant is not None and bool(kept.constant.reshape(-1)[0])
        )
        started = cond is None or (cond.value is not None and bool(cond.value.reshape(-1)[0]))
        if always and started and trips is not None and trips.value is not None:
            return max(int(trips.value.reshape(-1)[0]), 0)
        return fresh_dim(self, -1)

    def infer(
        self, trips: TensorType | None, cond: TensorType | None, *values: ValueType | None
    ) -> tuple[ValueType, ...]:
        body = required(self.body, "body")
        carried = len(values) - self.captured
        if len(body.inputs) != 2 + len(values) or len(body.outputs) < 1 + carried:
            raise ShapeError(
                f"the body has {len(body.inputs)} inputs and {len(body.outputs)} outputs; "
                f"{2 + len(values)} and at least {1 + carried} expected"
            )
        types: list[ValueType] = []
        for k in range(carried):
            first, later = values[k], body.outputs[1 + k].type
            types.append(later if first is None else join_types(self, k, first, later))
        count = self._trips(body, trips, cond)
        types += [stacked_type(value.type, 0, count) for value in body.outputs[1 + carried :]]
        return seen_outside(self, types, values)

    def _drive(self, bodies: Mapping[str, Body], *inputs: Any) -> tuple[Any, ...]:
        given: list[Any] = [*inputs, *[None] * (2 - len(inputs))]
        trips, cond, *values = given
        body, count = bodies["body"], len(values) - self.captured
        carried, captured = list(values[:count]), values[count:]
        limit = None if trips is None else int(np.asarray(trips).reshape(-1)[0])
        going = True if cond is None else bool(np.asarray(cond).reshape(-1)[0])
        quick = body.cycle(True)
        if quick is not None and going and (limit is None or limit > 0):
            done = quick(carried, (), captured, sys.maxsize if limit is None else limit)
            if done is not None:
                return (*done[0], *done[1])
        stacks: list[list[Any]] = [[] for _ in body.types[1 + count :]]
        for iteration in itertools.count():
            if not going or (limit is not None and iteration >= limit):
                break
            operands = [np.asarray(iteration, np.int64), np.asarray(going), *carried, *captured]
            results = body.run(operands)
            going = bool(np.asarray(results[0]).reshape(-1)[0])
            carried = results[1 : 1 + count]
            for items, item in zip(stacks, results[1 + count :], strict=True):
                items.append(item)
        types, extents = body.types[1 + count :], body.extents([None, None, *values])
        stacked = (stack(s, t, 0, extents) for s, t in zip(stacks, types, strict=True))
        return (*carried, *stacked)

    samples = (
        sample(
            np.array(3), None, "f32[3]", "f32[3]", captured=1, outputs=2,
            body=_graph(
                "body", [*_ITERATION, _ROW, _ROW],
                lambda g, i, c, x, y: [c, (z := g.add_node(Add(), [x, y]).output), z],
            ),
        ),
        sample(
            None, np.array(True), np.array(0), np.array(4),
            captured=1, outputs=2,
            body=_graph(
                "body", [*_ITERATION, TensorType(i64, ()), TensorType(i64, ())],
                lambda g, i, c, x, y: [
                    g.add_node(Less(), [i, y]).output, g.add_node(Add(), [x, i]).output, i,
                ],
            ),
        ),
    )


@operator("Scan")
class Scan(ControlOperator):
    """Runs a body over slices of tensors, carrying states and stacking outputs.

    Inputs: states, scanned tensors, captured values. The body takes states, slices, captured; it
    gives states and the slices of the stacked outputs.
    Shapes: results are the last states, then each output stacked along its axis.
    Source: ONNX Scan-25.
    """

    body: Graph | None = None
    captured: int = 0
    num_scan_inputs: int = 1
    scan_input_axes: tuple[int, ...] = ()
    scan_input_directions: tuple[int, ...] = ()
    scan_output_axes: tuple[int, ...] = ()
    scan_output_directions: tuple[int, ...] = ()

    def _states(self, count: int) -> int:
        """Number of states among `count` inputs. Raises ShapeError if there are too few."""
        states = count - self.num_scan_inputs - self.captured
        if states < 0:
            raise ShapeError(
                f"{count} inputs; at least {self.num_scan_inputs + self.captured} expected"
            )
        return states

    def infer(self, *values: ValueType | None) -> tuple[ValueType, ...]:
        body = required(self.body, "body")
        states = self._states(len(values))
        if len(body.inputs) != len(values) or len(body.outputs) < states:
            raise ShapeError(
                f"the body has {len(body.inputs)} inputs and {len(body.outputs)} outputs; "
                f"{len(values)} and at least {states} expected"
            )
        axes = self.scan_input_axes or (0,) * self.num_scan_inputs
        count: Dim | None = None
        for axis, scanned in zip(axes, values[states : states + len(axes)], strict=True):
            if isinstance(scanned, TensorType) and scanned.shape is not None:
                count = scanned.dims[normalize_axis(axis, scanned.rank)]
                break
        length = fresh_dim(self, -1) if count is None else count
        types: list[ValueType] = []
        for k in range(states):
            first, later = values[k], body.outputs[k].type
            types.append(later if first is None else join_types(self, k, first, later))
        outs = body.outputs[states:]
        out_axes = self.scan_output_axes or (0,) * len(outs)
        types += [
            stacked_type(value.type, axis, length)
            for value, axis in zip(outs, out_axes, strict=True)
        ]
        return seen_outside(self, types, values)

    def _drive(self, bodies: Mapping[str, Body], *inputs: Any) -> tuple[Any, ...]:
        body, count = bodies["body"], self._states(len(inputs))
        states = list(inputs[:count])
        scanned = inputs[count : count + self.num_scan_inputs]
        captured = inputs[count + self.num_scan_inputs :]
        axes = self.scan_input_axes or (0,) * len(scanned)
        lines = []
        backwards = self.scan_input_directions or (0,) * len(scanned)
        for array, axis, backward in zip(scanned, axes, backwards, strict=True):
            line = np.moveaxis(array, axis, 0)
            lines.append(line[::-1] if backward else line)
        types = body.types[count:]
        out_axes = self.scan_output_axes or (0,) * len(types)
        turned = self.scan_output_directions or (0,) * len(types)
        quick = body.cycle(False)
        if quick is not None and len(lines[0]):
            done = quick(states, lines, captured, len(lines[0]))
            if done is not None:
                joined = [
                    np.moveaxis(rows[::-1] if turn else rows, 0, axis)
                    for rows, turn, axis in zip(done[1], turned, out_axes, strict=True)
                ]
                return (*done[0], *joined)
        extents = body.extents(states)
        stacks: list[list[Any]] = [[] for _ in types]
        for step in range(len(lines[0])):
            results = body.run([*states, *(line[step] for line in lines), *captured])
            states = results[:count]
            for items, item in zip(stacks, results[count:], strict=True):
                items.append(item)
        joined = [
            stack(items[::-1] if turn else items, type, axis, extents)
            for items, turn, type, axis in zip(stacks, turned, types, out_axes, strict=True)
        ]
        return (*states, *joined)

    samples = (
        sample(
            "f32[3]", "f32[4,3]", outputs=2,
            body=_graph(
                "body", [_ROW, _ROW], lambda g, h, x: [(z := g.add_node(Add(), [h, x]).output), z]
            ),
        ),
        sample(
            "f32[3]", "f32[3,4]", "f32[3]", outputs=2, captured=1, scan_input_axes=(-1,),
            scan_input_directions=(1,), scan_output_axes=(1,), scan_output_directions=(1,),
            body=_graph(
                "body", [_ROW, _ROW, _ROW],
                lambda g, h, x, y: [
                    g.add_node(Add(), [h, x]).output, g.add_node(Mul(), [x, y]).output,
                ],
            ),
        ),
    )


@operator("SequenceMap")
class SequenceMap(ControlOperator):
    """Runs a body on every element of a sequence; tensors among the inputs stay the same.

    Inputs: a sequence, more sequences or tensors, captured values -> one sequence per body output.
    Source: ONNX SequenceMap-17.
    """

    body: Graph | None = None
    captured: int = 0

    def infer(self, *values: ValueType | None) -> tuple[ValueType, ...]:
        body = required(self.body, "body")
        if len(body.inputs) != len(values):
            raise ShapeError(f"the body has {len(body.inputs)} inputs; {len(values)} expected")
        return seen_outside(self, [SequenceType(value.type) for value in body.outputs], values)

    def _drive(self, bodies: Mapping[str, Body], *inputs: Any) -> tuple[Any, ...]:
        body, mapped = bodies["body"], len(inputs) - self.captured
        results: list[list[Any]] = [[] for _ in body.types]
        for position in range(len(inputs[0])):
            operands = [
                value[position] if k < mapped and isinstance(value, list) else value
                for k, value in enumerate(inputs)
            ]
            for items, item in zip(results, body.run(operands), strict=True):
                items.append(item)
        return tuple(results)

    samples = (sample(skip="takes a sequence, which samples cannot give"),)
