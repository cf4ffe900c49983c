"""What this machine is: architecture, CPU features, and how many CPUs the process may use."""

import functools
import math
import os
import platform
from collections.abc import Iterable

from bessemer.core.tiles import is_allowed

_PathLike = str | os.PathLike[str]

# LLVM's names where /proc/cpuinfo has others; compared without '_', '-' and '.'.
_ALIASES = {
    "sse3": "pni", "lzcnt": "abm", "sahf": "lahflm", "prfchw": "3dnowprefetch",
    "pclmul": "pclmulqdq",
    "x87": "fpu", "neon": "asimd", "fullfp16": "asimdhp", "dotprod": "asimddp", "fpumarmv8": "fp",
    "fparmv8": "fp", "lse": "atomics", "rdm": "asimdrdm", "crc": "crc32", "rdrnd": "rdrand",
    "cx8": "cx8", "crc32": "sse42" if platform.machine() == "x86_64" else "crc32",
}


def _plain(name: str) -> str:
    plain = name.lower().lstrip("+").replace("_", "").replace("-", "").replace(".", "")
    return _ALIASES.get(plain, plain)


def machine() -> str:
    """The architecture of this machine: x86_64, aarch64 ..."""
    return platform.machine()


@functools.lru_cache(maxsize=1)
def cpu_features(path: str = "/proc/cpuinfo") -> frozenset[str]:
    """The feature flags of the first CPU, spelled plainly; empty if the system does not tell."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(_plain(word) for word in value.split())
    return frozenset()


def missing_features(required: Iterable[str]) -> list[str]:
    """Those of the required features that this machine lacks, or refuses to this process."""
    return [name for name in required
            if _plain(name) not in cpu_features() or not is_allowed(name)]


def _read(path: _PathLike) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _own_groups(proc: _PathLike) -> dict[str, str]:
    """Path of this process's control group for each controller; "" is version 2."""
    groups = {}
    for line in _read(proc).splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                groups[controller] = parts[2]
    return groups


def _chain(root: _PathLike, group: str) -> list[str]:
    """The group's folder and all above it up to the root of the hierarchy."""
    folder = os.fspath(root)
    found = [folder]
    parts = [part for part in group.split("/") if part]
    for part in () if ".." in parts else parts:
        folder = os.path.join(folder, part)
        found.append(folder)
    return found[::-1]


def quota_cpus(
    root: _PathLike = "/sys/fs/cgroup", proc: _PathLike = "/proc/self/cgroup"
) -> float | None:
    """CPUs that the container's quota allows (control groups 1 and 2), None if unlimited."""
    groups = _own_groups(proc)
    found = []
    for folder in _chain(root, groups.get("", "/")):
        quota, _, period = _read(os.path.join(folder, "cpu.max")).partition(" ")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            found.append(int(quota) / int(period))
    for name in ("cpu", "cpu,cpuacct"):
        for folder in _chain(os.path.join(root, name), groups.get("cpu", "/")):
            old_quota = _read(os.path.join(folder, "cpu.cfs_quota_us"))
            old_period = _read(os.path.join(folder, "cpu.cfs_period_us"))
            if old_quota.isdigit() and old_period.isdigit() and int(old_period) > 0:
                found.append(int(old_quota) / int(old_period))
    return min((cpus for cpus in found if cpus > 0), default=None)


def usable_cpus() -> int:
    """CPUs of the affinity mask, at most the container's quota (rounded up), at least 1."""
    count = len(os.sched_getaffinity(0))
    quota = quota_cpus()
    if quota is not None:
        count = min(count, math.ceil(quota))
    return max(count, 1)
