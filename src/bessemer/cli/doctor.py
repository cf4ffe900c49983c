"""`bessemer doctor`: is this machine and installation fit, and what will Bessemer use of it."""

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from bessemer.cli.console import bytes_text, print_json, print_table, print_text
from bessemer.cli.registry import command
from bessemer.core.errors import BessemerError


@dataclass(frozen=True)
class Check:
    """One line of the report; `state` is ok, note (works, but know this) or fault."""

    name: str
    state: str
    detail: str


@command("doctor", example="bessemer doctor --json")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    self_test: Annotated[
        bool, typer.Option(help="Build and run a tiny kernel too.")
    ] = True,
) -> None:
    """Check the installation and the machine, and say what Bessemer will use.

    Ends with exit code 1 if something that Bessemer needs is missing or the self-test fails.
    """
    from bessemer.bench.machine import read_machine

    machine = read_machine()
    checks = [
        Check("versions", "ok", ", ".join(f"{k} {v}" for k, v in machine.packages.items())),
        *_cpu_checks(), *_machine_checks(), _energy_check(), _cache_check(), _setting_check(),
    ]
    if self_test:
        checks.append(_self_test())
    failed = [check.name for check in checks if check.state == "fault"]
    if as_json:
        print_json({"healthy": not failed, "checks": checks, "machine": asdict(machine)})
    else:
        print_table("", ("check", "state", "detail"), [(c.name, c.state, c.detail) for c in checks])
        print_text(f"faults: {', '.join(failed)}" if failed else "everything is fit")
    if failed:
        raise typer.Exit(1)


def _cpu_checks() -> list[Check]:
    from bessemer.bench.machine import read_machine
    from bessemer.targets import host

    machine = read_machine()
    wanted = ("sse4_2", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd")
    flags = " ".join(flag for flag in wanted if flag in host.cpu_flags()) or "none of the known"
    checks = [Check("processor", "ok", f"{machine.cpu} ({machine.architecture}): {flags}")]
    try:
        checks.append(Check("target", "ok", host.host_target().describe()))
    except BessemerError as error:
        checks.append(Check("target", "fault", str(error)))
    checks.append(Check("runnable targets", "ok", ", ".join(host.runnable_names()) or "none"))
    return checks


def _machine_checks() -> list[Check]:
    from bessemer.bench.machine import read_machine

    machine = read_machine()
    quota = machine.quota_cores
    limit = "no CPU quota" if quota is None else f"quota {quota:g} cores"
    threads = f"{machine.usable_cores} of {machine.cores} cores by affinity, {limit}"
    tight = quota is not None and quota < machine.usable_cores
    caches = ", ".join(
        f"L{c.level} {c.kind} {c.size_bytes // 1024} KiB" for c in machine.caches
    ) or "not told by the system"
    return [
        Check("threads", "note" if tight else "ok", threads),
        Check("caches", "ok" if machine.caches else "note", caches),
        Check("memory", "ok", bytes_text(machine.memory_bytes)),
        Check("huge pages", "ok" if machine.huge_pages in ("always", "madvise") else "note",
              f"transparent: {machine.huge_pages or 'not told by the system'}"),
        Check("frequency governor", "ok" if machine.governor in ("", "performance") else "note",
              machine.governor or "not told by the system"),
    ]


def _energy_check() -> Check:
    from bessemer.bench.energy import NO_COUNTER, find_counters

    counters = find_counters()
    detail = f"{len(counters)} RAPL package counter(s)" if counters else NO_COUNTER
    return Check("energy", "ok" if counters else "note", detail)


def _cache_check() -> Check:
    from bessemer.core.settings import settings

    current = settings()
    if not current.cache:
        return Check("cache", "note", "off (BESSEMER_CACHE=0): every build compiles every kernel")
    folder = current.cache_folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check("cache", "note", f"{folder} cannot be written: {error.strerror}; builds work")
    return Check("cache", "ok", f"{folder}, {bytes_text(_folder_bytes(folder))}")


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _setting_check() -> Check:
    from dataclasses import fields

    from bessemer.core.settings import Settings, read_settings, settings

    current, usual = settings(), read_settings({})
    changed = [
        f"BESSEMER_{f.name.upper()}={getattr(current, f.name)}" for f in fields(Settings)
        if getattr(current, f.name) != getattr(usual, f.name)
    ]
    return Check("settings", "ok", ", ".join(changed) or "all default")


def _self_test() -> Check:
    """Builds relu(a @ b + c) for this machine and compares it with numpy."""
    import numpy as np

    from bessemer.compiler.api import Builder

    generator = np.random.default_rng(0)
    a, b = generator.standard_normal((5, 7)), generator.standard_normal((7, 9))
    a, b = a.astype(np.float32), b.astype(np.float32)
    start = time.perf_counter()
    builder = Builder()
    network = builder.create_network("self-test")
    x = network.add_input("x", "f32", a.shape)
    product = network.add("MatMul", x, network.add_constant("w", b))
    network.mark_output(network.add("Relu", network.add("Add", product, 0.5)), "y")
    try:
        found = builder.build(network).run({"x": a})["y"]
    except (BessemerError, OSError) as error:
        return Check("self-test", "fault", f"{type(error).__name__}: {error}")
    worst = float(np.abs(found - np.maximum(a @ b + np.float32(0.5), 0)).max())
    seconds = time.perf_counter() - start
    state = "ok" if worst < 1e-4 else "fault"
    return Check("self-test", state, f"kernel built and run in {seconds:.2f} s, error {worst:.1e}")
