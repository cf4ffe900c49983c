"""The memory planner: offsets of blocks in one arena by liveness, largest first."""

from dataclasses import dataclass

ALIGNMENT = 64


@dataclass
class Block:
    """Memory needed from the first to the last step that touches it (both inclusive)."""

    name: str
    size_bytes: int
    first: int
    last: int
    offset: int = -1

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


def lower_bound(blocks: list[Block]) -> int:
    """Bytes alive at the busiest step: no plan can need less."""
    steps = {block.first for block in blocks}
    return max((sum(aligned(b.size_bytes) for b in blocks if b.first <= s <= b.last)
                for s in steps), default=0)
