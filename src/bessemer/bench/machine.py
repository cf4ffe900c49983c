"""Facts about the machine and the software, recorded beside every measurement."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from bessemer import __version__

_PACKAGES = ("numpy", "llvmlite", "onnx", "ml_dtypes", "onnxruntime")
_CPU = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Cache:
    """One cache as the first core sees it."""

    level: int
    kind: str
    size_bytes: int


@dataclass(frozen=True)
class Machine:
    """What the kernel tells of the machine; `quota_cores` None means that there is no CPU limit."""

    cpu: str
    architecture: str
    system: str
    cores: int
    usable_cores: int
    quota_cores: float | None
    memory_bytes: int
    caches: tuple[Cache, ...]
    governor: str
    huge_pages: str
    packages: dict[str, str]


def read_machine() -> Machine:
    """The facts of this machine; what cannot be read is "" or None."""
    return Machine(
        cpu=_cpu_name(), architecture=platform.machine(), system=platform.platform(),
        cores=os.cpu_count() or 1, usable_cores=len(os.sched_getaffinity(0)),
        quota_cores=read_cpu_quota(), memory_bytes=_memory_bytes(), caches=read_caches(),
        governor=_read(_CPU / "cpu0/cpufreq/scaling_governor"),
        huge_pages=_chosen(_read(Path("/sys/kernel/mm/transparent_hugepage/enabled"))),
        packages=package_versions(),
    )


def package_versions() -> dict[str, str]:
    """Versions of Bessemer, Python and the packages that matter; absent ones are left out."""
    versions = {"bessemer": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def read_cpu_quota(root: Path = _CGROUP) -> float | None:
    """Cores that the container may use at once (cgroup version 2, then 1), None if not limited."""
    fields = _read(root / "cpu.max").split()
    if len(fields) == 2 and fields[0].isdigit():
        return int(fields[0]) / int(fields[1])
    quota = _read(root / "cpu/cpu.cfs_quota_us")
    period = _read(root / "cpu/cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period):
        return int(quota) / int(period)
    return None


def read_caches(cpu: Path = _CPU) -> tuple[Cache, ...]:
    """The caches of the first core, smallest level first."""
    caches = []
    for folder in sorted((cpu / "cpu0/cache").glob("index*")):
        size = _read(folder / "size")
        level = _read(folder / "level")
        if size[:-1].isdigit() and level.isdigit():
            unit = {"K": 1024, "M": 1024**2}.get(size[-1], 1)
            caches.append(Cache(int(level), _read(folder / "type").lower(), int(size[:-1]) * unit))
    return tuple(sorted(caches, key=lambda cache: (cache.level, cache.kind)))


def resident_bytes() -> int:
    """Memory of this process that is in RAM now (0 where /proc does not tell)."""
    return _status_bytes("VmRSS")


def peak_resident_bytes() -> int:
    """The most memory of this process that was in RAM at once (0 where /proc does not tell)."""
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    for line in _read(Path("/proc/self/status")).splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpu_name() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(("model name", "Hardware", "CPU part")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _chosen(text: str) -> str:
    return next((word.strip("[]") for word in text.split() if word.startswith("[")), text)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
