"""Variants of a symbolic engine, most for single shapes: which exist, and building them in time.

A shape that is run often gets a static program of its own, built in the background from the graph
that the engine stores. One more variant serves the shapes for which the engine takes too much for
granted (`core.assumptions`); it is built when the first such inputs come, which wait for it. The
compiler is loaded only then.
"""

import atexit
import importlib
import itertools
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from bessemer.core.errors import ExecutionError, InputError
from bessemer.core.settings import settings
from bessemer.engine.plan import EngineData, Plan
from bessemer.runtime.constants import Constants, SharedConstants, constant_index
from bessemer.runtime.log import log
from bessemer.runtime.program import Program
from bessemer.runtime.select import choose_variant

Values = tuple[int, ...]
COUNTED = 256
"""Counts are kept of so many shapes; those not seen for longest are forgotten."""
_EXIT_SECONDS = 20.0


class Variant:
    """A static program for some values of the symbols; `used` is larger the later it ran."""

    def __init__(self, values: Values, program: Program, seconds: float) -> None:
        self.values = values
        self.program = program
        self.seconds = seconds
        self.used = 0


class _Stopped(Exception):
    """The process ends; the build is given up."""


class Variants:
    """The variants of one engine, shared by its contexts.

    `after` is how often a shape must be seen before it gets a variant, 0 for never; every variant
    that had to go for another makes that four times as much, so that many shapes in turn do not
    keep the compiler busy. At most `most` exist; the one not used for longest goes.
    """

    def __init__(
        self, data: EngineData, variant: str | None, constants: Constants, after: int, most: int
    ) -> None:
        self.plan: Plan = data.plan if variant is None else data.plan_of(variant)
        self.after = after
        self.most = most
        self.version = 0
        self.clock = itertools.count(1)
        self.names = [s.name for s in self.plan.symbols if s.source[0] == "input"]
        self._data = data
        self._name = variant
        self._constants = constants
        self._known: dict[bytes, int] | None = None
        self._lock = threading.RLock()
        self._counts: OrderedDict[Values, int] = OrderedDict()
        self._present: dict[Values, Variant] = {}
        self._wanted: list[Values] = []
        self._failed: dict[Values, str] = {}
        self._general: Variant | None = None
        self._evicted = 0
        self._thread: threading.Thread | None = None

    def find(self, key: Values) -> Variant | None:
        """The variant for these values of `names`."""
        return self._present.get(key)

    def present(self) -> list[Variant]:
        """All variants, the oldest first."""
        with self._lock:
            return list(self._present.values())

    # --- building --------------------------------------------------------------------------------

    def note(self, key: Values) -> bool:
        """Counts a run of that shape, and starts a build once there were enough.

        `key` holds the values of `names`. False if further runs of that shape need not be counted
        until `version` changes.
        """
        if not self.after or not self.most or not key or 0 in key:
            return False
        with self._lock:
            if key in self._present or key in self._wanted or key in self._failed:
                return False
            count = self._counts[key] = self._counts.pop(key, 0) + 1
            if len(self._counts) > COUNTED:
                self._counts.popitem(last=False)
            if count < self.after * 4**self._evicted:
                return True
            del self._counts[key]
            self._wanted.append(key)
            self._start()
            return False

    def _start(self) -> None:
        """Starts the thread that builds, unless it runs; a forked child has none."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(
            target=_build_wanted, args=(weakref.ref(self),), name="bessemer-specialise",
            daemon=True)
        _threads.add(self._thread)
        self._thread.start()

    def build_next(self) -> bool:
        """Builds one wanted variant; False if none is wanted. Failures are logged."""
        with self._lock:
            if not self._wanted:
                self._thread = None
                return False
            key = self._wanted[0]
        try:
            self.build(key)
        except _Stopped:
            return False
        # Whatever goes wrong in the compiler, the engine runs on without this variant.
        except Exception as error:  # noqa: BLE001
            log("warning", "engine %r: no variant for %s: %s",
                self.plan.name, self.text(key), error)
            with self._lock:
                self._failed[key] = str(error)
        finally:
            with self._lock:
                self._wanted = [other for other in self._wanted if other != key]
        return True

    def build(self, key: Values) -> Variant:
        """Builds the variant for these values of `names`, or finds it."""
        with _building:
            with self._lock:
                if key in self._present:
                    return self._present[key]
            start = time.perf_counter()
            program = self._program(dict(zip(self.names, key, strict=True)))
            made = Variant(key, program, time.perf_counter() - start)
            made.used = next(self.clock)
            with self._lock:
                while len(self._present) >= max(self.most, 1):
                    oldest = min(self._present.values(), key=lambda entry: entry.used)
                    del self._present[oldest.values]
                    self._evicted += 1
                self._present = self._present | {key: made}
                self._failed.pop(key, None)
                self.version += 1
            return made

    def general(self) -> Program:
        """The program for all shapes, built now if there is none yet.

        It takes nothing for granted that valid inputs may break. There is one besides `most`.
        Raises: ExecutionError where the compiler is missing; what it raises.
        """
        with _building:
            if self._general is None:
                start = time.perf_counter()
                program = self._loaded(
                    _compiler().generalise(self._data, self._name, _check_exit))
                seconds = time.perf_counter() - start
                self._general = Variant((), program, seconds)
                log("info", "engine %r: built for unusual shapes in %.1f s",
                    self.plan.name, seconds)
            return self._general.program

    def _program(self, values: Mapping[str, int]) -> Program:
        return self._loaded(
            _compiler().specialise(self._data, self._name, values, _check_exit))

    def _loaded(self, found: EngineData) -> Program:
        self._constants.verify()
        if self._known is None:
            self._known = constant_index(self.plan, self._constants)
        name = choose_variant(found.plan.name, found.objects, found.requires)
        plan = found.plan if name is None else found.plan_of(name)
        constants = SharedConstants(self._constants, self._known, plan, Constants.gather(found))
        return Program.of(found, name, constants)

    def key_of(self, values: Mapping[str, int]) -> Values:
        """The values in order. Raises: InputError for unknown, missing or impossible ones."""
        names = self.names
        if set(values) != set(names):
            raise InputError(
                f"engine {self.plan.name!r} can be specialised for values of "
                f"{', '.join(names) or 'no symbols'}; found {', '.join(values) or 'none'}"
            )
        for name in names:
            symbol = next(s for s in self.plan.symbols if s.name == name)
            most = symbol.high if symbol.high is not None else 1 << 46
            if not isinstance(values[name], int) or not symbol.low <= values[name] <= most:
                raise InputError(
                    f"engine {self.plan.name!r}: {name}={values[name]!r} is no integer from "
                    f"{symbol.low} to {most}"
                )
        return tuple(values[name] for name in names)

    def wait(self, timeout: float | None) -> bool:
        """Waits until no build is wanted; False if it takes longer than that many seconds."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            thread.join(timeout)
        return not self._wanted

    # --- telling ---------------------------------------------------------------------------------

    def text(self, key: Values) -> str:
        """The values as `N=3, H=4`; of the general variant, which fixes none, other words."""
        if not key:
            return "all shapes"
        return ", ".join(f"{n}={v}" for n, v in zip(self.names, key, strict=True))

    def report(self) -> list[dict[str, Any]]:
        """What there is, what is wanted and what failed, as JSON values."""
        with self._lock:
            general = [] if self._general is None else [self._general]
            rows: list[dict[str, Any]] = [
                {"shape": self.text(v.values), "state": "built",
                 "build_seconds": v.seconds, "arena_bytes": v.program.plan.arena_bytes,
                 "own_constant_bytes": v.program.constants.own_bytes}
                for v in (*general, *self._present.values())
            ]
            rows += [{"shape": self.text(key), "state": "wanted"} for key in self._wanted]
            return rows + [{"shape": self.text(key), "state": "failed", "why": why}
                           for key, why in self._failed.items()]


