"""The host as a target: flags from /proc/cpuinfo, caches from /sys, cores by affinity."""

import dataclasses
import os
import platform
from functools import lru_cache
from pathlib import Path

from bessemer.core.errors import TargetError
from bessemer.core.tiles import is_allowed
from bessemer.targets.target import TARGETS, Target

_CPUINFO = Path("/proc/cpuinfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 10, "M": 20, "G": 30}


def parse_cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The flags of the first processor in a text of /proc/cpuinfo (Arm calls them Features)."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """The CPU flags of this machine; empty where /proc is missing."""
    try:
        return parse_cpu_flags(_CPUINFO.read_text())
    except OSError:
        return frozenset()


def missing_flags(target: Target) -> tuple[str, ...]:
    """What this machine lacks to run the target's code; empty if it runs."""
    if platform.machine() != target.architecture:
        return (target.architecture,)
    have = cpu_flags()
    return tuple(flag for flag in target.requires if flag not in have or not is_allowed(flag))


def check_runs_here(target: Target) -> None:
    """Raises TargetError naming what this machine lacks, if it cannot run the target's code."""
    missing = missing_flags(target)
    if missing:
        raise TargetError(
            f"target {target.name} needs {', '.join(missing)}, which this {platform.machine()} "
            f"machine lacks; build with target='host' or one of {', '.join(runnable_names())}"
        )


def runnable_names() -> list[str]:
    """Names of the targets whose code runs on this machine, sorted."""
    return [name for name in TARGETS.names() if not missing_flags(TARGETS.get(name))]


def parse_size_bytes(text: str) -> int:
    """Bytes of a size as /sys writes it: `32K`, `1M`; 0 if it is not one."""
    text = text.strip()
    shift = _UNITS.get(text[-1:].upper(), 0)
    digits = text[:-1] if shift else text
    return int(digits) << shift if digits.isdigit() else 0


def cache_sizes_bytes(root: Path = _CACHES) -> dict[int, int]:
    """Bytes by level of the first processor's data caches; levels that /sys hides are left out."""
    sizes: dict[int, int] = {}
    for entry in sorted(root.glob("index*")):
        try:
            kind = (entry / "type").read_text().strip()
            level = (entry / "level").read_text().strip()
            size = parse_size_bytes((entry / "size").read_text())
        except OSError:
            continue
        if kind != "Instruction" and level.isdigit() and size:
            sizes[int(level)] = size
    return sizes


def core_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


@lru_cache(maxsize=1)
def host_target() -> Target:
    """The target with the widest vectors that runs here, with this machine's caches and cores.

    Raises: TargetError if no registered target runs here.
    """
    fitting = [TARGETS.get(name) for name in runnable_names()]
    if not fitting:
        raise TargetError(
            f"no target runs on this {platform.machine()} machine; known are "
            f"{', '.join(TARGETS.names())}; x86 needs at least SSE4.2, Arm needs 64-bit NEON"
        )
    best = max(fitting, key=lambda entry: (entry.vector_bits, len(entry.requires)))
    sizes = cache_sizes_bytes()
    return dataclasses.replace(
        best,
        l1_bytes=sizes.get(1, best.l1_bytes),
        l2_bytes=sizes.get(2, best.l2_bytes),
        l3_bytes=sizes.get(3, best.l3_bytes),
        cores=core_count(),
    )


def get_target(name: "str | Target") -> Target:
    """The target of that name; `host` is the best one for this machine; a Target is returned as is.

    Raises: TargetError for an unknown name, with near names.
    """
    if isinstance(name, Target):
        return name
    return host_target() if name == "host" else TARGETS.get(name)


def target_names() -> list[str]:
    """All names that `get_target` takes."""
    return ["host", *TARGETS.names()]
