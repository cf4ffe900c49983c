"""One self-contained HTML page about a compilation: graph, passes, kernels, roofline, memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from bessemer.bench.kernel_table import Roof
from bessemer.bench.roofline import Point, draw_roofline
from bessemer.debug.layered import Box, draw_layers
from bessemer.debug.memory_picture import draw_memory
from bessemer.engine.plan import MemoryReport, PassRecord


@dataclass(frozen=True)
class PageKernel:
    """One row of the kernel table; `seconds` 0 where nothing was measured."""

    name: str
    sources: tuple[str, ...]
    rule: str
    schedule: str
    shapes: str
    flops: int
    bytes: int
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PageData:
    """All that the page shows."""

    title: str
    facts: Sequence[tuple[str, str]]
    before: Sequence[Box]
    after: Sequence[Box]
    passes: Sequence[PassRecord]
    kernels: Sequence[PageKernel]
    memory: MemoryReport
    roof: Roof | None
    why: Sequence[str] = field(default_factory=tuple)


def render_page(data: PageData) -> str:
    """The page as text; it refers to nothing outside itself."""
    sections = [
        ("Summary", _facts(data)),
        ("Compiled graph: one box per kernel", _scroll(draw_layers(data.after))),
        ("Model as imported", _folded("show", _scroll(draw_layers(data.before)))),
        ("Passes", _passes(data.passes)),
        ("Why: what was joined and what was refused", _lines(data.why)),
        ("Roofline", _roofline(data)),
        ("Kernels", _kernels(data)),
        ("Memory plan", _memory(data.memory)),
    ]
    body = "".join(f"<section><h2>{escape(name)}</h2>{text}</section>"
                   for name, text in sections if text)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(data.title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(data.title)}</h1>{body}</body></html>\n"
    )


def _facts(data: PageData) -> str:
    return _table(("", ""), [(name, value) for name, value in data.facts], left=2)


def _passes(passes: Sequence[PassRecord]) -> str:
    rows = [
        (entry.name, "yes" if entry.changed else "no", str(entry.nodes_before),
         str(entry.nodes_after), "; ".join(entry.notes))
        for entry in passes
    ]
    return _table(("pass", "changed", "nodes before", "nodes after", "what it did"), rows, left=2)


def _roofline(data: PageData) -> str:
    if data.roof is None:
        return ""
    points = [Point(k.name, k.flops, k.bytes, k.seconds) for k in data.kernels]
    return (
        f"<p>Measured limits of the machine: {data.roof.flops_per_s / 1e9:.0f} GFLOP/s, "
        f"{data.roof.bytes_per_s / 1e9:.0f} GB/s.</p>" + draw_roofline(points, data.roof)
    )


def _kernels(data: PageData) -> str:
    total = sum(kernel.seconds for kernel in data.kernels) or 1.0
    rows = []
    for kernel in data.kernels:
        speed = share = "-"
        if kernel.seconds > 0:
            speed = f"{kernel.flops / kernel.seconds / 1e9:.1f}"
            share = f"{100 * kernel.seconds / total:.1f} %"
        rows.append((
            kernel.name, "+".join(kernel.sources), kernel.rule, kernel.schedule, kernel.shapes,
            f"{kernel.seconds * 1e6:.1f}" if kernel.seconds else "-", share,
            f"{kernel.flops / 1e6:.2f}", speed, f"{kernel.bytes / 1e3:.1f}",
        ))
    head = ("kernel", "source nodes", "rule", "schedule", "shapes", "us", "share", "MFLOP",
            "GFLOP/s", "kB")
    return _table(head, rows, left=5)


def _memory(memory: MemoryReport) -> str:
    rows = [
        ("arena", f"{memory.arena_bytes:,}"),
        ("weights", f"{memory.weights_bytes:,}"),
        ("workspace", f"{memory.workspace_bytes:,}"),
        ("sum of all tensors", f"{memory.sum_of_tensors_bytes:,}"),
        ("lower bound by liveness", f"{memory.liveness_lower_bound_bytes:,}"),
    ]
    return _table(("", "bytes"), rows) + _scroll(draw_memory(memory))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    if not rows:
        return ""
    titles = "".join(f"<th>{escape(text)}</th>" for text in head) if any(head) else ""
    lines = []
    for row in rows:
        cells = "".join(
            f'<td class="{"number" if index >= left and _is_number(text) else "text"}">'
            f"{escape(text)}</td>"
            for index, text in enumerate(row)
        )
        lines.append(f"<tr>{cells}</tr>")
    return _scroll(f"<table><tr>{titles}</tr>{''.join(lines)}</table>")


def _is_number(text: str) -> bool:
    """True for a figure, with or without a unit behind it."""
    return text[:1].isdigit() or text in ("", "-")


def _lines(lines: Sequence[str]) -> str:
    return _folded(f"{len(lines)} lines", f"<pre>{escape(chr(10).join(lines))}</pre>") \
        if lines else ""


def _scroll(text: str) -> str:
    return f'<div class="scroll">{text}</div>'


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{text}</details>"


_STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:24px auto;max-width:1200px;padding:0 16px;
color:#1b1f24}
h1{font-size:22px}h2{font-size:16px;margin-top:28px;border-bottom:1px solid #d0d7de}
table{border-collapse:collapse;font-size:12px}td,th{padding:3px 9px;border-bottom:1px solid #e6e9ec;
vertical-align:top}th{text-align:left;background:#f3f5f7}td.number{text-align:right;
font-variant-numeric:tabular-nums}td.text{max-width:340px;overflow-wrap:anywhere}
.scroll{overflow:auto;max-height:720px;border:1px solid #e6e9ec}
pre{font-size:12px;overflow:auto}svg text{font:11px system-ui,sans-serif;fill:#1b1f24}
svg .title{font-weight:600}.box rect{fill:#eef4ff;stroke:#5a86c5}.box.host rect{fill:#fff1e6;
stroke:#c7782e}.box.input rect,.box.output rect{fill:#eefaf0;stroke:#4f9a63}
.box.placed rect,.box.alias rect,.box.empty rect{fill:#f6f6f6;stroke:#b5bbc2;stroke-dasharray:4}
.edge{fill:none;stroke:#9aa4ae}.grid{stroke:#e6e9ec}.roof{fill:none;stroke:#b3392f;stroke-width:2}
.dot{fill:#2f6fb3;fill-opacity:.75}.dot.unmeasured{fill:none;stroke:#2f6fb3}
.lives{fill:#9cc3e6;stroke:#ffffff}.lives:hover{fill:#2f6fb3}.lives.alias{fill:#cfe8c9}
"""
