"""Compiles many IR texts: each distinct one once, from the disk cache or in parallel processes.

LLVM is called under one lock per process, so threads would not help; and `multiprocessing` would
run the user's script again. So the helpers are plain subprocesses spoken to over pipes.
"""

import contextlib
import dataclasses
import json
import logging
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import bessemer
from bessemer.codegen.cache import ObjectCache, object_key
from bessemer.codegen.llvm.emit import DEFAULT_PASSES, compiler_version, emit_object
from bessemer.codegen.llvm.worker import OK, read_message, write_message
from bessemer.core.errors import CodegenError
from bessemer.core.settings import settings
from bessemer.targets import Target

_LOG = logging.getLogger("bessemer.codegen")

Progress = Callable[[int, int], None]
_Job = tuple[int, str]
_Todo = queue.SimpleQueue[_Job | None]
_Result = tuple[int, bytes | CodegenError]

_SMALL_JOB_MODULES = 4
# A worker takes about 0.4 s to start; LLVM takes about 0.6 ms for a KB of text.
_SMALL_JOB_BYTES = 500 << 10


def _default_workers() -> int:
    jobs = settings().jobs
    return (len(os.sched_getaffinity(0)) if jobs is None else jobs) - 1


def kernel_name(text: str) -> str:
    """The first function that an IR text defines."""
    found = re.search(r"^define [^@]*@([\w.$-]+|\"[^\"]+\")", text, re.MULTILINE)
    return found.group(1) if found else "?"


class _Worker:
    """One helper process."""

    def __init__(self, target: Target, passes: str) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        environment = dict(os.environ)
        root = str(Path(bessemer.__file__).resolve().parent.parent)
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{before}" if before else root
        # -P: a module in the user's working directory must not shadow ours or Python's.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bessemer.codegen.llvm.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env=environment, start_new_session=True,
        )
        request = {"target": dataclasses.asdict(target), "passes": passes}
        self._first = json.dumps(request).encode()
        self._greeted = False

    def compile(self, text: str) -> bytes:
        """The object of a text.

        Raises: CodegenError if LLVM rejects the text, or if the process ends before it answers.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            if not self._greeted:
                write_message(self.process.stdin, self._first)
                self._greeted = True
            write_message(self.process.stdin, text.encode())
            reply = read_message(self.process.stdout)
        except OSError:
            reply = None
        if reply is None:
            raise CodegenError(self._obituary(text))
        if reply[:1] != OK:
            raise CodegenError(reply[1:].decode())
        return reply[1:]

    def _obituary(self, text: str) -> str:
        try:
            code: int | str = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = "still running"
        self._errors.seek(0)
        tail = self._errors.read().decode(errors="replace").strip().splitlines()[-6:]
        return (
            f"the compile worker ended ({code}) while it compiled kernel {kernel_name(text)}; "
            "its last words: " + ("\n".join(tail) or "none")
        )

    def close(self) -> None:
        """Ends the process, now."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