def make_variants(data: EngineData, variant: str | None, constants: Constants) -> Variants:
    """The variants of an engine that stores its graph, none built yet.

    The engine's build options `specialise_after` and `max_variants` go before the settings.
    """
    plan = data.plan if variant is None else data.plan_of(variant)
    chosen = settings()
    after = plan.options.get("specialise_after", chosen.specialise_after)
    most = plan.options.get("max_variants", chosen.max_variants)
    if not isinstance(after, int) or not isinstance(most, int) or not chosen.specialise:
        after = 0
    return Variants(data, variant, constants, max(after, 0), most if isinstance(most, int) else 1)


def _compiler() -> Any:
    """The module that builds variants, found by name: running must not need it.

    Raises: ExecutionError where it cannot be imported.
    """
    try:
        return importlib.import_module("bessemer.compiler.specialise")
    except ImportError as error:
        raise ExecutionError(
            f"these shapes need another variant of the engine, and the compiler is missing: {error}"
        ) from error


# One build at a time in the whole process.
_building = threading.Lock()
_threads: "weakref.WeakSet[threading.Thread]" = weakref.WeakSet()
_exiting = False


def _build_wanted(owner: "weakref.ref[Variants]") -> None:
    """The thread's work: builds until nothing is wanted, or nobody has the engine any more."""
    # On Linux this is the priority of the thread alone, and of the compilers that it starts.
    if hasattr(os, "setpriority"):
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        except OSError as error:
            log("debug", "building at full priority: %s", error)
    while not _exiting:
        variants = owner()
        if variants is None or not variants.build_next():
            return
        del variants


def _check_exit(stage: str, done: int, total: int, detail: str) -> None:
    """Progress of a build; gives it up when the process ends."""
    if _exiting:
        raise _Stopped


def _stop() -> None:
    global _exiting
    _exiting = True
    deadline = time.monotonic() + _EXIT_SECONDS
    for thread in list(_threads):
        if thread.is_alive():
            thread.join(max(deadline - time.monotonic(), 0))


def _forked() -> None:
    global _building
    _building = threading.Lock()


os.register_at_fork(after_in_child=_forked)
# Threads must not be inside the compiler while the interpreter is taken down.
atexit.register(_stop)
