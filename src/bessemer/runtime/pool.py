"""The one thread pool of the process: workers live in the native driver's loop, without the GIL.

The first loaded engine lends its compiled driver, which is linked once more here and never freed,
because workers run in it for as long as the process lives.
"""

import atexit
import ctypes
import os
import threading
from collections.abc import Callable

from bessemer.core import driver_abi as abi
from bessemer.core.errors import SettingsError
from bessemer.core.settings import settings
from bessemer.runtime.cpu import machine, usable_cpus
from bessemer.runtime.linker import LinkedCode
from bessemer.runtime.log import log
from bessemer.runtime.memory import Region

_RUN_TYPE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
_WORKER_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
_STOP_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_FUTEX_CALL = {"x86_64": 202, "aarch64": 98}

RunFunction = Callable[[int], int]


def default_threads() -> int:
    """Threads of a run that asks for no number: the setting, else the CPUs we may use."""
    return min(settings().threads or usable_cpus(), abi.MAX_THREADS)


class Pool:
    """The driver's shared structure and the Python threads that serve it."""

    def __init__(self, driver: bytes) -> None:
        self._code = LinkedCode([driver], "the native driver")
        self._region = Region(abi.POOL_HEADER_BYTES + abi.MAX_THREADS * abi.THREAD_BYTES)
        self.address = self._region.address
        self.run: RunFunction = _RUN_TYPE(self._code.address(abi.RUN))
        self._worker = _WORKER_TYPE(self._code.address(abi.WORKER))
        self._stop = _STOP_TYPE(self._code.address(abi.STOP))
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self._fill()

    @property
    def size(self) -> int:
        """Threads that a run may use, the caller's included."""
        return len(self._threads) + 1

    def grow(self, threads: int) -> int:
        """Starts workers until a run can use that many threads; returns how many it can use."""
        if threads <= self.size:
            return threads
        with self._lock:
            wanted = 1 if self._stopped or _exiting else min(threads, abi.MAX_THREADS)
            if wanted > usable_cpus():
                # Spinning would only keep the thread that is waited for from running.
                self._word(abi.POOL_SPINS, 0)
                self._word(abi.POOL_IDLE_SPINS, 0)
            for index in range(self.size, wanted):
                worker = threading.Thread(
                    target=self._worker, args=(self.address, index),
                    name=f"bessemer-{index}", daemon=True,
                )
                try:
                    worker.start()
                except RuntimeError as error:
                    log("warning", "running on %d threads instead of %d: %s", index, wanted, error)
                    break
                self._threads.append(worker)
            self._word(abi.POOL_SIZE, self.size)
        log("debug", "the pool has %d threads", self.size)
        return min(threads, self.size)

    def stop(self) -> None:
        """Ends all workers; later runs use one thread."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            threads, self._threads = self._threads, []
            self._stop(self.address)
        for worker in threads:
            worker.join(timeout=5)

    def _word(self, offset: int, value: int) -> None:
        ctypes.c_uint64.from_address(self.address + offset).value = value

    def _fill(self) -> None:
        libc = ctypes.CDLL(None)
        for offset, name in (
            (abi.POOL_YIELD, "sched_yield"), (abi.POOL_SYSCALL, "syscall"),
            (abi.POOL_CLOCK, "clock_gettime"),
        ):
            self._word(offset, ctypes.cast(getattr(libc, name), ctypes.c_void_p).value or 0)
        chosen = settings()
        self._word(abi.POOL_SPINS, chosen.barrier_spins)
        self._word(abi.POOL_IDLE_SPINS, chosen.idle_spins)
        self._word(abi.POOL_FUTEX, _FUTEX_CALL[machine()])
        self._word(abi.POOL_SIZE, 1)


process_pool: Pool | None = None
"""What `current_pool` returns, for runs that are too short for a call more."""
_pool_lock = threading.Lock()
_exiting = False


def current_pool() -> Pool | None:
    """The pool of this process, None before the first run and in a new child process."""
    return process_pool


def get_pool(driver: bytes) -> Pool:
    """The pool of this process, made from that driver if there is none yet."""
    global process_pool
    with _pool_lock:
        if process_pool is None:
            process_pool = Pool(driver)
        return process_pool


def check_threads(threads: int | None) -> int | None:
    """That number if it is a possible one. Raises: SettingsError."""
    if threads is not None and (
        isinstance(threads, bool) or not isinstance(threads, int)
        or not 1 <= threads <= abi.MAX_THREADS
    ):
        raise SettingsError(f"threads={threads!r} is not an integer from 1 to {abi.MAX_THREADS}")
    return threads


def _forget() -> None:
    """In a child process the workers do not exist; its first run makes a new pool."""
    global process_pool, _pool_lock
    if process_pool is not None:
        _abandoned.append(process_pool)
    process_pool = None
    _pool_lock = threading.Lock()


# Kept so that nothing frees memory in which a worker may still run.
_abandoned: list[Pool] = []


def _stop_at_exit() -> None:
    """Runs after this get a pool without workers, because no thread can start any more."""
    global process_pool, _exiting
    _exiting = True
    pool, process_pool = process_pool, None
    if pool is not None:
        pool.stop()
        _abandoned.append(pool)


os.register_at_fork(after_in_child=_forget)
atexit.register(_stop_at_exit)
