"""The choice of layouts costs the least of all choices, and leaves nothing that could agree."""

import itertools
import random

import numpy as np
import pytest

from bessemer.core.dtypes import f32
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.inference import infer_again
from bessemer.ir.types import TensorType
from bessemer.passes.choose_layouts import Choice, ChooseLayouts
from bessemer.passes.layout_costs import Costs, copy_cost, is_blocked
from bessemer.passes.match import make

BLOCK = 16


class Network:
    """A graph that grows by random operators of pictures, some bound to one layout."""

    def __init__(self, seed: int, nodes: int) -> None:
        self.rng = random.Random(seed)
        self.graph = Graph("random")
        channels = self.rng.choice((3, 16, 24))
        self.values = [self.graph.add_input("x", TensorType(f32, (1, channels, 24, 24)))]
        for k in range(nodes):
            self.values.append(self.add(f"n{k}"))
        self.graph.outputs = [v for v in self.values[1:] if not v.users or self.rng.random() < 0.1]

    def add(self, name: str) -> Value:
        x = self.rng.choice(self.values[-3:])
        channels, side = x.tensor.static_shape[1:3]
        same = [v for v in self.values if v.type == x.type]
        kinds = ["Conv", "Conv", "Relu", "Softmax", "Depthwise", "Add", "Concat"]
        kind = self.rng.choice([*kinds, "MaxPool", "Resize"] if 4 < side < 50 else kinds)
        if kind == "Conv":
            filters, size = self.rng.choice((2, 16, 32, 40)), self.rng.choice((1, 3))
            weights = np.zeros((filters, channels, size, size), np.float32)
            return self.node(name, make("Conv", pads=(size // 2,) * 4), x, weights)
        if kind == "Depthwise":
            weights = np.zeros((channels, 1, 3, 3), np.float32)
            return self.node(name, make("Conv", pads=(1,) * 4, group=channels), x, weights)
        if kind == "Add":
            return self.node(name, make("Add"), x, self.rng.choice(same))
        if kind == "Concat":
            return self.node(name, make("Concat", axis=1), x, self.rng.choice(same))
        if kind == "Resize":
            return self.node(name, make("Resize"), x, None, np.array([1, 1, 2, 2], np.float32))
        attributes = {"MaxPool": {"kernel_shape": (2, 2), "strides": (2, 2)},
                      "Softmax": {"axis": 1}}.get(kind, {})
        return self.node(name, make(kind, **attributes), x)

    def node(self, name, op, *inputs) -> Value:
        operands = [self.graph.add_constant(f"{name}.{k}", each)
                    if isinstance(each, np.ndarray) else each for k, each in enumerate(inputs)]
        node = self.graph.add_node(op, operands, name=name, outputs=[f"{name}_out"])
        infer_again(node)
        return node.output


def total(graph: Graph, choice: Choice, ways: dict[int, tuple[bool, bool]]) -> int:
    """The cost of computing each node in a way: (it reads blocks, it writes blocks)."""
    cost = 0
    wanted: dict[int, set[bool]] = {id(value): set() for value in graph.values()}
    for value in graph.outputs:
        wanted[id(value)].add(False)
    for node in graph.nodes:
        reads, writes = ways[id(node)]
        costs = choice.costs.get(id(node))
        if costs is not None:
            cost += costs.blocked if reads else costs.widening if writes else costs.plain
        for k, value in enumerate(node.inputs):
            layout = costs.reads[k] if costs is not None and reads else False
            if value is not None and layout is not None:
                wanted[id(value)].add(layout)
    for value in graph.values():
        if value.constant is None:
            given = value.producer is not None and ways[id(value.producer)][1]
            if wanted[id(value)] - {given}:
                cost += copy_cost(value, given, not given, BLOCK)
    return cost


def ways_of(costs: Costs | None) -> list[tuple[bool, bool]]:
    if costs is None:
        return [(False, False)]
    widening = [] if costs.widening is None else [(False, True)]
    return [(False, False), (True, True), *widening]


@pytest.mark.parametrize("seed", range(60))
def test_no_choice_costs_less(seed):
    graph = Network(seed, random.Random(seed).randint(1, 7)).graph
    choice = Choice(graph, BLOCK)
    found = {id(node): (choice.reads_blocks(node), choice.writes_blocks(node))
             for node in graph.nodes}
    each = [ways_of(choice.costs.get(id(node))) for node in graph.nodes]
    every = [dict(zip(map(id, graph.nodes), ways, strict=True))
             for ways in itertools.product(*each)]
    assert total(graph, choice, found) == min(total(graph, choice, ways) for ways in every)


@pytest.mark.parametrize("seed", range(100, 130))
def test_readers_get_the_layouts_that_they_want(seed):
    graph = Network(seed, 12).graph
    ChooseLayouts(block=BLOCK).run(graph)
    for node in graph.nodes:
        blocked = [is_blocked(v) for v in node.inputs if v is not None and v.constant is None]
        if node.op.op_name == "bessemer.Reorder":
            x, y = node.inputs[0], node.output
            assert x is not None
            assert x.layout != y.layout or x.producer is None
            assert not (_is_reorder(x.producer) and is_blocked(y) != is_blocked(x))
        elif node.op.op_name != "Conv":
            assert {*blocked} == {is_blocked(node.output)}, node
    assert not any(is_blocked(value) for value in graph.outputs)


def _is_reorder(node: Node | None) -> bool:
    return node is not None and node.op.op_name == "bessemer.Reorder"


def test_a_graph_without_convolutions_is_plain():
    network = Network(0, 0)
    x = network.values[0]
    network.graph.outputs = [network.node("r", make("Relu"), x)]
    assert not Choice(network.graph, BLOCK).costs
    ChooseLayouts(block=BLOCK).run(network.graph)
    assert [node.op.op_name for node in network.graph.nodes] == ["Relu"]
    assert not is_blocked(x)
