"""Schedule: the loops of one compute and the primitives that change them, as data that replays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bessemer.core.errors import ScheduleError
from bessemer.core.shapes import Dim, Sym
from bessemer.ir.layout import Layout
from bessemer.ir.parser import parse_layout
from bessemer.ir.printer import print_layout
from bessemer.te.expr import Reduce
from bessemer.te.tensor import Tensor

TAILS = ("exact", "shrink", "mask", "pad", "balance")


@dataclass(frozen=True)
class Split:
    """`axis` = outer * factor + inner.

    `tail` says what happens where the factor does not divide the extent: "exact" forbids it,
    "shrink" makes the last inner loop shorter, "mask" guards it, "pad" runs over the padding of
    the layouts, "balance" makes all tiles nearly equal (sizes differ by at most one). Where the
    extent is symbolic, "shrink" and "balance" leave the rest to inner loops of one iteration.
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


@dataclass(frozen=True)
class Stream:
    """While the loops `turns`, outermost first, run through a block, its successor is asked for.

    `block` is the loop over blocks. `count` is the number of elements of a block.
    """

    block: str
    turns: tuple[str, ...]
    count: int


@dataclass
class Schedule:
    """Loops in order, outermost first, with what was done to them.

    Root loops are named a0, a1 ... (output axes) and r0, r1 ... (reduction axes). `steps` is the
    list of primitives as text; `replay` applies such a list to a fresh schedule.
    """

    extents: dict[str, Dim]
    reducing: set[str]
    order: list[str]
    splits: dict[str, Split] = field(default_factory=dict)
    fuses: dict[str, Fuse] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    accumulate_at: str = ""
    packs: dict[str, Layout] = field(default_factory=dict)
    prefetches: dict[str, int] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    fetches: tuple[str, ...] = ()
    stash_at: str = ""
    skips: dict[str, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)

    @staticmethod
    def of(stage: Tensor, bound: Iterable[int] = ()) -> "Schedule":
        """The loops of a compute, all serial; `bound` axes have a given value and get none."""
        skip = set(bound)
        extents = {f"a{k}": axis.extent for k, axis in enumerate(stage.axes) if k not in skip}
        reducing = set()
        if isinstance(stage.body, Reduce):
            for k, axis in enumerate(stage.body.axes):
                extents[f"r{k}"] = axis.extent
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
        self._check_split(axis, factor, tail)
        outer, inner = axis + ".o", axis + ".i"
        count = tiles_of(extent, factor, tail)
        if tail == "balance" and count and isinstance(extent, int) and isinstance(count, int):
            factor = -(-extent // count)
        self.splits[axis] = Split(axis, factor, outer, inner, tail)
        self.extents[outer], self.extents[inner] = count, factor
        where = self.order.index(axis)
        self.order[where: where + 1] = [outer, inner]
        if axis in self.reducing:
            self.reducing |= {outer, inner}
        self._note("split", axis, factor, tail)
        return outer, inner

    def _check_split(self, axis: str, factor: int, tail: str) -> None:
        if axis in self.fuses:
            raise ScheduleError(f"{axis} is a fused loop; split {self.fuses[axis].second} first")
        uneven = any(size % factor != 0 for size in self._sizes(axis))
        parent = next((s for s in self.splits.values() if axis in (s.outer, s.inner)), None)
        if parent is not None and axis == parent.outer and self._uneven(parent):
            raise ScheduleError(
                f"{axis} is the outer loop of an uneven split of {parent.axis}; split "
                f"{parent.axis} first and then its inner loop")
        if tail == "exact" and uneven:
            sizes = ", ".join(sorted(map(str, self._sizes(axis))))
            raise ScheduleError(f"{factor} does not divide {axis} (extent {sizes})")
        if tail == "pad" and isinstance(self.extents[axis], Sym):
            raise ScheduleError(f"{axis} is symbolic; layouts have no padding for it")
        if tail == "pad" and uneven and parent is not None:
            raise ScheduleError(f"{axis} is part of {parent.axis}; only whole axes have padding")

    def _sizes(self, name: str) -> set[Dim]:
        """Every extent that a loop can have: the tails of splits are shorter."""
        for split in self.splits.values():
            sizes = self._sizes(split.axis) if name in (split.outer, split.inner) else set()
            if name == split.outer:
                return {tiles_of(size, split.factor, split.tail) for size in sizes}
            if name == split.inner:
                return set().union(*(_tiles(size, split) for size in sizes))
        fuse = self.fuses.get(name)
        if fuse is not None:
            return {a * b for a in self._sizes(fuse.first) for b in self._sizes(fuse.second)}
        return {self.extents[name]}

    def _uneven(self, split: Split) -> bool:
        """True if the outer loop runs in stretches of their own."""
        return split.tail in ("shrink", "mask", "balance") and any(
            size % split.factor != 0 for size in self._sizes(split.axis))

    def _lineage(self, name: str) -> set[str]:
        """The loop and all those it came from."""
        fuse = self.fuses.get(name)
        parents = [] if fuse is None else [fuse.first, fuse.second]
        parents += [s.axis for s in self.splits.values() if name in (s.outer, s.inner)]
        return {name}.union(*map(self._lineage, parents))

    def _made_of(self, name: str) -> set[str]:
        """The loops in order that a loop was turned into."""
        if name in self.order:
            return {name}
        split = self.splits.get(name)
        if split is not None:
            return self._made_of(split.outer) | self._made_of(split.inner)
        return next((self._made_of(fuse.fused) for fuse in self.fuses.values()
                     if name in (fuse.first, fuse.second)), set())

    def fuse(self, first: str, second: str) -> str:
        """Before `for a in 2: for b in 3`, after `for a+b in 6`; the loops must be neighbours."""
        where = self.order.index(self._loop(first))
        if self.order[where + 1: where + 2] != [second] or \
                (first in self.reducing) != (second in self.reducing):
            raise ScheduleError(f"{first} and {second} are not neighbours that can be fused")
        for split in self.splits.values():
            if split.outer in self._lineage(first) and split.inner in self._lineage(second) \
                    and split.tail in ("shrink", "balance") and self._uneven(split):
                raise ScheduleError(f"{second} has no fixed extent inside {first}: the split of "
                                    f"{split.axis} is uneven")
        fused = f"{first}+{second}"
        self.fuses[fused] = Fuse(first, second, fused)
        self.extents[fused] = self.extents[first] * self.extents[second]
        self.order[where: where + 2] = [fused]
        if first in self.reducing:
            self.reducing.add(fused)
        if self.accumulate_at in (first, second):
            self.accumulate_at = fused
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
        before = list(self.order)
        places = sorted(self.order.index(name) for name in names)
        for place, name in zip(places, names, strict=True):
            self.order[place] = name
        for split in self.splits.values():
            outer = max(map(self.order.index, self._made_of(split.outer)))
            inner = min(map(self.order.index, self._made_of(split.inner)))
            if outer > inner and self._uneven(split):
                self.order = before
                raise ScheduleError(
                    f"{split.inner} must stay inside {split.outer}: the split is uneven")
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

    def pack(self, tensor: str, layout: Layout) -> None:
        """A constant operand is stored in that layout, so that the loops read it as one stream."""
        self.packs[tensor] = layout
        self._note("pack", tensor, print_layout(layout))

    def prefetch(self, tensor: str, ahead_bytes: int) -> None:
        """Every vector load of that tensor also asks for the memory so many bytes further on."""
        if ahead_bytes < 0:
            raise ScheduleError(f"cannot prefetch {ahead_bytes} bytes ahead")
        if ahead_bytes:
            self.prefetches[tensor] = ahead_bytes
            self._note("prefetch", tensor, ahead_bytes)

    def stream(self, tensor: str, block: str, turns: Sequence[str], count: int) -> None:
        """Each iteration of the loops `turns`, which lie in `block`, asks for a part of the next.

        The tensor is packed, so that the next `count` elements follow those of this block. They
        come from far memory while the block in the cache is read again and again.
        """
        places = [self.order.index(self._loop(name)) for name in (block, *turns)]
        if not turns or places != sorted(set(places)) or count < 1:
            raise ScheduleError(f"cannot stream {count} elements over {block} and {turns}")
        self.streams[tensor] = Stream(block, tuple(turns), count)
        self._note("stream", tensor, block, *turns, count)

    def fetch_results(self, turns: Sequence[str]) -> None:
        """The reduction loops `turns`, outermost first, ask for the memory of the tile's results.

        Each iteration asks for a part, so that stores find it in the first cache and what the sum
        reads does not wait behind them.
        """
        for name in turns:
            if self._loop(name) not in self.reducing:
                raise ScheduleError(f"{name} is no reduction: it cannot ask for results")
        self.fetches = tuple(turns)
        self._note("fetch_results", *turns)

    def skip(self, tensor: str, name: str) -> None:
        """Iterations of a reduction loop that would multiply by zeros of that tensor do nothing.

        The tensor's element must be the same in all loops inside, and the other factor finite.
        """
        if self._loop(name) not in self.reducing:
            raise ScheduleError(f"{name} is no reduction, so none of its iterations can be skipped")
        self.skips[name] = tensor
        self._note("skip", tensor, name)

    def stash(self, name: str) -> None:
        """Before this loop the computed factor of a product goes to scratch memory of the task.

        What the factor depends on is bound by the loops outside, or runs inside.
        """
        self.stash_at = self._loop(name)
        self._note("stash", name)

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
                case "prefetch", [tensor, ahead]:
                    self.prefetch(tensor, int(ahead))
                case "fetch_results", turns:
                    self.fetch_results(turns)
                case "skip", [tensor, name]:
                    self.skip(tensor, name)
                case "stream", [tensor, block, *turns, count]:
                    self.stream(tensor, block, turns, int(count))
                case "pack", [tensor, *layout]:
                    self.pack(tensor, parse_layout(" ".join(layout)))
                case ("vectorize" | "unroll" | "parallel" | "accumulate" | "stash"), [name]:
                    getattr(self, word)(name)
                case _:
                    raise ScheduleError(f"unknown primitive {line!r}")
        return self


def tiles_of(size: Dim, factor: int, tail: str) -> Dim:
    """Iterations of the outer loop: tiles, and of a symbolic extent the single ones behind."""
    if isinstance(size, Sym) and tail in ("shrink", "balance"):
        return size // factor + size % factor
    return -(-size // factor)


def _tiles(size: Dim, split: Split) -> set[Dim]:
    """The extents of the inner loop where the axis has that size."""
    if isinstance(size, Sym):
        whole = split.tail not in ("shrink", "balance") or size % split.factor == 0
        return set[Dim]({split.factor} if whole else {split.factor, 1})
    full, rest = divmod(size, split.factor)
    if split.tail == "shrink":
        return set[Dim](({split.factor} if full else set()) | ({rest} if rest else set()))
    if split.tail == "balance" and size:
        count = -(-size // split.factor)
        return {-(-size // count), size // count}
    return {split.factor}
