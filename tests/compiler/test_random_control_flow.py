"""Random loops in loops and branches: the engine gives what the interpreter gives."""

import random

import numpy as np
import pytest

import bessemer
from bessemer.core.dtypes import boolean, f32, i64
from bessemer.core.shapes import symbol
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import run_graph
from bessemer.ir.operator import operator_class
from bessemer.ir.types import TensorType

WIDTH = 3
NUMBER, TRUTH = TensorType(i64, ()), TensorType(boolean, ())
PASSES = ("unroll-loops", "select-branches", "sink-constants", "refine-bodies", "inline-branches")


def op(name, **attributes):
    return operator_class(name)(**attributes)


class Maker:
    """Writes random graphs over rows of `width` numbers, an integer and a truth value."""

    def __init__(self, seed, width=WIDTH):
        self.random = random.Random(seed)
        self.type = TensorType(f32, (width,))

    def row(self, graph, rows):
        """A new row from others."""
        kind = self.random.choice(("Add", "Sub", "Max", "Tanh", "Abs", "Constant"))
        if kind == "Constant":
            if self.type.is_static:
                numbers = [self.random.randint(-2, 2) / 2 for _ in range(WIDTH)]
                return graph.add_constant("row", np.array(numbers, np.float32))
            half = graph.add_constant("half", np.array([0.5], np.float32))
            return graph.add_node(op("Add"), [self.random.choice(rows), half]).output
        count = 1 if kind in ("Tanh", "Abs") else 2
        picked = [self.random.choice(rows) for _ in range(count)]
        return graph.add_node(op(kind), picked).output

    def truth(self, graph, rows):
        """Whether the largest element of a row is below a limit, one that no rounding meets."""
        axes = graph.add_constant("axes", np.array([0]))
        top = graph.add_node(op("ReduceMax", keepdims=0), [self.random.choice(rows), axes]).output
        limit = self.random.choice((-0.93, 0.07, 1.37, 3.1))
        limit = graph.add_constant("limit", np.float32(limit))
        return graph.add_node(op("Less"), [top, limit]).output

    def fill(self, graph, rows, number, depth):
        """Adds nodes; the rows that there are then."""
        rows = list(rows)
        for _ in range(self.random.randint(1, 3)):
            rows.append(self.row(graph, rows))
            kind = self.random.choice(("row", "If", "Loop", "Scan")) if depth else "row"
            if kind == "If":
                rows += self.branch(graph, rows, number, depth)
            elif kind == "Loop":
                rows += self.loop(graph, rows, number, depth)
            elif kind == "Scan":
                rows += self.scan(graph, rows, number, depth)
        return rows

    def body(self, name, own, captured):
        """A body graph with its own inputs and those for captured rows and a number."""
        graph = Graph(name)
        inputs = [graph.add_input(f"own{k}", type) for k, type in enumerate(own)]
        rows = [graph.add_input(f"row{k}", self.type) for k in range(captured)]
        return graph, inputs, rows, graph.add_input("number", NUMBER)

    def branch(self, graph, rows, number, depth):
        bodies = {}
        for name in ("then_branch", "else_branch"):
            inner, _, given, count = self.body(name, [], len(rows))
            made = self.fill(inner, given, count, depth - 1)
            inner.outputs = [made[-1], self.random.choice(made)]
            bodies[name] = inner
        condition = self.truth(graph, rows)
        made = graph.add_node(op("If", **bodies), [condition, *rows, number], outputs=["p", "q"])
        return made.outputs

    def loop(self, graph, rows, number, depth):
        types = [NUMBER, TRUTH, self.type, self.type]
        inner, own, given, count = self.body("body", types, len(rows))
        cast = inner.add_node(op("Cast", to="f32"), [own[0]]).output
        first = inner.add_node(op("Add"), [own[2], cast]).output
        made = self.fill(inner, [first, own[3], *given], count, depth - 1)
        going = self.random.choice((own[1], self.truth(inner, made)))
        inner.outputs = [going, self.random.choice(made), self.random.choice(made), made[-1]]
        fixed = graph.add_constant("trips", np.array(self.random.choice((0, 1, 3, 20))))
        trips = self.random.choice((fixed, number))
        carried = [self.random.choice(rows) for _ in range(2)]
        node = graph.add_node(
            op("Loop", body=inner, captured=len(rows) + 1),
            [trips, None, *carried, *rows, number], outputs=["a", "b", "all"])
        return [*node.outputs[:2], self.folded(graph, node.outputs[2])]

    def scan(self, graph, rows, number, depth):
        inner, own, given, count = self.body("body", [self.type, self.type], len(rows))
        made = self.fill(inner, [*own, *given], count, depth - 1)
        inner.outputs = [self.random.choice(made), made[-1]]
        parts = [
            graph.add_node(op("Unsqueeze"), [
                self.random.choice(rows), graph.add_constant("axis", np.array([0]))]).output
            for _ in range(self.random.choice((2, 5)))
        ]
        line = graph.add_node(op("Concat", axis=0), parts).output
        turns = {"scan_input_directions": (self.random.randint(0, 1),),
                 "scan_output_directions": (self.random.randint(0, 1),)}
        node = graph.add_node(
            op("Scan", body=inner, captured=len(rows) + 1, **turns),
            [self.random.choice(rows), line, *rows, number], outputs=["a", "all"])
        return [node.outputs[0], self.folded(graph, node.outputs[1])]

    def folded(self, graph, stack):
        """A row again: the sum over a stack."""
        axes = graph.add_constant("axes", np.array([0]))
        total = graph.add_node(op("ReduceSum", keepdims=0), [stack, axes]).output
        return graph.add_node(op("Tanh"), [total]).output

    def graph(self):
        made = Graph("random")
        rows = [made.add_input(f"x{k}", self.type) for k in range(2)]
        rows = self.fill(made, rows, made.add_input("n", NUMBER), 2)
        made.outputs = [made.add_node(op("Neg"), [value]).output for value in rows[-4:]]
        return made


def check(maker, widths):
    """One engine, runs of any width: the interpreter gives the same."""
    graph = maker.graph()
    disabled = [name for name in PASSES if maker.random.random() < 0.4]
    engine = bessemer.build(graph, disable=disabled, strict=False)
    assert not list(engine.plan.opaque_steps)
    rng = np.random.default_rng(0)
    for width in widths:
        for trips in (0, 1, 4):
            feed = [rng.standard_normal(width).astype(np.float32) for _ in range(2)]
            feed.append(np.array(trips))
            right = run_graph(graph, feed)
            for found, expected in zip(engine.run(feed).values(), right, strict=True):
                np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("seed", range(25))
def test_random_control_flow(seed):
    check(Maker(seed), (WIDTH,))


@pytest.mark.parametrize("seed", range(10))
def test_random_control_flow_of_any_width(seed):
    check(Maker(seed, symbol("W")), (3, 1, 40, 3))
