"""Minimum cuts against trying every division."""

import itertools
import random
import time

import pytest

from bessemer.passes.min_cut import NEVER, Division

Costs = tuple[list[tuple[int, int]], dict[tuple[int, int], int]]


def random_costs(rng: random.Random, count: int, edges: int) -> Costs:
    """What it costs to have each node in or out, and to part neighbours."""
    nodes = [rng.choice(((0, 0), (0, rng.randint(0, 9)), (rng.randint(0, 9), 0),
                         (rng.randint(0, 9), rng.randint(0, 9)), (NEVER, 0)))
             for _ in range(count)]
    pairs = [(rng.randrange(count), rng.randrange(count)) for _ in range(edges)]
    partings = {pair: rng.choice((0, 1, rng.randint(1, 9))) for pair in pairs if pair[0] != pair[1]}
    return nodes, partings


def divide(costs: Costs) -> list[bool]:
    division = Division()
    for if_in, if_out in costs[0]:
        division.add_node(if_in, if_out)
    for (a, b), cost in costs[1].items():
        division.add_parting(a, b, cost)
    return division.solve()


def cost_of(is_in: tuple[bool, ...] | list[bool], costs: Costs) -> int:
    alone = sum(cost[0 if inside else 1] for cost, inside in zip(costs[0], is_in, strict=True))
    return alone + sum(
        cost for (a, b), cost in costs[1].items() if is_in[a] and not is_in[b])


@pytest.mark.parametrize("seed", range(200))
def test_no_division_costs_less(seed):
    rng = random.Random(seed)
    costs = random_costs(rng, rng.randint(1, 8), rng.randint(0, 16))
    found = divide(costs)
    every = list(itertools.product((False, True), repeat=len(found)))
    least = min(cost_of(is_in, costs) for is_in in every)
    assert cost_of(found, costs) == least
    most = max(sum(is_in) for is_in in every if cost_of(is_in, costs) == least)
    assert sum(found) == most


def test_long_chains_and_dense_graphs_are_quick():
    rng = random.Random(0)
    chain = {(k, k + 1): rng.randint(1, 9) for k in range(1999)} | {
        (k + 1, k): rng.randint(1, 9) for k in range(1999)}
    dense = {(a, b): rng.randint(1, 9) for a in range(60) for b in range(60) if a != b}
    for partings, count in ((chain, 2000), (dense, 60)):
        nodes = [rng.choice(((0, 5), (5, 0), (0, 0))) for _ in range(count)]
        start = time.perf_counter()
        divide((nodes, partings))
        assert time.perf_counter() - start < 5


def test_costs_of_one_pair_add_up():
    division = Division()
    a, b = division.add_node(if_in=5), division.add_node(if_out=3)
    division.add_parting(b, a, 1)
    division.add_parting(b, a, 1)
    assert division.solve() == [False, True]
    division.add_parting(b, a, 3)
    assert division.solve() == [False, False]


def test_nothing_to_divide():
    assert Division().solve() == []
