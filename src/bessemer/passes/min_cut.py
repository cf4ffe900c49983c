"""The cheapest way to divide nodes in two where neighbours that are parted cost something.

Costs of that form have a minimum cut of a network as their least sum, whatever the shape of the
graph: trees, where dynamic programming would do, and joins alike (J. Picard and H. Ratliff,
Networks 5, 1975). The flow that proves it is found along shortest paths (J. Edmonds and R. Karp,
Journal of the ACM 19, 1972), searched from where it ends: those places are few.
"""

import itertools
from collections import deque

NEVER = 1 << 60
"""The cost of what must not be: more than any sum of real costs."""


class Division:
    """Nodes that shall be in or out, and what each division costs, in whole numbers."""

    def __init__(self) -> None:
        self._supply: list[int] = []
        """What is paid if a node is out, less the flow that comes through it from the start."""
        self._demand: list[int] = []
        """What is paid if a node is in, less the flow that ends there."""
        self._room: list[dict[int, int]] = []
        """How much more can flow from a node to each neighbour."""

    def add_node(self, if_in: int = 0, if_out: int = 0) -> int:
        """A node with what it costs to have it in or out; its number."""
        least = min(if_in, if_out)
        self._supply.append(if_out - least)
        self._demand.append(if_in - least)
        self._room.append({})
        return len(self._room) - 1

    def add_parting(self, node: int, other: int, cost: int) -> None:
        """A cost if `node` is in and `other` is out."""
        self._room[node][other] = self._room[node].get(other, 0) + cost
        self._room[other].setdefault(node, 0)

    def solve(self) -> list[bool]:
        """Which nodes are in, at the least cost; as many as possible where costs are equal."""
        while True:
            start, towards = self._search()
            if start is None:
                return [node not in towards for node in range(len(self._room))]
            self._push(start, towards)

    def _search(self) -> tuple[int | None, dict[int, int]]:
        """A node with supply from which flow can go to the nearest demand.

        With it the next node on the way from each node that was seen, itself at the end.
        Without one all nodes were seen from which something can flow to a demand.
        """
        towards = {node: node for node, demand in enumerate(self._demand) if demand > 0}
        waiting = deque(towards)
        while waiting:
            node = waiting.popleft()
            if self._supply[node] > 0:
                return node, towards
            for other in self._room[node]:
                if other not in towards and self._room[other][node] > 0:
                    towards[other] = node
                    waiting.append(other)
        return None, towards

    def _push(self, start: int, towards: dict[int, int]) -> None:
        """Lets as much flow along a path as it takes."""
        path = [start]
        while towards[path[-1]] != path[-1]:
            path.append(towards[path[-1]])
        steps = list(itertools.pairwise(path))
        amount = min(self._supply[start], self._demand[path[-1]],
                     *(self._room[a][b] for a, b in steps))
        self._supply[start] -= amount
        self._demand[path[-1]] -= amount
        for a, b in steps:
            self._room[a][b] -= amount
            self._room[b][a] += amount
