"""One self-contained HTML page about contests: bars per runtime, a roofline, tables."""

from collections.abc import Sequence
from html import escape

from bessemer.bench.contest.result import (
    OURS,
    Contest,
    Entry,
    Report,
    geometric_mean,
    names_of,
    table,
)
from bessemer.bench.kernel_table import Roof
from bessemer.bench.roofline import Point, draw_roofline

_WIDTH, _BAR, _LEFT, _RIGHT = 760, 18, 130, 190
_COLOURS = ("#0b6e4f", "#c8553d", "#3d5a80", "#e0a030", "#7b5ea7", "#4f9d9d", "#8d6e63", "#607d8b")
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; color: #222; }
table { border-collapse: collapse; font-size: 13px; }
td, th { padding: 3px 9px; text-align: right; }
th { border-bottom: 1px solid #999; } td:first-child, th:first-child { text-align: left; }
.scroll { overflow-x: auto; } svg text { font-size: 12px; fill: #333; }
.grid { stroke: #ddd; } .roof { fill: none; stroke: #222; stroke-width: 2; }
.dot { fill: #0b6e4f; fill-opacity: .75; } h3 { margin: 1.2em 0 .2em; }
""".strip()


def render_page(report: Report) -> str:
    """The page as text; it refers to nothing outside itself."""
    contests = report.contests
    sections = [
        ("Summary", _summary(report)),
        ("Table", _table(contests)),
        ("Bars: milliseconds per inference, shorter is better", _bars(contests)),
        ("Roofline: each model as one point", _roofline(contests)),
        ("Measured limits", _limits(contests)),
        ("Runtimes that did not run", _absent(contests)),
    ]
    body = "".join(f"<section><h2>{escape(name)}</h2>{text}</section>"
                   for name, text in sections if text)
    return ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>Bessemer beside others</title><style>{_STYLE}</style></head><body>"
            f"<h1>Bessemer beside others</h1>{body}</body></html>\n")


def _summary(report: Report) -> str:
    facts = [(name, str(value)) for name, value in report.machine.items()]
    versions = {entry.name: entry.version for contest in report.contests
                for entry in contest.entries if entry.version}
    facts.append(("runtimes", ", ".join(f"{name} {text}" for name, text in versions.items())))
    facts.append(("geometric mean of the ratio to the best rival",
                  f"{geometric_mean(report.contests):.2f}"))
    facts.append(("how", "each runtime in a process of its own, stopped between its turns; medians "
                  "over slices; ratios pair slices that lie beside each other, with quartiles"))
    return "<ul>" + "".join(f"<li>{escape(a)}: {escape(b)}</li>" for a, b in facts) + "</ul>"


def _table(contests: Sequence[Contest]) -> str:
    return _html_table(*table(contests))


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
                   for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _bars(contests: Sequence[Contest]) -> str:
    names = names_of(contests)
    colours = {name: _COLOURS[k % len(_COLOURS)] for k, name in enumerate(names)}
    return "".join(f"<h3>{escape(contest.label)}</h3>{_bar_chart(contest, colours)}"
                   for contest in contests if any(each.timing for each in contest.entries))


def _bar_chart(contest: Contest, colours: dict[str, str]) -> str:
    entries = sorted((each for each in contest.entries if each.timing),
                     key=lambda each: each.milliseconds)
    most = max(each.milliseconds for each in entries)
    height = (_BAR + 6) * len(entries) + 6
    bars = "".join(_bar(contest, entry, 6 + (_BAR + 6) * k, most, colours[entry.name])
                   for k, entry in enumerate(entries))
    return (f'<svg width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" '
            f'xmlns="http://www.w3.org/2000/svg">{bars}</svg>')


def _bar(contest: Contest, entry: Entry, top: int, most: float, colour: str) -> str:
    width = (_WIDTH - _LEFT - _RIGHT) * entry.milliseconds / most
    label = f"{entry.milliseconds:.3f} ms"
    if contest.flops:
        speed = contest.gflops(entry)
        label += f", {speed:.0f} GFLOP/s ({100 * speed / contest.limits.fma_gflops:.0f} %)"
    text = top + _BAR - 4
    return (f'<text x="{_LEFT - 8}" y="{text}" text-anchor="end">{escape(entry.name)}</text>'
            f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>'
            f'<text x="{_LEFT + width + 6:.1f}" y="{text}">{label}</text>')


def _roofline(contests: Sequence[Contest]) -> str:
    points = []
    for contest in contests:
        entry = contest.entry(OURS)
        if entry is not None and contest.flops:
            points.append(Point(contest.label, contest.flops, contest.bytes,
                                entry.milliseconds / 1e3))
    if not points:
        return ""
    best = max((contest.limits for contest in contests), key=lambda each: each.fma_gflops)
    return draw_roofline(points, Roof(best.flops_per_s, best.bytes_per_s)) + (
        "<p>Bytes are the planned traffic of all kernels, from caches or from memory; a model "
        "whose tensors stay in the caches may lie above the slope.</p>")


def _limits(contests: Sequence[Contest]) -> str:
    rows = [[contest.label, *(f"{value:.1f}" for value in (
        contest.limits.fma_gflops, contest.limits.l1_gbps, contest.limits.l2_gbps,
        contest.limits.l3_gbps, contest.limits.dram_gbps))] for contest in contests]
    head = ["model (measured just before it)", "GFLOP/s", "L1 GB/s", "L2 GB/s", "L3 GB/s",
            "memory GB/s"]
    return _html_table(head, rows) if rows else ""


def _absent(contests: Sequence[Contest]) -> str:
    rows = [[contest.label, entry.name, entry.reason]
            for contest in contests for entry in contest.entries if entry.reason]
    return _html_table(["model", "runtime", "reason"], rows) if rows else ""
