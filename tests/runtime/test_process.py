"""What only a fresh process shows: lazy imports, exit, fork, thread settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bessemer.debug.tiny_engine import tiny_engine_data
from bessemer.engine.file import write_engine

HEAD = """
import sys
import numpy as np
import bessemer
engine = bessemer.load(sys.argv[1])
x = np.ones(100, np.float32)
def check(context):
    c = np.linspace(-1, 1, 100, dtype=np.float32)
    assert np.array_equal(context.run({"x": x})["y"], (x + c) * (x + c) + c)
"""

MEMORY = """
import sys
import numpy as np
import bessemer
engine = bessemer.load(sys.argv[1])
x = np.ones(engine.inputs[0].shape, np.float32)
for _ in range(3):
    outputs = engine.run(x)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
resident = int(status["VmHWM"].split()[0]) * 1024
# Each run makes its outputs while the caller still holds the last ones.
bindings = x.nbytes + 2 * sum(array.nbytes for array in outputs.values())
print(resident, engine.data.constant_bytes, engine.memory.arena_bytes, bindings)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("engine") / "m.plan"
    write_engine(made, tiny_engine_data(100)[0])
    return made


def run(path: Path, code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HEAD + code, str(path)], capture_output=True,
        text=True, timeout=60, env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_running_imports_no_compiler_and_no_format(path: Path) -> None:
    run(path, """
check(engine)
for name in ("llvmlite", "onnx", "typer", "rich", "pydantic", "bessemer.ir", "bessemer.ops",
             "bessemer.codegen", "bessemer.compiler", "bessemer.frontends"):
    assert name not in sys.modules, name
""")


def test_importing_the_package_imports_almost_nothing() -> None:
    code = "import bessemer, sys; assert 'numpy' not in sys.modules; print(dir(bessemer))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "'load'" in done.stdout


def test_thread_setting(path: Path) -> None:
    code = "print(engine.create_context().threads)"
    assert run(path, code, BESSEMER_THREADS="3").strip() == "3"
    done = subprocess.run(
        [sys.executable, "-c", HEAD + code, str(path)], capture_output=True, text=True,
        timeout=60, env={**os.environ, "BESSEMER_THREADS": "many"},
    )
    assert "SettingsError" in done.stderr
    assert "BESSEMER_THREADS='many' is not an integer" in done.stderr


def test_exit_with_busy_and_idle_workers(path: Path) -> None:
    for spins in ("0", "100000000"):
        run(path, "context = engine.create_context(3)\ncheck(context)", BESSEMER_IDLE_SPINS=spins)


def test_exit_while_enqueued(path: Path) -> None:
    run(path, "c = engine.create_context(2)\nfutures = [c.enqueue(x) for _ in range(50)]")


def test_running_after_the_pool_has_stopped(path: Path) -> None:
    run(path, """
import atexit
context = engine.create_context(2)
from bessemer.runtime import pool
check(context)
pool._stop_at_exit()
check(context)
check(engine.create_context(2))
""")


def test_fork(path: Path) -> None:
    run(path, """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
context = engine.create_context(2)
check(context)
child = os.fork()
if child == 0:
    check(context)
    check(engine.create_context(2))
    os._exit(7)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7
check(context)
""")


def test_sleeping_workers_wake_up(path: Path) -> None:
    run(path, """
import time
context = engine.create_context(3)
for _ in range(20):
    check(context)
    time.sleep(0.01)
for _ in range(3000):
    check(context)
""", BESSEMER_IDLE_SPINS="10", BESSEMER_BARRIER_SPINS="5")


def test_resident_memory(tmp_path: Path) -> None:
    """A process that loads and runs an engine holds weights and arena once, and little else."""
    count = 6 << 20
    large = tmp_path / "large.plan"
    write_engine(large, tiny_engine_data(count)[0])
    shown = subprocess.run(
        [sys.executable, "-c", MEMORY, str(large)], capture_output=True, text=True, timeout=60,
        check=True,
    ).stdout
    resident, weights, arena, bindings = map(int, shown.split())
    assert weights == 4 * count
    print(f"resident {resident >> 20} MiB: weights {weights >> 20}, arena {arena >> 20}")
    assert resident <= 1.3 * (weights + arena) + bindings + (60 << 20)
