"""The memory planner: offsets of blocks in one arena by liveness, largest first."""

from dataclasses import dataclass

from bessemer.core.shapes import Dim

ALIGNMENT = 64


@dataclass
class Block:
    """Memory needed from the first to the last step that touches it (both inclusive).

    `size_bytes` is the size to plan for; `size` the true one, which may be symbolic.
    """

    name: str
    size_bytes: int
    first: int
    last: int
    offset: int = -1
    size: Dim = 0
    epoch: int = 0

    def overlaps(self, other: "Block") -> bool:
        """True if both are needed at one moment."""
        return self.first <= other.last and other.first <= self.last


def aligned(size_bytes: int) -> int:
    """The size rounded up to the alignment of blocks."""
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


def place_blocks(blocks: list[Block]) -> int:
    """Sets the offset of every block and returns the arena's size in bytes.

    Greedy by size: each block takes the tightest gap between the blocks that live at the same time
    and are placed already. Source: Pisarchyk and Lee 2020, "Efficient Memory Management for Deep
    Neural Net Inference" (greedy by size for offset calculation).
    """
    placed: list[Block] = []
    total = 0
    for block in sorted(blocks, key=lambda b: (-b.size_bytes, b.first, b.name)):
        busy = sorted((b for b in placed if b.overlaps(block)), key=lambda b: b.offset)
        size = aligned(block.size_bytes)
        best, best_gap, position = -1, -1, 0
        for other in busy:
            gap = other.offset - position
            if gap >= size and (best < 0 or gap < best_gap):
                best, best_gap = position, gap
            position = max(position, other.offset + aligned(other.size_bytes))
        block.offset = best if best >= 0 else position
        total = max(total, block.offset + size)
        placed.append(block)
    return total


def blocks_below(blocks: list[Block]) -> list[tuple[int, ...]]:
    """For each placed block those (by position in the list) that end below it at the same time.

    Whatever the sizes become, a block that begins where the highest of these ends is clear of
    all that live with it. The blocks must be in order of offset. Blocks that another one of the
    list stands on are left out, because that one begins above them.
    """
    reach: list[set[int]] = []
    result = []
    for k, block in enumerate(blocks):
        below = [j for j in range(k) if blocks[j].epoch == block.epoch
                 and blocks[j].overlaps(block)]
        implied = set().union(*(reach[j] for j in below))
        result.append(tuple(j for j in below if j not in implied))
        reach.append(implied | set(below))
    return result


def lower_bound(blocks: list[Block]) -> int:
    """Bytes alive at the busiest step: no plan can need less."""
    steps = {block.first for block in blocks}
    return max((sum(aligned(b.size_bytes) for b in blocks if b.first <= s <= b.last)
                for s in steps), default=0)
