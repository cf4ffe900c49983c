"""An epoch of a symbolic plan for given values: where everything lies, and what to run."""

from typing import Any

import numpy as np

from bessemer.runtime.bindings import Spec
from bessemer.runtime.places import Place
from bessemer.runtime.program import HostSegment, ShapeSegment

Array = np.ndarray[Any, Any]
Patches = list[tuple[int, list[tuple[int, int]]]]
"""For an input or output: the arguments that lie in it, and at which byte."""


class State:
    """An epoch for given values; `table` and what follows belong to the runner that holds it."""

    __slots__ = (
        "arena_bytes", "arrivals", "counts", "fetches", "generation", "inputs", "numbers",
        "offsets", "outputs", "parallel", "relative", "rooms", "segments", "specs", "table",
        "values", "variant", "version", "zeroed",
    )

    def __init__(self, values: tuple[int, ...], numbers: list[int]) -> None:
        self.values = values
        self.numbers = numbers
        self.arena_bytes = 0
        self.offsets: Array
        self.rooms: Array
        self.relative: Array
        self.specs: list[Spec | None] = []
        self.segments: list[int | HostSegment | ShapeSegment] = []
        self.inputs: Patches = []
        self.outputs: Patches = []
        self.parallel: list[tuple[int, bool]] = []
        self.zeroed: list[tuple[int, int, int]] = []
        self.arrivals: list[tuple[int, int, Place]] = []
        self.fetches: list[tuple[int, Place]] = []
        self.table: Array
        self.generation = -1
        self.counts = True
        self.variant: Any = None
        self.version = 0
