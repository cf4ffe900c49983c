"""Schedule: the loops of one compute and the primitives that change them, as data that replays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bessemer.core.errors import ScheduleError
from bessemer.te.expr import Reduce
from bessemer.te.tensor import Tensor

TAILS = ("exact", "shrink", "mask", "pad", "balance")


@dataclass(frozen=True)
class Split:
    """`axis` = outer * factor + inner.

    `tail` says what happens where the factor does not divide the extent: "exact" forbids it,
    "shrink" makes the last inner loop shorter, "mask" guards it, "pad" runs over the padding of
    the layouts, "balance" makes all tiles nearly equal (sizes differ by at most one).
    """

    axis: str
    factor: int
    outer: str
    inner: str
    tail: str


@dataclass(frozen=True)
class Fuse:
    """fused = first * extent(second) + second."""

    first: str
    second: str
    fused: str


@dataclass
class Schedule:
    """Loops in order, outermost first, with what was done to them.

    Root loops are named a0, a1 ... (output axes) and r0, r1 ... (reduction axes). `steps` is the
    list of primitives as text; `replay` applies such a list to a fresh schedule.
    """

    extents: dict[str, int]
    reducing: set[str]
    order: list[str]
    splits: dict[str, Split] = field(default_factory=dict)
    fuses: dict[str, Fuse] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    accumulate_at: str = ""
    steps: list[str] = field(default_factory=list)

    @staticmethod
    def of(stage: Tensor, bound: Iterable[int] = ()) -> "Schedule":
        """The loops of a compute, all serial; `bound` axes have a given value and get none."""
        skip = set(bound)
        extents = {f"a{k}": _static(axis.extent) for k, axis in enumerate(stage.axes)
                   if k not in skip}
        reducing = set()
        if isinstance(stage.body, Reduce):
            for k, axis in enumerate(stage.body.axes):
                extents[f"r{k}"] = _static(axis.extent)
                reducing.add(f"r{k}")
        return Schedule(extents, reducing, list(extents))

    def _note(self, *words: object) -> None:
        self.steps.append(" ".join(map(str, words)))

    def _loop(self, name: str) -> str:
        if name not in self.order:
            raise ScheduleError(f"no loop {name!r}; the loops are {' '.join(self.order)}")
        return name

    def split(self, axis: str, factor: int, tail: str = "shrink") -> tuple[str, str]:
        """Before `for i in 10`, after `for i.o in 3: for i.i in 4`, the last one as `tail` says."""
        self._loop(axis)
        if factor < 1 or tail not in TAILS:
            raise ScheduleError(f"cannot split {axis} by {factor} with tail {tail!r}")
        extent = self.extents[axis]
        for other in self.splits.values():
            if other.outer == axis and self.extents[other.axis] % other.factor \
                    and other.tail not in ("exact", "pad"):
                raise ScheduleError(
                    f"{axis} is the outer loop of an uneven split of {other.axis}; split "
                    f"{other.axis} first and then its inner loop")
        if tail == "exact" and extent % factor:
            raise ScheduleError(f"{factor} does not divide {axis} (extent {extent})")
        outer, inner = axis + ".o", axis + ".i"
        count = -(-extent // factor)
        if tail == "balance" and count:
            factor = -(-extent // count)
        self.splits[axis] = Split(axis, factor, outer, inner, tail)
        self.extents[outer], self.extents[inner] = count, factor
        where = self.order.index(axis)
        self.order[where: where + 1] = [outer, inner]
        if axis in self.reducing:
            self.reducing |= {outer, inner}
        self._note("split", axis, factor, tail)
        return outer, inner

    def fuse(self, first: str, second: str) -> str:
        """Before `for a in 2: for b in 3`, after `for a+b in 6`; the loops must be neighbours."""
        where = self.order.index(self._loop(first))
        if self.order[where + 1: where + 2] != [second] or \
                (first in self.reducing) != (second in self.reducing):
            raise ScheduleError(f"{first} and {second} are not neighbours that can be fused")
        fused = f"{first}+{second}"
        self.fuses[fused] = Fuse(first, second, fused)
        self.extents[fused] = self.extents[first] * self.extents[second]
        self.order[where: where + 2] = [fused]
        if first in self.reducing:
            self.reducing.add(fused)
        self._note("fuse", first, second)
        return fused

    def fuse_all(self, names: Sequence[str]) -> str:
        """Fuses neighbouring loops into one."""
        result = names[0]
        for name in names[1:]:
            result = self.fuse(result, name)
        return result

    def reorder(self, *names: str) -> None:
        """Puts the loops in that order, at the positions they take now."""
        for name in names:
            self._loop(name)
        if len(set(names)) != len(names):
            raise ScheduleError(f"reorder names a loop twice: {' '.join(names)}")
        places = sorted(self.order.index(name) for name in names)
        for place, name in zip(places, names, strict=True):
            self.order[place] = name
        self._note("reorder", *names)

    def _mark(self, kind: str, name: str) -> None:
        self._loop(name)
        if kind == "vector" and "vector" in self.kinds.values():
            raise ScheduleError("only one loop can be the vector loop")
        if kind == "parallel" and name in self.reducing:
            raise ScheduleError(f"{name} is a reduction and cannot be shared between threads")
        self.kinds[name] = kind
        self._note({"vector": "vectorize"}.get(kind, kind), name)

    def vectorize(self, name: str) -> None:
        """The loop becomes the lanes of vector instructions."""
        self._mark("vector", name)

    def unroll(self, name: str) -> None:
        """The loop becomes straight-line code."""
        self._mark("unroll", name)

    def parallel(self, name: str) -> None:
        """The threads share the iterations."""
        self._mark("parallel", name)

    def accumulate(self, name: str) -> None:
        """Accumulators live inside this loop: initialised, updated and written there."""
        self.accumulate_at = self._loop(name)
        self._note("accumulate", name)

    @property
    def text(self) -> str:
        """The primitives, one per line."""
        return "\n".join(self.steps)

    def replay(self, text: str) -> "Schedule":
        """Applies printed primitives.

        Raises: ScheduleError on an unknown primitive or loop.
        """
        for line in filter(None, (row.strip() for row in text.splitlines())):
            word, *rest = line.split()
            match word, rest:
                case "split", [axis, factor, tail]:
                    self.split(axis, int(factor), tail)
                case "fuse", [first, second]:
                    self.fuse(first, second)
                case "reorder", names:
                    self.reorder(*names)
                case ("vectorize" | "unroll" | "parallel" | "accumulate"), [name]:
                    getattr(self, word)(name)
                case _:
                    raise ScheduleError(f"unknown primitive {line!r}")
        return self


def _static(extent: object) -> int:
    if not isinstance(extent, int):
        raise ScheduleError(f"the extent {extent} is not static")
    return extent
