"""Hardware descriptions: one file per chip, registered by `target`.

`get_target("host")` is this machine; `target_names()` lists all. A Target is plain data (triple,
vector width, registers, caches) that schedules and code generation read. Never imports LLVM.
Start with target.py, then host.py.
"""

from bessemer.targets.host import (
    check_runs_here,
    cpu_flags,
    get_target,
    host_target,
    missing_flags,
    runnable_names,
    target_names,
)
from bessemer.targets.target import TARGETS, Target, target

__all__ = [
    "TARGETS",
    "Target",
    "check_runs_here",
    "cpu_flags",
    "get_target",
    "host_target",
    "missing_flags",
    "runnable_names",
    "target",
    "target_names",
]
