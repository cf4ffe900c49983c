"""Tuning as a stage of the build: kernels get the schedules that `bessemer.tune` chooses."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bessemer.compiler.kernels import CompiledKernel
from bessemer.core.settings import settings
from bessemer.runtime.pool import default_threads
from bessemer.targets import missing_flags
from bessemer.targets.target import Target
from bessemer.tune.records import Records
from bessemer.tune.tuner import Effort, Tuned, Tuner

Choose = Callable[[list[CompiledKernel]], None]
"""Gives kernels other schedules than those that their rules chose by formula."""


@dataclass(frozen=True)
class Tuning:
    """How the schedules of a build are chosen; `started` is when it began (`perf_counter`)."""

    level: str = "none"
    budget_s: float | None = None
    started: float = field(default_factory=time.perf_counter, compare=False)
    records: Records | None = field(default=None, compare=False)
    """Open records; None opens the user's."""
    found: list[Tuned] = field(default_factory=list, compare=False)
    """What was found for each distinct kernel; filled by the build."""

    @staticmethod
    def of(level: str | None, budget_s: float | None) -> "Tuning":
        """As the caller says, else as the setting, else "none": builds are equal."""
        return Tuning(level or settings().tune or "none", budget_s)

    def chooser(self, target: Target, threads: int | None,
                tell: Callable[[str, int, int, str], None]) -> Choose | None:
        """What chooses schedules for a target.

        None where the formula does: for the level "none", and for targets whose code this machine
        cannot run, because nothing can be timed.
        """
        if self.level == "none" or missing_flags(target):
            return None

        def choose(kernels: list[CompiledKernel]) -> None:
            with contextlib.ExitStack() as stack:
                records = self.records or stack.enter_context(Records.from_settings())
                tuner = Tuner(target, threads or default_threads(),
                              Effort.of(self.level, self.budget_s, self.started), records,
                              on_progress=lambda done, total, text: tell("tune", done, total, text))
                chosen = tuner.choose([(entry.kernel, entry.scheduled) for entry in kernels])
            self.found.extend(tuner.found)
            for entry, scheduled in zip(kernels, chosen, strict=True):
                entry.scheduled = scheduled

        return choose
