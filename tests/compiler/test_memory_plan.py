"""The planner: blocks that live together never overlap, and the bound holds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.compiler.memory_plan import Block, aligned, lower_bound, place_blocks

BLOCKS = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 12), st.integers(0, 5)),
                  max_size=25)


@settings(max_examples=200, deadline=None)
@given(BLOCKS)
def test_blocks_that_live_together_are_apart(rows):
    blocks = [Block(f"b{k}", size, first, first + length)
              for k, (size, first, length) in enumerate(rows)]
    total = place_blocks(blocks)
    for k, a in enumerate(blocks):
        assert a.offset % 64 == 0
        assert a.offset + aligned(a.size_bytes) <= total
        for b in blocks[:k]:
            if a.overlaps(b) and a.size_bytes and b.size_bytes:
                assert a.offset + a.size_bytes <= b.offset or b.offset + b.size_bytes <= a.offset
    assert lower_bound(blocks) <= total <= sum(aligned(b.size_bytes) for b in blocks)


def test_memory_is_reused():
    blocks = [Block("a", 640, 0, 1), Block("b", 640, 1, 2), Block("c", 640, 2, 3)]
    assert place_blocks(blocks) == 1280 == lower_bound(blocks)