class CompilePool:
    """Compiles for one target with up to `workers` helper processes besides this one.

    A context manager: helpers start with the first job that is large enough and end with it. Not to
    be used by several threads at once.
    """

    def __init__(
        self, target: Target, *, workers: int | None = None, cache: ObjectCache | None = None,
        passes: str = DEFAULT_PASSES,
    ) -> None:
        self.target = target
        self.passes = passes
        self.cache = cache if cache is not None else ObjectCache(None)
        self.limit = _default_workers() if workers is None else workers
        self._workers: list[_Worker] = []

    def __enter__(self) -> "CompilePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the helper processes."""
        while self._workers:
            self._workers.pop().close()

    def compile_many(self, modules: Iterable[str], on_done: Progress | None = None,
                     total: int | None = None) -> list[bytes]:
        """The objects of IR texts, in their order; equal texts are compiled once.

        Texts may be made while they are asked for: helpers then compile what there is already.
        `on_done(done, total)` counts distinct texts, `total` of them where it is given; it is
        called in the caller's thread.
        Raises: CodegenError of the first text that LLVM rejects or that makes a helper crash.
        """
        if total is None and isinstance(modules, Sequence):
            total = len(set(modules))
        places: dict[str, int] = {}
        order: list[int] = []
        keys: list[str] = []
        objects: dict[int, bytes] = {}

        def report() -> None:
            if on_done is not None:
                on_done(len(objects), total or len(places))

        def missing() -> Iterator[_Job]:
            for text in modules:
                position = places.setdefault(text, len(places))
                order.append(position)
                if position < len(keys):
                    continue
                keys.append(object_key(text, self.target, self.passes, compiler_version()))
                body = self.cache.load(keys[-1])
                if body is None:
                    yield position, text
                else:
                    objects[position] = body
                    report()

        def finish(position: int, body: bytes) -> None:
            objects[position] = body
            self.cache.store(keys[position], body)
            report()

        self._compile(missing(), finish)
        self.cache.prune()
        return [objects[position] for position in order]

    def _compile(self, jobs: Iterable[_Job], finish: Callable[[int, bytes], None]) -> None:
        todo: _Todo = queue.SimpleQueue()
        results: queue.SimpleQueue[_Result] = queue.SimpleQueue()
        threads: list[threading.Thread] = []
        count = size = pending = 0

        def collect() -> None:
            nonlocal pending
            position, outcome = results.get()
            if isinstance(outcome, CodegenError):
                raise outcome
            finish(position, outcome)
            pending -= 1

        try:
            for job in jobs:
                todo.put(job)
                count, size, pending = count + 1, size + len(job[1]), pending + 1
                for worker in self._helpers(count, size)[len(threads):]:
                    threads.append(threading.Thread(
                        target=_feed, args=(worker, todo, results), daemon=True))
                    threads[-1].start()
                while not results.empty():
                    collect()
            for _ in threads:
                todo.put(None)
            while pending:
                own = _take(todo)
                if own is not None:
                    finish(own[0], emit_object(own[1], self.target, passes=self.passes))
                    pending -= 1
                while pending and (own is None or not results.empty()):
                    collect()
        except BaseException:
            # Helpers may be in the middle of a job: their answers must not mix with later ones.
            while not todo.empty():
                todo.get()
            for worker in self._workers:
                todo.put(None)
                worker.process.kill()
            _join(threads)
            self.close()
            raise
        _join(threads)

    def _helpers(self, jobs: int, size: int) -> list[_Worker]:
        """The helpers for that many jobs with texts of that size: few small ones need none."""
        small = jobs < _SMALL_JOB_MODULES or size < _SMALL_JOB_BYTES
        if not sys.executable or (small and not self._workers):
            return []
        try:
            while len(self._workers) < min(self.limit, jobs - 1):
                self._workers.append(_Worker(self.target, self.passes))
        except OSError as error:
            _LOG.warning("cannot start a compile worker (%s); going on with fewer", error)
        return self._workers


def _take(todo: _Todo) -> _Job | None:
    """The next job, without waiting; None if all have been taken."""
    try:
        job = todo.get_nowait()
    except queue.Empty:
        return None
    if job is None:
        todo.put(None)  # it tells a helper that there is no more
    return job


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


def _feed(worker: _Worker, todo: _Todo, results: "queue.SimpleQueue[_Result]") -> None:
    """Hands jobs to one worker until none is left or one fails."""
    while (job := todo.get()) is not None:
        try:
            outcome: bytes | CodegenError = worker.compile(job[1])
        except CodegenError as error:
            outcome = error
        results.put((job[0], outcome))
        if isinstance(outcome, CodegenError):
            return


def compile_many(
    modules: Sequence[str], target: Target, *, workers: int | None = None,
    on_done: Progress | None = None, cache: ObjectCache | None = None,
    passes: str = DEFAULT_PASSES,
) -> list[bytes]:
    """The objects of IR texts, in their order; see `CompilePool.compile_many`.

    `workers` is the number of helper processes besides this one; None is one less than the
    setting `jobs` or the processors, 0 keeps everything in this process. Without `cache`, nothing
    is kept on disk.
    """
    with CompilePool(target, workers=workers, cache=cache, passes=passes) as pool:
        return pool.compile_many(modules, on_done)
