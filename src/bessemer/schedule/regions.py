"""Where split and fused loops stand: their values, their sizes, their regions.

A split whose factor does not divide the extent gives regions: stretches of the outer loop with
their own inner extent. Each region gets its own loops, so the main one carries no conditions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bessemer.core.shapes import Dim, Sym
from bessemer.schedule.schedule import Schedule, Split, tiles_of
from bessemer.te.expr import Expr, extent


@dataclass(frozen=True)
class Env:
    """What is bound so far: loop values, region sizes, how split axes combine in this region."""

    values: Mapping[str, Expr] = field(default_factory=dict)
    sizes: Mapping[str, Dim] = field(default_factory=dict)
    combine: Mapping[str, tuple[int, Dim]] = field(default_factory=dict)

    def bind(self, name: str, value: Expr) -> "Env":
        """With the value of a loop."""
        return replace(self, values={**self.values, name: value})

    def sized(self, name: str, size: Dim) -> "Env":
        """With the size that a loop has in this region."""
        return replace(self, sizes={**self.sizes, name: size})

    def combined(self, axis: str, factor: int, start: Dim) -> "Env":
        """With an axis that is outer * factor + inner + start in this region."""
        return replace(self, combine={**self.combine, axis: (factor, start)})


@dataclass(frozen=True)
class Regions:
    """The loops of a schedule, by name, in an environment."""

    schedule: Schedule

    def value(self, axis: str, env: Env) -> Expr:
        """The value of an axis, from those of the loops that it was split into."""
        if axis in env.values:
            return env.values[axis]
        split = self.schedule.splits[axis]
        factor, start = env.combine.get(axis, (split.factor, 0))
        inner = self.value(split.inner, env)
        return self.value(split.outer, env) * factor + inner + extent(start)

    def is_bound(self, axis: str, env: Env) -> bool:
        """Whether all loops of an axis have their values."""
        if axis in env.values:
            return True
        split = self.schedule.splits.get(axis)
        return split is not None and self.is_bound(split.outer, env) \
            and self.is_bound(split.inner, env)

    def padded_extent(self, name: str, size: Dim) -> Dim:
        """The extent that the loops of an axis run over: whole tiles where it is padded."""
        split = self.schedule.splits.get(name)
        if split is None or split.tail != "pad":
            return size
        return -(-size // split.factor) * split.factor

    def free(self, name: str, env: Env) -> str:
        """What an axis is outside of the loops that are bound: itself, or the inner part."""
        split = self.schedule.splits.get(name)
        if split is not None and self.is_bound(split.outer, env):
            return self.free(split.inner, env)
        return name

    def is_divided(self, name: str, env: Env) -> bool:
        """Whether a loop needs more than one body, or is a fused one."""
        return len(self.of(name, env)) > 1 or name in self.schedule.fuses

    def _split_of(self, outer: str) -> Split | None:
        return next((s for s in self.schedule.splits.values() if s.outer == outer), None)

    def size(self, name: str, env: Env) -> Dim:
        """Number of iterations of a loop."""
        if name in env.sizes:
            return env.sizes[name]
        for split in self.schedule.splits.values():
            if name == split.outer:
                return tiles_of(self.size(split.axis, env), split.factor, split.tail)
            if name == split.inner:
                return split.factor
        fuse = self.schedule.fuses.get(name)
        if fuse is not None:
            return self.size(fuse.first, env) * self.size(fuse.second, env)
        return self.schedule.extents[name]

    def of(self, name: str, env: Env) -> list[tuple[Dim, Dim, Env]]:
        """(start, end, environment) of each stretch of a loop."""
        count = self.size(name, env)
        split = self._split_of(name)
        if split is None:
            return [(0, count, env)]
        size, factor = self.size(split.axis, env), split.factor
        if isinstance(size, Sym) or isinstance(count, Sym):
            return self._symbolic(split, size, count, env)
        if split.tail == "balance":
            return self._balanced(split, size, count, env)
        full, rest = divmod(size, factor)
        if not rest or split.tail in ("exact", "pad"):
            return [(0, count, env)]
        last = env.sized(split.inner, rest) if split.tail == "shrink" else env
        return [(0, full, env), (full, count, last)] if full else [(0, count, last)]

    def _symbolic(self, split: Split, size: Dim, count: Dim, env: Env
                  ) -> list[tuple[Dim, Dim, Env]]:
        """Whole tiles, then single iterations; one stretch if the factor certainly divides."""
        full = size // split.factor
        if split.tail not in ("shrink", "balance"):
            whole = size % split.factor == 0 or split.tail != "mask"
            return [(0, count, env)] if whole else [(0, full, env), (full, count, env)]
        if size % split.factor == 0:
            return [(0, count, env)]
        single = env.sized(split.inner, 1).combined(split.axis, 1, full * (split.factor - 1))
        return [(0, full, env), (full, count, single)]

    def _balanced(self, split: Split, extent: int, count: int, env: Env
                  ) -> list[tuple[Dim, Dim, Env]]:
        big = -(-extent // count)
        bigs = extent - count * (big - 1)
        first = env.sized(split.inner, big).combined(split.axis, big, 0)
        if bigs == count:
            return [(0, count, first)]
        second = env.sized(split.inner, big - 1).combined(split.axis, big - 1, bigs)
        return [(0, bigs, first), (bigs, count, second)]
