"""Attention: scores, softmax and weighted sum of a block of queries, kept in the thread's caches.

The scores of a block are held with the queries along the vectors: the softmax needs no step across
lanes, and the keys are read as they lie. The algorithm is that of one block row of FlashAttention
(Dao et al., 2022) with all keys at once: their scores fit into the second cache.
"""

from collections.abc import Mapping
from typing import Any

from bessemer.core.dtypes import f32
from bessemer.core.shapes import Sym, product
from bessemer.lower.kernel import Kernel
from bessemer.lower.loops import Stmt
from bessemer.schedule.accumulators import MAX_STACK_BYTES
from bessemer.schedule.attention_nest import AttentionNest
from bessemer.schedule.attention_parts import Parts, parts_of
from bessemer.schedule.memory import Memory
from bessemer.schedule.rule import Knobs, Rule, schedule_rule
from bessemer.targets.target import Target


@schedule_rule("attention", priority=55)
class AttentionRule(Rule):
    """softmax(q k' + ...) v with any mask; threads divide heads and blocks of queries.

    Knobs: `vectors` of queries in a block. Expected share of peak: 60-75 %.
    """

    def matches(self, kernel: Kernel, target: Target) -> str:
        parts = parts_of(kernel)
        if isinstance(parts, str):
            return parts
        sizes = (*parts.scores.shape[-2:], parts.depth, parts.weighted.shape[-1])
        if any(isinstance(size, Sym) for size in sizes):
            return "queries, keys or their sizes are symbolic"
        if min(map(int, sizes)) < 1:  # type: ignore[arg-type]
            return "no elements"
        if self._most_vectors(parts, target) < 1:
            return "the scores of a block of queries do not fit into scratch memory"
        return ""

    def _most_vectors(self, parts: Parts, target: Target) -> int:
        """Vectors of queries whose scores fit; the last block of a row has its own memory."""
        keys, depth = parts.scores.shape[-1], parts.depth
        assert isinstance(keys, int)
        assert isinstance(depth, int)
        widest = 4 if target.vector_registers >= 32 else 2
        per_vector = (keys + depth + 2) * target.lanes(f32) * 4
        return next((n for n in range(widest, 0, -1)
                     if (2 * n - 1) * per_vector <= MAX_STACK_BYTES), 0)

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        parts = parts_of(kernel)
        assert isinstance(parts, Parts)
        return {"vectors": tuple(range(1, self._most_vectors(parts, target) + 1))}

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        parts = parts_of(kernel)
        assert isinstance(parts, Parts)
        queries = -(-kernel.usual(parts.scores.shape[-2]) // target.lanes(f32))
        vectors = min(self._most_vectors(parts, target), queries)
        heads = product(parts.scores.shape[:-2])
        while vectors > 1 and isinstance(heads, int) and \
                heads * -(-queries // vectors) < target.cores:
            vectors -= 1
        return {"vectors": vectors}

    def build(self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
              ) -> tuple[list[Stmt], str]:
        parts = parts_of(kernel)
        assert isinstance(parts, Parts)
        return AttentionNest(parts, memory, target, int(knobs["vectors"])).build(), ""
