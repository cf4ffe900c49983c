"""Random graphs give the same answer before and after the pipeline, pass by pass."""

import numpy as np
import pytest

from bessemer.core.dtypes import f32
from bessemer.core.errors import BessemerError
from bessemer.ir.graph import Graph
from bessemer.ir.parser import parse_graph
from bessemer.ir.printer import constant_table, print_graph
from bessemer.ir.types import TensorType
from bessemer.ir.verifier import verify
from bessemer.passes.graph_pass import PASSES
from bessemer.passes.match import make
from bessemer.passes.pipelines import run_pipeline
from bessemer.passes.runner import run_pass

UNARY = ("Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Identity", "Softplus", "Erf")
BINARY = ("Add", "Sub", "Mul", "Max", "Min")


class Maker:
    """Adds random nodes to a graph over rank-4 tensors."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.graph = Graph("random")
        self.pool = [
            self.graph.add_input("x", TensorType(f32, (2, 16, 4, 4))),
            self.graph.add_input("z", TensorType(f32, (2, 16, 4, 4))),
        ]

    def pick(self):
        late = self.rng.integers(max(0, len(self.pool) - 4), len(self.pool))
        return self.pool[int(late)]

    def constant(self, shape):
        kind = self.rng.integers(4)
        data = self.rng.uniform(-1, 1, shape)
        data = {0: np.zeros(shape), 1: np.ones(shape), 2: np.full(shape, 2.0)}.get(int(kind), data)
        return self.graph.add_constant("c", data.astype(np.float32))

    def ints(self, *items):
        return self.graph.add_constant("i", np.array(items, np.int64))

    def add(self, op, inputs, outputs=1):
        names = [f"v{len(self.pool)}_{k}" for k in range(outputs)]
        self.pool += self.graph.add_node(op, inputs, outputs=names).outputs

    def step(self):
        x = self.pick()
        n, c, h, w = x.tensor.static_shape
        match int(self.rng.integers(15)):
            case 0 | 1 | 2:
                self.add(make(str(self.rng.choice(UNARY))), [x])
            case 3:
                self.add(make(str(self.rng.choice(BINARY))), [x, self.pick()])
            case 4:
                shape = [(), (c, 1, 1), (1, c, 1, 1), (w,), (1, 1, h, w)][self.rng.integers(5)]
                pair = [x, self.constant(shape)]
                self.add(make(str(self.rng.choice(BINARY))), pair[:: self.rng.choice([1, -1])])
            case 5:
                perm = tuple(int(axis) for axis in self.rng.permutation(4))
                self.add(make("Transpose", perm=perm), [x])
            case 6:
                self.add(make("Reshape"), [x, self.ints(n, c, w, h)])
            case 7:
                self.add(make("Concat", axis=int(self.rng.integers(4))), [x, self.pick()])
            case 8:
                cut = max(c // 2, 1)
                if c > cut:
                    self.add(make("Split", axis=1), [x, self.ints(cut, c - cut)], 2)
            case 9 | 10 | 13 | 14:
                k = int(self.rng.choice([1, 3]))
                m = int(self.rng.choice([16, 32]))
                weights = self.constant((m, c, k, k))
                self.add(make("Conv", pads=(k // 2,) * 4), [x, weights])
            case 11:
                stats = [self.constant((c,)) for _ in range(3)]
                var = self.graph.add_constant("var", np.full(c, 0.5, np.float32))
                self.add(make("BatchNormalization"), [x, *stats, var])
            case 12:
                self.add(make("Slice"), [x, self.ints(0), self.ints(max(c // 2, 1)), self.ints(1)])

    def build(self, steps):
        for _ in range(steps):
            try:
                self.step()
            except BessemerError:
                continue  # shapes that do not fit: another step instead
        made = [value for value in self.pool if value.producer is not None]
        self.graph.outputs = [value for value in made if not value.users or self.rng.random() < 0.1]
        return self.graph


@pytest.mark.parametrize("seed", range(40))
def test_the_answer_stays(seed, caplog):
    graph = Maker(seed).build(18)
    verify(graph)
    results = run_pipeline(graph, verify=True)
    verify(graph)
    assert [result.offence for result in results if result.rolled_back] == []
    assert not caplog.records, "the graph could not be run"
    run_pass(graph, PASSES.get("place-concats")())
    verify(graph)
    text = print_graph(graph)
    assert print_graph(parse_graph(text, constant_table(graph))) == text
