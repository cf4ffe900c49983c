"""Races several runtimes on one model: each in its own process, stopped between its turns.

A machine's speed moves within minutes, so the runtimes take turns in short slices of one run and
are compared by slices that lie beside each other.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.bench.contest.result import Entry
from bessemer.bench.contest.task import Task
from bessemer.bench.latency import Timing

Tell = Callable[[str, str], None]
_REFERENCE = "onnxruntime"
_PATIENCE_S = 900.0


@dataclass(frozen=True)
class RaceOptions:
    """How long each runtime runs: `rounds` slices of `slice_s` seconds each."""

    rounds: int = 5
    slice_s: float = 0.6


class Worker:
    """The process of one runtime, and what it has answered so far."""

    def __init__(self, name: str, task: Task, action: str) -> None:
        """Starts it; it is `stopped` or `closed` by whoever made it."""
        self.name = name
        self.results = task.file(f".{name}.npz")
        self._log_path = task.file(f".{name}.log")
        inputs = task.file(".inputs.npz")
        np.savez(inputs, **dict(task.inputs))  # type: ignore[arg-type]
        self._log = self._log_path.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bessemer.bench.contest.worker"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._log, text=True, bufsize=1, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": str(1 if task.streams > 1 else task.threads),
                 "PYTHONWARNINGS": "ignore"},
        )
        self.send({
            "peer": name, "action": action, "model": str(task.model), "inputs": str(inputs),
            "input_names": list(task.inputs), "outputs": list(task.outputs),
            "threads": task.threads, "streams": task.streams, "folder": str(task.folder),
            "results": str(self.results),
        })

    def send(self, message: dict[str, Any]) -> None:
        """Writes one line to it; a dead one is noticed when its answer is read."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message) + "\n")

    def answer(self) -> dict[str, Any]:
        """Its next line; if it died or hangs, the `reason` from its log."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _PATIENCE_S)
        line = self._process.stdout.readline() if ready else ""
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        if not ready:
            return {"reason": f"no answer within {_PATIENCE_S:.0f} s"}
        return {"reason": f"the process ended ({self._process.wait()}): {self._last_words()}"}

    def _last_words(self) -> str:
        lines = [line for line in self._log_path.read_text(errors="replace").splitlines()
                 if line.strip()]
        return lines[-1].strip() if lines else "it wrote nothing"

    def pause(self) -> None:
        """Stops all its threads: some runtimes spin while they have nothing to do."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it."""
        self.resume()
        self._signal(signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._log.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)


def race(task: Task, peers: Sequence[str], options: RaceOptions, tell: Tell) -> list[Entry]:
    """One entry for each runtime, in that order; one that cannot take part has a reason.

    `tell(runtime, what)` hears what happens.
    """
    entries = {name: _prepared(name, task, tell) for name in peers}
    workers: dict[str, Worker] = {}
    facts: dict[str, dict[str, Any]] = {}
    try:
        for name in peers:
            if entries[name].reason:
                continue
            tell(name, "load")
            workers[name] = Worker(name, task, "race")
            facts[name] = workers[name].answer()
            workers[name].pause()
        slices = _take_turns(workers, facts, options, tell)
        errors = _errors(workers, facts)
    finally:
        for worker in workers.values():
            worker.close()
    return [_entry(entries[name], facts.get(name, {}), slices.get(name, []), errors.get(name))
            for name in peers]


def _prepared(name: str, task: Task, tell: Tell) -> Entry:
    tell(name, "prepare")
    worker = Worker(name, task, "prepare")
    try:
        answer = worker.answer()
    finally:
        worker.close()
    return Entry(name, answer.get("version", ""), answer.get("reason", ""),
                 prepare_s=answer.get("prepare_s", 0.0))


def _take_turns(
    workers: dict[str, Worker], facts: dict[str, dict[str, Any]], options: RaceOptions, tell: Tell
) -> dict[str, list[list[int]]]:
    """The times of each slice of each runtime; the order turns, so that none always comes first."""
    slices: dict[str, list[list[int]]] = {name: [] for name in workers}
    for number in range(options.rounds):
        names = [name for name in workers if "reason" not in facts[name]]
        for offset in range(len(names)):
            name = names[(number + offset) % len(names)]
            tell(name, f"slice {number + 1} of {options.rounds}")
            worker = workers[name]
            worker.resume()
            worker.send({"seconds": options.slice_s})
            answer = worker.answer()
            worker.pause()
            facts[name] |= answer
            if "times_ns" in answer:
                slices[name].append(answer["times_ns"])
    return slices


def _errors(
    workers: dict[str, Worker], facts: dict[str, dict[str, Any]]
) -> dict[str, float | None]:
    """The largest difference from ONNX Runtime's results, relative to their largest magnitude."""
    wanted = _results(workers, facts, _REFERENCE)
    errors: dict[str, float | None] = {}
    for name in workers:
        found = _results(workers, facts, name)
        errors[name] = None if wanted is None or found is None else max(
            (_difference(a, b) for a, b in zip(wanted, found, strict=False)), default=None)
    return errors


def _results(
    workers: dict[str, Worker], facts: dict[str, dict[str, Any]], name: str
) -> list[np.ndarray[Any, Any]] | None:
    if name not in workers or "load_s" not in facts[name]:
        return None
    with np.load(Path(workers[name].results)) as arrays:
        return [arrays[key] for key in arrays.files]


def _difference(wanted: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    if wanted.size != found.size:
        return float("inf")
    flat = wanted.astype(np.float64).reshape(-1)
    largest = float(np.abs(flat).max(initial=0.0)) or 1.0
    difference = np.abs(flat - found.astype(np.float64).reshape(-1))
    return float(difference.max(initial=0.0)) / largest


def _entry(
    prepared: Entry, facts: dict[str, Any], slices: list[list[int]], error: float | None
) -> Entry:
    if prepared.reason or "reason" in facts:
        return Entry(prepared.name, prepared.version, prepared.reason or facts["reason"])
    samples = tuple(time for times in slices for time in times)
    medians = tuple(float(np.median(times)) for times in slices)
    return Entry(
        prepared.name, prepared.version, "",
        Timing(prepared.name, samples, medians, facts["items"]),
        prepared.prepare_s, facts["load_s"], facts["first_s"], facts["peak_bytes"], error,
        facts["note"],
    )
