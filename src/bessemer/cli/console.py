"""Where commands write: results to stdout (text or pure JSON), progress and errors to stderr."""

import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

_UNLIMITED = 100_000
_NUMBER = re.compile(r"[-+]?(\d|n/a|inf|nan|$)")

OnProgress = Callable[[str, int, int, str], None]


def plain(value: Any) -> Any:
    """A value as JSON types; dataclasses become objects, numbers that JSON lacks become None."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def print_json(value: Any) -> None:
    """Writes one JSON document to stdout and nothing else."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def print_text(text: str) -> None:
    """Writes text to stdout as it is: no markup, no wrapping."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def print_note(text: str) -> None:
    """Writes a remark to stderr, so that stdout stays a result."""
    sys.stderr.write(text + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Writes a table to stdout; columns of numbers are aligned to the right.

    Where stdout is not a terminal the table is as wide as its content, so nothing is cut.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    table = Table(
        title=title or None, title_justify="left", box=None, pad_edge=False,
        show_header=any(columns),
    )
    for index, name in enumerate(columns):
        numeric = all(_NUMBER.match(row[index]) for row in cells)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*(escape(cell) for cell in row))
    if sys.stdout.isatty():
        Console(file=sys.stdout, highlight=False).print(table)
        return
    text = io.StringIO()
    Console(file=text, width=_UNLIMITED, highlight=False, color_system=None).print(table)
    print_text("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


def escape(text: str) -> str:
    """Text that rich prints literally, square brackets included."""
    return text.replace("[", "\\[")


@contextmanager
def progress_bar(title: str) -> Iterator[OnProgress | None]:
    """A callback `(stage, done, total, detail)` that draws a bar on stderr.

    Yields None where stderr is not a terminal, so that logs stay clean.
    """
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("[bold]{task.fields[stage]:<10}"), BarColumn(bar_width=30),
        TextColumn("{task.completed:>4.0f}/{task.total:<4.0f}"), TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task(title, total=1, stage=title, detail="")

        def update(stage: str, done: int, total: int, detail: str = "") -> None:
            progress.update(
                task, completed=done, total=max(total, 1), stage=escape(stage),
                detail=escape(detail[:60]),
            )

        yield update


def bytes_text(count: float) -> str:
    """A byte count in the unit that fits: 512 B, 1.5 kB, 25.6 MB."""
    for unit in ("B", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def time_text(nanoseconds: float) -> str:
    """A duration in the unit that fits: 850 ns, 12.3 us, 4.56 ms, 1.20 s."""
    for unit, scale in (("ns", 1.0), ("us", 1e3), ("ms", 1e6)):
        if abs(nanoseconds) < 1000 * scale:
            return f"{nanoseconds / scale:.3g} {unit}"
    return f"{nanoseconds / 1e9:.3g} s"
