"""Energy per inference from the processor's own counters (RAPL), where they can be read."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NO_COUNTER = "n/a: no counter"
"""What a report says where the machine has no readable energy counter."""

_POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Counter:
    """One package's energy counter; it wraps around at `range_uj`."""

    path: Path
    range_uj: int

    def read_uj(self) -> int:
        """Microjoules since some moment."""
        return int(self.path.read_text())


def find_counters(root: Path = _POWERCAP) -> list[Counter]:
    """The counters of whole packages that this user may read; empty if there are none.

    Source: Linux kernel, Documentation/power/powercap/powercap.rst.
    """
    counters = []
    for folder in sorted(root.glob("intel-rapl:*")):
        if folder.name.count(":") != 1:
            continue
        try:
            counter = Counter(
                folder / "energy_uj", int((folder / "max_energy_range_uj").read_text())
            )
            counter.read_uj()
        except (OSError, ValueError):
            continue
        counters.append(counter)
    return counters


def joules_per_run(
    run: Callable[[], object], *, duration_s: float = 2.0, root: Path = _POWERCAP
) -> float | None:
    """Joules that all packages used per call, over `duration_s` of calls; None without counters.

    The figure includes what the machine uses when idle.
    """
    counters = find_counters(root)
    if not counters:
        return None
    before = [counter.read_uj() for counter in counters]
    runs, end = 0, time.perf_counter() + duration_s
    while runs == 0 or time.perf_counter() < end:
        run()
        runs += 1
    used = 0
    for counter, start in zip(counters, before, strict=True):
        difference = counter.read_uj() - start
        used += difference if difference >= 0 else difference + counter.range_uj
    return used / 1e6 / runs


def energy_text(joules: float | None) -> str:
    """Joules as text, or the words that say that there is no counter."""
    return NO_COUNTER if joules is None else f"{joules:.4g} J"
