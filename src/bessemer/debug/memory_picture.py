"""The memory plan as SVG: bytes of the arena upwards, steps to the right, one box per value."""

from html import escape

from bessemer.engine.plan import MemoryReport

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 1000, 360, 70, 10, 30


def draw_memory(memory: MemoryReport) -> str:
    """The SVG element; empty text if nothing lies in the arena."""
    rows = [row for row in memory.table if row.size_bytes > 0]
    if not rows or memory.arena_bytes <= 0:
        return ""
    steps = max(row.last_step for row in rows) + 1
    across = (_WIDTH - _LEFT - 10) / max(steps, 1)
    up = (_HEIGHT - _TOP - _BOTTOM) / memory.arena_bytes
    boxes = []
    for row in rows:
        x = _LEFT + max(row.first_step, 0) * across
        width = (row.last_step - max(row.first_step, 0) + 1) * across
        height = row.size_bytes * up
        y = _HEIGHT - _BOTTOM - row.offset * up - height
        alias = f", inside {row.alias_of}" if row.alias_of else ""
        tip = (f"{row.value}: {row.size_bytes:,} bytes at {row.offset:,}, "
               f"steps {row.first_step} to {row.last_step}{alias}")
        boxes.append(
            f'<rect class="lives{" alias" if row.alias_of else ""}" x="{x:.1f}" y="{y:.1f}" '
            f'width="{max(width, 1):.1f}" height="{max(height, 0.6):.1f}">'
            f"<title>{escape(tip)}</title></rect>"
        )
    labels = (
        f'<text x="{_LEFT - 6}" y="{_TOP + 10}" text-anchor="end">'
        f"{memory.arena_bytes / 1e6:.2f} MB</text>"
        f'<text x="{_LEFT - 6}" y="{_HEIGHT - _BOTTOM}" text-anchor="end">0</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 10}">step 0</text>'
        f'<text x="{_WIDTH - 10}" y="{_HEIGHT - 10}" text-anchor="end">step {steps - 1}</text>'
    )
    return (
        f'<svg class="memory" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" xmlns="http://www.w3.org/2000/svg">'
        f"{''.join(boxes)}{labels}</svg>"
    )
